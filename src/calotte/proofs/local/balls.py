"""Balls around points of noise: where the margins stay positive within a distance of each, for a batch of points.

On the good event G a `LocalNetwork` is the network. Around a point y the linear part of unit i lies within t ||a_i||
of its value at y, whatever else is known, so that back-substitution through the few unstable units, with bounds on
them that hold in G and within t of y, says whether an error in G can be so near. Nothing is assumed of y itself: it
need not lie in G.
"""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.proofs.chooser import Recorded
from calotte.proofs.local.evaluate import relaxed
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.local.regions import InBalls
from calotte.proofs.price import FREE
from calotte.rounding import raised

__all__ = ["free_within"]


def free_within(local: LocalNetwork, points: Tensor, distance: Tensor) -> Tensor:
    """Whether at every point of G within `distance` of a point enough margins are positive: bool (B,).

    Args:
        local: the network on G.
        points: (B, n) in the system of `local.normal`, in the units of the noise, not of its size; distance: (B,).
    """
    balls = InBalls(local, points / local.scale, raised(distance / local.scale, 4))
    free = torch.full((len(points), local.units), FREE)
    units = relaxed(balls, None, Recorded({k: free[:, group] for k, group in enumerate(local.groups)}), None)
    return local.cases.holding(balls.rest(local.margin_rows(units.lines)).lowest(balls.farthest[:, None]))
