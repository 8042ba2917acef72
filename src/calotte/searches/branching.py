"""Rung `branching`: the noise cut into boxes along a few directions, each bounded by itself, best first.

    p <= P(not G) + sum over boxes B of P(error, u in B, G),

every term bounded by `proofs.evaluate`. Conditioning on the directions along which the unstable units move together
leaves each of them little to move by. Boxes are cut where the bound is largest, along the direction that the loss of
their relaxation comes from; a cut that does not help is not made, so that more of them never give a worse bound.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from calotte.deadline import Deadline, OutOfTime
from calotte.problem import Problem
from calotte.proofs.boxes import Boxes
from calotte.proofs.evaluate import evaluate, restricted
from calotte.proofs.local import Local
from calotte.proofs.localise import localise
from calotte.proofs.union import log_sum_up
from calotte.searches import concentration
from calotte.searches.concentration import concentration_bound
from calotte.searches.hints import Found, hinted

__all__ = ["branching_bound"]

_ROOM = 3.5  # P(not G) lies e^-_ROOM below the bound aimed at
_GOALS = tuple(math.log(p) for p in (1e-3, 1e-6, 1e-9, 1e-20))  # bounds aimed at, in turn, where none is given
_DECADES = 2  # powers of ten below that are tried where the next goal is missed
_SLABS = 18  # of the first cut; the two outer ones lie e^-_BEYOND below the bound aimed at, and are given up
_BEYOND = 2.5
_SPREAD = 1.6  # standard deviations where leaves are cut along another axis
_LEVELS = (0.78, 1.03, 1.3)  # heights tried first, as multiples of where the tail is what is aimed at
_FIRST = 1.2  # deviations more for the first layer, whose relaxation moments mostly replace
_UNEVEN = 0.5  # exponent of a half-space's impact in its share of the budget; 1 if impacts were exact
_AT_ONCE = 6  # leaves that are cut together
_BATCH = 4_000_000  # entries of the largest tensors
_CLOSE, _LEAST, _NEGLIGIBLE = 1.0, 1e-3, 6.0  # differences of log p
_PER_BOX = 0.003  # of log p, what a box more may be hoped to give
_MOST_AXES = 6  # dimensions up to which all of them are cut
_AXES = 1  # else
_SMALL = 64  # units up to which slabs are not given networks of their own


def branching_bound(problem: Problem, sizes: Tensor) -> Tensor:
    """Rung `branching`: (B,) upper bounds on log p; -inf where p = 0 is proved."""
    start = concentration_bound(problem, sizes).tolist()
    bounds = [_bound(problem.alone(i), sizes[i : i + 1], best) for i, best in enumerate(start)]
    return torch.tensor(bounds, dtype=torch.float64)


def _bound(problem: Problem, size: Tensor, best: float) -> float:
    """The bound of one input, `best` or less: aimed at one goal, or at smaller ones in turn until one is missed.

    Then at the powers of ten just below what was reached.
    """
    if not math.isinf(problem.target):
        return _aimed(problem, size, problem.target, best)
    missed = -math.inf
    for goal in _GOALS:
        if best <= goal:
            continue
        best = _aimed(problem, size, goal, best)
        if best > goal:
            missed = goal
            break
    for _ in range(_DECADES if missed > -math.inf else 0):
        goal = math.log(10.0) * (math.ceil(best / math.log(10.0)) - 1)
        if goal <= missed + 1e-6:
            break
        best = _aimed(problem, size, goal, best)
        if best > goal:
            break
    return best


def _aimed(problem: Problem, size: Tensor, goal: float, best: float) -> float:
    """The bound of one input, `best` or less, with a good event whose failure is small beside the goal."""
    if best <= problem.enough or problem.deadline.passed:
        return best
    key = ("branching", size.item(), round(goal, 9))
    if key in problem.known:
        known: float = problem.known[key]
        return min(best, known)
    log_missed = goal - _ROOM
    count = 2.0 * max(1, problem.network.hidden_units)
    log_each = torch.tensor([log_missed - math.log(count)], dtype=torch.float64)
    height = problem.noise.standard_quantile(log_each, problem.m, rounding="up").item()
    try:
        local = localise(problem, size, height, math.sqrt(-2.0 * log_missed), concentration.CHOOSER)
    except OutOfTime:
        return best
    if local is None:
        return best
    found = _sum(local.along(axes(local), height), problem, goal)
    if found <= goal:  # what is found before giving up depends on the effort
        problem.known[key] = found
    return min(best, found)


def _sum(local: Local, problem: Problem, target: float) -> float:
    """The bound by boxes, once it is below the target, or the evaluations, the time or the ideas are used up."""
    n, k = local.directions.shape
    log_target = torch.tensor([target], dtype=torch.float64)
    unit = local.noise.standard_quantile(log_target, local.m).item() * local.noise.size / local.sigma
    levels = tuple(level * max(unit, 3.1) for level in _LEVELS)  # in few dimensions so high that nothing is paid
    whole = Tree(local, Boxes.whole(k), levels, problem.deadline)
    best = whole.log_bound
    if best <= target or k == 0 or whole.count >= problem.settings.boxes or problem.deadline.passed:
        return best
    reach = local.noise.standard_quantile(log_target - _BEYOND, local.m).item()
    slabs = cut(whole.leaves.boxes, 0, local, _SLABS, reach)
    measures = [slab.log_measure(local.noise, local.m) for slab in slabs]
    small = target - _BEYOND + 1e-6
    beyond = torch.cat([*(t for t in measures if t <= small), torch.tensor([-torch.inf]).double()])
    slabs = [slab for slab, t in zip(slabs, measures, strict=True) if t > small]
    slabs.sort(key=lambda slab: abs((slab.low + slab.high)[0, 0].item()))
    trees: list[Tree] = []
    if local.units <= _SMALL and slabs:
        alone = replace(local, log_missed=-math.inf)  # P(not G): below
        trees.append(Tree(alone, Boxes.joined(slabs), levels, problem.deadline))
        slabs = []

    def total() -> float:
        parts = torch.tensor([tree.log_bound for tree in trees], dtype=torch.float64)
        return log_sum_up(torch.cat([parts, beyond, torch.tensor([local.log_missed], dtype=torch.float64)])).item()

    def over(bound: float) -> bool:
        left = problem.settings.boxes - whole.count - sum(tree.count for tree in trees)
        # cuts along few directions will hardly take it to where it is wanted, or below 1/2
        far = -math.log(2.0) if math.isinf(problem.target) else target + _PER_BOX * left
        return left <= 0 or problem.deadline.passed or (k < n and bound > far)

    for slab in slabs:
        within = restricted(local, slab, _height(local, slab, len(slabs)), concentration.CHOOSER)
        trees.append(Tree(within, slab, levels, problem.deadline))
        if over(total()) and slab is not slabs[-1]:
            return best
    while trees:
        best = min(best, total())
        worst = max(trees, key=lambda tree: tree.worth)
        if best <= target or over(best) or worst.worth < best - _NEGLIGIBLE:
            break
        worst.refine()
    return best


def _height(local: Local, slab: Boxes, slabs: int) -> float:
    """Of half-spaces that cost each slab its share of P(not G)."""
    log_each = local.log_missed - slab.log_measure(local.noise, local.m) - math.log(2.0 * slabs * max(1, local.units))
    height = local.noise.standard_quantile(log_each.clamp_max(-1.0), local.m, rounding="up").item()
    return min(height, local.span)


def cut(box: Boxes, axis: int, local: Local, slabs: int, reach: float) -> list[Boxes]:
    """One box in two along an axis, or in slabs up to `reach` (in units of the noise's size) where it was not cut
    along that axis yet."""
    a, b = box.low[0, axis].item(), box.high[0, axis].item()
    if math.isfinite(a) or math.isfinite(b):
        inner = [(max(a, -local.span) + min(b, local.span)) / 2]
    else:
        inner = [(2 * j / (slabs - 2) - 1) * reach for j in range(slabs - 1)]
        inner = [t for t in inner if abs(t) < local.span]
    pieces = []
    for low, high in itertools.pairwise([a, *inner, b]):
        ends = box.low.clone(), box.high.clone()
        ends[0][0, axis], ends[1][0, axis] = low, high
        pieces.append(Boxes(*ends))
    return pieces


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
    rows = torch.where(rows.isfinite().all(), rows, torch.zeros_like(rows))
    small = n <= _MOST_AXES
    directions: Tensor = torch.linalg.svd(rows, full_matrices=small)[2]
    return directions[: n if small else _AXES].t().contiguous()


@dataclass(frozen=True)
class Leaves:
    """Boxes, their evaluations, and the levels (L,) that set the heights of their good events."""

    boxes: Boxes
    found: Found
    level: Tensor

    def __len__(self) -> int:
        return len(self.level)

    def __getitem__(self, rows: Tensor) -> Leaves:
        return Leaves(self.boxes[rows], pick(self.found, rows), self.level[rows])

    def __add__(self, other: Leaves) -> Leaves:
        boxes = Boxes.joined([self.boxes, other.boxes])
        return Leaves(boxes, joined([self.found, other.found]), torch.cat([self.level, other.level]))

    def best(self, boxes: int) -> Leaves:
        """The best of the evaluations of each of so many boxes, which stand one after the other."""
        n = len(self) // boxes
        return self[torch.arange(boxes) * n + self.found.log_bound.reshape(boxes, n).argmin(1)]

    def better(self, other: Leaves) -> Leaves:
        """For each box the better of two evaluations."""
        first = self.found.log_bound <= other.found.log_bound
        return (self + other)[torch.arange(len(self)) + torch.where(first, 0, len(self))]


def pick(found: Found, rows: Tensor) -> Found:
    """Some rows of an evaluation."""
    return Found(*(getattr(found, f.name)[rows] for f in fields(Found)))


def joined(parts: list[Found]) -> Found:
    """Founds one after the other."""
    return Found(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Found)))


class Tree:
    """Boxes cut into leaves, best first.

    Args:
        local: the network near the input, in the boxes at least, with the axes to cut along.
        levels: heights tried first, in standard deviations.
        deadline: after which the heights found are good enough.
    """

    def __init__(self, local: Local, boxes: Boxes, levels: tuple[float, ...], deadline: Deadline) -> None:
        self.local, self.levels, self.count, self.deadline = local, levels, 0, deadline
        self.log_measure = log_sum_up(boxes.log_measure(local.noise, local.m)).item()
        self.leaves = self._search(boxes, None)

    @property
    def log_bound(self) -> float:
        """log P(error, u in the boxes), at most, but for the G that the local network was given."""
        missed = torch.tensor([self.local.log_missed], dtype=torch.float64)
        return min(log_sum_up(torch.cat([self.leaves.found.log_bound, missed])).item(), self.log_measure)

    @property
    def worth(self) -> float:
        """The largest bound of a leaf that can still be cut."""
        return self._open().max().item()

    def _open(self) -> Tensor:
        gain = self.leaves.found.gain.amax(1)
        return torch.where(gain > 0, self.leaves.found.log_bound, -torch.inf)

    def refine(self) -> None:
        """Cut the leaves with the largest bounds, where that helps."""
        leaves, worth = self.leaves, self._open()
        chosen = worth.topk(min(_AT_ONCE, len(leaves))).indices
        chosen = chosen[worth[chosen] > worth.max() - _CLOSE]
        axis = leaves.found.gain[chosen].argmax(1).tolist()
        reach = _SPREAD * self.local.sigma / self.local.noise.size
        pieces = [cut(leaves.boxes[chosen[[i]]], k, self.local, 4, reach) for i, k in enumerate(axis)]
        counts = torch.tensor([len(part) for part in pieces])
        boxes = Boxes.joined([box for part in pieces for box in part])
        children = self._search(boxes, leaves[chosen.repeat_interleave(counts)])
        kept = torch.ones(len(leaves), dtype=torch.bool)
        kept[chosen] = False
        result = leaves[kept.nonzero()[:, 0]]
        ends = counts.cumsum(0).tolist()
        n, cut_along = self.local.directions.shape
        least = _LEAST if cut_along < n else -1e-9  # where all axes are cut, only small boxes may help
        for parent, k, begin, end in zip(chosen.tolist(), axis, [0, *ends], ends, strict=False):
            part = children[torch.arange(begin, end)]
            if torch.logsumexp(part.found.log_bound, 0) < leaves.found.log_bound[parent] - least:
                result = result + part
            else:
                leaves.found.gain[parent, k] = 0.0
                result = result + leaves[torch.tensor([parent])]
        self.leaves = result

    def _search(self, boxes: Boxes, parents: Leaves | None) -> Leaves:
        """Founds with the best heights found: by the impacts of the units, at the level that pays best."""
        if parents is None:  # which impacts matter is not known yet
            found = self._tried(boxes, torch.tensor(self.levels, dtype=torch.float64).expand(len(boxes), -1), None)
            best = found.best(len(boxes))
            best = self._between(boxes, best, (-1.6, 0.4), best, 2)
        else:
            n, cut_along = self.local.directions.shape
            if cut_along == n:  # boxes get small, and where they are nothing has to be paid
                free = torch.full_like(parents.level, self.local.span * self.local.noise.size / self.local.sigma)
                return self._tried(boxes, free[:, None], None)
            best = self._between(boxes, parents, (-0.8, 0.6), None, 2)
        return self._between(boxes, best, (-0.2, 0.2), best, 1)

    def _between(
        self, boxes: Boxes, source: Leaves, ends: tuple[float, float], best: Leaves | None, thirds: int
    ) -> Leaves:
        """The best of `best` and of levels between two ends around those of `source`, with its impacts.

        The interval is cut to a third `thirds` times. Higher levels cost less, and widen what bounds the margins: it
        pays best where both parts are about equal.
        """
        low, high = (source.level + end for end in ends)
        for _ in range(thirds):
            if best is not None and self.deadline.passed:
                break
            levels = torch.stack([low + (high - low) / 3, high - (high - low) / 3], 1)
            tried = self._tried(boxes, levels, source.found.impact)
            first, second = (tried.found.log_price > tried.found.log_margins).reshape(-1, 2).unbind(1)
            low = torch.where(second, levels[:, 1], torch.where(first, levels[:, 0], low))
            high = torch.where(second, high, torch.where(first, levels[:, 1], levels[:, 0]))
            found = tried.best(len(boxes))
            best = found if best is None else best.better(found)
        assert best is not None
        return best

    def _tried(self, boxes: Boxes, levels: Tensor, impact: Tensor | None) -> Leaves:
        """Founds of each box at each of its levels (L, n), one box after the other."""
        n = levels.shape[1]
        many, level = boxes.repeated(n), levels.flatten()
        impact = None if impact is None else impact.repeat_interleave(n, 0)
        return Leaves(many, self._evaluate(many, self._heights(level, impact)), level)

    def _heights(self, level: Tensor, impact: Tensor | None) -> Tensor:
        """(L, 2, N) heights: `level` deviations for the half-space of most impact, more for the others.

        Where the price sum T(s_j) is least for a given effect sum impact_j s_j, the density at s_j is proportional
        to the impact.
        """
        local = self.local
        heights = level[:, None, None].expand(-1, 2, local.units)
        if impact is not None and local.units:
            less = impact.flatten(1).amax(1)[:, None, None].clamp_min(1e-300) / impact.clamp_min(1e-300)
            heights = (heights**2 + 2.0 * _UNEVEN * less.log()).sqrt()
            heights[:, :, local.groups[0]] += _FIRST
        return (heights * local.sigma / local.noise.size).clamp_max(local.span)

    def _evaluate(self, boxes: Boxes, heights: Tensor) -> Found:
        self.count += len(boxes)
        rows = torch.split(torch.arange(len(boxes)), max(1, _BATCH // (2 * self.local.units**2 + 1)))
        return joined([self._bounded(boxes[part], heights[part]) for part in rows])

    def _bounded(self, boxes: Boxes, heights: Tensor) -> Found:
        return hinted(self.local, boxes, evaluate(self.local, boxes, heights, concentration.CHOOSER))
