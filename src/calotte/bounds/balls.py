"""Balls around points of noise: where the margins stay positive within a distance of each, for a batch of points.

On the good event G of a `Local` the network is that of its unstable units. Around a point y the linear part of unit
i lies within t ||a_i|| of its value at y, whatever else is known, so that back-substitution through the few unstable
units, with bounds on them that hold in G and within t of y, says whether an error in G can be so near. Nothing is
assumed of y itself: it need not lie in G.
"""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.bounds.local import Local
from calotte.bounds.relaxation import relaxed_lines
from calotte.rounding import VALUE_SLACK, gamma

__all__ = ["free_within"]


def free_within(local: Local, points: Tensor, distance: Tensor) -> Tensor:
    """Whether every point of G within `distance` of a point has all margins positive: bool (B,).

    Args:
        local: the network on G.
        points: (B, n) coordinates in the system of `local.normal`; distance: (B,) in the units of the noise.
    """
    values = points @ local.normal.t() + local.constant
    far = (points.norm(dim=1) / local.radius).clamp_min(1.0)[:, None]  # beyond the radius of G sums may be larger
    size = local.magnitude * far
    low, high = (t.expand(len(points), -1).clone() for t in (local.low, local.high))
    lines = torch.zeros(3, *low.shape, dtype=torch.float64)
    for group in local.groups:
        own = torch.arange(group.start, group.stop)
        n = len(own)
        signs = torch.tensor([1.0, -1.0]).double().repeat_interleave(n)
        least = _least(local, values, size, lines, own.repeat(2), signs, distance)
        low[:, group] = torch.maximum(low[:, group], least[:, :n])
        high[:, group] = torch.minimum(high[:, group], -least[:, n:])
        # in a ball that misses G the bounds cross: any line will do
        high[:, group] = torch.maximum(low[:, group], high[:, group])
        lines[:, :, group] = torch.stack(relaxed_lines(low[:, group], high[:, group]))
    margins = local.margins
    least = _least(local, values, size, lines, margins, torch.ones(len(margins), dtype=torch.float64), distance)
    return (least > 0).all(1)


def _least(
    local: Local, values: Tensor, size: Tensor, lines: Tensor, own: Tensor, signs: Tensor, distance: Tensor
) -> Tensor:
    """Lower bounds (B, R) on signs times the units `own` within the distance of the points, rounded down.

    Args:
        values: (B, N + C) linear parts at the points; size: (B, N + C) of everything that they are summed from.
        lines: (3, B, N) of `relaxed_lines`, for the units before.
    """
    n_units = local.units
    before = int(own.min()) if len(own) else 0
    groups = [group for group in local.groups if group.stop <= before]
    n = groups[-1].stop if groups else 0
    met = (signs[:, None] * local.weight[own, :n]).expand(len(values), -1, -1).clone()
    linear = torch.zeros_like(met)
    constant = torch.zeros(met.shape[:2], dtype=torch.float64)
    for group in reversed(groups):
        here = met[:, :, group]
        below, above, intercept = (t[:, None, group] for t in lines)
        slope = torch.where(here > 0, below, above)
        constant = constant + (here.clamp_max(0.0) @ intercept.transpose(1, 2))[:, :, 0]
        linear[:, :, group] = here * slope
        met[:, :, : group.start] += linear[:, :, group] @ local.weight[group, : group.start]
    moved = linear.abs()
    constant = constant + signs * values[:, own] + (linear @ values[:, :n, None])[:, :, 0]
    doubt = (moved @ local.error[:n]) + local.error[own]
    terms = gamma(8 * n_units + local.normal.shape[1] + 64)
    doubt = doubt + terms * ((met.abs() @ size[:, :n, None])[:, :, 0] + size[:, own])
    gram = local.gram
    square = ((linear @ gram[:n, :n]) * linear).sum(2) + 2.0 * signs * (linear * gram[own, :n]).sum(2)
    square = square + gram.diagonal()[own]
    spread = moved @ local.length[:n] + local.length[own]
    norm = (square.clamp_min(0.0) + terms * spread * spread).sqrt()
    least = constant - (doubt + distance[:, None] * norm) * (1.0 + gamma(8))
    least = least - gamma(8) * (constant.abs() + least.abs()) - VALUE_SLACK
    return torch.where(least.isnan(), -torch.inf, least)
