"""Slopes and rates for exponential moments: towards the law that a failure would take the units to.

For a given rate the moment is stationary where alpha_j is the share of z_j > 0 in E exp(-p_j rate g_j e_j(z_j)): the
bends e_j are then flat in the mean at the tilted law (docs/ladder.md). A few damped steps of that fixed point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.proofs.local.tilted import BoxTilt, ExponentialTails, Pairs

__all__ = ["Tilting"]

_FAR = 40.0  # deviations from 0 at which a ReLU does not bend
_SMALLEST = 1e-290


@dataclass(frozen=True)
class Tilting:
    """How forms are tilted.

    Attributes:
        steps: towards the best slopes, after one at the true law; two were measured to be enough on `256x2`. Rates
            are those that a Gaussian form would want.
    """

    steps: int = 2

    def tilt(self, moments: ExponentialTails, pairs: Pairs, log_each: Tensor | None) -> BoxTilt:
        """Slopes, diagonals and rates for levels that fail with probability exp(log_each) (Q,), or for tails."""
        tilt = BoxTilt(torch.zeros_like(pairs.g), torch.zeros_like(pairs.box), torch.zeros_like(pairs.constant))
        kinds = moments.kind[pairs.box]
        for k in range(len(moments.diagonals)):
            for rows in torch.split((kinds == k).nonzero()[:, 0], pairs.at_once):
                forms = SingleForms(moments, k, pairs[rows], None if log_each is None else log_each[rows])
                tilt.which[rows] = forms.which
                tilt.alpha[rows], tilt.rate[rows] = forms.tilted(self.steps)
        return tilt


class SingleForms:
    """Q forms over boxes that split the same directions, about, in single precision: that takes a third of the time.

    Coefficients g_j are in units of 1 / ||a_j||, forms in units of what is largest in them, of deviation 1.

    Attributes:
        which: (Q,) of the diagonals known what promises each form the least variance.
    """

    def __init__(self, moments: ExponentialTails, kind: int, pairs: Pairs, log_each: Tensor | None) -> None:
        local, box, n0 = moments.local, pairs.box, pairs.g.shape[1]
        first = int((moments.kind == kind).nonzero()[0, 0])
        split, length = moments.region.boxes.split[first].double(), moments.longest[first].clamp_min(_SMALLEST)
        along = local.components[:n0] * split / length[:, None]
        gram = local.gram[:n0, :n0] / length / length[:, None] - along @ along.t()
        own = pairs.products.components[:, 0] * split
        norm = (pairs.products.squared[:, 0] - (own * own).sum(1)).clamp_min(0.0).sqrt()
        weight = pairs.g * length
        scale = torch.cat([norm[:, None], weight.abs()], 1).amax(1, keepdim=True).clamp_min(_SMALLEST)
        weight = weight / scale
        exponents = moments.powers[kind]
        known = exponents.isfinite().all(1)
        cost = (weight * weight) @ torch.where(known[:, None], exponents, 0.0).t()
        self.which = torch.where(known, cost, torch.inf).argmin(1)
        centre = moments.centre / (moments.sigma[:, None] * length)
        share, mean, variance = bends(centre)
        self.scale = scale[:, 0] * moments.sigma[box]
        self.gram, self.weight, self.norm = gram.float(), weight.float(), (norm / scale[:, 0]).float()
        self.inner = ((pairs.inner / length - own @ along.t()) / scale).float()
        self.centre, self.share = centre.float()[box], share.float()[box]
        self.lifted = exponents.float()[self.which] * self.weight
        self.curved = self.lifted * self.weight
        self.noise = (self.curved * variance.float()[box]).sum(1)
        self.distance = None if log_each is None else (-2.0 * log_each).sqrt().float()
        if log_each is None:
            a, b = (t[box] for t in moments.region.ends)
            middle = pairs.constant + (own * (a + b)).sum(1) / 2
            self.middle = (middle / self.scale + (weight * mean[box]).sum(1)).float()
            self.half = ((b - a) / 2 / moments.sigma[box][:, None]).float()
            self.held, self.along = (own / scale).float(), along.float()

    def tilted(self, steps: int) -> tuple[Tensor, Tensor]:
        """Slopes (Q, n0) and rates (Q,) after so many steps."""
        # p = 1, the true law, is near enough to begin with, and moves the slopes less
        alpha, power = self.share, self.weight
        rate, met = self._rate(alpha)
        for _ in range(1 + steps):
            alpha = (alpha + self._shares(alpha, rate, met, power)) / 2
            rate, met = self._rate(alpha)
            power = self.lifted
        return alpha.double(), rate.double() / self.scale

    def _rate(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Rates (Q,) at which Gaussian forms with these slopes move as far as asked, or have the least moment;
        and by how much a rate of 1 moves each z_j (Q, n0)."""
        linear = self.weight * alpha
        met = torch.addmm(self.inner, linear, self.gram)
        bends = alpha * (self.curved * (alpha - 2.0 * self.share))
        variance = self.norm**2 + self.noise + (linear * (self.inner + met) + bends).sum(1)
        deviation = variance.clamp_min(1e-12).sqrt()
        if self.distance is not None:
            return self.distance / deviation, met
        mean = self.middle - ((self.held + linear @ self.along).abs() * self.half).sum(1)
        return mean.clamp_min(1e-9 * deviation) / deviation**2, met

    def _shares(self, alpha: Tensor, rate: Tensor, met: Tensor, power: Tensor) -> Tensor:
        """(Q, n0) the shares of z_j > 0 at which the moment is stationary."""
        rate = math.sqrt(0.5) * rate[:, None]
        theta = -rate * power
        low = math.sqrt(0.5) * self.centre - rate * met - theta * alpha
        high = low + theta
        above, below = torch.erfc(-high), torch.erfc(low)
        share = above / (above + below * (low * low - high * high).exp())
        return torch.where(share.isnan(), alpha, share)


def bends(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P(z > 0), and mean and variance of relu(z), z normal with mean x and variance 1."""
    share, density = torch.special.ndtr(x), torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    near = x.clamp(-_FAR, _FAR)
    mean = near * share + density
    return share, x * share + density, (near * near + 1.0) * share + near * density - mean * mean
