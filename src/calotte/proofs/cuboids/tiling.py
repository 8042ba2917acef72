"""Tiling: noise with independent coordinates, cut into cuboids on which an event is certain, excluded or open.

    sum P(certain) <= p <= sum P(certain) + sum P(open) + P(outside),

whoever says where to cut: halves of a cuboid have no inner points in common and leave nothing out, and laws with
independent coordinates give their faces no measure.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotte.independent import Independent
from calotte.noise import Gaussian
from calotte.proofs.cuboids.cuboids import Cuboids
from calotte.proofs.cuboids.zonotopes import margin_ranges
from calotte.proofs.float32 import executed
from calotte.proofs.union import log_sum_down, log_sum_up
from calotte.query import Query

__all__ = ["Tiling"]


class Tiling:
    """The noise of a query of one input in cuboids, to begin with one.

    Args:
        query: of one input, its noise with independent coordinates.
        size: of the noise.
        span: half-width of the cube that is cut, in units of the size; what lies outside counts as open. The whole
            support where that is bounded.
        kept: ReLUs of a layer that keep a generator of their own (`zonotopes`).

    Attributes:
        open: the cuboids on which nothing is decided; log_open: (n,) their measures, rounded up.
        shares: (n, m) what brings about the widths of their margins.
        count: cuboids on which the network was bounded.
    """

    def __init__(self, query: Query, size: float, span: float, kept: int) -> None:
        sizes = torch.tensor([size], dtype=torch.float64)
        margins, self.log_outside = executed(query, sizes, query.event_margins)
        self.query, self.size, self.kept, self.count = query.by_margins(margins), size, kept, 0
        if isinstance(query.noise, Independent):
            span = query.noise.reach
        else:
            assert isinstance(query.noise, Gaussian)
            ends = torch.full((2 * query.m,), span, dtype=torch.float64)
            beyond = query.noise.standard_log_tail(ends, query.m, rounding="up")
            self.log_outside = log_sum_up(torch.cat([beyond, beyond.new_tensor([self.log_outside])])).item()
        self._certain_up = self._certain_down = -math.inf
        self.open = Cuboids.cube(span, query.m)[:0]
        self.log_open = torch.zeros(0, dtype=torch.float64)
        self.shares = torch.zeros(0, query.m, dtype=torch.float64)
        self._decide(Cuboids.cube(span, query.m))

    @property
    def log_upper(self) -> float:
        """An upper bound on log p, rounded up; -inf where p = 0."""
        ends = torch.tensor([self._certain_up, self.log_outside], dtype=torch.float64)
        return log_sum_up(torch.cat([self.log_open, ends])).item()

    @property
    def log_lower(self) -> float:
        """A lower bound on log p, rounded down; -inf where nothing is proved, as of float32."""
        return self._certain_down if self.query.arithmetic == "real" else -math.inf

    def cut(self, places: Tensor, axes: Tensor) -> None:
        """Halve open cuboids: those at `places` (k,), without repetition, each across one of `axes` (k,)."""
        halved = torch.zeros(len(self.open), dtype=torch.bool)
        halved[places] = True
        parts = self.open[places].halves(axes)
        self.open, self.log_open, self.shares = self.open[~halved], self.log_open[~halved], self.shares[~halved]
        self._decide(parts)

    def _decide(self, cuboids: Cuboids) -> None:
        """Bound the network on cuboids, and count or keep them."""
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
        self.shares = torch.cat([self.shares, found.shares[kept]])
        self.count += len(cuboids)
