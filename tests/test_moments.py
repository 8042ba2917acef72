"""Exponential moments: Gram matrices, densities and expectations against multiple precision, tails against draws."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.proofs.moments.tails import correlations, dominating_diagonals, gaussian_comparison, log_moment
from calotte.searches.diagonals import least_diagonals


def normals(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dominating(gram: Tensor, importance: Tensor, doubt: float) -> Tensor:
    """Of the same for all, and of the least diagonals for the importances."""
    ones = torch.ones(1, len(gram), dtype=torch.float64)
    return dominating_diagonals(gram, torch.cat([ones, least_diagonals(correlations(gram), importance)]), doubt)


def hostile(name: str) -> Tensor:
    """Rows a_i whose inner products make the Gram matrix."""
    a = normals(7, 5, seed=1)
    if name == "duplicates":
        return a[[0, 0, 0, 1, 1, 2, 3]]
    if name == "opposite":
        return torch.cat([a[:3], -a[:3]])
    if name == "zero rows":
        return torch.cat([a[:3], torch.zeros(3, 5).double(), a[3:4]])
    if name == "scales":
        return a * torch.tensor([1e-9, 1e-5, 1e-3, 1.0, 1.0, 1e4, 1e8]).double()[:, None]
    if name == "nearly parallel":
        return a[:1] + 1e-8 * a
    if name == "orthogonal":
        return torch.eye(6, dtype=torch.float64) * torch.arange(1, 7).double()[:, None]
    return a * {"rank": 1.0, "tiny": 1e-100, "huge": 1e100}[name]


@pytest.mark.parametrize(
    "name",
    ["rank", "duplicates", "opposite", "zero rows", "scales", "nearly parallel", "orthogonal", "tiny", "huge"],
)
def test_the_diagonal_dominates(name: str) -> None:
    a = hostile(name)
    gram = a @ a.t()
    doubt = 1e-14 * (a * a).sum().item()
    importance = torch.stack([torch.ones(len(a)).double(), torch.arange(len(a)).double() ** 8])
    found = dominating(gram, importance, doubt)
    for diagonal in found:
        with mpmath.workdps(80):
            rows = mpmath.matrix(a.tolist())
            difference = mpmath.diag([mpmath.mpf(p) for p in diagonal.tolist()]) - rows * rows.T
            assert min(mpmath.eigsy(difference, eigvals_only=True)) > 0
    if name == "orthogonal":
        assert (found <= gram.diagonal() * (1 + 1e-5)).all()
    if name in ("duplicates", "rank", "opposite"):
        assert (found[0] <= 7 * gram.diagonal() * (1 + 1e-5)).all()


def test_the_diagonals_are_the_least_for_what_is_important() -> None:
    """Two blocks of 2 and 6 equal units: P = 2 and 6 there, whatever they weigh; of three units, two of them equal,
    by brute force."""
    block = torch.block_diag(torch.ones(2, 2), torch.ones(6, 6)).double()
    found = dominating(block, torch.ones(1, 8).double(), 1e-14)
    assert torch.allclose(found[0], torch.full((8,), 6.0).double(), rtol=1e-4)
    assert torch.allclose(found[1], torch.tensor([2.0] * 2 + [6.0] * 6).double(), rtol=1e-3)
    gram = torch.tensor([[1.0, 0.9, 0.3], [0.9, 1.0, -0.2], [0.3, -0.2, 1.0]]).double()
    steps = torch.linspace(1.0, 12.0, 111, dtype=torch.float64)
    grid = torch.cartesian_prod(steps, steps, steps)
    allowed = grid[torch.linalg.eigvalsh(torch.diag_embed(grid) - gram)[:, 0] >= 0]
    for weight in ([1.0, 1.0, 1.0], [3.0, 1.0, 1.0], [1.0, 1.0, 4.0]):
        importance = torch.tensor([weight]).double()
        found = dominating(gram, importance, 1e-14)
        target = importance / importance.sum() + 0.2 / 3
        assert (found @ target.t()).min() <= 1.03 * (allowed @ target.t()).min()


def test_a_diagonal_that_is_not_known_is_not_given() -> None:
    """Doubt as large as the matrix is added to it; what is not finite is refused."""
    gram = torch.eye(3, dtype=torch.float64)
    assert dominating(gram, torch.ones(1, 3).double(), 0.5).min() >= 1.5
    for bad in (math.nan, math.inf):
        wrong = gram.clone()
        wrong[0, 1] = wrong[1, 0] = bad
        assert dominating_diagonals(wrong, torch.ones(1, 3).double(), 0.0).isinf().all()
    for wrong in (0.0, -1.0, math.nan, math.inf):
        shape = torch.tensor([[1.0, 1.0, 1.0], [1.0, wrong, 1.0]]).double()
        assert dominating_diagonals(gram, shape, 0.0).isinf().all(1).tolist() == [False, True]


@pytest.mark.parametrize("law", [Sphere(1.0), Ball(1.0)])
@pytest.mark.parametrize(("m", "n"), [(10, 2), (10, 6), (100, 3), (100, 60), (784, 200)])
@pytest.mark.parametrize("radii", [(1.0, 1.0), (0.8, 1.0), (0.2, 0.9)])
def test_a_gaussian_dominates_coordinates(law: Noise, m: int, n: int, radii: tuple[float, float]) -> None:
    """The ratio of the exact densities, over the radius of the point and of the sphere."""
    smallest, largest = (torch.tensor([r], dtype=torch.float64) for r in radii)
    sigma, log_kappa = gaussian_comparison(law, n, torch.tensor([m]), smallest, largest)
    s, found, dimension = mpmath.mpf(sigma.item()), log_kappa.item(), m + 2 * isinstance(law, Ball)
    best = -mpmath.inf
    for rho in np.linspace(*radii, 9):
        radius = mpmath.mpf(rho)
        log_c = mpmath.loggamma(mpmath.mpf(dimension) / 2) - mpmath.loggamma(mpmath.mpf(dimension - n) / 2)
        log_c -= mpmath.mpf(n) / 2 * mpmath.log(mpmath.pi) + n * mpmath.log(radius)
        for y in np.linspace(0.0, 0.999, 200):
            density = log_c + mpmath.mpf(dimension - n - 2) / 2 * mpmath.log1p(-mpmath.mpf(y))
            normal = -mpmath.mpf(n) / 2 * mpmath.log(2 * mpmath.pi * s * s) - y * radius**2 / (2 * s * s)
            best = max(best, density - normal)
    assert best <= found <= best + 1e-2 * (1 + abs(best))


def test_too_many_coordinates_or_no_radius_are_not_dominated() -> None:
    one = torch.ones(1, dtype=torch.float64)
    for n, smallest in ((8, one), (12, one), (2, 0.0 * one)):
        assert gaussian_comparison(Sphere(1.0), n, torch.tensor([10]), smallest, one)[1].isinf().all()
    sigma, log_kappa = gaussian_comparison(Gaussian(2.0), 500, torch.tensor([10]), one, one)
    assert (sigma.item(), log_kappa.item()) == (1.0, 0.0)


def exact_log_moment(theta: float, alpha: float, mean: float, deviation: float) -> mpmath.mpf:
    def part(slope: mpmath.mpf, side: int) -> mpmath.mpf:
        shift = slope * deviation
        height = side * (mpmath.mpf(mean) / deviation + shift)
        return mpmath.exp(slope * mean + shift**2 / 2) * mpmath.erfc(-height / mpmath.sqrt(2)) / 2

    return mpmath.log(part(mpmath.mpf(theta) * (1 - mpmath.mpf(alpha)), 1) + part(-mpmath.mpf(theta) * alpha, -1))


def arguments(n: int, seed: int) -> tuple[Tensor, ...]:
    rng = np.random.default_rng(seed)
    theta = rng.choice([-1.0, 1.0], n) * np.exp(rng.normal(scale=2.0, size=n))
    deviation = np.exp(rng.normal(scale=1.5, size=n))
    mean = deviation * rng.normal(scale=4.0, size=n)
    return tuple(torch.from_numpy(t) for t in (theta, rng.random(n), mean, deviation))


def test_the_moment_is_an_upper_bound_and_close() -> None:
    theta, alpha, mean, deviation = arguments(400, 2)
    alpha[:40], alpha[40:80] = 0.0, 1.0
    found, steepness = log_moment(theta, alpha, mean, deviation)
    with mpmath.workdps(60):
        for i, row in enumerate(zip(theta.tolist(), alpha.tolist(), mean.tolist(), deviation.tolist(), strict=True)):
            exact = exact_log_moment(*row)
            assert exact <= found[i].item() <= exact + 1e-9 * (1 + abs(exact) + (row[0] * row[3]) ** 2), row
            slope = mpmath.diff(lambda m, row=row: exact_log_moment(row[0], row[1], m, row[3]), row[2])
            assert abs(slope) <= steepness[i].item() * (1 + 1e-12) + mpmath.mpf("1e-25"), row


def test_the_formula_of_the_moment_by_quadrature() -> None:
    """The closed form itself: E exp(theta e(z)) integrated, e(z) = (1 - alpha) z above 0 and -alpha z below."""
    for theta, alpha, mean, deviation in ((0.7, 0.3, 0.4, 1.2), (-1.5, 0.8, -0.6, 0.7), (2.0, 0.0, -1.0, 0.5)):

        def value(
            g: mpmath.mpf, t: float = theta, a: float = alpha, m: float = mean, d: float = deviation
        ) -> mpmath.mpf:
            z = m + d * g
            return mpmath.npdf(g) * mpmath.exp(t * ((1 - a) * z if z > 0 else -a * z))

        integral = mpmath.log(mpmath.quad(value, [-12, -mean / deviation, 12]))
        assert abs(integral - exact_log_moment(theta, alpha, mean, deviation)) < 1e-10


def test_convex_above_and_concave_below() -> None:
    theta, alpha, mean, deviation = arguments(2000, 3)
    step = deviation * 0.3
    low, here, high = (log_moment(theta, alpha, mean + k * step, deviation)[0] for k in (-1, 0, 1))
    bend = torch.where(theta > 0, low + high - 2 * here, 2 * here - low - high)
    assert (bend >= -1e-8 * (1 + here.abs() + (theta * deviation) ** 2)).all()
    assert (bend.abs() > 1e-4).double().mean() > 0.3


def test_extreme_arguments_never_give_a_good_bound() -> None:
    """Where the two parts cancel or overflow the result is above the truth, or infinite, or NaN."""
    checked = 0
    with mpmath.workdps(400):
        for theta in (-1e8, -1e3, 1e3, 1e8):
            for mean in (-1e7, -3.0, 0.0, 2.0, 1e7):
                for deviation in (1e-6, 1.0, 1e3):
                    row = theta, 0.4, mean, deviation
                    found = log_moment(*(torch.tensor([t], dtype=torch.float64) for t in row))[0].item()
                    slope, height = mpmath.mpf(theta) * 0.6, abs(mpmath.mpf(mean) / deviation)
                    if max(abs(slope * deviation), height) > 1e6:  # even 400 digits do not hold its parts
                        continue
                    checked += 1
                    exact = exact_log_moment(*row)
                    assert math.isnan(found) or found >= exact, row
    assert checked >= 10


@pytest.mark.parametrize("p", [1.0, 0.7])
def test_the_moment_of_a_sum_is_below_the_product(p: float) -> None:
    """E exp(sum f_j) <= prod (E exp(p_j f_j))^(1/p_j) with P from the Gram matrix; false with smaller powers."""
    a = torch.tensor([[1.0, 0.0], [0.999, 0.04], [0.998, -0.06]], dtype=torch.float64)
    gram = a @ a.t()
    diagonal = dominating(gram, torch.ones(1, 3).double(), 1e-14)[0]
    power = (diagonal / gram.diagonal()) if p == 1.0 else torch.ones(3).double()
    theta, alpha, mean = 1.3, 0.2, torch.zeros(3).double()
    value, _ = log_moment(theta * power, torch.full((3,), alpha).double(), mean, gram.diagonal().sqrt())
    bound = (value / power).sum().item()
    z = normals(400_000, 2, seed=5) @ a.t()
    e = torch.where(z > 0, (1 - alpha) * z, -alpha * z).sum(1)
    weights = (theta * e).exp()
    low = weights.mean() - 4 * weights.std() / math.sqrt(len(weights))
    assert (low.log().item() <= bound) == (p == 1.0)


def test_eigenvalues_that_do_not_converge_leave_nothing_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(matrix: Tensor) -> None:
        raise RuntimeError

    monkeypatch.setattr(torch.linalg, "eigvalsh", fails)
    gram = torch.eye(3, dtype=torch.float64)
    assert dominating_diagonals(gram, torch.ones(1, 3, dtype=torch.float64), 0.0).isinf().all()
