"""Proposals of slopes, rates and exponents for exponential moments of sums of activations."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from calotte.proofs.first_layer_moments import FirstLayerMoments, Tilted, in_255ths, short
from calotte.proofs.moments.ends import Ends, Peaks
from calotte.proofs.moments.exponents import Exponents
from calotte.proofs.moments.first import FirstLayer
from calotte.proofs.moments.gaussian import GaussianLaw
from calotte.proofs.moments.layers import Place
from calotte.proofs.moments.shortfalls import Settled
from calotte.proofs.moments.summed import Summed
from calotte.proofs.moments.sums import FAR, Sums, Tilt
from calotte.proofs.moments.tails import moment_and_share
from calotte.query import Query
from calotte.searches.exponents import exponents, exponents_each

__all__ = ["Tilts"]


@dataclass(frozen=True)
class Tilts:
    """A proposer for one evaluation of one input: what it says depends on nothing that was asked in another.

    Attributes:
        query: for which exponents are kept, found anew where the noise is larger by e^(1/buckets).
        wanted: the logarithm of the bound aimed at.
        steps: towards the best slopes and rates; of what is met on the way the best is proposed.
        rates: times what is thought best, all are tried for margins.
        rarely: of the variance that forms would have were all units active, the least that is taken for theirs: units
            that hardly ever switch have none, which tells nothing of what they do when they do.
        share: of the rate that a Gaussian form would want; cap: times the rate at which the bound wanted is reached.
        proposed: how maxima are bounded.
        said: slopes in 255ths, rates and exponents that were proposed.
        likeliest: by which power of their means exponents suit the smallest margins more than others.
        fine: as buckets, where there are maxima; highest, halvings: of the search for thresholds.
        least: room for ends that is proposed at all, over 1 / rate of their rows.
        rooms: of ends, node by node, that were proposed.
        seen: sums of squares of the weights by which layers read the first one, unit by unit, as far as they are met.
    """

    query: Query
    wanted: float
    steps: int = 4
    rarely: float = 0.0025
    rates: tuple[float, ...] = (0.75, 1.0, 1.3)
    share: float = 0.8
    cap: float = 2.0
    buckets: float = 2.0
    fine: float = 8.0
    likeliest: float = 8.0
    highest: float = 8.0
    halvings: int = 40
    least: float = 4.0
    seen: list[Tensor] = field(default_factory=list)
    rooms: list[Tensor] = field(default_factory=list)
    proposed: list[Peaks] = field(default_factory=list)
    said: dict[Place, tuple[Tensor, Tensor, Exponents]] = field(default_factory=dict)

    def __call__(self, place: Place, sums: Sums, law: GaussianLaw, log_each: float | None) -> list[Tilt]:
        self.query.deadline.check("in the search for slopes")
        found = self._exponents(place, sums, law)
        if found is None:
            return []
        power = sums.of_forms(found.power)
        centre, deviation = sums.of_units(sums.value), law.high * sums.of_units(sums.first.longest)
        slope = torch.special.ndtr(centre / deviation.clamp_min(1e-150)).expand(sums.weight.shape)
        mean, square = bends(centre, deviation, slope)
        mean = sums.constant + (sums.weight * (mean + slope * centre)).sum(1)
        spread = law.high**2 * sums.products(sums.weight * slope * sums.of_units(sums.first.longest))[1]
        alone = sums.weight**2 * power
        most = (spread + (alone * torch.maximum(deviation, FAR * centre.abs()) ** 2).sum(1)).clamp_min(1e-290)
        variance = torch.maximum(spread + (alone * square).sum(1), self.rarely * most)
        if log_each is not None:
            low = math.sqrt(-2.0 * log_each) / most.sqrt()
            rate, high = math.sqrt(-2.0 * log_each) / variance.sqrt(), 2.0 * low / math.sqrt(self.rarely)
        else:
            mean = mean.clamp_min(1e-290)
            low, high = torch.zeros_like(mean), -self.cap * self.wanted / mean
            rate = torch.minimum(self.share * mean / variance, high)
        least, best, at = torch.full_like(rate, torch.inf), slope, rate
        for _ in range(self.steps):
            following, spread = towards(sums, law, slope, rate, power, mean)
            if log_each is not None:  # minus the level; the best rate is about where the spread is -log_each
                found_at, far = (spread - log_each) / rate, spread / -log_each
                proposed = rate * far ** (-1 / 3)
            else:  # the logarithm of the bound
                found_at, far = spread - rate * mean, spread / (0.5 * self.share * rate * mean)
                proposed = rate * far.rsqrt()
            better = found_at < least
            least, at = torch.where(better, found_at, least), torch.where(better, rate, at)
            best = torch.where(better[:, None], slope, best)
            low, high = torch.where(far < 1.0, rate, low), torch.where(far < 1.0, high, rate)
            within = (proposed > low) & (proposed < high)
            slope, rate = following, torch.where(within, proposed, (low * high).sqrt())
        rates = self.rates if log_each is None else (1.0,)
        slopes = in_255ths(best)
        self.said[place] = slopes, torch.stack([factor * at for factor in rates]), found
        return [Tilt(slopes.to(torch.float64) / 255.0, rate, found) for rate in self.said[place][1]]

    def room(self, settled: Settled) -> Tensor:
        """For ends that are left so seldom that a little more of it is nothing."""
        seldom = self.wanted - math.log(2 * self.query.network.hidden_units)
        beyond = torch.where(settled.log_each > -torch.inf, (seldom - settled.moment) / settled.rate, -torch.inf)
        room = torch.maximum(settled.free, beyond) - settled.ends  # of what is not paid for a Proof says no moments
        room = torch.where(room.isfinite() & (settled.rate * room >= self.least), room, 0.0)
        self.rooms.append(short(room * (1.0 - 2.0**-7)))  # which is no more
        return self.rooms[-1]

    def peaks(self, first: FirstLayer, value: Tensor, law: GaussianLaw) -> Peaks:
        """Thresholds that one member of each window is above in the mean, and the likeliest winners."""
        ends = first.ends
        start, window = first.units - len(ends.window), ends.window
        value, deviation = value[start:], self._about(law, first) * first.longest[start:].clamp_min(1e-150)

        def largest(of: Tensor) -> Tensor:
            return torch.zeros(ends.windows).double().scatter_reduce(0, window, of, "amax")

        low = torch.zeros(ends.windows).double()
        high = largest(value + self.highest * deviation)
        for _ in range(self.halvings):
            middle = (low + high) / 2
            above = torch.special.ndtr((value - middle[window]) / deviation)
            many = torch.zeros_like(low).index_add(0, window, above) > 1.0
            low, high = torch.where(many, middle, low), torch.where(many, high, middle)
        size = bends(value, deviation, torch.zeros_like(value))[0]
        members = torch.arange(len(window))
        winner = torch.zeros(ends.windows, dtype=torch.int64)
        winner = winner.scatter_reduce(0, window, torch.where(size == largest(size)[window], members, 0), "amax")
        self.proposed.append(Peaks(low, winner))
        return self.proposed[0]

    def proof(self, tail: float, log_each: float, aside: float, found: Summed) -> FirstLayerMoments:
        """What was proposed in an evaluation, as far as it was used."""
        different, rows, tilts = list[Exponents](), list[Tensor](), {}
        for place, (slopes, rates, powers) in self.said.items():
            used = torch.ones(len(slopes), dtype=torch.bool) if place.node < 0 else found.used[place]
            if not used.any():
                continue
            if powers not in different:
                different.append(powers)
                rows.append(torch.zeros(1 if powers.group is None else len(powers.asked), dtype=torch.bool))
            which = different.index(powers)
            rows[which] |= used.reshape(len(rows[which]), -1).any(1)
            tilts[place] = Tilted(torch.where(used[:, None], slopes, 0), torch.where(used, rates, 0.0), which)
        pairs = zip(different, rows, strict=True)
        asked = (torch.where(some if one.group is None else some[:, None], one.asked, 0.0) for one, some in pairs)
        peaks, rooms = self.proposed[0], tuple(self.rooms)
        return FirstLayerMoments(tail, log_each, aside, found.choices, peaks, tuple(asked), tilts, found.slack, rooms)

    def _exponents(self, place: Place, sums: Sums, law: GaussianLaw) -> Exponents | None:
        """Exponents that suit the forms; of groups they are found once for a network, else for about this noise."""
        first, group = sums.first, sums.group
        asked = sums.weight if sums.asked is None else sums.asked  # what is kept for a network is of it alone
        squares = asked**2
        direct = self._direct(place, first.ends)
        if group is not None:
            important = sums.of_units(first.longest**2)
            if direct:
                index, important = sums.of_forms(group.index), important * squares
                self.seen.append(torch.zeros(first.units).double().index_add(0, index.flatten(), squares.flatten()))
            key: Hashable = ("exponents", place.node, group)
            return self.query.hyperplanes.once(key, lambda: exponents_each(first, group, important))
        about = self._about(law, first)
        deviation = about * first.longest
        centre = sums.of_units(sums.value)
        slope = torch.special.ndtr(centre / deviation.clamp_min(1e-150))
        mean, spread = bends(centre, deviation, slope)
        if direct:
            self.seen.append(squares.sum(0))
            spread = squares * spread
            share = spread / spread.sum(1, keepdim=True).clamp_min(1e-290)
            if place.node < 0:  # of the likeliest to fail above all
                mean = (sums.constant + (sums.weight * (mean + slope * centre)).sum(1)).clamp_min(1e-290)
                share = (mean.amin() / mean)[:, None] ** self.likeliest * share
            share = share.mean(0)
        else:  # lines differ with what is aimed at: what the layers before them read is taken
            share = (torch.stack(self.seen).sum(0) * spread if self.seen else spread).mean(0)
        key = ("exponents", direct, len(sums.weight) if direct else 0, about)
        return self.query.once(key, lambda: exponents(first, share))

    def _about(self, law: GaussianLaw, first: FirstLayer) -> float:
        """About the deviation of the noise: equal ones have the same exponents, and the same peaks."""
        buckets = self.fine if first.ends.maxima else self.buckets
        return math.exp(round(buckets * math.log(law.high)) / buckets)

    def _direct(self, place: Place, ends: Ends) -> bool:
        """Whether coefficients are the network's own, no line of another ReLU in between."""
        network = self.query.network
        before = {network.last if place.node < 0 else network.feeders[place.node]}
        for i in range(max(before), 0, -1):
            if i in before and i not in ends.nodes:
                before.update(network.nodes[i].inputs)
        return before.isdisjoint(ends.deep)


