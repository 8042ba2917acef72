"""Slabs: noise cut along one direction, to find where an event occurs nearly always.

What fails together most often is found by draws; the network near the input is that of the opposite event, so that
the search for small upper bounds does for lower ones too: p is at least what the slabs leave of their measures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from calotte.deadline import Deadline
from calotte.proofs.chooser import Chooser
from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.local.occurring import log_occurring, opposite
from calotte.query import Query
from calotte.searches.axes import axes
from calotte.searches.heights import near
from calotte.searches.thrift import Thrift
from calotte.searches.tree import Growth, Tree, cut
from calotte.streams import Stream, generator

__all__ = ["Slabs"]


@dataclass(frozen=True)
class Slabs:
    """How rung `branching` bounds p from below where the noise has many dimensions.

    Found on `256x4` at eps 1: 24 slabs in all gave 0.19 where 48 gave 0.22 and 96 gave 0.23.

    Attributes:
        chooser: says what units pay for; growth: of the tree.
        draws: by which it is seen what fails; where no draw sees the event nothing is tried.
        at_once: draws in a pass.
        room: P(not G) lies e^-room below the share of the draws.
        slabs: of the first cut, up to `reach` standard deviations.
        halvings: of those in which anything was gained, and of those beside them; `most` of log p are gained enough.
        levels: heights tried first, in standard deviations.
        most_switching: units that noise may switch, up to which it is tried.
    """

    chooser: Chooser = field(default_factory=Thrift)
    growth: Growth = field(default_factory=Growth)
    draws: int = 512
    at_once: int = 64
    room: float = 5.0
    slabs: int = 12
    halvings: int = 2
    most: float = 3.0
    reach: float = 3.5
    levels: tuple[float, ...] = (1.8, 2.4, 3.0)
    most_switching: int = 800

    def log_lower(self, query: Query, size: Tensor) -> float:
        """A lower bound on log p for one input and noise of a size (1,), rounded down; -inf where none is found.

        Raises:
            OutOfTime: the query's deadline passed.
        """
        forms, share = self._failing(query, size.item())
        if share == 0.0 or query.deadline.passed:
            return -math.inf
        log_missed = math.log(share) - self.room
        found, height, _ = near(opposite(query, forms), size, log_missed, self.chooser, self.most_switching)
        if found is None:
            return -math.inf
        local = found.network.along(axes(found.network), height)
        if local.directions.shape[1] == 0:
            return -math.inf
        reach = self.reach * local.sigma
        boxes = Boxes.joined(cut(Boxes.whole(local.directions.shape[1]), 0, local, self.slabs, reach))
        log_held = self._log_held(local, boxes, query.deadline)
        for _ in range(self.halvings):
            gained = boxes.log_measure(local.noise, local.m) - log_held
            some = gained > self.growth.silent
            some = (some | torch.cat([some[1:], some[:1]]) | torch.cat([some[-1:], some[:-1]])) & (gained < self.most)
            if not some.any() or query.deadline.passed:
                break
            halves = Boxes.joined([half for slab in some.nonzero() for half in cut(boxes[slab], 0, local, 2, reach)])
            log_held = torch.cat([log_held[~some], self._log_held(local, halves, query.deadline)])
            boxes = Boxes.joined([boxes[~some], halves])
            order = boxes.low[:, 0].argsort()
            boxes, log_held = boxes[order], log_held[order]
        return log_occurring(local, boxes, log_held)

    def _log_held(self, local: LocalNetwork, boxes: Boxes, deadline: Deadline) -> Tensor:
        """(L,) upper bounds on log P(the opposite event, u in the box, G)."""
        alone = replace(local, log_missed=-math.inf)  # P(not G): once, at the end
        return Tree(alone, boxes, self.levels, self.chooser, self.growth, deadline).leaves.found.log_bound

    def _failing(self, query: Query, size: float) -> tuple[Tensor, float]:
        """As many forms of a case as have to fail, those that draws see fail together most often, and how often."""
        draws = generator(Stream.SLABS, query.settings.seed, query.index[0])
        y = query.x + query.noise.resized(size).sample(self.draws, query.network.d, draws)
        failing = []
        for part in torch.split(y, self.at_once):
            query.deadline.check("while drawing")
            failing.append(query.event_margins.of(query.network.forward(part)) < 0)
        fails = torch.cat(failing)
        best, begin = (torch.zeros(0, dtype=torch.int64), 0.0), 0
        for case in query.event_margins.cases.each:
            here = fails[:, begin : begin + case.forms]
            some = here.double().mean(0).topk(case.needed).indices
            share = here[:, some].all(1).double().mean().item()
            if share > best[1]:
                best = some + begin, share
            begin += case.forms
        return best
