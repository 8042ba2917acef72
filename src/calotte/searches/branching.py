"""Rung `branching`: the noise cut into boxes along a few directions, each bounded by itself, best first.

    p <= P(not G) + sum over boxes B of P(error, u in B, G),

every term bounded by `proofs.local.evaluate`. Conditioning on the directions along which the unstable units move
together leaves each of them little to move by. Boxes are cut where the bound is largest, along the direction that the
loss of their relaxation comes from; a cut that does not help is not made, so that more
never give a worse bound.
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
from calotte.proofs.local.boxes import Boxes, log_tail_up
from calotte.proofs.local.evaluate import restricted
from calotte.proofs.local.localise import localise
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.proof import Proof
from calotte.proofs.union import log_sum_up
from calotte.query import Query
from calotte.searches.axes import axes
from calotte.searches.bisection import Bisection
from calotte.searches.concentration import Concentration
from calotte.searches.heights import near
from calotte.searches.sketch import Sketch
from calotte.searches.slabs import Slabs
from calotte.searches.thrift import Thrift
from calotte.searches.tree import Growth, Tree, cut

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


def place(slab: Boxes) -> float:
    """Twice the middle of a box along the first axis."""
    return (slab.low + slab.high)[0, 0].item()


@dataclass(frozen=True)
class Branching(ProvedRung):
    """Rung `branching`.

    The numbers below were found on `256x2` and `256x4` by `benchmarks/tightness.py`.

    Attributes:
        bisection: of noise in few independent coordinates; slabs_below: how others are bounded from below.
        chooser: says what units pay for; below: the rung that this one is never above; growth: of the trees.
        goals: bounds on log p aimed at, in turn, where the query names none.
        decades: powers of ten below what was reached that are tried where the next goal is missed.
        room: P(not G) lies e^-room below the bound aimed at.
        slabs: of the first cut; the two outer ones lie e^-beyond below the bound aimed at, and are given up.
        levels: heights tried first, as multiples of where the tail is what is aimed at.
        negligible: of log p: trees that much below the bound are not cut.
        beside, in_the_way: of log p: how far below what is aimed at boxes get better heights before any is cut, and
            at once.
        per_box: of log p, what a box more may be hoped to give.
        most_axes: dimensions up to which all of them are cut; few_axes: how many else.
        most_switching: units that noise may switch, up to which it is tried.
        small: units up to which slabs are not given networks of their own.
    """

    any_noise: ClassVar[bool] = True
    from_below: ClassVar[bool] = True
    one_by_one: ClassVar[bool] = True
    searches: ClassVar[bool] = True
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
    growth: Growth = field(default_factory=Growth)
    goals: tuple[float, ...] = tuple(math.log(p) for p in (1e-3, 1e-6, 1e-9, 1e-20))
    decades: int = 2
    room: float = 3.5
    slabs: int = 18
    beyond: float = 2.5
    levels: tuple[float, ...] = (0.78, 1.03, 1.3)
    negligible: float = 6.0
    beside: float = 4.0
    in_the_way: float = 1.5
    per_box: float = 0.003
    most_axes: int = 6
    few_axes: int = 1
    most_switching: int = 2000
    small: int = 64

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
        found = self._sum(local, query, Sketch.empty(tail, height, local.directions), goal)
        if found.log_bound <= goal:  # what is found before giving up depends on the effort
            query.known[key] = found
        return best.or_else(found)

    def _sum(self, local: LocalNetwork, query: Query, sketch: Sketch, target: float) -> Outcome:
        """The bound by boxes, once it is below the target, or the evaluations, the time or the ideas are used up.

        Where the query has a target too, boxes that do not stand in its way get no better heights.
        """
        (n, k), hasty = local.directions.shape, not math.isinf(query.target)
        log_target = torch.tensor([target], dtype=torch.float64)
        unit = local.noise.standard_quantile(log_target, local.m).item() / local.sigma
        unit = max(unit, 3.1)  # in few dimensions so high that nothing is paid
        levels = tuple(level * unit for level in self.levels)
        how = self.chooser, self.growth, query.deadline, hasty
        whole = Tree(local, Boxes.whole(k), levels, *how)
        best = Outcome(whole.log_bound, replace(sketch, cuts=(whole.cut(),)))
        if best.log_bound <= target or k == 0 or whole.count >= query.settings.boxes or query.deadline.passed:
            return best
        reach = local.noise.standard_quantile(log_target - self.beyond, local.m).item()
        slabs = cut(whole.leaves.boxes, 0, local, self.slabs, reach)
        measures = [slab.log_measure(local.noise, local.m) for slab in slabs]
        small = target - self.beyond + 1e-6
        given_up = Boxes.joined([Boxes.none(k), *(s for s, t in zip(slabs, measures, strict=True) if t <= small)])
        beyond = torch.cat([given_up.log_measure(local.noise, local.m), torch.tensor([-torch.inf]).double()])
        slabs = [slab for slab, t in zip(slabs, measures, strict=True) if t > small]
        slabs.sort(key=lambda slab: abs(place(slab)))
        nearest, hardest = slabs[0] if slabs else None, query.once((self, "hardest"), dict[float, float])
        if hasty:  # what was hard at another size will be the first to say that this one is too large
            slabs.sort(key=lambda slab: hardest.get(round(place(slab) / reach, 3), -math.inf), reverse=True)
        trees: list[Tree] = []
        own: list[tuple[Boxes, float]] = []  # slabs that have networks of their own, and their heights
        if local.units <= self.small and slabs:
            alone = replace(local, log_missed=-math.inf)  # P(not G): below
            trees.append(Tree(alone, Boxes.joined(slabs), levels, *how))
            slabs = []

        def total(some: list[Tree]) -> float:
            parts = torch.tensor([tree.log_bound for tree in some], dtype=torch.float64)
            missed = torch.tensor([local.log_missed], dtype=torch.float64)
            return log_sum_up(torch.cat([parts, beyond, missed])).item()

        def over(bound: float) -> bool:
            bound = min(bound, total([tree for tree in trees if tree.settled]))
            left = query.settings.boxes - whole.count - sum(tree.count for tree in trees)
            # cuts along few directions will hardly take it to where it is wanted, or below 1/2
            far = -math.log(2.0) if math.isinf(query.target) else target + self.per_box * left
            return left <= 0 or query.deadline.passed or (k < n and bound > far)

        for slab in slabs:
            own.append((slab, self._height(local, slab, len(slabs))))
            within, _ = restricted(local, *own[-1], self.chooser)
            trees.append(Tree(within, slab, levels, *how))
            if slab is nearest and trees[-1].silent and whole.silent and k < n:
                return replace(best, hopeless=_NOTHING)
            while trees[-1].log_bound > target - self.in_the_way and not trees[-1].settled:
                trees[-1].refine()
            hardest[round(place(slab) / reach, 3)] = trees[-1].log_bound
            if over(math.inf) and slab is not slabs[-1]:
                return best
        while trees:
            if total(trees) <= best.log_bound:
                cuts = [t.cut(*made) for t, made in zip(trees, own, strict=True)] if own else [trees[0].cut()]
                best = Outcome(total(trees), replace(sketch, cuts=tuple(cuts), given_up=given_up))
            worst = max(trees, key=lambda tree: (not tree.settled and tree.worth > target - self.beside, tree.worth))
            if best.log_bound <= target or over(best.log_bound) or worst.worth < best.log_bound - self.negligible:
                break
            worst.refine()
        return best

    def _height(self, local: LocalNetwork, slab: Boxes, slabs: int) -> float:
        """Of half-spaces that cost each slab its share of P(not G)."""
        sides = 2.0 * slabs * max(1, local.units)
        log_each = local.log_missed - slab.log_measure(local.noise, local.m) - math.log(sides)
        height = local.noise.standard_quantile(log_each.clamp_max(-1.0), local.m, rounding="up").clamp_max(local.span)
        one = torch.ones(1, dtype=torch.float64)
        price = log_tail_up(local.noise, height, one, one, torch.tensor([local.m]))
        left = max(int(slab.left(local.m)), 1)  # the same price in the dimensions that the slab leaves
        rest = local.noise.standard_quantile(price, left, rounding="up") * slab.radii(local.noise)[1]
        return rest.item()
