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
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.bounds.forms import LinearBounds
from calotte.bounds.ladder import Problem
from calotte.bounds.relaxation import Relaxation
from calotte.bounds.union import log_sum_up
from calotte.deadline import OutOfTime
from calotte.noise import quotient_down
from calotte.rounding import gamma

__all__ = ["concentration_bound", "relaxation_bound", "relaxed_radius"]

_TAILS = (6.0, 12.0, 40.0)  # Gaussian: ||u|| <= sigma (sqrt(m) + t) fails with probability below exp(-t^2 / 2)
_STEPS = 7  # bisection steps for the failure budget of the good event
EAGER = 0.5  # how much more of log p the sign of a unit may cost than two bounds on it
_ROOM = 0.5  # the price of a good event lies e^-_ROOM below the bound aimed at


@dataclass(frozen=True)
class Support:
    """All noise that is considered: ||u|| <= radius (B,), up to a probability whose logarithm is `log_missed`."""

    radius: Tensor
    log_missed: float


def support(problem: Problem, sizes: Tensor, t: float) -> Support:
    """The support of sphere and ball, or a ball that a Gaussian leaves with probability below exp(-t^2 / 2).

    ||u|| / sigma is 1-Lipschitz in a standard normal vector, with mean at most sqrt(m), so that it exceeds
    sqrt(m) + t with probability at most exp(-t^2 / 2) (Boucheron, Lugosi, Massart, Concentration Inequalities,
    Theorem 5.6).
    """
    if math.isinf(problem.noise.radius):
        return Support(sizes * (math.sqrt(problem.m) + t) * (1.0 + gamma(8)), -0.5 * t * t)
    return Support(sizes, -math.inf)


def relaxed_units(
    problem: Problem, around: Support, reach: Tensor, sizes: Tensor | None = None
) -> tuple[Relaxation, Tensor]:
    """Bounds on all units on a good event of half-spaces, and the logarithm (B,) of what these cost, rounded up.

    Args:
        reach: (B,) distance of the half-spaces that bound a unit.
        sizes: (B,) of the noise; None where `reach` is the radius of the support, and nothing is to be paid.
    """
    network, x = problem.network, problem.x
    relaxation = Relaxation(problem.geometry, x, around.radius)
    whole, height = around.radius[:, None], reach[:, None]
    log_each = torch.full_like(whole, -torch.inf)
    if sizes is not None:
        log_each = problem.noise.standard_log_tail(quotient_down(reach, sizes), problem.m, rounding="up")[:, None]
        log_each = torch.where(height < whole, log_each, -torch.inf)
    worth = log_each + (math.log(2.0) + EAGER)
    halves, signs = torch.zeros_like(whole), [log_each]
    for i, node in enumerate(network.nodes):
        if i:
            relaxation.bound_magnitude(i)
        if i not in network.relus:
            continue
        feeder = node.inputs[0]
        size = math.prod(network.shape(feeder))
        least, most, low, high = (torch.empty(len(x), size, dtype=torch.float64) for _ in range(4))
        log_sign = torch.full((len(x), 2, size), torch.inf, dtype=torch.float64)
        for block in relaxation.blocks(feeder, problem.settings.memory_limit):
            problem.deadline.check(f"at node '{network.nodes[feeder].name}'")
            linear = relaxation.unit_bounds(feeder, block)
            n = block.stop - block.start
            for lower, upper, distance in ((least, most, whole), (low, high, height)):
                lowest = linear.lowest(distance)
                lower[:, block], upper[:, block] = lowest[:, :n], -lowest[:, n:]
            if sizes is not None:
                log_sign[:, :, block] = log_below_zero(problem, linear, sizes).reshape(len(x), 2, n)
        free = (least >= 0) | (most <= 0)
        cheap = ~free & (log_sign.amin(1) <= worth)
        active = cheap & (log_sign[:, 0] <= log_sign[:, 1])
        both = ~free & ~cheap
        halves = halves + 2.0 * both.sum(1, keepdim=True)
        signs.append(torch.where(cheap, log_sign.amin(1), -torch.inf))
        # a half-space that is not paid for is not used: the bound over the whole support stands in for it
        low = torch.where(both, low, torch.where(active, least.clamp_min(0.0), least))
        high = torch.where(both, high, torch.where(cheap & ~active, most.clamp_max(0.0), most))
        shape = (-1, *network.shape(feeder))
        relaxation.settle(i, low.reshape(shape), high.reshape(shape), least.reshape(shape), most.reshape(shape))
    total = log_each + halves.log() + gamma(8) * (1.0 + log_each.abs())
    signs[0] = torch.where((halves > 0) & log_each.isfinite(), total, -torch.inf)
    return relaxation, log_sum_up(torch.cat(signs, 1))


