"""Cover: slabs of the noise near an input, a tree of boxes in each; where they are grown, and when it is enough."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from calotte.proofs.chooser import Chooser
from calotte.proofs.local.boxes import Boxes, log_tail_up
from calotte.proofs.local.evaluate import restricted
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.union import log_sum_up
from calotte.query import Query
from calotte.searches.sketch import Cut
from calotte.searches.tree import Growth, Tree, cut

__all__ = ["Cover", "Covering"]


@dataclass(frozen=True)
class Covering:
    """How noise is covered. Found on `256x2` and `256x4` by `benchmarks/tightness.py`, as the fields of `Branching`.

    Attributes:
        growth: of the trees.
        slabs: of the first cut; the two outer ones lie e^-beyond below the bound aimed at, and are given up.
        levels: heights tried first, as multiples of where the tail is what is aimed at.
        negligible: of log p: trees that much below the bound are not cut.
        beside, in_the_way: of log p: how far below what is aimed at boxes get better heights before any is cut, and
            at once.
        per_box: of log p, what a box more may be hoped to give.
        small: units up to which slabs are not given networks of their own.
    """

    growth: Growth = field(default_factory=Growth)
    slabs: int = 18
    beyond: float = 2.5
    levels: tuple[float, ...] = (0.78, 1.03, 1.3)
    negligible: float = 6.0
    beside: float = 4.0
    in_the_way: float = 1.5
    per_box: float = 0.003
    small: int = 64


class Cover:
    """Boxes that cover the noise: one for all of it, then slabs along the first axis, each with a tree of boxes.

    Args:
        local: the network near the input, with the axes to cut along.
        query: what is asked, and what may be spent; where it has a target, boxes that do not stand in its way get no
            better heights.
        goal: the bound on log p aimed at.
        chooser: says what units pay for; how: noise is covered.

    Attributes:
        whole: all of the noise as one box.
        trees: of the slabs that were begun; given_up: slabs whose whole measure counts.
        silent: whether not even the slab nearest to the input gives a bound.
    """

    def __init__(self, local: LocalNetwork, query: Query, goal: float, chooser: Chooser, how: Covering) -> None:
        self.local, self.query, self.goal, self.chooser, self.how = local, query, goal, chooser, how
        self.log_goal = torch.tensor([goal], dtype=torch.float64)
        unit = local.noise.standard_quantile(self.log_goal, local.m).item() / local.sigma
        unit = max(unit, 3.1)  # in few dimensions so high that nothing is paid
        self.levels = tuple(level * unit for level in how.levels)
        self.hasty = not math.isinf(query.target)
        self.whole = self._tree(local, Boxes.whole(local.directions.shape[1]))
        self.trees: list[Tree] = []
        self.own: list[tuple[Boxes, float]] = []  # slabs that have networks of their own, and their heights
        self.silent = False
        self._give_up([])

    @property
    def partial(self) -> bool:
        """Whether cuts leave some directions free."""
        n, k = self.local.directions.shape
        return k < n

    @property
    def left(self) -> int:
        """Boxes that may still be bounded; 0 where the time is up."""
        bounded = self.whole.count + sum(tree.count for tree in self.trees)
        return 0 if self.query.deadline.passed else self.query.settings.boxes - bounded

    @property
    def log_bound(self) -> float:
        """log p, at most, once all slabs have trees."""
        return self._added_up(self.trees)

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """The leaves of the trees."""
        if not self.own:
            return tuple(tree.cut() for tree in self.trees)
        return tuple(tree.cut(*made) for tree, made in zip(self.trees, self.own, strict=True))

    def in_vain(self, best: float = math.inf) -> bool:
        """Whether no boxes are left, or the slabs say that more of them will hardly help, `best` being known."""
        left = self.left
        # cuts along few directions will hardly take it to where it is wanted, or below 1/2
        far = self.query.target + self.how.per_box * left if self.hasty else -math.log(2.0)
        bound = min(best, self._added_up([tree for tree in self.trees if tree.settled]))
        return left <= 0 or (self.partial and bound > far)

    def slabs(self) -> Iterator[int]:
        """Begin the trees of the slabs, one after the other: how many slabs have none yet.

        Those nearest to the input come first; where the query has a target, what was hard at another size does: it
        will be the first to say that this size is too large.
        """
        reach = self.local.noise.standard_quantile(self.log_goal - self.how.beyond, self.local.m).item()
        slabs = self._give_up(cut(self.whole.leaves.boxes, 0, self.local, self.how.slabs, reach))
        slabs.sort(key=lambda slab: abs(place(slab)))
        if not slabs:
            return
        if self.local.units <= self.how.small:
            alone = replace(self.local, log_missed=-math.inf)  # P(not G): in `log_bound`
            self.trees.append(self._tree(alone, Boxes.joined(slabs)))
            yield 0
            return
        nearest, hardest = slabs[0], self.query.once((self.how, "hardest"), dict[float, float])
        if self.hasty:
            slabs.sort(key=lambda slab: hardest.get(round(place(slab) / reach, 3), -math.inf), reverse=True)
        for i, slab in enumerate(slabs, 1):
            tree = self._begun(slab, len(slabs))
            self.silent |= slab is nearest and tree.silent and self.whole.silent and self.partial
            if not self.silent:
                while tree.log_bound > self.goal - self.how.in_the_way and not tree.settled:
                    tree.refine()
                hardest[round(place(slab) / reach, 3)] = tree.log_bound
            yield len(slabs) - i

    def grow(self, best: float) -> bool:
        """Refine the tree that has the largest leaf; False where none is worth it, `best` being known.

        Trees whose heights may stand in the way of the goal come first.
        """
        unsettled = self.goal - self.how.beside
        worst = max(self.trees, key=lambda tree: (not tree.settled and tree.worth > unsettled, tree.worth))
        if worst.worth < best - self.how.negligible:
            return False
        worst.refine()
        return True

    def _tree(self, local: LocalNetwork, boxes: Boxes) -> Tree:
        return Tree(local, boxes, self.levels, self.chooser, self.how.growth, self.query.deadline, self.hasty)

    def _begun(self, slab: Boxes, slabs: int) -> Tree:
        """The tree of one of so many slabs, with a network of its own."""
        self.own.append((slab, self._height(slab, slabs)))
        within, _ = restricted(self.local, *self.own[-1], self.chooser)
        self.trees.append(self._tree(within, slab))
        return self.trees[-1]

    def _give_up(self, slabs: list[Boxes]) -> list[Boxes]:
        """Give up those of the slabs whose measure is small beside the goal: the others."""
        noise, m = self.local.noise, self.local.m
        every = Boxes.joined([Boxes.none(self.local.directions.shape[1]), *slabs])
        small = every.log_measure(noise, m) <= self.goal - self.how.beyond + 1e-6
        self.given_up = every[small]
        self.log_given_up = self.given_up.log_measure(noise, m)
        return [slab for slab, gone in zip(slabs, small.tolist(), strict=True) if not gone]

    def _added_up(self, trees: list[Tree]) -> float:
        """log of the sum of what trees say, of the slabs given up, and of P(not G)."""
        parts = torch.tensor([tree.log_bound for tree in trees], dtype=torch.float64)
        rest = torch.tensor([-torch.inf, self.local.log_missed], dtype=torch.float64)
        return log_sum_up(torch.cat([parts, self.log_given_up, rest])).item()

    def _height(self, slab: Boxes, slabs: int) -> float:
        """Of half-spaces that cost each slab its share of P(not G)."""
        local = self.local
        sides = 2.0 * slabs * max(1, local.units)
        log_each = local.log_missed - slab.log_measure(local.noise, local.m) - math.log(sides)
        height = local.noise.standard_quantile(log_each.clamp_max(-1.0), local.m, rounding="up").clamp_max(local.span)
        one = torch.ones(1, dtype=torch.float64)
        price = log_tail_up(local.noise, height, one, one, torch.tensor([local.m]))
        left = max(int(slab.left(local.m)), 1)  # the same price in the dimensions that the slab leaves
        rest = local.noise.standard_quantile(price, left, rounding="up") * slab.radii(local.noise)[1]
        return rest.item()


def place(slab: Boxes) -> float:
    """Twice the middle of a box along the first axis."""
    return (slab.low + slab.high)[0, 0].item()
