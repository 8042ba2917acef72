"""Size: the largest eps or sigma at which a rung proves that p is below the target of a problem."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch

from calotte.bound import ProvedRung
from calotte.deadline import OutOfTime
from calotte.problem import Problem

__all__ = ["STEEPNESS", "largest_size"]

_STEPS = {True: 50, False: 12}  # of bisection of log eps, for rungs that are monotone in eps and others
# where a rung takes the inputs one by one, the search is on the logarithm of eps
_FIRST, _LONGEST, _MOST_UP = 0.4, 8.0, 40  # steps up: the first, the longest, how many
_ROOM = 0.4  # how far below the target a bound is where more effort would not have taken it
STEEPNESS = 20.0
"""Of log p over log eps, until two bounds tell."""
_TELLING = 2.5  # how far above the target a bound tells where it is reached
_CLOSE, _MOST_BETWEEN = 0.015, 12  # where it stops: distance of the ends, evaluations between them
_LARGEST = 1e300


def largest_size(rung: ProvedRung, problem: Problem, start: float, measured: bool) -> float:
    """Largest eps or sigma found at which a rung proves p <= delta: bisection on its logarithm, the safe end.

    The search begins at `start`, what cheaper rungs have reached, or at rho_x, where sphere and ball have p = 0; 0
    where nothing is proved there, inf where noise of no size crosses a hyperplane. Where the time is up, what was
    reached. `measured`: whether the distances are to be had though the rung does not need them.

    Raises:
        OutOfTime: before anything was found.
    """
    rho = math.nan
    if rung.monotone or measured:
        with contextlib.nullcontext() if rung.monotone else contextlib.suppress(OutOfTime):
            rho = problem.distances.rho.item()
    if rho == math.inf:
        return rho

    def excess(size: float) -> float:
        problem.deadline.check("before any noise was proved to be small enough")
        return rung.log_bound(problem, torch.tensor([size], dtype=torch.float64)).item() - problem.target

    low = start if start > 0 else rho if rho > 0 else 1.0
    proved = excess(low) <= 0
    for _ in range(20):
        if proved:
            break
        low /= 2
        proved = excess(low) <= 0
    if not proved:
        return 0.0
    try:
        for larger in (_closed_in if rung.one_by_one else _bisected)(excess, low, _STEPS[rung.monotone]):
            low = larger
    except OutOfTime:
        pass
    return low


def _bisected(excess: Callable[[float], float], low: float, steps: int) -> Iterator[float]:
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


def _closed_in(excess: Callable[[float], float], low: float, most: int = _MOST_BETWEEN) -> Iterator[float]:
    """As `_bisected` in few evaluations: each is meant to hit, by the last that failed and the slope between two."""
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
