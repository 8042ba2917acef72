"""Directed helpers, in rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotte.rounding import NORM_SLACK, UNIT_ROUNDOFF, dot_error, down, gamma, lowered, norm_up, raised, up

U = Fraction(UNIT_ROUNDOFF)
positive = st.floats(1e-290, 1e290)
roundings = st.integers(1, 400)


@given(positive, roundings)
@settings(max_examples=300, deadline=None)
def test_raised_and_lowered_outdo_the_roundings(x: float, n: int) -> None:
    """Each rounding divides by no less than 1 - u and no more than 1 + u, from the number to what is computed."""
    assert Fraction(raised(x, n)) >= Fraction(x) * (1 + U) ** (n - 1)
    assert Fraction(lowered(x, n)) <= Fraction(x) * (1 - U) ** (n - 1)
    assert Fraction(raised(x, n)) <= Fraction(x) * (1 + (n + 4) * U)
    assert Fraction(lowered(x, n)) >= Fraction(x) * (1 - (n + 4) * U)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 784, 10**5, 10**8])
def test_they_do_for_many_roundings_and_for_tensors(n: int) -> None:
    x = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) + 0.5
    high, low = raised(x, n), lowered(x, n)
    for a, b, c in zip(low.tolist(), x.tolist(), high.tolist(), strict=True):
        # (1 + u)^k <= 1 + k u + k^2 u^2 and (1 - u)^k >= 1 - k u for k u < 1
        k = n - 1
        assert Fraction(c) >= Fraction(b) * (1 + k * U + (k * U) ** 2)
        assert Fraction(a) <= Fraction(b) * (1 - k * U)


@given(st.integers(1, 10**9))
def test_gamma(n: int) -> None:
    assert Fraction(gamma(n)) >= n * U / (1 - n * U)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_up_and_down_are_next_door(x: float) -> None:
    assert down(x) < x < up(x)
    assert down(up(x)) == x or math.isinf(up(x))


def wild(n: int, seed: int) -> torch.Tensor:
    """Numbers of very different sizes and signs, so that sums cancel."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dtype=torch.float64, generator=generator)
    return x * 10 ** torch.randint(-12, 12, (n,), generator=generator).double()


@pytest.mark.parametrize("n", [1, 2, 7, 64, 1000])
def test_inner_products_and_norms(n: int) -> None:
    for seed in range(20):
        a, b = wild(n, seed), wild(n, seed + 100)
        b[n // 2 :] = -b[: n - n // 2] * a[: n - n // 2] / a[n // 2 :]  # what cancels to the last digits
        pairs = [(Fraction(s), Fraction(t)) for s, t in zip(a.tolist(), b.tolist(), strict=True)]
        exact = sum(s * t for s, t in pairs)
        for computed, magnitude in ((a @ b, a.abs() @ b.abs()), ((a * b).sum(), (a * b).abs().sum())):
            assert abs(Fraction(computed.item()) - exact) <= Fraction(dot_error(magnitude, n + 1).item())
        rows = torch.stack([a, b])
        for found, k in zip(norm_up(rows, 1).tolist(), (0, 1), strict=True):
            assert Fraction(found) ** 2 >= sum(pair[k] ** 2 for pair in pairs)
            assert found <= rows[k].norm().item() * (1 + (n + 9) * UNIT_ROUNDOFF)


def test_norms_of_what_underflows_need_their_slack() -> None:
    x = torch.full((3, 4), 1e-170, dtype=torch.float64)
    assert bool((norm_up(x, 1) + NORM_SLACK > 2e-170).all())


def test_nan_and_infinity_stay() -> None:
    x = torch.tensor([math.nan, math.inf], dtype=torch.float64)
    for found in (raised(x, 4), lowered(x, 4), dot_error(x, 4), norm_up(x[:, None], 1)):
        assert math.isnan(found[0])
        assert found[1] == math.inf
