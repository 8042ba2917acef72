"""Rounding to the safe side: bounds on the errors of float64 arithmetic (unit roundoff u = 2**-53).

Source: N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., SIAM 2002, chapters 2 and 3:
an inner product of n terms, summed in any order, with or without fused operations, differs from its exact
value by at most `gamma(n)` times the inner product of the absolute values (underflow apart, which the two
absolute slacks below cover).
"""

import math

__all__ = ["NORM_SLACK", "UNIT_ROUNDOFF", "VALUE_SLACK", "down", "gamma", "up"]

UNIT_ROUNDOFF = 2.0**-53
VALUE_SLACK = 2.0**-1000
"""Absolute slack of a computed value: far above what underflowing products of any real layer can lose."""
NORM_SLACK = 2.0**-480
"""Absolute slack of a computed norm: squares of entries below 2**-511 underflow."""


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
