"""What is found over boxes of the noise: forms, bounds on units, bounds on the margins, and hints to improve them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from calotte.bounds.boxes import Boxes
from calotte.bounds.union import log_sum_up
from calotte.rounding import VALUE_SLACK, gamma

if TYPE_CHECKING:
    from calotte.bounds.local import Local
    from calotte.bounds.tails import Moments

__all__ = ["Evaluation", "Rows", "Units", "hints", "lowest"]


@dataclass(frozen=True)
class Evaluation:
    """Bounds over L boxes, and hints where they could be improved.

    Attributes:
        log_bound: (L,) upper bounds on log P(error, u in the box, G).
        log_margins, log_price: (L,) its two parts, the half-spaces of the margins and the good event of the box.
        impact: (L, 2, N) what more height for the lower and upper bounds of each unit takes from the worst margin.
        gain: (L, K) what cutting along each direction could give it back.
    """

    log_bound: Tensor
    log_margins: Tensor
    log_price: Tensor
    impact: Tensor
    gain: Tensor


@dataclass(frozen=True)
class Rows:
    """Linear functions w.(a_i) . u + constant below R values, for L boxes.

    Attributes:
        middle: (L, R) the constant as computed; doubt: (L, R) bound on its error and that of the coefficients.
        linear: (L, R, N) coefficients w of the units' a_i; own: (R,) the form that each row starts from, sign (R,).
        read: (L, R, N) coefficients of the units' activations met on the way.
        before: (L, R) `middle` had the first group not been relaxed.
    """

    middle: Tensor
    before: Tensor
    doubt: Tensor
    linear: Tensor
    read: Tensor
    own: Tensor
    sign: Tensor

    @property
    def constant(self) -> Tensor:
        """(L, R) rounded down."""
        return self.middle - self.doubt


@dataclass(frozen=True)
class Units:
    """Bounds on all units over L boxes.

    Attributes:
        low, high: (L, N); lines: (3, L, N) of `relaxed_lines`.
        log_each: (L, 2 N) logarithms of the prices of half-spaces that were used, given the box.
        moments: of the boxes.
        forms: for each group what its rows take from earlier units' activations (L, 2 n, .), their components
            (L, n, K) and norms (L, n).
    """

    low: Tensor
    high: Tensor
    lines: Tensor
    log_each: Tensor
    moments: Moments
    forms: list[tuple[Tensor, Tensor, Tensor]]

    def log_price(self, log_box: Tensor) -> Tensor:
        """(L,) log P(u in the box, a half-space used is violated), rounded up."""
        price = log_box[:, None] + self.log_each
        price = torch.where(price.isfinite(), price + gamma(8) * (1.0 + price.abs()), -torch.inf)
        return log_sum_up(torch.cat([price, torch.full_like(log_box, -torch.inf)[:, None]], 1))


def lowest(least: Tensor, norm: Tensor, height: Tensor) -> Tensor:
    """least - height norm, rounded down; -inf where that is undefined."""
    value = least - height * norm * (1.0 + gamma(8))
    value = value - gamma(8) * (least.abs() + value.abs()) - VALUE_SLACK
    return torch.where(value.isnan(), -torch.inf, value)


def hints(
    local: Local, boxes: Boxes, units: Units, rows: Rows, components: Tensor, worst: Tensor
) -> tuple[Tensor, Tensor]:
    """`impact` and `gain` of an Evaluation, for the margin `worst` (L,) of each box."""
    count = len(boxes)
    read = rows.read[torch.arange(count), worst]
    low, high = units.low, units.high
    loss = torch.where(read < 0, -read * units.lines[2], read * torch.minimum(high, -low))
    loss = torch.where((low < 0) & (high > 0), loss / (high - low), 0.0)
    influence = -read.clamp_max(0.0)
    impact = torch.zeros(count, 2, local.units, dtype=torch.float64)
    half = local.half_widths(boxes)
    gain = components[torch.arange(count), worst].abs() * half
    for group, (taken, along, norm) in reversed(list(zip(local.groups, units.forms, strict=True))):
        a, b = low[:, group], high[:, group]
        width = (b - a).clamp_min(1e-300)
        share = torch.stack([(b / width).clamp(0.0, 1.0) ** 2, (a / width).clamp(-1.0, 0.0) ** 2], 1)
        effect = influence[:, None, group] * share
        influence[:, : group.start] += (effect.flatten(1)[:, None] @ taken)[:, 0]
        impact[:, :, group] = effect * norm[:, None]
        free = 2.0 * local.sigma * along**2 / norm[:, :, None].clamp_min(1e-300)
        moved = torch.where(boxes.split[:, None], along.abs() * half[:, None], free)
        gain = gain + (loss[:, group, None] * moved).sum(1)
    return impact, gain
