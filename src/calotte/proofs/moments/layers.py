"""Layers behind the first by exponential moments: bounds on their units and margins, the first kept as it is.

A unit behind the first layer is pulled back, through lines where it passes other ReLUs, to a sum of first-layer
activations (`sums`), of which Chernoff's inequality bounds the tails. What is used of these bounds is priced as on
any good event.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from calotte.network.float32 import Float32Errors
from calotte.proofs.chooser import Chooser
from calotte.proofs.event import margin_rows
from calotte.proofs.moments.aside import Aside, lines_within, reads
from calotte.proofs.moments.ends import Peaks
from calotte.proofs.moments.exponents import Group, group_of
from calotte.proofs.moments.first import FirstLayer
from calotte.proofs.moments.gaussian import GaussianLaw
from calotte.proofs.moments.shortfalls import Settled, Taken, taken
from calotte.proofs.moments.sums import Sums, Tilt, log_moments
from calotte.proofs.moments.tails import levels
from calotte.proofs.price import Offer, halves, known, signs
from calotte.proofs.relaxation.backward import Relaxation
from calotte.proofs.relaxation.reach import doubts_of_relu
from calotte.proofs.relaxation.windows import Pulled, Rows, Whole, Windows, unit_rows
from calotte.proofs.support import Support
from calotte.query import Query
from calotte.rounding import UNIT_ROUNDOFF, VALUE_SLACK, dot_error, raised

__all__ = ["Layers", "Place", "Proposer"]

_WIDEST, _MOST = 1024, 2**25  # units that a form of a group reads; entries of the matrices of a group
_AT_ONCE = 2**20  # numbers of a form's weights in a block: fresh pages cost more than larger blocks gain
_TEMPORARIES = 24  # tensors of the size of the forms' weights that moments take at once


@dataclass(frozen=True)
class Place:
    """Which forms are meant: of a node's units (-1: the margins) the block, and of these the side, z or -z."""

    node: int
    block: int
    side: int


class Proposer(Protocol):
    """Who says how forms are bounded: not trusted."""

    def peaks(self, first: FirstLayer, value: Tensor, law: GaussianLaw) -> Peaks:
        """How maxima of first-layer activations are bounded, the units' values at x being (n,)."""

    def room(self, settled: Settled) -> Tensor:
        """(2, n) room of the ends of a ReLU node's units, where they may be soft; 0 for none."""

    def __call__(self, place: Place, sums: Sums, law: GaussianLaw, log_each: float | None) -> list[Tilt]:
        """Slopes, rates and exponents, of which the best count; log_each: the logarithm of what a level may fail
        with (None: the probability of a form <= 0 is wanted)."""


