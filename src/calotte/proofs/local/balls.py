"""Balls around points of noise: where the margins stay positive within a distance of each, for a batch of points.

On the good event G a `LocalNetwork` is the network. Around a point y the linear part of unit
i lies within t ||a_i|| of its value at y, whatever else is known, so that back-substitution through the few unstable
units, with bounds on them that hold in G and within t of y, says whether an error in G can be so near. Nothing is
assumed of y itself: it need not lie in G.
"""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.local.rows import LocalRows, lowest
from calotte.proofs.relaxation.backward import relaxed_lines
from calotte.rounding import dot_error, raised

__all__ = ["free_within"]


def free_within(local: LocalNetwork, points: Tensor, distance: Tensor) -> Tensor:
    """Whether at every point of G within `distance` of a point enough margins are positive: bool (B,).

    Args:
        local: the network on G.
        points: (B, n) in the system of `local.normal`, in the units of the noise, not of its size; distance: (B,).
    """
    points, distance = points / local.scale, raised(distance / local.scale, 4)
    values = points @ local.normal.t()
    far = raised(points.norm(dim=1)[:, None], points.shape[1] + 4)
    everywhere = Boxes.whole(local.directions.shape[1]).repeated(len(points))

    def least(rows: LocalRows) -> Tensor:
        """Lower bounds (B, R) on the rows within the distance of the points, rounded down."""
        n = rows.linear.shape[2]
        constant, _, norm, _ = local.over(everywhere, rows)
        moved = (rows.linear @ values[:, :n, None])[:, :, 0] + rows.sign * values[:, rows.own]
        spread = rows.linear.abs() @ local.length[:n] + local.length[rows.own]
        moved = moved - raised(dot_error(spread, n + points.shape[1] + 16) * far, n + 8)
        moved = moved - dot_error(constant.abs() + moved.abs(), 4)
        return lowest(constant + moved, norm, distance[:, None])

    low, high = (t.expand(len(points), -1).clone() for t in (local.low, local.high))
    lines = torch.zeros(3, *low.shape, dtype=torch.float64)
    for group in local.groups:
        own = torch.arange(group.start, group.stop)
        n = len(own)
        ends = least(local.pull_back(own.repeat(2), torch.tensor([1.0, -1.0]).double().repeat_interleave(n), lines))
        low[:, group] = torch.maximum(low[:, group], ends[:, :n])
        high[:, group] = torch.minimum(high[:, group], -ends[:, n:])
        # in a ball that misses G the bounds cross: any line will do
        high[:, group] = torch.maximum(low[:, group], high[:, group])
        lines[:, :, group] = torch.stack(relaxed_lines(low[:, group], high[:, group]))
    ones = torch.ones(len(local.margins), dtype=torch.float64)
    return local.cases.holding(least(local.pull_back(local.margins, ones, lines)))
