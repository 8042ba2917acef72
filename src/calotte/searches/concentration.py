"""Rung `concentration`: half-space tails of linear bounds on the margins that hold on a good event only.

Unit j is taken to satisfy a_j.r >= -s eps ||a_j|| for its lower and upper linear bounds, which each fail with
probability T(s) and shrink the interval from eps ||a_j|| to s eps ||a_j||. Every half-space used is paid for once:

    p <= (sum of the half-spaces used) + sum_k T(c_k / (eps ||a_k||)),

for on the intersection of the good half-spaces all bounds hold, layer by layer, and outside of it one of them is
violated. A unit that is stable over the whole support, given the earlier layers' good half-spaces, is free; one that
is active or inactive up to about the height s pays for the one half-space where it changes sign, z > 0 or z < 0, with
what that one costs. The height s is chosen by bisection, for each input, and the smallest of the bounds found is the
answer: each of them is proved by itself.
"""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from calotte.bound import ProvedRung
from calotte.deadline import OutOfTime
from calotte.proofs.below import lower_on_good_event
from calotte.proofs.chooser import Chooser
from calotte.proofs.event import OnGoodEvent, on_good_event
from calotte.proofs.proof import Proof
from calotte.query import Query
from calotte.searches.heights import heights
from calotte.searches.proposal import Proposal
from calotte.searches.thrift import Thrift
from calotte.searches.worst_case import WorstCase

__all__ = ["Concentration"]


@dataclass(frozen=True)
class Concentration(ProvedRung):
    """Rung `concentration`.

    Attributes:
        chooser: says what each unit pays for.
        worst_case: the rung that it is never above.
        tail: under a Gaussian all noise of norm sigma (sqrt(m) + tail) is considered: e^-800 is left out.
        steps: of the bisection for what the good event may cost, where no bound is aimed at. The margins change so
            fast with the height that fewer passes lose: secants through the logarithms of both parts, from the same
            budget for all, lost in the median over 9 to 12 images of `256x2` at eps 0.8 to 2 and `256x4` at 1 and
            1.5 between 4 and 31 % of log p with three passes, 0.2 to 12 % with four, up to 8 % with five. Three
            passes with four budgets each, as a batch, come as close as seven, but take 5.1 times a pass of one on
            `256x2`, 6.8 on `256x4` and 8.4 on `256x6`; secants in them lost up to 26 % in the mean.
        room: where one is, the price of the good event lies e^-room below it; where it is farther than `apart` from
            there, and the bound is missed, a second pass is made. most_left: of a budget that is counted on not to
            be used.
        shares: of the upper bound, as logarithms, that good events may cost from below: of -1 to -5 the former was
            best on `256x2` where p > 0.01, the latter for small p.
    """

    any_noise: ClassVar[bool] = True
    from_below: ClassVar[bool] = True
    searches: ClassVar[bool] = True
    name: str = "concentration"
    proves: str = "the same with bounds on the units that hold on a *good event* only, whose failure is paid for"
    source: str = "[docs/ladder.md](docs/ladder.md)"
    chooser: Chooser = field(default_factory=Thrift)
    worst_case: WorstCase = field(default_factory=WorstCase)
    tail: float = 40.0
    steps: int = 7
    room: float = 0.5
    apart: float = 0.1
    most_left: float = 3.0
    shares: tuple[float, ...] = (-1.0, -4.0)

    def log_bound(self, query: Query, sizes: Tensor) -> Tensor:
        return self.proposal(query, sizes).log_bound

    def log_lower(self, query: Query, sizes: Tensor) -> Tensor:
        best, upper = self.worst_case.log_lower(query, sizes), self.log_bound(query, sizes)
        for share in self.shares:
            if query.deadline.passed:
                break
            with contextlib.suppress(OutOfTime):
                height = heights(query, upper + share)
                best = torch.maximum(best, lower_on_good_event(query, sizes, self.tail, height, self.chooser))
        return best

    def propose(self, query: Query) -> Proof:
        return self.proposal(query, query.sizes).proofs[0]

    def proposal(self, query: Query, sizes: Tensor) -> Proposal:
        """The Proofs with the smallest bounds over the budgets tried; one that is wanted says what it may cost."""
        key = (self, query.target, query.enough, *sizes.tolist())
        return query.once(key, lambda: self._proposal(query, sizes))

    def _proposal(self, query: Query, sizes: Tensor) -> Proposal:
        if not math.isinf(query.target):
            return self._aimed(query, sizes)
        best = self.worst_case.proposal(query, sizes)
        low = torch.full_like(best.log_bound, math.log(0.5))  # of log(-log budget)
        high = torch.full_like(low, math.log(0.5 * self.tail**2))
        for _ in range(self.steps):
            if query.deadline.passed or (best.log_bound <= query.enough).all():
                break
            middle = (low + high) / 2
            try:
                found, event = self._on_event(query, sizes, -middle.exp(), self.tail)
            except OutOfTime:
                break
            best, wanting = best.better(found), event.log_margins > event.log_price
            low, high = torch.where(wanting, low, middle), torch.where(wanting, middle, high)
        return best

    def _aimed(self, query: Query, sizes: Tensor) -> Proposal:
        """The same in as few passes as take log p to the target: one, and up to three where it is missed.

        How much of a budget the half-spaces that are of use leave is much the same at all sizes but the smallest:
        after the first it is added to the budget at once. Where the event costs too much even so, nothing is added.
        """
        target, wanted = query.target, query.target - self.room
        tail = math.sqrt(2.0 * (self.room - target))
        left = query.once((self, "left", len(sizes)), dict[str, Tensor])
        log_budget = torch.full((len(sizes),), target, dtype=torch.float64)  # if all half-spaces were used
        tried = [] if left else [self.worst_case.proposal(query, sizes)]
        for attempt in range(3):
            if left:
                add = left["budget"] if attempt < 2 else torch.zeros_like(sizes)
                log_budget, before = (wanted + add).clamp_max(0.0), log_budget
                if tried and (log_budget - before).abs().max() < self.apart:
                    break
            found, event = self._on_event(query, sizes, log_budget, tail)
            tried.append(found)
            unused = torch.where(event.log_price.isfinite(), log_budget - event.log_price, 0.0)
            left["budget"] = unused.clamp_max(self.most_left)
            if (found.log_bound <= target).all() or (attempt == 1 and (event.log_price <= target).all()):
                break
        return functools.reduce(Proposal.better, tried)

    def _on_event(self, query: Query, sizes: Tensor, log_budget: Tensor, tail: float) -> tuple[Proposal, OnGoodEvent]:
        """Bounds with a good event that fails with probability exp(log_budget) (B,) at most."""
        height = heights(query, log_budget)
        found = on_good_event(query, sizes, tail, height, self.chooser)
        return Proposal.on_event(tail, height, found), found
