"""Noise: tails and their inverses against 60-digit arithmetic, draws against exact laws."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from zoo import DIGITS, exact_log_tail, log_normal_tail, mp, tensor

from calotte.assumptions import NORMAL_ERROR
from calotte.errors import InvalidInput
from calotte.laws import make_noise
from calotte.noise import Ball, Gaussian, Noise, Sphere, noise_map, quotient_down

KINDS = [Sphere, Ball, Gaussian]


def test_the_reference_is_the_integral_of_the_density() -> None:
    with mpmath.workdps(30):
        for m in (2, 3, 4, 7):
            for s in (-0.9, -0.25, 0.0, 0.5, 0.75):
                for kind, power in ((Sphere, mpmath.mpf(m - 3) / 2), (Ball, mpmath.mpf(m - 1) / 2)):

                    def sine_form(t, power=power):  # x = cos t: the ends of the sphere in the plane are singular
                        return mpmath.sin(t) ** (2 * power + 1)

                    part = mpmath.quad(sine_form, [0, mpmath.acos(s)])
                    whole = mpmath.quad(sine_form, [0, mpmath.pi])
                    assert abs(exact_log_tail(kind, Fraction(s), m) - mpmath.log(part / whole)) < 1e-20


@pytest.mark.parametrize("kind", KINDS)
def test_log_tail_against_high_precision(kind: type[Noise]) -> None:
    size = 0.75  # t / 0.75 is exact below
    for m in (1, 2, 3, 10, 784):
        s = torch.linspace(-1.25, 1.25, 81, dtype=torch.float64) * (4.0 if kind is Gaussian else 1.0)
        found = kind(size).log_tail(s * size, m)
        for height, log_p in zip(s.tolist(), found.tolist(), strict=True):
            exact = exact_log_tail(kind, Fraction(height), m)
            assert log_p == float(exact) or abs(log_p - exact) <= 1e-12 * abs(exact)


def test_the_documented_error_of_the_normal_tail() -> None:
    """scipy's log_ndtr within `NORMAL_ERROR`, and within 1e-300 where the logarithm underflows."""
    rng = np.random.default_rng(0)
    s = np.concatenate(
        (np.linspace(-40, 40, 1601), np.logspace(-300, 5, 400), -np.logspace(-300, 1.6, 200), rng.uniform(0, 1e5, 99))
    )
    far = np.logspace(5, 153, 100)
    found = Gaussian(1.0).standard_log_tail(torch.from_numpy(np.concatenate([s, far])), 1)
    with mpmath.workdps(40):
        for height, log_p in zip([*s, *far], found.tolist(), strict=True):
            exact = log_normal_tail(mp(float(height)))
            assert abs(log_p - exact) <= NORMAL_ERROR * abs(exact) / 3 + 1e-301, height


positive = st.floats(1e-3, 1e3) | st.floats(5e-324, 1.7e308)
dimensions = st.sampled_from([1, 2, 3, 10, 784])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.floats(-1.1, 1.1) | st.floats(-40, 40), positive, dimensions, st.floats(allow_nan=False) | st.none())
@example(1.0, 1.0, 1, None)
@example(1.0, 0.1, 2, 0.1)
@example(-1.0, 0.3, 5, None)
@example(0.0, 1.0, 3, 1e200)
@example(0.0, 1.0, 3, 1.7e308)
@example(0.0, 1e-5, 3, 1e308)
@example(0.0, 1.0, 3, -1e200)
@example(0.0, 1e10, 3, -5e-324)
def test_rounding_is_never_on_the_wrong_side(kind, s: float, size: float, m: int, t: float | None) -> None:
    t = s * size if t is None else t
    noise, heights = kind(size), torch.tensor([t], dtype=torch.float64)
    up, down = (noise.log_tail(heights, m, rounding=r).item() for r in ("up", "down"))
    assert down <= up <= 0.0
    if math.isinf(t):
        assert up == down == (-math.inf if t > 0 else 0.0)
        return
    ratio = Fraction(t) / Fraction(size)
    if kind is Gaussian and abs(ratio) > 10**160:
        assert (down, up) == (-math.inf, -1e300 * (1 - 1e-12)) if ratio > 0 else down > -1e-299
        return
    exact = exact_log_tail(kind, ratio, m)
    with mpmath.workdps(DIGITS):
        assert down <= exact <= up
        if 1e-3 < abs(ratio) < 0.99 and 1e-3 <= size <= 1e3:
            assert up - down <= 1e-9 * max(1, abs(exact)), "rounding that gives too much away"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.floats(allow_nan=False, allow_infinity=False), positive)
