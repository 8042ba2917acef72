"""Rung `branching`: the noise cut into boxes along a few directions, each bounded by itself, best first.

    p <= P(not G) + sum over boxes B of P(error, u in B, G),

every term bounded by `proofs.local.evaluate`. Conditioning on the directions along which the unstable units move
together leaves each of them little to move by. Boxes are cut where the bound is largest, along the direction that the
loss of their relaxation comes from; a cut that does not help is not made, so that more never give a worse bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from calotte.bound import ProvedRung
from calotte.deadline import OutOfTime
from calotte.proofs.chooser import Chooser
from calotte.proofs.local.localise import localise
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.proof import Proof
from calotte.query import Query
from calotte.searches.axes import axes
from calotte.searches.bisection import Bisection
from calotte.searches.concentration import Concentration
from calotte.searches.cover import Cover, Covering
from calotte.searches.heights import near
from calotte.searches.sketch import Sketch
from calotte.searches.slabs import Slabs
from calotte.searches.thrift import Thrift

__all__ = ["Branching"]

_BEGIN = "; calotte plan finds the noise where it begins to"
_NOTHING = f"not even the slab nearest to the input gives a bound at this size{_BEGIN}"
_TOO_MANY = f"more units may switch at this size than it takes on{_BEGIN}"


@dataclass(frozen=True)
class Outcome:
    """What was found for one input.

    Attributes:
        log_bound: on log p; sketch: the boxes that gave it, None where another rung did.
        hopeless: why boxes were given up.
    """

    log_bound: float
    sketch: Sketch | None = None
    hopeless: str | None = None

    def or_else(self, later: Outcome) -> Outcome:
        """The smaller bound, and what was said last of hope."""
        better = later if later.log_bound < self.log_bound else self
        return replace(better, hopeless=later.hopeless)


@dataclass(frozen=True)
class Branching(ProvedRung):
    """Rung `branching`.

    The numbers below were found on `256x2` and `256x4` by `benchmarks/tightness.py`.

    Attributes:
        bisection: of noise in few independent coordinates; slabs_below: how others are bounded from below.
        chooser: says what units pay for; below: the rung that this one is never above.
        covering: how boxes cover the noise.
        goals: bounds on log p aimed at, in turn, where the query names none.
        decades: powers of ten below what was reached that are tried where the next goal is missed.
        room: P(not G) lies e^-room below the bound aimed at.
        most_axes: dimensions up to which all of them are cut; few_axes: how many else.
        most_switching: units that noise may switch, up to which it is tried.
    """

    any_noise: ClassVar[bool] = True
    from_below: ClassVar[bool] = True
    one_by_one: ClassVar[bool] = True
    searches: ClassVar[bool] = True
    farther: ClassVar[bool] = True
    name: str = "branching"
    proves: str = (
        "the sum of such bounds over boxes that cut the noise along the directions in which units move together, "
        "first-layer units bounded by exponential moments"
    )
    source: str = "[docs/ladder.md](docs/ladder.md)"
    chooser: Chooser = field(default_factory=Thrift)
    bisection: Bisection = field(default_factory=Bisection)
    slabs_below: Slabs = field(default_factory=Slabs)
    below: ProvedRung = field(default_factory=Concentration)
    covering: Covering = field(default_factory=Covering)
    goals: tuple[float, ...] = tuple(math.log(p) for p in (1e-3, 1e-6, 1e-9, 1e-20))
    decades: int = 2
    room: float = 3.5
    most_axes: int = 6
    few_axes: int = 1
    most_switching: int = 2000

    def refuses(self, query: Query) -> str | None:
        if not query.noise.isotropic and not self.bisection.applies(query):
            return (
                f"needs noise that is alike in all directions, which {query.noise.kind} noise is not, or at most "
                f"{self.bisection.most} coordinates, which here are {query.m}"
            )
        return super().refuses(query)

    def log_lower(self, query: Query, sizes: Tensor) -> Tensor:
        if self.bisection.applies(query):
            return self.bisection.sides(query, sizes)[1]
        each = [self.slabs_below.log_lower(query.alone(i), sizes[i : i + 1]) for i in range(len(sizes))]
        return torch.tensor(each, dtype=torch.float64)

    def passes_below(self, query: Query) -> bool:
        return not self.bisection.applies(query)

    def log_bound(self, query: Query, sizes: Tensor) -> Tensor:
        start = self.below.log_bound(query, sizes)
        cut = torch.full_like(start, torch.inf)
        if self.bisection.applies(query):
            cut = self.bisection.sides(query, sizes)[0]
            if not query.noise.isotropic:
                return torch.minimum(start, cut)
        found = [self._bound(query.alone(i), sizes[i : i + 1], best) for i, best in enumerate(start.tolist())]
        query.known[self._last(query, sizes)] = found
        return torch.minimum(torch.tensor([one.log_bound for one in found], dtype=torch.float64), cut)

    def cut_short(self, query: Query) -> str | None:
        found: list[Outcome] = query.known.get(self._last(query, query.sizes), [])
        if not found:  # all was said by cuboids
            return super().cut_short(query)
        says = len(found) > 1 or found[0].log_bound < -math.log(2.0)
        return super().cut_short(query) if says else found[0].hopeless or super().cut_short(query)

    def propose(self, query: Query) -> Proof | None:
        bound = self.log_bound(query, query.sizes).item()
        if self.bisection.applies(query) and self.bisection.cut(query, query.sizes.item()).log_upper <= bound:
            return self.bisection.propose(query)
        outcomes: list[Outcome] = query.known.get(self._last(query, query.sizes), [])
        if not outcomes or (found := outcomes[0]).sketch is None:
            return self.below.propose(query)
        local = localise(query, query.sizes, found.sketch.height, found.sketch.tail, self.chooser)
        assert local is not None, "it was found before"
        return found.sketch.written(local.network, local.choices, self.chooser)

    def _last(self, query: Query, sizes: Tensor) -> tuple[ProvedRung, str, float, float, tuple[float, ...]]:
        """Under which name a query knows what was found last."""
        return self, "found", query.target, query.enough, tuple(sizes.tolist())

    def _bound(self, query: Query, size: Tensor, start: float) -> Outcome:
        """The bound of one input, `start` or less: aimed at one goal, or at smaller ones in turn until one is missed.

        Then at the powers of ten just below what was reached.
        """
        best = Outcome(start)
        if self.bisection.applies(query) and self.bisection.done(self.bisection.cut(query, size.item())):
            return best
        if not math.isinf(query.target):
            return self._aimed(query, size, query.target, best)
        missed = -math.inf
        for goal in self.goals:
            if best.log_bound <= goal:
                continue
            best = self._aimed(query, size, goal, best)
            if best.log_bound > goal:
                missed = goal
                break
        for _ in range(self.decades if missed > -math.inf else 0):
            goal = math.log(10.0) * (math.ceil(best.log_bound / math.log(10.0)) - 1)
            if goal <= missed + 1e-6:
                break
            best = self._aimed(query, size, goal, best)
            if best.log_bound > goal:
                break
        return best

    def _aimed(self, query: Query, size: Tensor, goal: float, best: Outcome) -> Outcome:
        """The bound of one input, `best` or less, with a good event whose failure is small beside the goal."""
        if best.log_bound <= query.enough or query.deadline.passed:
            return best
        key = (self, size.item(), round(goal, 9))
        if key in query.known:
            known: Outcome = query.known[key]
            return best.or_else(known)
        try:
            around, height, tail = near(query, size, goal - self.room, self.chooser, self.most_switching)
        except OutOfTime:
            return best
        if around is None:
            return replace(best, hopeless=best.hopeless or _TOO_MANY)
        local = around.network.along(axes(around.network, self.most_axes, self.few_axes), height)
        found = self._boxes(local, query, Sketch.empty(tail, height, local.directions), goal)
        if found.log_bound <= goal:  # what is found before giving up depends on the effort
            query.known[key] = found
        return best.or_else(found)

    def _boxes(self, local: LocalNetwork, query: Query, sketch: Sketch, goal: float) -> Outcome:
        """The bound by boxes, once it is below the goal, or the evaluations, the time or the ideas are used up."""
        cover = Cover(local, query, goal, self.chooser, self.covering)
        best = Outcome(cover.whole.log_bound, replace(sketch, cuts=(cover.whole.cut(),)))
        if best.log_bound <= goal or local.directions.shape[1] == 0 or cover.left <= 0:
            return best
        for more in cover.slabs():
            if cover.silent:
                return replace(best, hopeless=_NOTHING)
            if more and cover.in_vain():
                return best
        while cover.trees:
            if (log_bound := cover.log_bound) <= best.log_bound:
                best = Outcome(log_bound, replace(sketch, cuts=cover.cuts, given_up=cover.given_up))
            if best.log_bound <= goal or cover.in_vain(best.log_bound) or not cover.grow(best.log_bound):
                break
        return best
