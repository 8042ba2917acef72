"""Searches for the largest size of noise at which a bound stays below its target; the caller proves what is found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

__all__ = ["STEEPNESS", "bisected", "closed_in"]

STEEPNESS = 20.0
"""Of log p over log eps, until two bounds tell."""
_FIRST, _LONGEST, _MOST_UP = 0.4, 8.0, 40  # steps up: the first, the longest, how many
_ROOM = 0.4  # how far below the target a bound is where more effort would not have taken it
_TELLING = 2.5  # how far above the target a bound tells where it is reached
_CLOSE, _MOST_BETWEEN = 0.015, 12  # where it stops: distance of the ends, evaluations between them
_LARGEST = 1e300


def bisected(excess: Callable[[float], float], low: float, steps: int) -> Iterator[float]:
    """Ever larger sizes with excess <= 0, as it is at `low`: by steps up, then by bisection of the logarithm."""
    high = 2.0 * low
    while high < _LARGEST and excess(high) <= 0:
        yield high
        low, high = high, 4.0 * high
    for _ in range(steps):
        middle = low * math.sqrt(high / low)
        if excess(middle) <= 0:
            low = middle
            yield low
        else:
            high = middle


def closed_in(excess: Callable[[float], float], low: float, most: int = _MOST_BETWEEN) -> Iterator[float]:
    """As `bisected` in few evaluations: each is meant to hit, by the last that failed and the slope between two."""
    high, above, step = low, -math.inf, _FIRST
    for i in range(_MOST_UP):
        high = low * math.exp(step)
        if high > _LARGEST:
            return
        above = excess(high)
        if not above <= 0.0:
            break
        yield high
        # the second step is meant to fail by little
        low, step = high, min(max(_ROOM - above, 0.0) / STEEPNESS if i == 0 else 2.0 * step, _LONGEST)
    else:
        return
    steepness, aimed = STEEPNESS, False
    for _ in range(most):
        width = math.log(high / low)
        if width <= _CLOSE:
            break
        step = 0.5 * width
        if above < _TELLING and not aimed:
            step = min(max(1.2 * above / steepness, 0.15 * width), 0.85 * width)
        middle = high * math.exp(-step)
        found = excess(middle)
        aimed = found <= 0.0
        if aimed:
            low = middle
            yield low
        else:
            if above < _TELLING:
                steepness = max((above - found) / step, 1.0)
            high, above = middle, found