@example(0.1, 0.1)
@example(-0.1, 0.1)
@example(0.0, 1.0)
@example(1e308, 1e-308)
def test_quotient_down(t: float, size: float) -> None:
    found = quotient_down(torch.tensor([t], dtype=torch.float64), size).item()
    exact = Fraction(t) / Fraction(size)
    if found == -math.inf:
        assert exact < -Fraction(1.7e308)
        return
    assert Fraction(found) <= exact
    assert found >= 1.0 or t < size, "what reaches the noise's size stays certain"
    if abs(exact) < 10**300:
        assert exact - Fraction(found) <= abs(exact) * Fraction(3, 2**53) + Fraction(2, 2**1074)


def test_quotient_down_of_infinity() -> None:
    assert quotient_down(tensor([math.inf, -math.inf]), 2.0).tolist() == [math.inf, -math.inf]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(-500.0, 0.0) | st.floats(-1e-3, 0.0) | st.sampled_from([-1e5, -5e-324]), positive, dimensions)
def test_quantiles_are_on_the_side_asked_for(kind, log_p: float, size: float, m: int) -> None:
    noise, target = kind(size), torch.tensor([log_p], dtype=torch.float64)
    up, near, down = (noise.tail_quantile(target, m, rounding=r).item() for r in ("up", "nearest", "down"))
    assert down <= near <= up or m == 1
    with mpmath.workdps(DIGITS):
        if math.isfinite(up):
            assert exact_log_tail(kind, Fraction(up) / Fraction(size), m) <= log_p
        if math.isfinite(down) and (kind is not Sphere or m > 1):
            assert exact_log_tail(kind, Fraction(down) / Fraction(size), m) >= log_p
        if -500 <= log_p < -1e-3 and 1e-300 < size < 1e300 and m > 1:
            assert near / size == pytest.approx(up / size, abs=1e-8 * max(1.0, abs(near / size)))


