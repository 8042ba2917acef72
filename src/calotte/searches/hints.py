"""Hints: which heights and which cuts of boxes could make a bound smaller."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.evaluate import Evaluation
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.local.regions import InBoxes

__all__ = ["Found", "hinted"]


@dataclass(frozen=True)
class Found:
    """Bounds over L boxes, and hints where they could be improved.

    Attributes:
        log_bound: (L,) upper bounds on log P(error, u in the box, G).
        log_margins, log_price: (L,) its two parts: the margins, and the good event of the box with what soft ends are
            missed by.
        impact: (L, 2, N) what more height for the lower and upper bounds of each unit takes from the worst margin.
        gain: (L, K) what cutting along each direction could give it back.
    """

    log_bound: Tensor
    log_margins: Tensor
    log_price: Tensor
    impact: Tensor
    gain: Tensor


def hinted(local: LocalNetwork, boxes: Boxes, found: Evaluation) -> Found:
    """An evaluation of boxes with hints, for the worst margin of each box."""
    units, rows, components, worst = found.units, found.rows, found.components, found.worst
    count = len(boxes)
    read = rows.read[torch.arange(count), worst]
    low, high = units.low, units.high
    loss = torch.where(read < 0, -read * units.lines[2], read * torch.minimum(high, -low))
    loss = torch.where((low < 0) & (high > 0), loss / (high - low), 0.0)
    influence = -read.clamp_max(0.0)
    impact = torch.zeros(count, 2, local.units, dtype=torch.float64)
    half = InBoxes(local, boxes).half_widths
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
    return Found(found.log_bound, found.log_margins, found.log_price, impact, gain)
