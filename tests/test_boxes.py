"""Boxes: their measure, and the tails of what they leave of the noise, against closed forms, quadrature and draws."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from zoo import exact_log_tail, mp

from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.proofs.local.boxes import Boxes, log_tail_down, log_tail_up

KINDS = (Sphere, Ball, Gaussian)
DRAWS = 40_000
INF = math.inf


def box(*ends: tuple[float, float]) -> Boxes:
    low, high = torch.tensor(ends, dtype=torch.float64).t()
    return Boxes(low[None], high[None])


def unit(kind: type[Noise], m: int) -> float:
    """A standard deviation of one component, in units of the size."""
    return 1.0 if kind is Gaussian else 1.0 / math.sqrt(m)


def draws(kind: type[Noise], m: int) -> Tensor:
    """Noise of size 1 in R^m, by numpy."""
    rng = np.random.default_rng([m, KINDS.index(kind)])
    u = rng.normal(size=(DRAWS, m))
    if kind is not Gaussian:
        u /= np.linalg.norm(u, axis=1, keepdims=True)
    if kind is Ball:
        u *= rng.random((DRAWS, 1)) ** (1 / m)
    return torch.from_numpy(u)


def exact_slab(kind: type[Noise], low: float, high: float, m: int) -> mpmath.mpf:
    """P(low <= u.e <= high) for ends that are no atoms."""
    if low > 0 or high < 0:
        a, b = (low, high) if low > 0 else (-high, -low)
        far = mpmath.exp(exact_log_tail(kind, Fraction(b), m)) if b < INF else 0
        return mpmath.exp(exact_log_tail(kind, Fraction(a), m)) - far
    outside = [mpmath.exp(exact_log_tail(kind, Fraction(s), m)) for s in (-low, high) if s < INF]
    return 1 - sum(outside)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [1, 2, 3, 20, 784])
def test_the_measure_of_a_slab(kind: type[Noise], m: int) -> None:
    """Wide, one-sided, thin and far slabs: never below the exact measure, and close to it."""
    one, n = unit(kind, m), 0
    for low, high in [
        (-0.7, 0.4), (0.3, 0.9), (-0.9, -0.3), (0.2, INF), (-INF, -0.2), (-INF, 0.6), (-0.1, INF), (0.5, 0.5 + 1e-6),
        (-1e-4, 1e-4), (0.0, 0.4), (3.0, 4.0), (5.0, INF), (-17.0, -16.0), (40.0, 46.0),
    ]:  # fmt: skip
        a, b = low * one, high * one
        if kind is not Gaussian and (max(abs(a), abs(b)) == 1 or min(abs(a), abs(b)) >= 1):
            continue
        found = box((a, b)).log_measure(kind(1.0), m).item()
        with mpmath.workdps(40):
            exact = float(mpmath.log(exact_slab(kind, a, b, m))) if exact_slab(kind, a, b, m) > 0 else -INF
        down = box((a, b)).log_measure_down(kind(1.0), m).item()
        loose = 1e-4 if high - low < 1e-3 else 1e-8  # a difference of two tails that nearly cancels
        assert down <= exact, (low, high, exact, down)
        assert down >= exact - loose or exact < -30 or m == 1, (low, high, exact, down)
        assert exact <= found <= exact + loose or (exact == -INF and found < -30), (low, high, exact, found)
        n += exact < -5
    assert n >= 1 or m == 1


def test_measures_far_below_the_floats() -> None:
    for kind, m, a in ((Gaussian, 5, 60.0), (Sphere, 784, 0.97), (Ball, 2000, 0.9)):
        found = box((a, a * 1.01)).log_measure(kind(1.0), m).item()
        exact = float(mpmath.log(exact_slab(kind, a, a * 1.01, m)))
        assert exact < -800
        assert exact <= found <= exact * (1 - 1e-9) + 1e-6


def test_two_points() -> None:
    """On the sphere of R^1 the ends may be atoms."""
    law, half = Sphere(1.0), math.log(0.5)
    for low, high, truth in (
        (1.0, 1.0, half),
        (1.0, INF, half),
        (-INF, -1.0, half),
        (-1.0, 1.0, 0.0),
        (0.5, 0.9, None),
    ):
        found = box((low, high)).log_measure(law, 1).item()
        assert found < -30 if truth is None else truth <= found <= truth + 1e-9


@pytest.mark.parametrize(("kind", "m"), [(Sphere, 3), (Sphere, 20), (Ball, 3), (Ball, 20), (Gaussian, 4)])
def test_two_components_by_quadrature(kind: type[Noise], m: int) -> None:
    """The density of the first times the slab that the second has, given the first."""
    one = unit(kind, m)
    for first, second in (((0.3, 0.6), (-0.2, 0.5)), ((-0.1, 0.2), (0.4, 0.8)), ((-0.9, -0.5), (0.1, INF))):
        a, b, c, e = (t * one for t in (*first, *second))
        e = min(e, 50.0)

        def joint(t: mpmath.mpf, c: float = c, e: float = e) -> mpmath.mpf:
            if kind is Gaussian:
                return mpmath.npdf(t) * exact_slab(kind, c, e, m - 1)
            power = mpmath.mpf(m - 3 if kind is Sphere else m - 1) / 2
            rho = mpmath.sqrt(1 - t * t)
            rest = exact_slab(kind, float(c / rho), min(float(e / rho), 2.0), m - 1)
            return (1 - t * t) ** power / mpmath.beta(power + 1, 0.5) * rest

        exact = mpmath.log(mpmath.quad(joint, [mp(a), mp(b)], maxdegree=4))
        found = box((a, b), (c, e)).log_measure(kind(1.0), m).item()
        down = box((a, b), (c, e)).log_measure_down(kind(1.0), m).item()
        assert float(exact) - 1.0 <= down <= float(exact) + 1e-8
        assert float(exact) - 1e-8 <= found <= float(exact) + (1e-8 if kind is Gaussian else 0.3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [2, 3, 20])
def test_several_components_against_draws(kind: type[Noise], m: int) -> None:
    """Every box of a partition: at least its share of the draws less four standard errors; together at least 1."""
    one, axes = unit(kind, m), min(m, 3)
    cuts = [-INF, -1.1 * one, -0.3 * one, 0.2 * one, 0.9 * one, INF]
    ends = list(itertools.product(itertools.pairwise(cuts), repeat=axes))
    boxes = Boxes(*(torch.tensor([[pair[k] for pair in row] for row in ends], dtype=torch.float64) for k in (0, 1)))
    found = boxes.log_measure(kind(1.0), m).exp()
    u = draws(kind, m)[:, None, :axes]
    share = ((u >= boxes.low) & (u <= boxes.high)).all(2).double().mean(0)
    assert (found >= share - 4 * (share / DRAWS).sqrt()).all()
    down = boxes.log_measure_down(kind(1.0), m).exp()
    assert (down <= share + 4 * ((share + 1 / DRAWS) / DRAWS).sqrt()).all()
    assert found.sum() >= 1.0 >= down.sum()
    assert found.sum() <= (1.0 + 1e-9 if kind is Gaussian else 2.5 if m == 20 else 12.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [1, 2, 20, 784])
def test_slabs_add_up_to_one(kind: type[Noise], m: int) -> None:
    edges = torch.cat(
        [torch.tensor([-INF]), torch.linspace(-3.1, 3.3, 40) * unit(kind, m), torch.tensor([INF])]
    ).double()
    total = Boxes(edges[:-1, None], edges[1:, None]).log_measure(kind(1.0), m).exp().sum()
    assert 1.0 <= total <= 1.0 + 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [2, 3, 20])
def test_tails_given_a_box(kind: type[Noise], m: int) -> None:
    one = unit(kind, m)
    u, sharp = draws(kind, m), 0
    for low, high in ((-0.5, 0.5), (0.4, 0.8), (-INF, -0.6), (0.9, 1.2)):
        part = box((low * one, high * one))
        law = kind(1.0)
        smallest, largest = part.radii(law)
        rest = u[(u[:, 0] >= low * one) & (u[:, 0] <= high * one)][:, 1]
        for height in (-1.2, -0.4, 0.0, 0.3, 0.9, 1.7):
            s = torch.tensor([height * one], dtype=torch.float64)
            above = log_tail_up(law, s, smallest, largest, part.left(m)).exp()
            below = log_tail_down(law, s, smallest, part.left(m)).exp()
            share = (rest >= s).double().mean()
            error = 4 * math.sqrt(max(share, 30 / len(rest)) / len(rest))
            assert below - error <= share <= above + error
            sharp += bool(above - share < error)
    assert sharp >= 4


def test_nothing_is_left() -> None:
    """All components conditioned on: what is left is zero, and so is every functional of it."""
    for kind in KINDS:
        part = box((-0.5, 0.2), (0.1, 0.3))
        s = torch.tensor([[-0.1, 0.0, 0.1]], dtype=torch.float64)
        found = log_tail_up(kind(1.0), s, *part.radii(kind(1.0)), part.left(2))
        assert found.tolist() == [[0.0, 0.0, -INF]]


def test_undefined_heights_prove_nothing() -> None:
    one = torch.ones(1, dtype=torch.float64)
    for kind in KINDS:
        s = torch.tensor([[math.nan, -INF]], dtype=torch.float64)
        assert log_tail_up(kind(1.0), s, one, one, torch.tensor([5])).tolist() == [[0.0, 0.0]]
        assert log_tail_down(kind(1.0), s, 0.0 * one, torch.tensor([5])).tolist() == [[-INF, -INF]]
    far = torch.tensor([2.0, 1.0], dtype=torch.float64)
    assert log_tail_up(Sphere(1.0), far, one, one, torch.tensor([5, 5])).tolist() == [-INF, -INF]
