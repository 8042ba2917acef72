"""Proposals of slopes, rates and exponents for exponential moments of sums of activations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from calotte.proofs.exponents import Exponents
from calotte.proofs.gaussian import GaussianLaw
from calotte.proofs.sums import Sums, Tilt
from calotte.query import Query
from calotte.searches.exponents import exponents, exponents_each

__all__ = ["Tilts"]


@dataclass(frozen=True)
class Tilts:
    """A proposer for one evaluation of one input: what it says depends on nothing that was asked in another.

    Attributes:
        query: for which exponents are kept, found anew where the noise is larger by e^(1/buckets).
        wanted: the logarithm of the bound aimed at.
        steps: towards the best slopes; rates: times what is thought best, all are tried.
        share: of the rate that a Gaussian form would want; cap: times the rate at which the bound wanted is reached.
        seen: sums of squares of the weights by which layers read the first one, unit by unit, as far as they are met.
    """

    query: Query
    wanted: float
    steps: int = 4
    rates: tuple[float, ...] = (0.75, 1.0, 1.3)
    share: float = 0.8
    cap: float = 2.0
    buckets: float = 2.0
    seen: list[Tensor] = field(default_factory=list)

    def __call__(self, sums: Sums, law: GaussianLaw, log_each: float | None) -> list[Tilt]:
        self.query.deadline.check("in the search for slopes")
        centre, deviation = sums.of_units(sums.value), law.high * sums.of_units(sums.first.longest)
        deviation = deviation.clamp_min(1e-150)
        slope = torch.special.ndtr(centre / deviation).expand(sums.weight.shape)
        power = self._exponents(sums, law)
        if power is None:
            return []

        def rate(form: Guess) -> Tensor:
            if log_each is not None:
                return math.sqrt(-2.0 * log_each) / form.variance.sqrt()
            cap = -self.cap * self.wanted / form.mean.clamp_min(1e-290)
            return torch.minimum(self.share * form.mean.clamp_min(0.0) / form.variance, cap).clamp_min(1e-290)

        form = guess(sums, law, slope, power.power)
        for _ in range(self.steps):
            form = guess(sums, law, towards(sums, law, form, rate(form), power.power), power.power)
        return [Tilt(form.slope, factor * rate(form), power) for factor in self.rates]

    def _exponents(self, sums: Sums, law: GaussianLaw) -> Exponents | None:
        """Exponents that suit the forms; of groups they are found once for a network, else for about this noise."""
        group, squares = sums.group, sums.weight**2
        if group is not None:
            self.seen.append(
                torch.zeros(sums.first.units).double().index_add(0, group.index.flatten(), squares.flatten())
            )
            longest = sums.of_units(sums.first.longest)
            return self.query.hyperplanes.once(
                ("exponents", group), lambda: exponents_each(sums.first, group, squares * longest**2)
            )
        bucket = round(self.buckets * math.log(law.high))
        deviation = math.exp(bucket / self.buckets) * sums.first.longest
        spread = bends(sums.value, deviation, torch.special.ndtr(sums.value / deviation.clamp_min(1e-150)))[1]
        if sums.direct:
            self.seen.append(squares.sum(0))
            spread = squares * spread
            share = (spread / spread.sum(1, keepdim=True).clamp_min(1e-290)).mean(0)
        else:  # lines differ with what is aimed at: what the layers before them read is taken
            share = torch.stack(self.seen).sum(0) * spread if self.seen else spread
        key = ("exponents", sums.direct, len(sums.weight) if sums.direct else 0, bucket)
        return self.query.once(key, lambda: exponents(sums.first, share))


@dataclass(frozen=True)
class Guess:
    """What is thought of R forms under slopes (R, n).

    Attributes:
        mean, variance: (R,) of the forms; inner: (R, n) a.a_j.
    """

    slope: Tensor
    mean: Tensor
    variance: Tensor
    inner: Tensor


def guess(sums: Sums, law: GaussianLaw, slope: Tensor, power: Tensor) -> Guess:
    """Mean and variance of forms, each bend e_j taken to have p_j times the variance that it has alone."""
    longest, centre = sums.of_units(sums.first.longest), sums.of_units(sums.value)
    along = sums.weight * slope
    inner, squared = sums.products(along * longest)
    mean, variance = bends(centre, law.high * longest, slope)
    total = sums.constant + (along * centre).sum(1) + (sums.weight * mean).sum(1)
    spread = law.high**2 * squared.clamp_min(0.0) + (sums.weight**2 * power * variance).sum(1)
    return Guess(slope, total, spread.clamp_min(1e-290), inner * longest)


def bends(centre: Tensor, deviation: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of relu(z) - slope z, z normal."""
    deviation = deviation.clamp_min(1e-150)
    x = centre / deviation
    density, share = torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi), torch.special.ndtr(x)
    mean = deviation * (x * share + density)
    square = deviation**2 * ((x * x + 1.0) * share + x * density)
    variance = square - mean * mean + slope * (slope - 2.0 * share) * deviation**2
    return mean - slope * centre, variance.clamp_min(0.0)


def towards(sums: Sums, law: GaussianLaw, form: Guess, rate: Tensor, power: Tensor) -> Tensor:
    """Slopes half-way to the shares of z_j > 0 in E exp(-p_j rate g_j e_j(z_j')), where the moment is stationary."""
    longest, centre = sums.of_units(sums.first.longest), sums.of_units(sums.value)
    deviation = (law.high * longest).clamp_min(1e-150)
    mean = centre - rate[:, None] * law.high**2 * form.inner
    theta = -power * rate[:, None] * sums.weight
    logs = []
    for slope, side in ((theta * (1.0 - form.slope), 1.0), (-theta * form.slope, -1.0)):
        shift = slope * deviation
        part = torch.special.log_ndtr(side * (mean / deviation + shift))
        logs.append(slope * mean + 0.5 * shift * shift + part)
    share = torch.sigmoid(logs[0] - logs[1])
    return torch.where(share.isnan(), form.slope, (form.slope + share) / 2)
