"""Tiling: noise with independent coordinates, cut into cuboids of which an event takes a share, enclosed in each.

    sum P(u in cuboid) least share <= p <= sum P(u in cuboid) largest share + P(outside),

whoever says where to cut: halves of a cuboid have no inner points in common and leave nothing out, and laws with
independent coordinates give their faces no measure. Where both shares are 0 or 1 nothing is left to be cut.
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
from calotte.proofs.cuboids.lines import margin_lines
from calotte.proofs.cuboids.places import places
from calotte.proofs.cuboids.shares import below_zero, less, occurring
from calotte.proofs.cuboids.zonotopes import swept
from calotte.proofs.float32 import executed
from calotte.proofs.union import log_sum_down, log_sum_up
from calotte.query import Query
from calotte.rounding import dot_error
from calotte.sphere import Rounding

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
        open: the cuboids with shares between 0 and 1; numbers: (n,) theirs, ascending.
        log_most, log_least: (n,) bounds on the logarithms of P(event, u in the cuboid).
        doubts: (n, m) what the coordinates contribute to the distance between both.
        count: cuboids that were made; cuts: how.
    """

    def __init__(self, query: Query, size: float, span: float, kept: int) -> None:
        sizes = torch.tensor([size], dtype=torch.float64)
        margins, self.log_outside = executed(query, sizes, query.event_margins)
        self.query, self.size, self.kept = query.by_margins(margins), size, kept
        generators = query.m + kept * len(query.network.relus)
        self._at_once = max(1, _ENTRIES // ((generators + 2 * margins.cases.forms) * query.network.widest))
        if isinstance(query.noise, Independent):
            span = query.noise.reach
        else:
            assert isinstance(query.noise, Gaussian)
            ends = torch.full((2 * query.m,), span, dtype=torch.float64)
            beyond = query.noise.standard_log_tail(ends, query.m, rounding="up")
            self.log_outside = log_sum_up(torch.cat([beyond, beyond.new_tensor([self.log_outside])])).item()
        self._certain_up = self._certain_down = -math.inf
        self.open, self.numbers = Cuboids.cube(span, query.m)[:0], torch.zeros(0, dtype=torch.int64)
        self.log_most = self.log_least = torch.zeros(0, dtype=torch.float64)
        self.doubts = torch.zeros(0, query.m, dtype=torch.float64)
        self.count, self.cuts = 1, list[Cuts]()
        self._decide(Cuboids.cube(span, query.m), torch.zeros(1, dtype=torch.int64))

    @property
    def log_upper(self) -> float:
        """An upper bound on log p, rounded up; -inf where p = 0."""
        ends = torch.tensor([self._certain_up, self.log_outside], dtype=torch.float64)
        return log_sum_up(torch.cat([self.log_most, ends])).item()

    @property
    def log_lower(self) -> float:
        """A lower bound on log p, rounded down; -inf where nothing is proved, as of float32."""
        if self.query.arithmetic != "real":
            return -math.inf
        ends = torch.tensor([self._certain_down], dtype=torch.float64)
        return log_sum_down(torch.cat([self.log_least, ends])).item()

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
        self.log_most, self.log_least, self.doubts = self.log_most[rest], self.log_least[rest], self.doubts[rest]
        halves = torch.cat([lower[some], lower[some] + len(numbers)])
        for k in range(0, len(parts), self._at_once):
            block = slice(k, k + self._at_once)
            self._decide(parts[block], halves[block])

    def _decide(self, cuboids: Cuboids, numbers: Tensor) -> None:
        """Bound the network on cuboids of these numbers, and count or keep them."""
        noise = self.query.noise
        most, least, doubts = shares(self.query, self.size, cuboids, self.kept)
        up, down = (cuboids.log_measure(noise, side) for side in ("up", "down"))
        certain, open_ = least == 1, (most > 0) & (least < 1)
        so_far = torch.tensor([[self._certain_up], [self._certain_down]], dtype=torch.float64)
        self._certain_up = log_sum_up(torch.cat([up[certain], so_far[0]])).item()
        self._certain_down = log_sum_down(torch.cat([down[certain], so_far[1]])).item()
        log_most, log_least = part_of(up, most, "up"), part_of(down, least, "down")
        self.open, self.numbers = self.open + cuboids[open_], torch.cat([self.numbers, numbers[open_]])
        self.log_most = torch.cat([self.log_most, log_most[open_]])
        self.log_least = torch.cat([self.log_least, log_least[open_]])
        self.doubts = torch.cat([self.doubts, doubts[open_]])


def shares(query: Query, size: float, cuboids: Cuboids, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bounds (L,) on the share that the event has in each cuboid, from above and from below.

    And (L, m) what the coordinates contribute to the distance between both, roughly.
    """
    margins, found = query.margins, swept(query, size, cuboids, kept)
    lines, where = margin_lines(query.network, margins, found), places(query.noise, cuboids)
    low, high = found.forms.range
    failing = below_zero(*where.of(lines.normal, lines.constant))  # from above of a margin, and of its negative
    holds, fails = (low > 0) | ((low == 0) & margins.ties[0]), (high < 0) | ((high == 0) & ~margins.ties[0])
    most = torch.where(holds, 0.0, torch.where(fails, 1.0, failing[:, 0]))
    least = torch.where(fails, 1.0, torch.where(holds, 0.0, less(failing[:, 1])))
    above, below = occurring(margins.cases, most, least)
    undecided = (most - least)[:, :, None]
    spread = lines.normal.abs().sum(1)
    bent = (undecided * (lines.shares + spread * where.error[:, None])).sum(1)
    several = (undecided > 0).sum(1) > 1
    return above, below, torch.where(several, bent + 0.1 * (undecided * spread).sum(1), bent)


def part_of(log_measure: Tensor, share: Tensor, rounding: Rounding) -> Tensor:
    """log of a share of a measure, both rounded that way before."""
    found = log_measure + share.log()
    moved = dot_error(1.0 + log_measure.abs() + found.abs(), 8)
    found = torch.where(found.isinf(), found, found + moved if rounding == "up" else found - moved)
    return torch.where(share == 1, log_measure, found)
