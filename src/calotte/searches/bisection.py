"""Bisection: noise in few independent coordinates cut in halves, until both sides of p are near each other.

Cut are the cuboids in which most is open, each across the coordinate that most doubt about its margins comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.independent import Independent
from calotte.noise import Gaussian
from calotte.proofs.cuboids.tiling import Cuts, Tiling
from calotte.proofs.halvings import Halvings
from calotte.query import Query

__all__ = ["Bisection"]


@dataclass(frozen=True)
class Bisection:
    """What rung `branching` does with noise in few independent coordinates.

    Attributes:
        most: dimensions of the noise up to which it is tried.
        close: of log p: where upper and lower bound are that near to each other, nothing more is cut.
        each: cuboids for each of the boxes that an input may have (`Settings.boxes`).
        span: of a Gaussian, in standard deviations, beyond which it is not cut.
        kept: ReLUs of each layer that are tracked by themselves; of 4, 8 and 25 the best on ACAS Xu.
        at_once: cuboids that are cut together; alike: at least that share of what is open in the first of them.
    """

    most: int = 6
    close: float = 0.05
    each: int = 40
    span: float = 10.0
    kept: int = 4
    at_once: int = 2048
    alike: float = 0.2

    def applies(self, query: Query) -> bool:
        """Whether the noise has few coordinates, and independent ones."""
        return isinstance(query.noise, Independent | Gaussian) and query.m <= self.most

    def done(self, found: Tiling) -> bool:
        """Whether its two sides are near each other."""
        return found.log_upper - found.log_lower < self.close or found.log_upper == found.log_lower

    def sides(self, query: Query, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Upper and lower bounds (B,) on log p, the noise being of these sizes (B,)."""
        found = [self.cut(query.alone(i), size) for i, size in enumerate(sizes.tolist())]
        pairs = [(one.log_upper, one.log_lower) for one in found]
        upper, lower = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).unbind(1)
        return upper, lower

    def cut(self, query: Query, size: float) -> Tiling:
        """The noise in cuboids: once for each size that a query of one input is asked about."""
        found: Tiling = query.once((self, size), lambda: Tiling(query, size, self.span, self.kept))
        while len(found.open) and found.count < self.each * query.settings.boxes and not query.deadline.passed:
            hopeless = found.log_lower > query.target > -torch.inf
            if hopeless or self.done(found) or found.log_upper <= max(query.target, query.enough):
                break
            largest = found.log_most.max()
            open_ = (found.log_most - largest).exp() - (found.log_least - largest).exp()
            largest, places = open_.topk(min(self.at_once, len(found.open)))
            places = places[largest >= largest[0] * self.alike].sort().values
            found.cut(Cuts(found.numbers[places], found.doubts[places].argmax(1)))
        return found

    def propose(self, query: Query) -> Halvings:
        """The Proof of what was found for a query of one input."""
        return Halvings.of(self.cut(query, query.sizes.item()), self.span)
