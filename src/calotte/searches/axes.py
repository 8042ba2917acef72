"""Axes: the directions along which the noise near an input is cut into boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.proofs.local.network import LocalNetwork

__all__ = ["axes"]


def axes(local: LocalNetwork, most: int = 6, few: int = 1) -> Tensor:
    """(n, K) orthonormal directions to cut along: those along which the units that may change sign move together.

    Leading right singular vectors of the units' linear parts at u = 0, weighted by what the units mean for the
    margins and by how near they are to changing sign; units of the first layer count only where there are no others.
    All of R^n where n is `most` or less, `few` of them else.
    """
    n_units, n = local.units, local.normal.shape[1]
    linear, value = local.normal.clone(), local.constant.clone()
    for group in local.groups:
        active = (value[: group.start] > 0).double()
        linear[group] += (local.weight[group, : group.start] * active) @ linear[: group.start]
        value[group] += local.weight[group, : group.start] @ value[: group.start].clamp_min(0.0)
    influence = local.weight[n_units:].clone()
    for group in reversed(local.groups):
        active = (value[group] > 0).double()
        influence[:, : group.start] += (influence[:, group] * active) @ local.weight[group, : group.start]
    deviation = (linear[:n_units].norm(dim=1) * local.sigma).clamp_min(1e-300)
    near = torch.exp(-0.5 * (value[:n_units] / (2.0 * deviation)) ** 2)
    rows = (near * influence.abs().amax(0))[:, None] * linear[:n_units]
    rows = rows[local.groups[0].stop if len(local.groups) > 1 else 0 :]
    rows = torch.where(rows.isfinite().all(), rows, torch.zeros_like(rows))
    small = n <= most
    directions: Tensor = torch.linalg.svd(rows, full_matrices=small)[2]
    return directions[: n if small else few].t().contiguous()
