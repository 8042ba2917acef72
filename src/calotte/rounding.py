"""Rounding to the safe side: bounds on the errors of float64 arithmetic (unit roundoff u = 2**-53).

Source: N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., SIAM 2002, chapters 2 and 3:
an inner product of n terms, summed in any order, with or without fused operations, differs from its exact
value by at most `gamma(n)` times the inner product of the absolute values (underflow apart, which the two
absolute slacks below cover).
"""

import math
from typing import TypeVar

from torch import Tensor

__all__ = [
    "NORM_SLACK",
    "UNIT_ROUNDOFF",
    "VALUE_SLACK",
    "dot_error",
    "down",
    "gamma",
    "lowered",
    "norm_up",
    "raised",
    "up",
]

UNIT_ROUNDOFF = 2.0**-53
VALUE_SLACK = 2.0**-1000
"""Absolute slack of a computed value: far above what underflowing products of any real layer can lose."""
NORM_SLACK = 2.0**-480
"""Absolute slack of a computed norm: squares of entries below 2**-511 underflow."""

Value = TypeVar("Value", float, Tensor)


def gamma(n: int) -> float:
    """Higham's gamma_n = n u / (1 - n u), rounded up."""
    nu = (n + 1) * UNIT_ROUNDOFF
    return nu / (1.0 - 2.0 * nu)


def up(x: float) -> float:
    """The next float64 above `x`."""
    return math.nextafter(x, math.inf)


def down(x: float) -> float:
    """The next float64 below `x`."""
    return math.nextafter(x, -math.inf)


def raised(x: Value, roundings: int) -> Value:
    """An upper bound on a number that was computed as x >= 0 with fewer roundings than that: x (1 + gamma)."""
    return x * (1.0 + gamma(roundings))


def lowered(x: Value, roundings: int) -> Value:
    """A lower bound on a number that was computed as x >= 0 with fewer roundings than that: x (1 - gamma)."""
    return x * (1.0 - gamma(roundings))


def dot_error(magnitude: Value, terms: int) -> Value:
    """What inner products of fewer than so many terms are off by at most; `magnitude` is that of the absolute values,
    computed likewise.
    """
    return gamma(terms) * magnitude


def norm_up(x: Tensor, dim: int) -> Tensor:
    """Euclidean norms along an axis, rounded up; up to NORM_SLACK, where squares underflow."""
    norms: Tensor = x.norm(dim=dim)
    return raised(norms, x.shape[dim] + 4)