def log_below_zero(problem: Problem, linear: LinearBounds, sizes: Tensor) -> Tensor:
    """Upper bounds (B, R) on log P(value < 0) for values with such linear bounds; 0 where that is likely."""
    heights = quotient_down(linear.distances(), sizes[:, None])
    logs = torch.zeros_like(heights)
    unlikely = heights > 0
    logs[unlikely] = problem.noise.standard_log_tail(heights[unlikely], problem.m, rounding="up")
    return logs


def relaxed_margins(
    problem: Problem, around: Support, reach: Tensor, sizes: Tensor | None = None
) -> tuple[LinearBounds, Tensor]:
    """Linear lower bounds on the margins on the good event of `relaxed_units`, and what that costs."""
    relaxation, price = relaxed_units(problem, around, reach, sizes)
    margins = relaxation.bounds(*margin_rows(problem))
    kept = problem.network.decision.keeps_ties(problem.predicted) & relaxation.never_negative(*margin_rows(problem))
    return margins.holding(kept), price


def margin_rows(problem: Problem) -> tuple[int, Tensor]:
    """The output node, and rows (B, C, *shape) whose products with its values are the margins."""
    network = problem.network
    last = len(network.nodes) - 1
    return last, network.decision.comparison(problem.predicted).reshape(len(problem.x), -1, *network.shape(last))


def relaxation_bound(problem: Problem, sizes: Tensor) -> Tensor:
    """Rung `relaxation`: (B,) upper bounds on log p; -inf where p = 0 is proved (never for the Gaussian)."""
    return problem.once(("relaxation", *sizes.tolist()), lambda: _relaxation_bound(problem, sizes))


def _relaxation_bound(problem: Problem, sizes: Tensor) -> Tensor:
    best = torch.zeros(len(problem.x), dtype=torch.float64)
    for t in _TAILS[:2] if math.isinf(problem.noise.radius) else (0.0,):
        around = support(problem, sizes, t)
        margins, _ = relaxed_margins(problem, around, around.radius)
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
    margins, price = relaxed_margins(problem, around, reach, sizes)
    missed = torch.full_like(price, around.log_missed)
    return paid_for(problem, margins, sizes, [price, missed]), price, paid_for(problem, margins, sizes, [])


def relaxed_radius(problem: Problem, start: Tensor, steps: int = 12) -> Tensor:
    """A radius (B,) around each input within which the answer is proved not to change; 0 where none is found.

    The largest for which `relaxation` proves p = 0 is searched by doubling from `start` (B,) and bisection, as long
    as the deadline allows; every radius returned was itself proved. In the space of the problem, which should have
    no noise map.
    """

    def holds(radius: Tensor) -> Tensor:
        margins, _ = relaxed_margins(problem, Support(radius, -math.inf), radius)
        return (margins.distances() >= radius[:, None]).all(1)

    low, high = torch.zeros_like(start), start.clamp(1e-6, 1e6)
    growing = torch.ones(len(start), dtype=torch.bool)
    try:
        for _ in range(40):
            growing &= holds(high)
            if not growing.any():
                break
            low, high = torch.where(growing, high, low), torch.where(growing, 2 * high, high)
        for _ in range(steps):
            middle = (low + high) / 2
            fine = holds(middle)
            low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    except OutOfTime:
        pass  # what was found holds
    return low


def paid_for(problem: Problem, margins: LinearBounds, sizes: Tensor, logs: list[Tensor]) -> Tensor:
    """log of sum_k T(c_k / (eps ||a_k||)) plus probabilities given as logarithms, rounded up, (B,)."""
    heights = quotient_down(margins.distances(), sizes[:, None])
    terms = problem.noise.standard_log_tail(heights, problem.m, rounding="up")
    return log_sum_up(torch.cat([terms, *(log[:, None] for log in logs)], 1))
