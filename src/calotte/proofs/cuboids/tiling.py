"""Tiling: noise with independent coordinates, cut into cuboids of which an event takes a share, enclosed in each.

    sum P(u in cuboid) least share <= p <= sum P(u in cuboid) largest share + P(outside),

whoever says where to cut: halves of a cuboid have no inner points in common and leave nothing out, and laws with
independent coordinates give their faces no measure. Where both shares are 0 or 1 nothing is left to be cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.independent import Independent
from calotte.noise import Gaussian
from calotte.proofs.cuboids.cuboids import Cuboids
from calotte.proofs.cuboids.lines import Lines, margin_lines
from calotte.proofs.cuboids.places import places
from calotte.proofs.cuboids.shares import below_zero, less, occurring
from calotte.proofs.cuboids.small import SmallNetworks, reduced, within
from calotte.proofs.cuboids.zonotopes import swept
from calotte.proofs.float32 import executed
from calotte.proofs.union import log_sum_down, log_sum_up
from calotte.query import Query
from calotte.rounding import dot_error
from calotte.sphere import Rounding

__all__ = ["Cuts", "Tiling"]

_ENTRIES = 2**19  # of (generators, cuboids, units) that are worked on together: of 2^16 to 2^22 the fastest
_TOGETHER = 2048  # parts of small networks
_UNITS = 16  # of small networks, at most
_SMALL = 2**24  # numbers that all small networks of a Tiling may take


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
        small: networks of cuboids that were cut in which few units may change sign: parts are bounded by these.
            which: (n,) of them holds in a cuboid, -1 for none; loose: (n,) how many may change sign if none does.
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
        self.which, self.loose = (torch.zeros(0, dtype=torch.int64) for _ in range(2))
        self.small: SmallNetworks | None = None
        self._most_small = _SMALL // ((_UNITS + margins.cases.forms) * (_UNITS + query.m))
        self.count, self.cuts = 1, list[Cuts]()
        self._decide(Cuboids.cube(span, query.m), torch.zeros(1, dtype=torch.int64), torch.full((1,), -1))

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
        cut = places[some]
        whole, which = self.open[cut], self._small_for(cut)
        rest = torch.ones(len(self.numbers), dtype=torch.bool)
        rest[cut] = False
        self.open, self.numbers = self.open[rest], self.numbers[rest]
        self.log_most, self.log_least, self.doubts = self.log_most[rest], self.log_least[rest], self.doubts[rest]
        self.which, self.loose = self.which[rest], self.loose[rest]
        halves = torch.cat([lower[some], lower[some] + len(numbers)])
        self._decide(whole.halves(axes[some]), halves, torch.cat([which, which]))

    def _small_for(self, places: Tensor) -> Tensor:
        """Which small network holds in each of the open cuboids at these places (k,); one is made where it can be."""
        which = self.which[places].clone()
        new = ((which < 0) & (self.loose[places] <= _UNITS)).nonzero()[:, 0]
        begun = 0 if self.small is None else len(self.small)
        made = []
        for some in blocks(new[: self._most_small - begun], self._at_once):
            cuboids = self.open[places[some]]
            found = swept(self.query, self.size, cuboids, self.kept)
            if bool((found.loose <= _UNITS).all()):  # rounding may say otherwise than before
                which[some] = begun + torch.arange(len(some))
                begun += len(some)
                made.append(reduced(self.query, found, cuboids, _UNITS))
        if made:
            self.small = SmallNetworks.joined([*([] if self.small is None else [self.small]), *made])
        return which

    def _decide(self, cuboids: Cuboids, numbers: Tensor, which: Tensor) -> None:
        """Bound the network on cuboids of these numbers, by these small networks, and count or keep them."""
        query, noise, count = self.query, self.query.noise, len(cuboids)
        most, least = (torch.zeros(count, dtype=torch.float64) for _ in range(2))
        doubts, loose = torch.zeros(count, query.m, dtype=torch.float64), torch.zeros(count, dtype=torch.int64)
        for some in blocks((which < 0).nonzero()[:, 0], self._at_once):
            found = swept(query, self.size, cuboids[some], self.kept)
            most[some], least[some], doubts[some] = shares(
                query, cuboids[some], margin_lines(query.network, query.margins, found), found.forms.range
            )
            loose[some] = found.loose
        if self.small is not None:
            reached = (which >= 0).nonzero()[:, 0]
            reached = reached[self.small.units[which[reached]].argsort(stable=True)]
            for some in blocks(reached, _TOGETHER):
                lines = within(self.small[which[some]], cuboids[some])
                most[some], least[some], doubts[some] = shares(query, cuboids[some], lines)
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
        self.which, self.loose = torch.cat([self.which, which[open_]]), torch.cat([self.loose, loose[open_]])


def shares(
    query: Query, cuboids: Cuboids, lines: Lines, ends: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Bounds (L,) on the share that the event has in each cuboid, from above and from below.

    And (L, m) what the coordinates contribute to the distance between both, roughly.

    Args:
        lines: bounds on the margins over the cuboids; ends: (L, C) between which these lie, where that is known too.
    """
    margins, where = query.margins, places(query.noise, cuboids)
    failing = below_zero(*where.of(lines.normal, lines.constant))  # from above of a margin, and of its negative
    most, least = failing[:, 0], less(failing[:, 1])
    if ends is not None:
        low, high = ends
        holds, fails = (low > 0) | ((low == 0) & margins.ties[0]), (high < 0) | ((high == 0) & ~margins.ties[0])
        most, least = torch.where(holds, 0.0, most), torch.where(fails, 1.0, least)
    above, below = occurring(margins.cases, most, least)
    undecided = (most - least)[:, :, None]
    spread = lines.normal.abs().sum(1)
    bent = (undecided * (lines.shares + spread * where.error[:, None])).sum(1)
    several = (undecided > 0).sum(1) > 1
    return above, below, torch.where(several, bent + 0.1 * (undecided * spread).sum(1), bent)


def blocks(numbers: Tensor, size: int) -> Iterator[Tensor]:
    """Numbers (n,), so many at a time."""
    return (numbers[k : k + size] for k in range(0, len(numbers), size))


def part_of(log_measure: Tensor, share: Tensor, rounding: Rounding) -> Tensor:
    """log of a share of a measure, both rounded that way before."""
    found = log_measure + share.log()
    moved = dot_error(1.0 + log_measure.abs() + found.abs(), 8)
    found = torch.where(found.isinf(), found, found + moved if rounding == "up" else found - moved)
    return torch.where(share == 1, log_measure, found)
