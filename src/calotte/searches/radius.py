"""The radius: how far around an input the relaxation proves that the answer does not change."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotte.deadline import OutOfTime
from calotte.proofs.event import relaxed_margins
from calotte.proofs.support import Support
from calotte.query import Query

__all__ = ["relaxed_radius"]


def relaxed_radius(query: Query, start: Tensor, steps: int = 12) -> Tensor:
    """A radius (B,) around each input within which the answer is proved not to change; 0 where none is found.

    The largest for which `relaxation` proves p = 0 is searched by doubling from `start` (B,) and bisection, as long
    as the deadline allows; every radius returned was itself proved. In the space of the query, which should have
    no noise map.
    """

    def holds(radius: Tensor) -> Tensor:
        margins, _ = relaxed_margins(query, Support(radius, -math.inf))
        return (query.margins.cases.kept(margins.distances()) >= radius[:, None]).all(1)

    low, high = torch.zeros_like(start), start.clamp(1e-6, 1e6)
    growing = torch.ones(len(start), dtype=torch.bool)
    try:
        for _ in range(40):
            growing &= holds(high)
            if not growing.any():
                break
            low, high = torch.where(growing, high, low), torch.where(growing, 2 * high, high)
        for _ in range(steps):
            middle = (low + high) / 2
            fine = holds(middle)
            low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    except OutOfTime:
        pass  # what was found holds
    return low
