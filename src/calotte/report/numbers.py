"""Numbers for people: upper bounds rounded up, lower bounds rounded down, at the digits that are printed."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext

__all__ = ["bound_text", "lower_text", "probability_text", "upper_text"]


def _rounded(x: float, digits: int, rounding: str) -> str:
    """x to some significant digits, rounded as said; x is taken as the exact value of its float64."""
    if x == 0.0 or not math.isfinite(x):
        return {math.inf: "inf", -math.inf: "-inf"}.get(x, "0")
    value = Decimal(x)
    step = Decimal(1).scaleb(value.adjusted() - digits + 1)
    with localcontext() as context:
        context.prec = 1100
        rounded = value.quantize(step, rounding=rounding)
    if -4 <= rounded.adjusted() < digits + 2:
        return format(rounded, "f")
    return f"{rounded:.{digits - 1}e}".replace("E", "e")


def lower_text(x: float | None, digits: int = 3) -> str:
    """A lower bound (a distance, a radius, an eps), rounded down; None is no limit."""
    return "∞" if x is None else _rounded(x, digits, ROUND_FLOOR)


def upper_text(x: float, digits: int = 3) -> str:
    """An upper bound, rounded up."""
    return _rounded(x, digits, ROUND_CEILING)


def probability_text(log_p: float, digits: int = 2) -> str:
    """The probability with logarithm `log_p`, rounded up, however small: '3.2e-206'; '0' for -inf."""
    if log_p == -math.inf:
        return "0"
    if log_p >= 0.0:
        return "1"
    with localcontext() as context:
        context.prec = 40
        value = Decimal(log_p).exp()  # correctly rounded to 40 digits: one more in the last place covers it
        value += value.scaleb(-38)
        step = Decimal(1).scaleb(value.adjusted() - digits + 1)
        rounded = value.quantize(step, rounding=ROUND_CEILING)
    if rounded >= 1:
        return "1"
    exponent = rounded.adjusted()
    if exponent >= -3:
        return format(rounded, "f")
    return f"{rounded.scaleb(-exponent):.{digits - 1}f}e{exponent:03d}"


def bound_text(log_p: float, skipped: str | None = None) -> str:
    """A bound for a table: '-' where the rung was skipped."""
    return "-" if skipped else probability_text(log_p)
