"""Rung `bisection`: noise in few independent coordinates cut in halves, until both sides of p are near each other.

Cut are the open cuboids of largest measure, each across the coordinate that the widths of its margins come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from calotte.bound import ProvedRung
from calotte.independent import Independent
from calotte.noise import Gaussian
from calotte.proofs.partition import Partition
from calotte.query import Query

__all__ = ["Bisection"]


@dataclass(frozen=True)
class Bisection(ProvedRung):
    """Rung `bisection`.

    Attributes:
        most: dimensions of the noise up to which it is tried.
        close: of log p: where upper and lower bound are that near to each other, nothing more is cut.
        each: cuboids for each of the boxes that an input may have (`Settings.boxes`).
        span: of a Gaussian, in standard deviations, beyond which it is not cut.
        kept: ReLUs of each layer that are tracked by themselves; of 4, 8 and 25 the best on ACAS Xu.
        at_once: cuboids that are cut together; alike: of log p, less than that below the largest.
    """

    any_noise: ClassVar[bool] = True
    one_by_one: ClassVar[bool] = True
    searches: ClassVar[bool] = True
    from_below: ClassVar[bool] = True
    name: str = "bisection"
    proves: str = (
        "in at most 6 independent coordinates: the measure of cuboids outside of which the event is excluded, and, "
        "from below, of those on which it is certain"
    )
    source: str = "[docs/ladder.md](docs/ladder.md)"
    most: int = 6
    close: float = 0.05
    each: int = 40
    span: float = 10.0
    kept: int = 4
    at_once: int = 512
    alike: float = 1.0

    def refuses(self, query: Query) -> str | None:
        if not isinstance(query.noise, Independent | Gaussian):
            return f"needs noise with independent coordinates, which {query.noise.kind} noise has not"
        if query.m > self.most:
            return f"needs noise in at most {self.most} coordinates, this has {query.m}"
        return None

    def log_bound(self, query: Query, sizes: Tensor) -> Tensor:
        found = [self._cut(query.alone(i), size).log_upper for i, size in enumerate(sizes.tolist())]
        return torch.tensor(found, dtype=torch.float64)

    def log_lower(self, query: Query, sizes: Tensor) -> Tensor:
        found = [self._cut(query.alone(i), size).log_lower for i, size in enumerate(sizes.tolist())]
        return torch.tensor(found, dtype=torch.float64)

    def _cut(self, query: Query, size: float) -> Partition:
        """The noise in cuboids: once for each size that a query is asked about."""
        found: Partition = query.once((self, size), lambda: Partition(query, size, self.span, self.kept))
        # tensors of (generators, cuboids, units) take most of the memory
        entries = (query.m + self.kept * len(query.network.relus)) * query.network.widest
        at_once = max(1, min(self.at_once, int(query.settings.memory_limit / (8 * 8 * entries))))
        while len(found.open) and found.count < self.each * query.settings.boxes and not query.deadline.passed:
            upper, lower = found.log_upper, found.log_lower
            if upper <= max(query.target, query.enough) or lower > query.target > -math.inf:
                break
            if upper - lower < self.close:
                break
            largest, places = found.log_open.topk(min(at_once, len(found.open)))
            places = places[largest > largest[0] - self.alike]
            found.cut(places, found.shares[places].argmax(1))
        return found
