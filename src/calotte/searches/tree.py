"""A tree of boxes: cut where the bound is largest, along the direction that its relaxation loses most by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from calotte.deadline import Deadline
from calotte.proofs.chooser import Chooser
from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.evaluate import evaluate
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.moments.tails import gaussian_comparison
from calotte.proofs.union import log_sum_up
from calotte.searches.hints import Found, hinted
from calotte.searches.sketch import Cut

__all__ = ["Growth", "Tree", "cut"]

_SETTLING = 6  # evaluations of a box by which a `Tree` searches for its heights


@dataclass(frozen=True)
class Growth:
    """How trees grow. Found on `256x2` and `256x4` by `benchmarks/tightness.py`, as the fields of `Branching`.

    Attributes:
        spread: standard deviations up to which leaves are cut along another axis, in four.
        first: deviations more for the first layer, whose relaxation moments replace.
        uneven: exponent of a half-space's impact in its share of the budget where there are no moments; 1 if impacts
            were exact. Where there are, ends are soft, and cost in proportion to their impact already.
        at_once: leaves that are cut together; batch: entries of the largest tensors.
        close: of log p: leaves that much below the worst are not cut with it.
        least: of log p, what a cut must give to be kept.
        silent: of log p: where no height tried first takes more from the measure of any box, none is searched for.
    """

    spread: float = 1.6
    first: float = 3.0
    uneven: float = 0.5
    at_once: int = 6
    batch: int = 4_000_000
    close: float = 1.0
    least: float = 1e-3
    silent: float = 1e-3


def cut(box: Boxes, axis: int, local: LocalNetwork, slabs: int, reach: float) -> list[Boxes]:
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


@dataclass(frozen=True)
class Leaves:
    """Boxes, their evaluations, and their good events: heights (L, 2, N), set by levels (L,)."""

    boxes: Boxes
    found: Found
    level: Tensor
    reach: Tensor

    def __len__(self) -> int:
        return len(self.level)

    def __getitem__(self, rows: Tensor) -> Leaves:
        return Leaves(self.boxes[rows], pick(self.found, rows), self.level[rows], self.reach[rows])

    def __add__(self, other: Leaves) -> Leaves:
        boxes = Boxes.joined([self.boxes, other.boxes])
        level, reach = torch.cat([self.level, other.level]), torch.cat([self.reach, other.reach])
        return Leaves(boxes, joined([self.found, other.found]), level, reach)

    def best(self, boxes: int) -> Leaves:
        """The best of the evaluations of each of so many boxes, which stand one after the other."""
        n = len(self) // boxes
        return self[torch.arange(boxes) * n + self.found.log_bound.reshape(boxes, n).argmin(1)]

    def better(self, other: Leaves) -> Leaves:
        """For each box the better of two evaluations."""
        first = self.found.log_bound <= other.found.log_bound
        return (self + other)[torch.arange(len(self)) + torch.where(first, 0, len(self))]


def exact(local: LocalNetwork) -> bool:
    """Whether the noise has the dimensions for exponential moments of the first group, one of them split."""
    n0 = local.groups[0].stop if local.groups else 0
    one = torch.ones(1, dtype=torch.float64)
    _, log_kappa = gaussian_comparison(local.noise, n0 + 1, torch.tensor([local.m - 1]), one, one)
    return bool(log_kappa.isfinite().all())


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
        chooser: says what units pay for; growth: how the tree grows.
        deadline: after which the heights found are good enough.
        hasty: whether better heights than the `levels` are left to `refine`, if it comes to that.

    Attributes:
        settled: whether they were searched for; silent: whether there is no hope that it helps.
    """

    def __init__(
        self,
        local: LocalNetwork,
        boxes: Boxes,
        levels: tuple[float, ...],
        chooser: Chooser,
        growth: Growth,
        deadline: Deadline,
        hasty: bool = False,
    ) -> None:
        self.local, self._count, self.deadline = local, 0, deadline
        self.chooser, self.growth, measure = chooser, growth, boxes.log_measure(local.noise, local.m)
        self.log_measure = log_sum_up(measure).item()
        self.exact = exact(local)
        # which impacts matter is not known yet
        found = self._tried(boxes, torch.tensor(levels, dtype=torch.float64).expand(len(boxes), -1), None)
        self.leaves = found.best(len(boxes))
        self.silent = self.settled = bool((measure - self.leaves.found.log_bound <= growth.silent).all())
        self._better, self._settling = self._settle(), _SETTLING * len(boxes)
        while not (hasty or self.settled):
            self.refine()

    @property
    def count(self) -> int:
        """Boxes that were bounded, or will be where better heights are searched for."""
        return self._count + (0 if self.settled else self._settling)

    @property
    def at_once(self) -> int:
        """How many boxes are bounded together."""
        return max(1, self.growth.batch // (2 * self.local.units**2 + 1))

    def cut(self, slab: Boxes | None = None, height: float = 0.0) -> Cut:
        """The leaves, of a slab with a network of its own made by half-spaces of a height."""
        return Cut(self.leaves.boxes, self.leaves.reach, self.at_once, slab, height)

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
        return torch.where((gain > 0) | (not self.settled), self.leaves.found.log_bound, -torch.inf)

    def refine(self) -> None:
        """One step: of the search for the first boxes' heights; after that, cut the leaves with the largest bounds.

        Only where that helps.
        """
        if not self.settled:
            before, self.leaves = self._count, next(self._better, self.leaves)
            self._settling -= self._count - before
            self.settled = self._settling == 0 or self.deadline.passed
            return
        leaves, worth = self.leaves, self._open()
        chosen = worth.topk(min(self.growth.at_once, len(leaves))).indices
        chosen = chosen[worth[chosen] > worth.max() - self.growth.close]
        axis = leaves.found.gain[chosen].argmax(1).tolist()
        reach = self.growth.spread * self.local.sigma
        pieces = [cut(leaves.boxes[chosen[[i]]], k, self.local, 4, reach) for i, k in enumerate(axis)]
        counts = torch.tensor([len(part) for part in pieces])
        boxes = Boxes.joined([box for part in pieces for box in part])
        children = self._search(boxes, leaves[chosen.repeat_interleave(counts)])
        kept = torch.ones(len(leaves), dtype=torch.bool)
        kept[chosen] = False
        result = leaves[kept.nonzero()[:, 0]]
        ends = counts.cumsum(0).tolist()
        n, cut_along = self.local.directions.shape
        least = self.growth.least if cut_along < n else -1e-9  # where all axes are cut, only small boxes may help
        for parent, k, begin, end in zip(chosen.tolist(), axis, [0, *ends], ends, strict=False):
            part = children[torch.arange(begin, end)]
            if torch.logsumexp(part.found.log_bound, 0) < leaves.found.log_bound[parent] - least:
                result = result + part
            else:
                leaves.found.gain[parent, k] = 0.0
                result = result + leaves[torch.tensor([parent])]
        self.leaves = result

    def _search(self, boxes: Boxes, parents: Leaves) -> Leaves:
        """Founds with the best heights found: by the impacts of the units, at the level that pays best."""
        n, cut_along = self.local.directions.shape
        if cut_along == n:  # boxes get small, and where they are nothing has to be paid
            free = torch.full_like(parents.level, self.local.span / self.local.sigma)
            return self._tried(boxes, free[:, None], None)
        *_, best = self._between(boxes, parents, (-0.8, 0.6), None, 2)
        *_, best = best, *self._between(boxes, best, (-0.2, 0.2), best, 1)
        return best

    def _settle(self) -> Iterator[Leaves]:
        """The first leaves with better and better heights; each is expected to take the place of the last."""
        boxes = self.leaves.boxes
        yield from self._between(boxes, self.leaves, (-1.6, 0.4), self.leaves, 2)
        yield from self._between(boxes, self.leaves, (-0.2, 0.2), self.leaves, 1)

    def _between(
        self, boxes: Boxes, source: Leaves, ends: tuple[float, float], best: Leaves | None, thirds: int
    ) -> Iterator[Leaves]:
        """The best of `best` and of levels between two ends around `source`'s, with its impacts: ever better.

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
            yield best

    def _tried(self, boxes: Boxes, levels: Tensor, impact: Tensor | None) -> Leaves:
        """Founds of each box at each of its levels (L, n), one box after the other."""
        n = levels.shape[1]
        many, level = boxes.repeated(n), levels.flatten()
        impact = None if impact is None else impact.repeat_interleave(n, 0)
        reach = self._heights(level, impact)
        return Leaves(many, self._evaluate(many, reach), level, reach)

    def _heights(self, level: Tensor, impact: Tensor | None) -> Tensor:
        """(L, 2, N) heights: `level` deviations; more for the first layer where there are moments of it.

        Where there are none, every half-space is paid for: more for those of little impact. Where the price
        sum T(s_j) is least for a given effect sum impact_j s_j, the density at s_j is proportional to the impact.
        """
        local = self.local
        heights = level[:, None, None].expand(-1, 2, local.units).clone()
        if local.units and self.exact:
            heights[:, :, local.groups[0]] += self.growth.first
        elif local.units and impact is not None:
            less = impact.flatten(1).amax(1)[:, None, None].clamp_min(1e-300) / impact.clamp_min(1e-300)
            heights = (heights**2 + 2.0 * self.growth.uneven * less.log()).sqrt()
        return (heights * local.sigma).clamp_max(local.span)

    def _evaluate(self, boxes: Boxes, heights: Tensor) -> Found:
        self._count += len(boxes)
        rows = torch.split(torch.arange(len(boxes)), self.at_once)
        return joined([self._bounded(boxes[part], heights[part]) for part in rows])

    def _bounded(self, boxes: Boxes, heights: Tensor) -> Found:
        return hinted(self.local, boxes, evaluate(self.local, boxes, heights, self.chooser))
