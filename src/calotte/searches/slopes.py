"""Slopes and rates for exponential moments: towards the law that a failure would take the units to.

For a given rate the moment is stationary where alpha_j is the share of z_j > 0 in E exp(-p_j rate g_j e_j(z_j)): the
bends e_j are then flat in the mean at the tilted law (docs/ladder.md). A few damped steps of that fixed point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.proofs.local.tilted import BoxTilt, ExponentialTails, Pairs, TiltedForms

__all__ = ["Tilting"]


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
        which = least_variance(moments, pairs)
        power = moments.power(pairs.box, which)
        parts = _parts(moments)
        wanted: Callable[[TiltedForms], Tensor]
        if log_each is None:

            def wanted(form: TiltedForms) -> Tensor:
                """Rates (Q,) at which a Gaussian form would have the least E exp(-rate F)."""
                deviation = _deviation(moments, form, power, parts)
                mean = form.least + (pairs.g * _bends(moments, form, parts)[0]).sum(1)
                return mean.clamp_min(1e-9 * deviation) / deviation**2
        else:
            distance = (-2.0 * log_each).sqrt()

            def wanted(form: TiltedForms) -> Tensor:
                return distance / _deviation(moments, form, power, parts)

        start = torch.special.ndtr(moments.centre / moments.deviation).clamp(0.0, 1.0)
        form = moments.form(pairs, start[pairs.box])
        # p = 1, the true law, is near enough to begin with, and moves the slopes less
        form = moments.form(pairs, _between(moments, form, wanted(form), torch.ones_like(power)))
        for _ in range(self.steps):
            form = moments.form(pairs, _between(moments, form, wanted(form), power))
        return BoxTilt(form.alpha, which, wanted(form))


def least_variance(moments: ExponentialTails, pairs: Pairs) -> Tensor:
    """(Q,) of the diagonals known what promises each form the least variance."""
    which = torch.zeros(len(pairs.box), dtype=torch.int64)
    weight = (pairs.g * moments.longest[pairs.box]) ** 2
    for k, known in enumerate(moments.diagonals):
        here = moments.kind[pairs.box] == k
        relative = known / moments.longest[moments.kind == k][0] ** 2
        found = known.isfinite().all(1)
        cost = weight[here] @ torch.where(found[:, None], relative, 0.0).t()
        which[here] = torch.where(found, cost, torch.inf).argmin(1)
    return which


def _between(moments: ExponentialTails, form: TiltedForms, rate: Tensor, power: Tensor) -> Tensor:
    """Slopes (Q, n0) between those of a form and the shares at which the moment is stationary."""
    box, alpha = form.pairs.box, form.alpha
    mean = moments.centre[box] - (rate * moments.sigma[box] ** 2)[:, None] * form.inner
    theta = -power * rate[:, None] * form.pairs.g
    deviation = moments.deviation[box]
    logs = []
    for slope, side in ((theta * (1.0 - alpha), 1.0), (-theta * alpha, -1.0)):
        shift = slope * deviation
        part = torch.special.ndtr(side * (mean / deviation + shift))
        logs.append(slope * mean + 0.5 * shift * shift + (part + 1e-300).log())
    share = torch.sigmoid(logs[0] - logs[1])
    return torch.where(share.isnan(), alpha, (alpha + share) / 2)


def _deviation(moments: ExponentialTails, form: TiltedForms, power: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
    """Standard deviations (Q,) of forms, about."""
    noise = (form.pairs.g**2 * power * _bends(moments, form, parts)[1]).sum(1)
    return (form.norm**2 * moments.sigma[form.pairs.box] ** 2 + noise).sqrt().clamp_min(1e-290)


def _bends(moments: ExponentialTails, form: TiltedForms, parts: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """(Q, n0) means and variances of e_j(z_j), about."""
    box, alpha = form.pairs.box, form.alpha
    share, mean, square = (t[box] for t in parts)
    variance = moments.deviation[box] ** 2
    spread = square - mean * mean + alpha * (alpha - 2.0 * share) * variance
    return mean - alpha * moments.centre[box], spread.clamp_min(0.0)


def _parts(moments: ExponentialTails) -> tuple[Tensor, Tensor, Tensor]:
    """(L, n0) P(z_j > 0), and mean and mean square of relu(z_j), about."""
    x = moments.centre / moments.deviation
    density = torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    share = torch.special.ndtr(x)
    return (
        share,
        moments.deviation * (x * share + density),
        moments.deviation**2 * ((x * x + 1.0) * share + x * density),
    )
