"""Rung `moments`: margins and deeper units bounded by exponential moments, all first-layer units as they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotte.deadline import OutOfTime
from calotte.problem import Problem
from calotte.proofs.first import FirstLayer, first_layer
from calotte.proofs.layers import log_bound
from calotte.proofs.sums import gaussian_law
from calotte.proofs.support import support
from calotte.searches.thrift import Thrift
from calotte.searches.tilts import Tilts

__all__ = ["moments_bound"]

_GOALS = (-7.0, -14.0, -21.0, -30.0, -46.0)  # logarithms of bounds aimed at, in turn
_ROOM = 0.7  # the price of a good event lies e^-_ROOM below the bound aimed at


def moments_bound(problem: Problem, sizes: Tensor) -> Tensor:
    """Rung `moments`: (B,) upper bounds on log p.

    Raises:
        OutOfTime: before any bound was found.
    """
    found = [_bound(problem.alone(i), sizes[i : i + 1]) for i in range(len(sizes))]
    return torch.tensor(found, dtype=torch.float64)


def _bound(problem: Problem, size: Tensor) -> float:
    """The smallest bound found for one input."""
    first = problem.geometry.once("first layer", lambda: first_layer(problem.geometry, problem.deadline))
    best: float | None = None
    if first is None:
        return 0.0
    for goal in _GOALS if math.isinf(problem.target) else (problem.target,):
        try:
            for found in _aimed_at(problem, first, size, goal):
                best = found if best is None else min(best, found)
                if best <= goal:
                    break
        except OutOfTime:
            if best is None:
                raise
            break
        if not best <= goal or best <= problem.enough:
            break
    return 0.0 if best is None else best


def _aimed_at(problem: Problem, first: FirstLayer, size: Tensor, goal: float):
    around = support(problem, size, math.sqrt(2.0 * (_ROOM - goal)))
    law = gaussian_law(problem.noise, size.item(), problem.m)
    propose, deep = Tilts(problem, goal - _ROOM), problem.geometry.deep_units
    log_each = goal - _ROOM - math.log(2 * deep) if deep else goal  # if everything that is offered were used
    found, price = log_bound(problem, first, around, law, propose, Thrift(), log_each)
    yield found.item()
    if deep and price.isfinite():
        log_each = min(log_each + goal - _ROOM - price.item(), -1.0)
        yield log_bound(problem, first, around, law, propose, Thrift(), log_each)[0].item()