@pytest.mark.parametrize("rounding", ["nearest", "up", "down"])
def test_quantiles_at_the_ends(rounding) -> None:
    ends = tensor([-math.inf, 0.0])
    high, low = Gaussian(2.0).tail_quantile(ends, 3, rounding=rounding).tolist()
    assert high == math.inf or (rounding == "down" and high > 1.7e308)
    assert low == -math.inf or (rounding == "up" and low < -1.7e308)
    for kind in (Sphere, Ball):
        torch.testing.assert_close(kind(2.0).tail_quantile(ends, 3, rounding=rounding), tensor([2.0, -2.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_exponential_tail_is_above_the_exact_one(kind) -> None:
    for m in (1, 2, 3, 10, 784):
        s = torch.cat([torch.linspace(0, 1.2, 121), torch.tensor([0.999999, 1 - 2.0**-53, 1.0, 3.0, 40.0])]).double()
        found = kind(1.0).standard_exponential_tail(s, m)
        for height, log_p in zip(s.tolist(), found.tolist(), strict=True):
            exact = exact_log_tail(kind, Fraction(height), m)
            assert log_p >= exact
            formula = -height * height / 2 * (1 if kind is Gaussian else m)
            if kind is Gaussian or height < 1:
                assert log_p == pytest.approx(formula, rel=1e-14)
            elif m >= 2:
                assert log_p == -math.inf


numbers = st.sampled_from([0.0, 1.0, -1.0, 0.1, 0.2, -0.3, 1e-200, 5e-324, 1e16]) | st.floats(-2, 2)
triples = st.lists(numbers, min_size=3, max_size=3)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    triples,
    numbers | st.sampled_from([1e-200, 3e-17]),
    st.none()
    | triples.filter(any)
    | st.tuples(triples, triples).map(lambda columns: list(zip(*columns, strict=True))),
)
@example([1.0, 1.0, 1.0], 3e-17, [[0.1, 0.0], [0.2, 0.0], [-0.3, 0.0]])
@example([1e-200, 1e-200, 0.0], 1e-200, None)
@example([5e-324, 0.0, 0.0], 5e-324, None)
@example([0.0, 0.0, 0.0], 0.0, None)
def test_half_spaces_of_any_normal(kind, normal, t, values) -> None:
    """P(normal.r >= t) from exact arithmetic, products with the map that cancel included."""
    size, s = 0.5, None if values is None else tensor(values)
    columns = np.eye(3) if s is None else s.numpy() if s.ndim == 2 else np.diag(s)[:, s != 0]
    mapped = [sum(Fraction(n) * Fraction(c) for n, c in zip(normal, column, strict=True)) for column in columns.T]
    square, m = sum(a * a for a in mapped), len(mapped)
    noise = kind(size, s)
    up, down = (noise.log_half_space(t, normal, rounding=r) for r in ("up", "down"))
    with mpmath.workdps(DIGITS):
        if square == 0:
            exact = mpmath.mpf(0 if t <= 0 else "-inf")
        else:
            root = mpmath.sqrt(mp(square))
            ratio = mp(t) / root / size
            if kind is Sphere and m == 1 and abs(abs(ratio) - 1) < 1e-50:
                ratio = mpmath.nint(ratio)
            man, exp = ratio.man_exp
            sign = 1 if ratio > 0 else -1
            exact = exact_log_tail(kind, sign * Fraction(int(man)) * Fraction(2) ** int(exp), m)
        assert down <= exact <= up


def moments(kind: type[Noise], r: int, m: int) -> tuple[float, float]:
    """First two moments of the squared norm of the first r of m coordinates, size 1."""
    first, second = r / m, r * (r + 2) / (m * (m + 2))
    if kind is Sphere:
        return first, second
    if kind is Ball:  # times those of the squared radius, rho^m being uniform
        return first * m / (m + 2), second * m / (m + 4)
    return float(r), float(r * (r + 2))


def assert_mean(values: torch.Tensor, expected: float) -> None:
    """Within 4 standard errors."""
    error = values.std().item() / math.sqrt(len(values))
    assert abs(values.mean().item() - expected) <= 4 * error + 1e-12 * abs(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("r", "m"), [(1, 1), (1, 2), (2, 2), (2, 3), (3, 10), (5, 784), (7, 7)])
def test_moments_of_projections(kind, r: int, m: int) -> None:
    size, n = 1.5, 40_000
    u = kind(size).project(n, r, m, torch.Generator().manual_seed(r + 10 * m))
    assert u.shape == (n, r)
    assert u.dtype == torch.float64
    squared = (u / size).square().sum(1)
    first, second = moments(kind, r, m)
    assert_mean(squared, first)
    assert_mean(squared.square(), second)
    for i in range(r):
        assert_mean(u[:, i] / size, 0.0)
        assert_mean((u[:, i] / size).square(), first / r)
        for j in range(i):
            assert_mean(u[:, i] * u[:, j], 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("r", "m"), [(1, 2), (3, 10), (4, 5)])
def test_projections_are_the_coordinates_of_full_draws(kind, r: int, m: int) -> None:
    noise, n = kind(0.7), 20_000
    short = noise.project(n, r, m, torch.Generator().manual_seed(1))
    full = noise.sample(n, m, torch.Generator().manual_seed(2))[:, :r]
    for statistic in (lambda u: u[:, 0], lambda u: u[:, -1], lambda u: u.norm(dim=1), lambda u: u.sum(1)):
        assert stats.ks_2samp(statistic(short), statistic(full)).pvalue > 1e-3
    tail = noise.log_tail(short[:, -1].sort().values, m).exp()  # uniform, by the exact law
    assert stats.kstest(tail, "uniform").pvalue > 1e-3


def test_norms_of_full_draws() -> None:
    n, m = 20_000, 6
    on, within, free = (
        kind(2.5).sample(n, m, torch.Generator().manual_seed(3)).norm(dim=1) for kind in (Sphere, Ball, Gaussian)
    )
    assert (on - 2.5).abs().max() < 1e-14
    assert within.max() <= 2.5 * (1 + 1e-15)
    assert stats.kstest((within / 2.5) ** m, "uniform").pvalue > 1e-3
    assert stats.kstest((free / 2.5) ** 2, stats.chi2(m).cdf).pvalue > 1e-3
    assert set(Sphere(2.5).sample(100, 1, torch.Generator().manual_seed(4)).abs().flatten().tolist()) == {2.5}


@pytest.mark.parametrize("kind", KINDS)
def test_a_scale_leaves_its_zeros_out(kind) -> None:
    scale = noise_map([2.0, 0.0, -0.5, 0.0, 1.0])
    noise, n = kind(1.5, scale), 20_000
    assert noise.dimension(5) == 3
    r = noise.sample(n, 5, torch.Generator().manual_seed(5))
    assert not r[:, [1, 3]].any()
    u = r[:, [0, 2, 4]] / tensor([2.0, -0.5, 1.0])
    torch.testing.assert_close(u, kind(1.5).sample(n, 3, torch.Generator().manual_seed(5)))
    assert_mean((u / 1.5).square().sum(1), moments(kind, 3, 3)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [2, 4, 7])
def test_a_matrix_maps_u(kind, m: int) -> None:
    s = noise_map(np.random.default_rng(m).normal(size=(4, m)))
    noise, n = kind(1.5, s), 40_000
    assert noise.dimension(4) == m
    r = noise.sample(n, 4, torch.Generator().manual_seed(6))
    torch.testing.assert_close(r, kind(1.5).sample(n, m, torch.Generator().manual_seed(6)) @ s.t())
    variance = 1.5**2 * moments(kind, 1, m)[0]
    for i in range(4):
        for j in range(i + 1):
            assert_mean(r[:, i] * r[:, j], variance * (s[i] @ s[j]).item())
    normal = tensor([1.0, -2.0, 0.5, 0.0])
    for t in (-0.5, 1.0, 2.0):
        share = (r @ normal >= t).double()
        p = math.exp(noise.log_half_space(t, normal))
        assert abs(share.mean().item() - p) <= 4 * math.sqrt(p * (1 - p) / n) + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_draws_come_from_the_generator_alone(kind) -> None:
    draws = [kind(1.0).sample(5, 4, torch.Generator().manual_seed(s)) for s in (7, 7, 8)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_eps_and_sigma() -> None:
    for kind in ("sphere", "ball", "gaussian"):
        for noise in (make_noise(kind, 16, eps=2.0), make_noise(kind, 16, sigma=0.5)):
            assert noise.kind == kind
            assert (noise.eps(16), noise.sigma(16)) == (2.0, 0.5)
            assert noise.size == (0.5 if kind == "gaussian" else 2.0)
            assert noise.standard_radius(16) * noise.size == (math.inf if kind == "gaussian" else 2.0)
        masked = make_noise(kind, 16, sigma=0.5, map=noise_map([1.0] * 4 + [0.0] * 12))
        assert (masked.eps(4), masked.sigma(4)) == (1.0, 0.5)
        assert masked.resized(3.0).map is masked.map
        assert type(masked.resized(3.0)) is type(masked)
        assert masked.resized(3.0).size == 3.0


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, -math.inf, "1", None])
@pytest.mark.parametrize("kind", KINDS)
def test_sizes_that_make_no_sense(kind, bad) -> None:
    with pytest.raises(InvalidInput, match="sigma" if kind is Gaussian else "eps"):
        kind(bad)


def test_noises_that_make_no_sense() -> None:
    with pytest.raises(InvalidInput, match="noise 'cube'"):
        make_noise("cube", 3, eps=1.0)
    for sizes in ({}, {"eps": 1.0, "sigma": 1.0}):
        with pytest.raises(InvalidInput, match="either eps or sigma"):
            make_noise("ball", 3, **sizes)
    for size in (0.0, math.nan, -2.0):
        with pytest.raises(InvalidInput, match="eps must"):
            make_noise("gaussian", 3, eps=size)
        with pytest.raises(InvalidInput, match="sigma must"):
            make_noise("sphere", 3, sigma=size)
    with pytest.raises(InvalidInput, match="4 features, the network takes 3"):
        make_noise("sphere", 3, eps=1.0, map=noise_map([1.0] * 4))


@pytest.mark.parametrize("bad", [[0.0, 0.0], [math.nan, 1.0], [math.inf], 3.0, [], [[[1.0]]], [[]]])
def test_maps_that_make_no_sense(bad) -> None:
    with pytest.raises(InvalidInput, match="noise map"):
        noise_map(bad)
