"""Rung `branching`: the noise cut into boxes along a few directions, each bounded by itself, best first.

    p <= P(not G) + sum over boxes B of P(error, u in B, G),

every term bounded by `Local.evaluate`. Conditioning on the directions along which the unstable units move together
leaves each of them little to move by. Boxes are cut where the bound is largest, along the direction that the loss of
their relaxation comes from; a cut that does not help is not made, so that more of them never give a worse bound.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from calotte.bounds.boxes import Boxes
from calotte.bounds.ladder import Problem
from calotte.bounds.local import Evaluation, Local, localise
from calotte.bounds.union import log_sum_up

__all__ = ["branching_bound"]

_GOALS = (-14.0, -40.0, -200.0)  # log P(not G) aimed at, in turn, while it is what limits the bound
_SLABS = 16
_SPREAD = 3.2  # of the first cuts, in standard deviations
_STEPS = 4  # of bisection on heights
_FAR = 3.0  # in log p
_AT_ONCE = 6
_MOST_AXES = 6  # dimensions up to which all of them are cut
_AXES = 2  # else
_UNEVEN = 0.7  # exponent of a half-space's impact in its share of the budget; 1 where impacts were exact


def branching_bound(problem: Problem, sizes: Tensor) -> Tensor:
    """Rung `branching`: (B,) upper bounds on log p; -inf where p = 0 is proved."""
    bounds = [_bound(problem.alone(i), sizes[i : i + 1]) for i in range(len(problem.x))]
    return torch.tensor(bounds, dtype=torch.float64)


def _bound(problem: Problem, size: Tensor) -> float:
    """The bound of one input: with a larger good event G while P(not G) is what limits it."""
    begin = time.perf_counter()
    best = 0.0
    for goal in _GOALS:
        goal = min(goal, problem.target - 3.0)
        count = 2.0 * max(1, problem.network.hidden_units)
        log_each = torch.tensor([goal - math.log(count)], dtype=torch.float64)
        height = problem.noise.standard_quantile(log_each, problem.m, rounding="up").item()
        local = localise(problem, size, height, math.sqrt(-2.0 * goal))
        if local is None:
            break
        tree = Tree(local.along(axes(local), height), problem.settings.boxes)
        best = min(best, tree.grow(problem.target, begin + problem.settings.time_limit))
        if best <= problem.target or best > goal + 2.0:
            break
    return best


def axes(local: Local) -> Tensor:
    """(n, K) orthonormal directions to cut along: those along which the units that may change sign move together.

    Leading right singular vectors of the units' linear parts at u = 0, weighted by what the units mean for the
    margins and by how near they are to changing sign; units of the first layer count only where there are no others.
    All of R^n where n is small.
    """
    n_units, n = local.units, local.normal.shape[1]
    linear, value = local.normal.clone(), local.constant.clone()
    for group in local.groups:
        active = (value[: group.start] > 0).double()
        linear[group] += (local.weight[group, : group.start] * active) @ linear[: group.start]
        value[group] += local.weight[group, : group.start] @ value[: group.start].clamp_min(0.0)
    influence = local.weight[n_units:].clone()
    for group in reversed(local.groups):
        active = (value[group] > 0).double()
        influence[:, : group.start] += (influence[:, group] * active) @ local.weight[group, : group.start]
    deviation = (linear[:n_units].norm(dim=1) * local.sigma).clamp_min(1e-300)
    near = torch.exp(-0.5 * (value[:n_units] / (2.0 * deviation)) ** 2)
    rows = (near * influence.abs().amax(0))[:, None] * linear[:n_units]
    rows = rows[local.groups[0].stop if len(local.groups) > 1 else 0 :]
    small = n <= _MOST_AXES
    _, _, directions = torch.linalg.svd(rows, full_matrices=small)
    return directions[: n if small else _AXES].t().contiguous()


@dataclass(frozen=True)
class Leaves:
    """Boxes, their evaluations, and the levels (L,) that set the heights of their good events."""

    boxes: Boxes
    found: Evaluation
    level: Tensor

    def __len__(self) -> int:
        return len(self.level)

    def __getitem__(self, rows: Tensor) -> Leaves:
        return Leaves(self.boxes[rows], pick(self.found, rows), self.level[rows])

    def __add__(self, other: Leaves) -> Leaves:
        boxes = Boxes(*(torch.cat([getattr(x.boxes, e) for x in (self, other)]) for e in ("low", "high")))
        return Leaves(boxes, joined([self.found, other.found]), torch.cat([self.level, other.level]))

    def better(self, other: Leaves) -> Leaves:
        """For each box the better of two evaluations."""
        first = self.found.log_bound <= other.found.log_bound
        return (self + other)[torch.arange(len(self)) + torch.where(first, 0, len(self))]


def pick(found: Evaluation, rows: Tensor) -> Evaluation:
    """Some rows of an evaluation."""
    return Evaluation(*(getattr(found, f.name)[rows] for f in fields(Evaluation)))


def joined(parts: list[Evaluation]) -> Evaluation:
    """Evaluations one after the other."""
    return Evaluation(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Evaluation)))


class Tree:
    """Leaves whose boxes cover the noise.

    Args:
        local: the network near the input; most: evaluations of boxes allowed; height: bound on components on G, in
            units of the noise's size.
    """

    def __init__(self, local: Local, most: int) -> None:
        self.local, self.most, self.count = local, most, 0
        self.deviation = local.sigma / local.noise.size  # in the units of boxes

    def grow(self, target: float, deadline: float) -> float:
        """The bound, once it is below the target, or the evaluations, the time or the ideas are used up."""
        root = self._search(Boxes.whole(self.local.directions.shape[1]), None)
        best = self._total(root)
        if best <= target:
            return best
        leaves = self._cut(root, torch.tensor([0]))
        best = min(best, self._total(leaves))
        if self._hopeless(best, target):
            return best
        while best > target and self.count < self.most and time.perf_counter() < deadline:
            open_ = leaves.found.gain.amax(1) > 0
            worth = torch.where(open_, leaves.found.log_bound, -torch.inf)
            chosen = worth.topk(min(_AT_ONCE, len(worth))).indices
            chosen = chosen[worth[chosen] > best - 8.0]
            if len(chosen) == 0:
                break
            leaves = self._refined(leaves, chosen)
            best = min(best, self._total(leaves))
        return best

    def _hopeless(self, best: float, target: float) -> bool:
        """Whether cuts along few directions will hardly take the bound to where it is wanted, or below 1/2."""
        n, k = self.local.directions.shape
        return k < n and best > max(target + _FAR, -math.log(2.0))

    def _total(self, leaves: Leaves) -> float:
        missed = torch.tensor([self.local.log_missed], dtype=torch.float64)
        return log_sum_up(torch.cat([leaves.found.log_bound, missed])).item()

    def _refined(self, leaves: Leaves, chosen: Tensor) -> Leaves:
        """The leaves with those chosen cut in two or more, where that helps."""
        kept = torch.ones(len(leaves), dtype=torch.bool)
        kept[chosen] = False
        axis = leaves.found.gain[chosen].argmax(1)
        children = self._cut(leaves[chosen], axis)
        result = leaves[kept.nonzero()[:, 0]]
        begin = 0
        for i, (parent, k) in enumerate(zip(chosen.tolist(), axis.tolist(), strict=True)):
            end = begin + self.pieces[i]
            part = children[torch.arange(begin, end)]
            begin = end
            if torch.logsumexp(part.found.log_bound, 0) < leaves.found.log_bound[parent] - 1e-3:
                result = result + part
            else:
                again = leaves[torch.tensor([parent])]
                again.found.gain[:, k] = 0.0
                result = result + again
        return result

    def _cut(self, leaves: Leaves, axis: Tensor) -> Leaves:
        """All leaves cut along one axis each, evaluated; `pieces` tells how many come from each."""
        span = self.local.span
        low, high, origin = [], [], []
        for i, k in enumerate(axis.tolist()):
            a, b = leaves.boxes.low[i, k].item(), leaves.boxes.high[i, k].item()
            if math.isfinite(a) or math.isfinite(b):
                inner = [(max(a, -span) + min(b, span)) / 2]
            else:
                n = _SLABS if len(leaves) == 1 else 4
                inner = [(2 * j / (n - 2) - 1) * _SPREAD * self.deviation for j in range(n - 1)]
                inner = [t for t in inner if abs(t) < span]
                if n == 4:
                    inner = [t / 2.5 for t in inner]
            cuts = [a, *inner, b]
            for p, q in zip(cuts[:-1], cuts[1:], strict=True):
                row_low, row_high = leaves.boxes.low[i].clone(), leaves.boxes.high[i].clone()
                row_low[k], row_high[k] = p, q
                low.append(row_low)
                high.append(row_high)
                origin.append(i)
        self.pieces = [origin.count(i) for i in range(len(leaves))]
        return self._search(Boxes(torch.stack(low), torch.stack(high)), leaves[torch.tensor(origin)])

    def _search(self, boxes: Boxes, parents: Leaves | None) -> Leaves:
        """Evaluations with the best heights found: first one for all units, then by their impacts."""
        n = len(boxes)
        if parents is None:
            ends = torch.full((n,), 1.5).double(), torch.full((n,), 6.5).double()
            found = self._bisect(boxes, *ends, None, _STEPS + 2)
            return found.better(self._bisect(boxes, found.level - 1.5, found.level + 0.7, found.found.impact, _STEPS))
        level = parents.level
        found = self._bisect(boxes, level - 1.5, level + 1.0, parents.found.impact, _STEPS)
        return found.better(self._bisect(boxes, found.level - 0.6, found.level + 0.6, found.found.impact, 2))

    def _bisect(self, boxes: Boxes, low: Tensor, high: Tensor, impact: Tensor | None, steps: int) -> Leaves:
        """Bisection on the level: down where the margins cost more than the good event."""
        best: Leaves | None = None
        for _ in range(steps):
            level = (low + high) / 2
            leaves = Leaves(boxes, self._evaluate(boxes, self._heights(level, impact)), level)
            best = leaves if best is None else best.better(leaves)
            wanting = leaves.found.log_margins > leaves.found.log_price
            low, high = torch.where(wanting, low, level), torch.where(wanting, level, high)
        assert best is not None
        return best

    def _heights(self, level: Tensor, impact: Tensor | None) -> Tensor:
        """(L, 2, N) heights: `level` deviations for the half-space of most impact, more for the others.

        Where the price sum T(s_j) is least for a given effect sum impact_j s_j, the density at s_j is proportional
        to the impact.
        """
        n = self.local.units
        if impact is None:
            heights = level[:, None, None].expand(-1, 2, n)
        else:
            log_impact = _UNEVEN * impact.clamp_min(1e-30).log()
            most = log_impact.flatten(1).amax(1) if n else torch.zeros(len(level)).double()
            squared = level**2 + 2.0 * (most - 0.0)
            heights = (squared[:, None, None] - 2.0 * log_impact).sqrt()
        return torch.minimum(heights * self.deviation, torch.tensor(self.local.span).double())

    def _evaluate(self, boxes: Boxes, heights: Tensor) -> Evaluation:
        self.count += len(boxes)
        rows = torch.arange(len(boxes)).split(8)
        return joined([self.local.evaluate(boxes[part], heights[part]) for part in rows])
