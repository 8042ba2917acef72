"""Printing: numbers for people, upper bounds rounded up and lower bounds rounded down at the digits printed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Literal

__all__ = ["lower_text", "number", "plain", "probability_down_text", "probability_text", "span"]

_ROUNDINGS = {"up": ROUND_CEILING, "down": ROUND_FLOOR, "nearest": ROUND_HALF_EVEN}


def number(x: float, rounding: Literal["up", "down", "nearest"] = "nearest", digits: int = 3) -> str:
    """x to a few significant digits, never below (up) or above (down) its float64 value."""
    if not math.isfinite(x):
        return "-" if math.isnan(x) else "none" if x > 0 else "-inf"
    if x == 0:
        return "0"
    value = Context(prec=digits, rounding=_ROUNDINGS[rounding]).plus(Decimal(x))
    return f"{value:f}" if -4 <= value.adjusted() < 6 else f"{value:.{digits - 1}e}"


def lower_text(x: float | None) -> str:
    """A lower bound (a distance, a radius, an eps), rounded down; None is no limit."""
    return "∞" if x is None else number(x, "down")


def probability_text(log_p: float, digits: int = 2) -> str:
    """An upper bound on a probability, given by its logarithm, rounded up, however small; 0 only where proved."""
    if log_p == -math.inf:
        return "0"
    if log_p >= 0:
        return "1"
    context = Context(prec=17, Emin=MIN_EMIN)
    p = context.next_plus(context.exp(Decimal(log_p)))
    p = min(Context(prec=digits, rounding=ROUND_CEILING, Emin=MIN_EMIN).plus(p), Decimal(1))
    return f"{p:f}" if p.adjusted() >= -3 else f"{p:.{digits - 1}e}"


def probability_down_text(log_p: float, digits: int = 2) -> str:
    """A lower bound on a probability, given by its logarithm, rounded down; 0 where nothing is proved."""
    if log_p == -math.inf:
        return "0"
    context = Context(prec=17, Emin=MIN_EMIN)
    p = context.next_minus(context.exp(Decimal(log_p)))
    p = Context(prec=digits, rounding=ROUND_FLOOR, Emin=MIN_EMIN).plus(p)
    return f"{p:f}" if p.adjusted() >= -3 else f"{p:.{digits - 1}e}"


def span(values: Iterable[float]) -> str:
    """The range of some numbers, one number where all are the same."""
    known = list(values)
    low, high = f"{min(known):.4g}", f"{max(known):.4g}"
    return low if low == high else f"{low} to {high}"


def plain(text: str) -> str:
    """Text in one line, without characters that a terminal would act on."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
