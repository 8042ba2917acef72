"""Rungs `relaxation` and `concentration`: half-space tails of linear lower bounds on the output margins.

Relaxation bounds the pre-activations over all noise of the support. Concentration bounds them on a good event
only: unit j is taken to satisfy a_j.r >= -s eps ||a_j|| for its lower and upper linear bounds, which each fail with
probability T(s) and shrink the interval from eps ||a_j|| to s eps ||a_j||. Every half-space used is paid for once:

    p <= (sum of the half-spaces used) + sum_k T(c_k / (eps ||a_k||)),

for on the intersection of the good half-spaces all bounds hold, layer by layer, and outside of it one of them is
violated. A unit that is stable over the whole support, given the earlier layers' good half-spaces, is free; one that
is active or inactive up to about the height s pays for the one half-space where it changes sign, z > 0 or z < 0, with
what that one costs. The height s is chosen by bisection, for each input, and the smallest of the bounds found is the
answer: each of them is proved by itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotte.deadline import OutOfTime
from calotte.problem import Problem
from calotte.proofs.event import Budget, paid_for, relaxed_margins
from calotte.proofs.price import Chooser
from calotte.proofs.support import support
from calotte.rounding import gamma
from calotte.searches.thrift import Thrift

__all__ = ["bound_on_event", "concentration_bound", "relaxation_bound"]

CHOOSER: Chooser = Thrift()
_TAILS = (6.0, 12.0, 40.0)  # Gaussian: ||u|| <= sigma (sqrt(m) + t) fails with probability below exp(-t^2 / 2)
_STEPS = 7  # bisection steps for the failure budget of the good event
_ROOM = 0.5  # the price of a good event lies e^-_ROOM below the bound aimed at


def relaxation_bound(problem: Problem, sizes: Tensor) -> Tensor:
    """Rung `relaxation`: (B,) upper bounds on log p; -inf where p = 0 is proved (never for the Gaussian)."""
    return problem.once(("relaxation", *sizes.tolist()), lambda: _relaxation_bound(problem, sizes))


def _relaxation_bound(problem: Problem, sizes: Tensor) -> Tensor:
    best = torch.zeros(len(problem.x), dtype=torch.float64)
    for t in _TAILS[:2] if math.isinf(problem.noise.radius) else (0.0,):
        around = support(problem, sizes, t)
        margins, _ = relaxed_margins(problem, around)
        best = torch.minimum(best, paid_for(problem, margins, sizes, [torch.full_like(best, around.log_missed)]))
    return best


def concentration_bound(problem: Problem, sizes: Tensor) -> Tensor:
    """Rung `concentration`: (B,) upper bounds on log p, the smallest over the budgets tried.

    Where the problem names a bound that is wanted, that says what the good event may cost.
    """
    key = ("concentration", problem.target, problem.enough, *sizes.tolist())
    return problem.once(key, lambda: _concentration_bound(problem, sizes))


def _concentration_bound(problem: Problem, sizes: Tensor) -> Tensor:
    if not math.isinf(problem.target):
        return bound_aimed_at(problem, sizes, problem.target)
    best = relaxation_bound(problem, sizes)
    low = torch.full_like(best, math.log(0.5))  # of log(-log budget)
    high = torch.full_like(best, math.log(0.5 * _TAILS[-1] ** 2))
    for _ in range(_STEPS):
        if problem.deadline.passed or (best <= problem.enough).all():
            break
        middle = (low + high) / 2
        try:
            found, price, margins = bound_on_event(problem, sizes, -middle.exp(), _TAILS[-1])
        except OutOfTime:
            break
        best, wanting = torch.minimum(best, found), margins > price
        low, high = torch.where(wanting, low, middle), torch.where(wanting, middle, high)
    return best


def bound_aimed_at(problem: Problem, sizes: Tensor, target: float) -> Tensor:
    """As `concentration_bound`, in one pass where that takes log p to the target."""
    t = math.sqrt(2.0 * (_ROOM - target))
    log_budget = torch.full((len(problem.x),), target, dtype=torch.float64)  # if all half-spaces were used
    best, price, _ = bound_on_event(problem, sizes, log_budget, t)
    if (best > target).any():
        unused = torch.where(price.isfinite(), target - price, 0.0)
        better, *_ = bound_on_event(problem, sizes, (log_budget + unused - _ROOM).clamp_max(0.0), t)
        best = torch.minimum(torch.minimum(best, better), relaxation_bound(problem, sizes))
    return best


def bound_on_event(problem: Problem, sizes: Tensor, log_budget: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
    """The bound (B,) with a good event that fails with probability exp(log_budget) (B,) at most; t: of `support`.

    Returns:
        also what the good event costs, and what the margins do: the two parts of the bound.
    """
    noise, m = problem.noise, problem.m
    around = support(problem, sizes, t)
    s = noise.standard_quantile(log_budget - math.log(max(1, 2 * problem.network.hidden_units)), m, rounding="up")
    reach = torch.minimum(s * sizes * (1.0 + gamma(4)), around.radius)
    margins, event = relaxed_margins(problem, around, Budget(reach, sizes, CHOOSER))
    price = event.log_price
    missed = torch.full_like(price, around.log_missed)
    return paid_for(problem, margins, sizes, [price, missed]), price, paid_for(problem, margins, sizes, [])
