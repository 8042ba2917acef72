"""Tiling: noise with independent coordinates, cut into cuboids on which an event is certain, excluded or open.

    sum P(certain) <= p <= sum P(certain) + sum P(open) + P(outside),

whoever says where to cut: halves of a cuboid have no inner points in common and leave nothing out, and laws with
independent coordinates give their faces no measure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.independent import Independent
from calotte.noise import Gaussian
from calotte.proofs.cuboids.cuboids import Cuboids
from calotte.proofs.cuboids.zonotopes import margin_ranges
from calotte.proofs.float32 import executed
from calotte.proofs.union import log_sum_down, log_sum_up
from calotte.query import Query

__all__ = ["Cuts", "Tiling"]

_ENTRIES = 2**19  # of (generators, cuboids, units) that are worked on together: of 2^16 to 2^22 the fastest


@dataclass(frozen=True, eq=False)
class Cuts:
    """What is cut at once.

    Attributes:
        numbers: (k,) int64, ascending: of the cuboids; axes: (k,) int64, across which each is halved.
    """

    numbers: Tensor
    axes: Tensor


class Tiling:
    """The noise of a query of one input in cuboids, to begin with one.

    Cuboids are numbered as they come about, from 0 on; of those cut at once all lower halves come first.

    Args:
        query: of one input, its noise with independent coordinates.
        size: of the noise.
        span: half-width of the cube that is cut, in units of the size; what lies outside counts as open. The whole
            support where that is bounded.
        kept: ReLUs of a layer that keep a generator of their own (`zonotopes`).

    Attributes:
        open: the cuboids on which nothing is decided; numbers: (n,) theirs, ascending; log_open: (n,) their measures,
            rounded up; shares: (n, m) what brings about the widths of their margins.
        count: cuboids that were made; cuts: how.
    """

    def __init__(self, query: Query, size: float, span: float, kept: int) -> None:
        sizes = torch.tensor([size], dtype=torch.float64)
        margins, self.log_outside = executed(query, sizes, query.event_margins)
        self.query, self.size, self.kept = query.by_margins(margins), size, kept
        generators = query.m + kept * len(query.network.relus)
        self._at_once = max(1, _ENTRIES // (generators * query.network.widest))
        if isinstance(query.noise, Independent):
            span = query.noise.reach
        else:
            assert isinstance(query.noise, Gaussian)
            ends = torch.full((2 * query.m,), span, dtype=torch.float64)
            beyond = query.noise.standard_log_tail(ends, query.m, rounding="up")
            self.log_outside = log_sum_up(torch.cat([beyond, beyond.new_tensor([self.log_outside])])).item()
        self._certain_up = self._certain_down = -math.inf
        self.open, self.numbers = Cuboids.cube(span, query.m)[:0], torch.zeros(0, dtype=torch.int64)
        self.log_open = torch.zeros(0, dtype=torch.float64)
        self.shares = torch.zeros(0, query.m, dtype=torch.float64)
        self.count, self.cuts = 1, list[Cuts]()
        self._decide(Cuboids.cube(span, query.m), torch.zeros(1, dtype=torch.int64))

    @property
    def log_upper(self) -> float:
        """An upper bound on log p, rounded up; -inf where p = 0."""
        ends = torch.tensor([self._certain_up, self.log_outside], dtype=torch.float64)
        return log_sum_up(torch.cat([self.log_open, ends])).item()

    @property
    def log_lower(self) -> float:
        """A lower bound on log p, rounded down; -inf where nothing is proved, as of float32."""
        return self._certain_down if self.query.arithmetic == "real" else -math.inf

    def cut(self, cuts: Cuts) -> None:
        """Halve cuboids that are open; of others only the numbers of the halves are used up.

        Raises:
            InvalidInput: numbers that do not ascend, axes that the noise does not have.
        """
        numbers, axes = cuts.numbers, cuts.axes
        if not bool((numbers.diff() > 0).all()) or bool(((axes < 0) | (axes >= self.query.m)).any()):
            raise InvalidInput(f"proof: made for another noise, or damaged: cuts across one of {self.query.m} axes")
        lower = self.count + torch.arange(len(numbers))
        self.count += 2 * len(numbers)
        self.cuts.append(cuts)
        if len(self.open) == 0:
            return
        places = torch.searchsorted(self.numbers, numbers).clamp_max(len(self.numbers) - 1)
        some = self.numbers[places] == numbers
        parts = self.open[places[some]].halves(axes[some])
        rest = torch.ones(len(self.numbers), dtype=torch.bool)
        rest[places[some]] = False
        self.open, self.numbers = self.open[rest], self.numbers[rest]
        self.log_open, self.shares = self.log_open[rest], self.shares[rest]
        halves = torch.cat([lower[some], lower[some] + len(numbers)])
        for k in range(0, len(parts), self._at_once):
            block = slice(k, k + self._at_once)
            self._decide(parts[block], halves[block])

    def _decide(self, cuboids: Cuboids, numbers: Tensor) -> None:
        """Bound the network on cuboids of these numbers, and count or keep them."""
        margins, noise = self.query.margins, self.query.noise
        found = margin_ranges(self.query, self.size, cuboids, self.kept)
        low = torch.where(found.low.isfinite(), found.low, -torch.inf)
        high = torch.where(found.high.isfinite(), found.high, torch.inf)
        excluded = margins.cases.holding(torch.where((low == 0) & margins.ties[0], 1.0, low))
        certain = margins.cases.occurring((high < 0) | ((high == 0) & ~margins.ties[0]))
        up = cuboids.log_measure(noise, "up")
        down = cuboids[certain].log_measure(noise, "down")
        so_far = torch.tensor([[self._certain_up], [self._certain_down]], dtype=torch.float64)
        self._certain_up = log_sum_up(torch.cat([up[certain], so_far[0]])).item()
        self._certain_down = log_sum_down(torch.cat([down, so_far[1]])).item()
        kept = ~(excluded | certain)
        self.open, self.log_open = self.open + cuboids[kept], torch.cat([self.log_open, up[kept]])
        self.numbers = torch.cat([self.numbers, numbers[kept]])
        self.shares = torch.cat([self.shares, found.shares[kept]])