@dataclass(frozen=True)
class Layers:
    """One input's units behind the first layer, on a good event that is made on the way.

    Attributes:
        query: of one input; first: its network's first layer; around: the noise considered; law: of the noise.
        relaxation: with the bounds found so far; value, error: (n,) of the first layer's units at x.
        peaks: how maxima of them are bounded.
        aside: how many deviations below 0 units of the first layer are set aside by those that read them.
        soft: whether ends of units behind the first layer may be soft (`shortfalls`); nothing but the lines rests on
            these then.
        apart: the ReLU nodes of which units are split for that.
        choices: ReLU node -> (units,) what was paid for so far, as of `price`.
        used: which forms -> (R,) whether something was paid for that these say.
    """

    query: Query
    first: FirstLayer
    around: Support
    law: GaussianLaw
    relaxation: Relaxation
    value: Tensor
    error: Tensor
    peaks: Peaks
    aside: float = math.inf
    soft: bool = False
    apart: dict[int, Aside] = field(default_factory=dict)
    choices: dict[int, Tensor] = field(default_factory=dict)
    used: dict[Place, Tensor] = field(default_factory=dict)

    def pull_back(self, node: int, rows: Rows, constant: Tensor, mirrored: bool) -> tuple[Pulled, Taken]:
        """Rows pulled back to the first layer's activations; what they take on the way, where ends may be soft."""
        kept: dict[int, Tensor | None] = dict.fromkeys((*self.first.ends.nodes, *self.apart))
        below: Taken = {}

        def told(relu: int, rows: Rows, _: object) -> None:
            below[relu] = taken(rows)

        pulled = self.relaxation.pull_back(0, node, rows, constant, kept, mirrored, told if self.soft else None)
        for relu, one in self.apart.items():
            if relu in pulled.ends:
                if self.soft:
                    below[relu] = taken(pulled.ends[relu])
                pulled = one.through(self.relaxation, pulled)
        return pulled, below

    def sums(self, pulled: Pulled, channels: Tensor | None = None) -> list[Sums]:
        """Sums of first-layer activations below rows that were pulled back, for each side of them.

        Args:
            channels: (N,) of the units whose rows these are, where they have some.
        """
        form = self.relaxation.at_noise(0, pulled, whole=True)
        constant, off = form.lower, raised(form.normal_error + form.accuracy * form.norm, 8)
        linear = bool(form.normal.any())
        if linear and self.first.units and not self.first.plain:
            constant = torch.full_like(constant, -torch.inf)  # in other coordinates than the first layer's rows
        group, weight = (None, self.whole(pulled)) if linear else self.narrow(pulled, channels)
        found = []
        for side, (c, g, b, e) in enumerate(zip(constant, weight, form.normal, off, strict=True)):
            value, error = self.value, self.error
            if self.first.ends.maxima:
                c, g, value = self.below_maxima(c, g, self.of_maxima(pulled)[side])
                error = raised(error + UNIT_ROUNDOFF * value.abs(), 4)
            found.append(Sums(self.first, value, error, c, g, b if linear else None, e, group))
        return found

    def below_maxima(self, constant: Tensor, weight: Tensor, entries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Constants (N,), weights (N, n) and values (N, n) of sums below rows with coefficients (N, K) of maxima.

        max(0, z_i, ...) is at least relu(z_w) and, for t >= 0, at most t + sum_i relu(z_i - t).
        """
        ends, start = self.first.ends, len(self.value) - len(self.first.ends.window)
        threshold = torch.where(self.peaks.threshold > 0, self.peaks.threshold, 0.0)
        winner = torch.zeros(len(ends.window), dtype=torch.float64)
        winner[self.peaks.winner[ends.window[self.peaks.winner] == torch.arange(ends.windows)]] = 1.0
        met = entries[:, ends.window]
        weight = torch.cat([weight, torch.where(met < 0, met, met * winner)], 1)
        least = entries.clamp_max(0.0)
        moved = least @ threshold
        off = dot_error(-moved, ends.windows + 8) + dot_error(constant.abs() - moved, 4) + VALUE_SLACK
        value = self.value.repeat(len(entries), 1)
        value[:, start:] -= torch.where(met < 0, threshold[ends.window], 0.0)
        return constant + moved - off, weight, value

    def of_maxima(self, pulled: Pulled) -> Tensor:
        """Coefficients (S, N, K) of all maxima."""
        none = pulled.constant[:, :, None]
        return torch.cat([self.entries(pulled, one.node, none) for one in self.first.ends.maxima], 2)

    def entries(self, pulled: Pulled, node: int, none: Tensor) -> Tensor:
        """Coefficients (S, N, ...) of a node where pull-backs end."""
        if node in pulled.ends:
            return pulled.ends[node].whole().entries.flatten(2)
        return none.new_zeros(*none.shape[:2], self.query.network.size(node))

    def whole(self, pulled: Pulled) -> Tensor:
        """Coefficients (S, N, n) of all units of the first layer, of members of maxima apart."""
        none = pulled.constant[:, :, None]
        return torch.cat([none[:, :, :0], *(self.entries(pulled, i, none) for i in self.first.ends.relus)], 2)

    def narrow(self, pulled: Pulled, channels: Tensor | None) -> tuple[Group | None, Tensor]:
        """The units of the first layer that rows read, and the coefficients; None for all of them."""
        if channels is None or len(pulled.ends) != 1 or self.first.ends.maxima:
            return None, self.whole(pulled)
        ((relu, rows),) = pulled.ends.items()
        if not isinstance(rows, Windows):
            return None, self.whole(pulled)
        entries, places = rows.entries.flatten(3), rows.places
        own = channels[None, :, None, None].expand(len(entries), -1, -1, entries.shape[3])
        read = torch.arange(rows.shape[0])[None]
        if channels.max() < rows.shape[0] and not entries.scatter(2, own, 0.0).any():  # each its own channel
            entries, places, read = entries.gather(2, own), places[rows.which], channels[:, None]
        weight = entries.flatten(2)
        if weight.shape[2] > _WIDEST or len(places) * weight.shape[2] ** 2 > _MOST:
            return None, self.whole(pulled)
        size = tuple(rows.entries.shape[3:])
        key = ("group", relu, size, tuple(places.flatten().tolist()), tuple(read.flatten().tolist()))
        once = self.query.hyperplanes.once
        return once(key, lambda: self.group(relu, rows.shape, places, size, read)), weight

    def group(self, relu: int, shape: tuple[int, ...], places: Tensor, size: tuple[int, ...], read: Tensor) -> Group:
        """The units on windows of a ReLU node, of some size, at places (P, 2), in channels (P, C) or (1, C)."""
        height, width = shape[1:]
        y, x = (places[:, axis, None] + torch.arange(size[axis]) for axis in (0, 1))
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
        flat = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None]
        index = self.units_of(relu).start + read[:, :, None, None] * (height * width) + flat[:, None]
        return group_of(self.first, index.flatten(1), inside[:, None].expand(index.shape).flatten(1))

    def blocks(self, node: int) -> Iterator[tuple[Tensor, Pulled, Taken]]:
        """Units of a node whose sign is not known, place by place, in blocks; their rows and the negatives', as of
        `pull_back`."""
        network, shape = self.query.network, self.query.network.shape(node)
        size, area = math.prod(shape), math.prod(shape[1:])
        loose = torch.ones(size, dtype=torch.bool)
        if node in self.relaxation.reach.between:
            low, high = (t.flatten() for t in self.relaxation.reach.between[node])
            loose = ~((low >= 0) | (high <= 0))
        some = loose.reshape(shape[0], area).any(0)
        units = torch.arange(size).reshape(shape[0], area)[:, some].t() if len(shape) == 3 else loose.nonzero()
        widest = max(self.first.units, network.widest)
        most = int(self.query.settings.memory_limit / (16 * _TEMPORARIES * widest))
        ends = self.first.ends
        if ends.maxima or ends.read(self.query.hyperplanes, node) > _WIDEST:  # forms read the whole layer
            most = min(most, _AT_ONCE // (2 * widest))
        for block in torch.split(units, max(1, most // units.shape[1])) if units.numel() else ():
            self.query.deadline.check(f"at node '{network.nodes[node].name}'")
            rows = unit_rows(network, node, block.flatten())
            yield block.flatten(), *self.pull_back(*rows, mirrored=True)

    def rare(self, relu: int) -> Tensor | None:
        """Which units (n,) of the first layer are set aside by those of a ReLU node; None for no such."""
        first = reads(self.query.network, relu, self.first.ends.relus)
        if first is None or not self.relaxation.reach.between:
            return None
        some, found = self.units_of(first), torch.zeros(self.first.units, dtype=torch.bool)
        found[some] = self.value[some] < -self.aside * self.law.high * self.first.longest[some]
        return found if found.any() else None

    def units_of(self, relu: int) -> slice:
        """Where the units of a ReLU node of the first layer stand among all of them."""
        start = sum(self.query.network.size(i) for i in self.first.ends.relus if i < relu)
        return slice(start, start + self.query.network.size(relu))

    def range(self, sums: Sums) -> Tensor:
        """Lower bounds (R,) on forms over all noise that is considered."""
        reach = raised(self.around.farthest * self.first.longest, 8) + sums.error
        low, high = (sums.of_units((sums.value + sign * reach).clamp_min(0.0)) for sign in (-1.0, 1.0))
        size = sums.of_units(sums.value.abs() + reach)
        g = sums.weight
        lowest = (g.clamp_min(0.0) * low).sum(1) + (g.clamp_max(0.0) * high).sum(1)
        doubt = dot_error((g.abs() * (high + size)).sum(1), g.shape[1] + 16)
        doubt = doubt + raised(self.around.farthest * sums.linear_norm, 8)
        total = sums.constant + lowest - doubt
        total = total - dot_error(sums.constant.abs() + lowest.abs() + doubt, 8)
        return torch.where(total.isnan(), -torch.inf, total)

    def bounds(
        self, relu: int, certain: Tensor, propose: Proposer, log_each: float
    ) -> tuple[Tensor, list[Tensor], Taken]:
        """Bounds on the two sides of each unit of a ReLU node behind the first layer, or of its core.

        Args:
            certain: (2, n) ends that hold for all noise considered; of units whose sign they say nothing else is.

        Returns:
            (5, 2, n): ends of rows for all noise considered; levels that fail with probability exp(log_each) and what
            P(side < 0) is at most, as a logarithm; log E exp(-rate row) and the rate that gave the level. The blocks
            of units that were bounded; what their rows take, where ends may be soft.
        """
        feeder, rare = self.query.network.feeders[relu], self.rare(relu)
        shape, zero = self.query.network.shape(feeder), torch.zeros_like(certain)
        known = torch.stack([certain, certain, zero, torch.full_like(certain, torch.inf), zero + 1.0])
        found, met, takes = known.clone(), list[Tensor](), dict[int, Tensor]()
        for number, (units, pulled, below) in enumerate(self.blocks(feeder)):
            channels = units // math.prod(shape[1:]) if len(shape) == 3 else None
            for side, sums in enumerate(self.sums(pulled, channels)):
                sums = sums if rare is None else sums.without(rare)
                tilts = propose(Place(relu, number, side), sums, self.law, log_each)
                found[:, side, units] = torch.stack([self.range(sums), *best(sums, self.law, tilts, log_each)])
            met.append(units)
            for i, part in below.items():
                takes.setdefault(i, part.new_zeros(*certain.shape, part.shape[2]))[:, units] = part
        return torch.where((certain >= 0).any(0), known, found), met, takes

    def bound_units(self, relu: int, propose: Proposer, chooser: Chooser, log_each: float) -> Settled:
        """Settle a ReLU node behind the first layer, by what is chosen of what is offered."""
        network, reach = self.query.network, self.relaxation.reach
        feeder = network.feeders[relu]
        shape, certain = network.shape(feeder), torch.full((2, network.size(feeder)), -torch.inf).double()
        if feeder in reach.between:
            certain = torch.cat(
                [sign * t.flatten(1) for sign, t in zip((1.0, -1.0), reach.between[feeder], strict=True)]
            )
        loose, rare = ~(certain >= 0).any(0), self.rare(relu)
        (free, level, log_sign, moment, rate), met, takes = self.bounds(relu, certain, propose, log_each)
        if rare is None:
            free = torch.maximum(free, certain)
        each = torch.full_like(free, log_each)
        offer = Offer(*(t[None] for t in (free, torch.maximum(free, level), log_sign, each)))
        choice = known(chooser.choose(relu, offer))
        self.choices[relu], used = choice[0], (signs(choice) | halves(choice))[0]
        self.used.update({Place(relu, i, side): used[side, units] for i, units in enumerate(met) for side in (0, 1)})
        low, high = offer.ends(choice)
        lower, upper = low.reshape(1, *shape), high.reshape(1, *shape)
        held = tuple(sign * t.reshape(1, *shape) for sign, t in zip((1.0, -1.0), certain, strict=True))
        ends = held if self.soft or rare is not None else (lower, upper)
        self.relaxation.settle(relu, *ends, *held)
        if rare is None:
            slope = self.draw(relu, lower, upper)
        else:
            first = network.nodes[feeder].inputs[0]
            here = rare[self.units_of(first)].reshape(network.shape(first))
            split = loose.reshape(shape)
            self.apart[relu] = Aside.of(self.relaxation, relu, first, here, split, lower[0], upper[0])
            slope = self.apart[relu].slope
        part = torch.where(loose, torch.stack([slope.flatten(), raised(1.0 - slope.flatten(), 2)]), 0.0)
        prices = torch.maximum(offer.log_signs(choice), offer.log_halves(choice))[0]
        left = torch.cat([low, -high]).clamp_max(0.0)
        return Settled(relu, left, free, moment, rate, prices, part, takes)

    def draw(self, relu: int, lower: Tensor, upper: Tensor) -> Tensor:
        """Fix the lines of a settled ReLU node by ends (1, *shape), which need not hold; the slopes above."""
        feeder, reach = self.query.network.feeders[relu], self.relaxation.reach
        most = reach.magnitude[feeder]
        lines = below, above, intercept = lines_within(lower, upper, most, self.relaxation.at_x[feeder].value)
        self.relaxation.lines[relu] = lines
        reach.doubts[relu] = doubts_of_relu(intercept, below + above, most, self.query.network.size(relu))
        return above

    def relus(self) -> Iterator[int]:
        """The ReLU nodes in order, all before them bounded; whoever asks settles those behind the first layer."""
        network, ends = self.query.network, self.first.ends
        for i in range(len(network.nodes)):
            if i:
                self.relaxation.reach.bound(i)
            if i in ends.relus:
                self.bound_first(i)
            elif i in network.relus and i not in ends.deep:
                self.bound_hidden(i)
            if i in network.relus:
                yield i

    def bound_first(self, relu: int) -> None:
        """Settle a ReLU node of the first layer by all noise that is considered."""
        some, shape = self.units_of(relu), self.query.network.shape(relu)
        reach = raised(self.around.farthest * self.first.longest[some], 8) + self.error[some]
        slack = reach + dot_error(reach + self.value[some].abs(), 8) + VALUE_SLACK
        ends = [(self.value[some] + s * slack).reshape(1, *shape) for s in (-1.0, 1.0)]
        self.relaxation.settle(relu, *ends, *ends)

    def bound_hidden(self, relu: int) -> None:
        """Settle a ReLU node that only maxima read, by what intervals say."""
        low, high = self.relaxation.reach.between[self.query.network.feeders[relu]]
        self.relaxation.settle(relu, low, high, low, high)

    def margins(self, errors: Float32Errors | None) -> tuple[Sums, Taken]:
        """Sums of first-layer activations below the margins, less `errors` of float32; what they take on the way."""
        node, rows, constants = margin_rows(self.query, errors)
        pulled, below = self.pull_back(node, Whole(rows), constants, mirrored=False)
        (found,) = self.sums(pulled)
        return found, below


def best(sums: Sums, law: GaussianLaw, tilts: list[Tilt], log_each: float) -> tuple[Tensor, ...]:
    """Lower levels (R,) that fail with probability exp(log_each), upper bounds on log P(form <= 0), the logarithms of
    the moments that gave the levels, and the rates.
    """
    level, moment = torch.full_like(sums.constant, -torch.inf), torch.full_like(sums.constant, torch.inf)
    log_p, rate = torch.zeros_like(level), torch.ones_like(level)
    for tilt in tilts:
        this = log_moments(sums, law, tilt)
        found, log_p = levels(this, tilt.rate, torch.full_like(this, log_each)), torch.minimum(log_p, this)
        moment, rate = torch.where(found > level, this, moment), torch.where(found > level, tilt.rate, rate)
        level = torch.maximum(level, found)
    return level, log_p, moment, rate
