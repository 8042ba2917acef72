"""Rung `moments`: margins and deeper units bounded by exponential moments, all first-layer units as they are.

One evaluation bounds an input's margins under one noise (`proofs.moments.layers`); how much its good event may cost
follows from the bound that is aimed at. Networks of one hidden layer have no good event.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from calotte.bound import ProvedRung
from calotte.cells.hyperplanes import Hyperplanes
from calotte.deadline import OutOfTime
from calotte.network.graph import Network
from calotte.proofs.chooser import Chooser
from calotte.proofs.moments.aside import reads
from calotte.proofs.moments.ends import Ends, ends_of
from calotte.proofs.moments.first import FirstLayer, first_layer
from calotte.proofs.moments.gaussian import GaussianLaw
from calotte.proofs.moments.summed import Summed, log_bound
from calotte.proofs.proof import Proof
from calotte.proofs.support import Support
from calotte.query import Query
from calotte.searches.thrift import Thrift
from calotte.searches.tilts import Tilts

__all__ = ["ExponentialMoments"]


@dataclass(frozen=True)
class ExponentialMoments(ProvedRung):
    """Rung `moments`.

    Attributes:
        most_read: numbers of first-layer units that units behind it read, in all, up to which it is tried on graphs
            without a time limit: the 4 million of `resnet_2b` take some 10 s.
        chooser: says what units behind the first layer pay for.
        goals: bounds on log p aimed at, in turn, where the query names none.
        aside: deviations below 0 from which on units of the first layer are set aside, where others read them on
            windows; from 1 to 2 all is alike.
        room: the price of a good event lies e^-room below the bound aimed at.
        deeper: how much less than what is aimed at bounds on units may fail with, as logarithms, for each layer but
            the first of those behind the first, where ends are soft; what ends are missed by is passed on.
        worth: of the price of soft ends, what it must miss its aim by to be tried again, margins leaving less.
        used: share of the bounds on units that are thought to be paid for at first; an eighth to a fifth were, of
            `mnist_cnn_small` and `resnet_2b`.
    """

    one_by_one: ClassVar[bool] = True
    searches: ClassVar[bool] = True
    name: str = "moments"
    proves: str = (
        "p ≤ E exp(−λ margin) for sums over all first-layer units, none of them relaxed; "
        "deeper units bounded by such moments on a good event whose failure is paid for"
    )
    source: str = "[docs/ladder.md](docs/ladder.md)"
    most_read: float = 1e7
    chooser: Chooser = field(default_factory=Thrift)
    goals: tuple[float, ...] = tuple(math.log(p) for p in (1e-3, 1e-6, 1e-9, 1e-20))
    aside: float = 1.5
    room: float = 0.7
    deeper: float = 0.6
    worth: float = 1.0
    used: float = 0.25

    def refuses(self, query: Query) -> str | None:
        hyperplanes, limit = query.hyperplanes, query.settings.memory_limit
        ends = hyperplanes.once("ends", lambda: ends_of(hyperplanes.network, hyperplanes.first_nodes))
        units = sum(len(some) for _, some in ends.parts(hyperplanes.network))
        needed = 32.0 * min(units, hyperplanes.m) ** 2
        if needed > limit:
            return (
                f"the first layer's {units:,} units read {hyperplanes.m:,} inputs: a matrix between them takes "
                f"{needed / 1e9:.3g} GB; allow that with --memory-limit"
            )
        read = 0.0 if hyperplanes.chain is not None else units_read(hyperplanes, ends)
        if read > self.most_read and math.isinf(query.deadline.limit):
            deep = sum(map(hyperplanes.network.size, ends.deep))
            return (
                f"the {deep:,} hidden units behind the first layer read {read:.1e} units of it, "
                "which takes minutes; set a time limit (--time-limit) to have it tried"
            )
        return super().refuses(query)

    def log_bound(self, query: Query, sizes: Tensor) -> Tensor:
        """(B,) upper bounds on log p.

        Raises:
            OutOfTime: before any bound was found.
        """
        found = [self._best(query.alone(i), sizes[i : i + 1]) for i in range(len(sizes))]
        return torch.tensor([0.0 if one is None else one.log_bound for one in found], dtype=torch.float64)

    def propose(self, query: Query) -> Proof | None:
        found = self._best(query, query.sizes)
        return None if found is None else found.tilts.proof(found.tail, found.log_each, found.aside, found.summed)

    def _best(self, query: Query, size: Tensor) -> Evaluated | None:
        """The smallest bound found for one input; None where its first layer is out of bounds."""
        hyperplanes, best = query.hyperplanes, math.inf
        first = hyperplanes.once("first layer", lambda: first_layer(hyperplanes, query.deadline))
        if first is None:
            return None
        goals = [query.target] if math.isfinite(query.target) else list(self.goals)
        last, kept = math.isfinite(query.target), None
        while goals and not best <= query.enough:
            goal = goals.pop(0)
            try:
                for found in self._aimed_at(query, first, size, goal):
                    if found.log_bound < best:
                        best, kept = found.log_bound, found
                    if best <= goal:
                        break
            except OutOfTime:
                if kept is None:
                    raise
                break
            if not best <= goal:  # once more, between what was found and what was missed
                goals, last = [] if last else [(min(best, 0.0) + goal) / 2], True
        return kept

    def _aimed_at(self, query: Query, first: FirstLayer, size: Tensor, goal: float) -> Iterator[Evaluated]:
        """Bounds on log p meant to be at most `goal`: the first good event is cheap enough if few units need it."""
        tail, deep = math.sqrt(2.0 * (self.room - goal)), sum(map(query.network.size, first.ends.deep))
        around, law = Support.of(query, size, tail), GaussianLaw.of(query.noise, size.item(), query.m)

        def evaluated(log_each: float, aside: float, soft: bool) -> Evaluated:
            tilts = Tilts(query, goal - self.room)
            found = log_bound(query, first, around, law, tilts, self.chooser, log_each, aside, soft)
            return Evaluated(tail, log_each, aside, found, tilts)

        apart = sets_aside(query.hyperplanes, first.ends)
        soft = deep > 0 and query.arithmetic == "real"
        soft &= rows_taken(query.network, first.ends) <= query.settings.memory_limit
        if soft:
            log_each = goal - self.deeper * (len(first.ends.deep) - 1)
            found = evaluated(log_each, self.aside if apart else math.inf, soft)
            yield found
        else:
            log_each = goal - self.room - math.log(max(self.used * 2 * deep, 1.0))
            found = evaluated(log_each, math.inf, soft)
            yield found
            if apart:
                other = evaluated(log_each, self.aside, soft)
                yield other
                found = min(found, other, key=lambda one: one.log_bound)
        price = found.summed.log_price.item()
        more = goal - self.room - price
        useful = not soft or (abs(more) > self.worth and found.log_bound - price < self.worth)
        if deep and math.isfinite(price) and found.log_bound < 0 and useful:
            yield evaluated(min(log_each + more, -1.0), found.aside, soft)


@dataclass(frozen=True)
class Evaluated:
    """What one evaluation found, and what was decided for it."""

    tail: float
    log_each: float
    aside: float
    summed: Summed
    tilts: Tilts

    @property
    def log_bound(self) -> float:
        """The upper bound on log p."""
        return self.summed.log_bound.item()


def sets_aside(hyperplanes: Hyperplanes, ends: Ends) -> bool:
    """Whether some layer's units read those of the first layer on windows: dense ones read too many to gain."""
    network = hyperplanes.network
    deep = (i for i in ends.deep if len(network.shape(i)) == 3)
    return hyperplanes.chain is None and any(reads(network, i, ends.relus) is not None for i in deep)


def rows_taken(network: Network, ends: Ends) -> float:
    """Bytes of what rows of units behind the first layer, and of their negatives, take from units between."""
    sizes = [network.size(i) for i in ends.deep]
    return 16.0 * sum(n * sum(sizes[:k]) for k, n in enumerate(sizes))


def units_read(hyperplanes: Hyperplanes, ends: Ends) -> float:
    """About how many of the units of the first layer the hidden units behind it read in all."""
    network = hyperplanes.network
    return sum(network.size(i) * ends.read(hyperplanes, i) for i in {network.feeders[i] for i in ends.deep})
