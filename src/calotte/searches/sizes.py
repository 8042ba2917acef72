"""Searches for the largest size of noise at which a bound stays below its target; the caller proves what is found."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

__all__ = ["STEEPNESS", "bisected", "closed_in"]

STEEPNESS = 20.0
"""Of log p over log eps, until two bounds tell."""
_AT_TARGET = 40.0  # of `branching` just above its target, 30 to 90 were measured
_FIRST, _LONGEST, _MOST_UP = 0.38, 8.0, 41  # steps up: the first (measured: `branching`), the longest, how many
_ROOM = 2.0  # how far below the target more effort may still have taken a bound that reached it
_TELLING = 2.5  # how far above the target a bound tells where it is reached
_MOST_DOWN = 20  # steps down, halves at most, where the first size is too large
_CLOSE, _MOST_BETWEEN = 0.02, 12  # where it stops: distance of the ends, evaluations between them
_LARGEST = 1e300


def bisected(excess: Callable[[float], float], start: float, steps: int) -> Iterator[float]:
    """Ever larger sizes with excess <= 0: from `start`, or the first of its halves that is one, by steps up, then by
    bisection of the logarithm."""
    low, high = start, math.inf
    for _ in range(1 + _MOST_DOWN):
        if excess(low) <= 0:
            break
        low, high = low / 2, low
    else:
        return
    yield low
    if math.isinf(high):
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


def closed_in(
    excess: Callable[[float], float], start: float, most: int = _MOST_BETWEEN, farther: bool = False
) -> Iterator[float]:
    """As `bisected` in few evaluations: each is meant to hit, by the last that failed and the slope between two.

    Where it is known that it goes `farther`, the first size is a step beyond `start`, which is left out if that hits.
    """
    excess = functools.cache(excess)
    hit = farther and excess(start * math.exp(_FIRST)) <= 0.0
    low, high, above, step = start, start, 0.0 if hit else excess(start), 0.0
    aimed = not above <= 0.0  # whether the last one was meant to hit, and did
    if aimed:
        for _ in range(_MOST_DOWN):
            aimed = above < _TELLING
            step = max(1.2 * above / STEEPNESS, min(2.0 * step, math.log(2.0))) if aimed else 0.0
            low = high * (math.exp(-step) if aimed else 0.5)
            found = excess(low)
            if found <= 0.0:
                break
            high, above = low, found
        else:
            return
        yield low
    else:
        if not hit:
            yield low
        step = _FIRST
        for i in range(_MOST_UP):
            high = low * math.exp(step)
            if high > _LARGEST:
                return
            above = excess(high)
            if not above <= 0.0:
                break
            yield high
            # the second step and the third are meant to fail by little
            low, step = high, min(max(_ROOM - above, 0.0) / STEEPNESS if i < 2 else 2.0 * step, _LONGEST)
        else:
            return
    steepness = _AT_TARGET
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
                steepness = max((above - found) / step, STEEPNESS)
            high, above = middle, found
