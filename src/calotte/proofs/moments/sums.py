"""Sums of first-layer activations: bounds on E exp(-lambda F), F = c + b.u + sum_j g_j relu(z_j), rounded up.

Under a Gaussian with deviation sigma, for slopes alpha_j in [0, 1] and a = b + sum_j g_j alpha_j a_j,

    log E exp(-lambda F) <= -lambda (c + sum_j g_j alpha_j zeta_j) + lambda^2 sigma^2 ||a||^2 / 2
                            + sum_j log E exp(-p_j lambda g_j e_j(z_j')) / p_j,

e_j(z) = relu(z) - alpha_j z, z_j' being z_j with its mean zeta_j moved by -lambda sigma^2 a.a_j, and p verified
exponents (`exponents`). A Gaussian stands in for sphere and ball (`gaussian`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calotte.cells.products import row_norms
from calotte.proofs.moments.exponents import Exponents, Group
from calotte.proofs.moments.first import FirstLayer
from calotte.proofs.moments.gaussian import MEAN_ERROR, GaussianLaw
from calotte.proofs.moments.tails import log_moment
from calotte.rounding import NORM_SLACK, VALUE_SLACK, dot_error, lowered, raised

__all__ = ["FAR", "Sums", "Tilt", "log_moments"]

FAR = 0.01
"""A unit further than its hundredfold deviation from 0 is given a larger one: logarithms stay accurate."""


@dataclass(frozen=True)
class Sums:
    """R forms c + b.u + sum_j g_j relu(z_j) around one input.

    Attributes:
        first: the units; group: those that each form reads, place by place; None for all.
        value, error: (n,) of all units at x, enclosed; (R, n) where forms have values of their own (`ends`).
        constant: (R,) c, rounded down.
        weight: (R, n) g, exact.
        asked: (R, n) g of all units, where some were left out; None where none were.
        linear: (R, k) b, within `linear_error` (R,) in the Euclidean norm; None for zero.
    """

    first: FirstLayer
    value: Tensor
    error: Tensor
    constant: Tensor
    weight: Tensor
    linear: Tensor | None
    linear_error: Tensor
    group: Group | None = None
    asked: Tensor | None = None

    @property
    def linear_norm(self) -> Tensor:
        """Upper bounds (R,) on ||b||."""
        if self.linear is None:
            return self.linear_error
        return raised(row_norms(self.linear) + self.linear_error, self.linear.shape[1] + 8)

    def of_units(self, values: Tensor) -> Tensor:
        """Values (n,) of all units, or (R, n), as they are met in the forms: (1, n) or (R, n)."""
        if self.group is None:
            return values if values.ndim == 2 else values[None]
        return self.of_forms(values[self.group.index])

    def of_forms(self, values: Tensor) -> Tensor:
        """Values (Q, n) of runs of forms: (R, n); (n,) of all units: (1, n)."""
        return values[None] if values.ndim == 1 else values.repeat_interleave(len(self.weight) // len(values), 0)

    def without(self, aside: Tensor) -> Sums:
        """The same forms without some units, bool (n,)."""
        return replace(self, weight=self.weight.masked_fill(self.of_units(aside), 0.0), asked=self.weight)

    def products(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """As `FirstLayer.products`."""
        if self.group is None:
            return self.first.products(weights, self.linear)
        inner = (self.group.forms(weights) @ self.group.gram).reshape(weights.shape)
        return inner, (inner * weights).sum(1)


@dataclass(frozen=True)
class Tilt:
    """What is proposed: slopes (R, n) in [0, 1] and rates (R,) > 0, not trusted, and exponents, verified."""

    slope: Tensor
    rate: Tensor
    exponents: Exponents


def log_moments(sums: Sums, law: GaussianLaw, tilt: Tilt) -> Tensor:
    """Upper bounds (R,) on log E exp(-rate F), and so on log P(F <= 0); inf where what is proposed is no good."""
    if tilt.exponents.first is not sums.first or tilt.exponents.group is not sums.group:
        return torch.full_like(sums.constant, torch.inf)
    power = sums.of_forms(tilt.exponents.power)
    first, g, slope, rate = sums.first, sums.weight, tilt.slope, tilt.rate[:, None]
    n = g.shape[1]
    centre, doubt = sums.of_units(sums.value), sums.of_units(sums.error)
    longest, shortest = sums.of_units(first.longest), sums.of_units(first.shortest)
    along = g * slope
    weights = along * longest
    inner, squared = sums.products(weights)
    spread = raised(weights.abs().sum(1), n + 4)
    spread = raised(spread + sums.linear_norm, 4)
    off = first.accuracy * spread + sums.linear_error * (1.0 + first.doubt) + NORM_SLACK
    norm = raised((squared.clamp_min(0.0) + first.accuracy * spread * spread).sqrt(), 8) + off
    met = along.abs() * (dot_error(centre.abs(), n + 16) + doubt)
    constant = sums.constant + (along * centre).sum(1) - raised(met.sum(1), n + 8)
    constant = constant - dot_error(sums.constant.abs() + constant.abs(), 8) - VALUE_SLACK

    moved = rate * law.high * law.high * longest
    mean = centre - moved * inner
    theta = -power * rate * g
    rising = theta > 0
    deviation = raised(law.high * longest, 4).expand(mean.shape)
    most = torch.where(rising, torch.maximum(deviation, FAR * mean.abs()), deviation).clamp_min(1e-100)
    # theta is rounded too: the mean of e_j under the tilted law is below |mean| + deviation + |theta| deviation^2
    size = centre.abs() + moved * inner.abs()
    half = doubt + moved * off[:, None] + dot_error(size, 32) + 8.0 * MEAN_ERROR * size
    half = half + dot_error(mean.abs() + most + theta.abs() * most * most, 16)
    value = log_moment(theta, slope, mean, most)[0]
    # a Lipschitz function of the mean; convex in z, so that deviations make it larger, where theta > 0; else
    # log-concave, where n = (z - mean) / deviation has |E n| <= |theta| deviation and variance at most 1
    value = value + raised(theta.abs() * half, 8)
    wide = raised(deviation - lowered(law.low * shortest, 8), 8)
    value = torch.where(rising, value, value + theta.abs() * (1.0 + theta.abs() * deviation) * wide)
    if law.lost > 0:
        steep = raised(-theta * (centre.abs() + doubt), 8)
        width = raised((centre.abs() + doubt) * law.width, 8)
        narrow = lowered(law.low * shortest, 8)
        away = lowered((lowered(mean.abs(), 4) - half - width).clamp_min(0.0) / deviation, 8)
        likely = raised(width / narrow, 8).log() - 0.5 * away * away  # sqrt(2 / pi) < 1
        value = torch.where(rising, value, kinked(value, steep, likely.nan_to_num(0.0).clamp_max(0.0), law))
    value = value / power
    value = value + dot_error(value.abs(), 4)
    # e_j >= 0: where g_j > 0 its term may be left out
    below = torch.where(value.isnan(), 0.0, value.clamp_max(0.0))
    terms = torch.where(g > 0, below, torch.where(g < 0, value, 0.0))

    sigma = rate[:, 0] * norm * law.high
    linear = -rate[:, 0] * constant + 0.5 * sigma * sigma
    size = (rate[:, 0] * constant).abs() + sigma * sigma + terms.abs().sum(1)
    total = linear + terms.sum(1) + dot_error(size + 1.0, n + 32)
    sound = ((slope >= 0) & (slope <= 1) & power.isfinite()).all(1) & (rate[:, 0] > 0) & rate[:, 0].isfinite()
    return torch.where(sound & ~total.isnan(), total, torch.inf)


def kinked(value: Tensor, steep: Tensor, log_near: Tensor, law: GaussianLaw) -> Tensor:
    """The same for what stands in for units where g_j > 0, kinks smoothed: log E exp(theta_j e) (`gaussian`).

    Args:
        value: log E exp(theta_j e_j), an upper bound; steep: -theta_j |zeta_j|, too; log_near: on log P(|z_j'| <= w).
    """
    everywhere = value + raised(steep * law.lost, 4)
    bump = torch.expm1(raised(steep * law.bump, 8)).log()
    near = torch.logaddexp(value, bump + log_near) + steep * law.rest
    near = near + dot_error(1.0 + value.abs() + bump.abs() + log_near.abs() + near.abs(), 16)
    return torch.where(near < everywhere, near, everywhere) + dot_error(everywhere.abs(), 4)