def bends(centre: Tensor, deviation: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of relu(z) - slope z, z normal."""
    deviation = deviation.clamp_min(1e-150)
    x = centre / deviation
    density, share = torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi), torch.special.ndtr(x)
    mean = deviation * (x * share + density)
    square = deviation**2 * ((x * x + 1.0) * share + x * density)
    variance = square - mean * mean + slope * (slope - 2.0 * share) * deviation**2
    return mean - slope * centre, variance.clamp_min(0.0)


def towards(
    sums: Sums, law: GaussianLaw, slope: Tensor, rate: Tensor, power: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor]:
    """Slopes half-way to where the moment of forms F is stationary; and (R,) log E exp(-rate (F - mean)), as bounded.

    Stationary are the shares of z_j > 0 in E exp(-p_j rate g_j e_j(z_j')).

    Args:
        slope: (R, n); rate, mean: (R,) of the forms; power: (R, n) exponents.
    """
    longest, centre = sums.of_units(sums.first.longest), sums.of_units(sums.value)
    rates = rate[:, None]
    along = sums.weight * slope
    inner, squared = sums.products(along * longest)
    moved = centre - rates * law.high**2 * longest * inner
    theta, deviation = -power * rates * sums.weight, (law.high * longest).clamp_min(1e-150)
    deviation = torch.where(theta > 0, torch.maximum(deviation, FAR * moved.abs()), deviation)
    value, share, _ = moment_and_share(theta, slope, moved, deviation)
    bent = (value / power).sum(1) + rate * (mean - sums.constant - (along * centre).sum(1))
    spread = 0.5 * (law.high * rate) ** 2 * squared + bent
    spread = torch.where(spread.isnan(), 1e30, spread.clamp(1e-30, 1e30))
    return torch.where(share.isnan(), slope, (slope + share) / 2), spread
