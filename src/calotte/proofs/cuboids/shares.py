"""Shares: how much of a cuboid lies in a half-space, in coordinates that are uniform and independent.

The part of the unit cube with b.v <= y is sum_J (-1)^|J| (y - sum_J b)_+^m / (m! prod b), over all sets J of
coordinates. Coefficients are made multiples of 2^-24, and large enough to divide by; how far that moves b.v at most
moves y. Then all but powers, their sum and the quotient is exact.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from calotte.network.margins import Cases
from calotte.rounding import UNIT_ROUNDOFF, dot_error, raised

__all__ = ["below_zero", "less", "occurring"]

_LEAST = 2.0**-10  # of the sum of all coefficients: smaller ones are made as large
_FINE, _FINER = 2.0**24, 2.0**40
_MOST = 8  # dimensions up to which 2^m terms are worth it


def below_zero(normal: Tensor, constant: Tensor) -> Tensor:
    """Upper bounds (...) on P(normal . t + constant <= 0), t uniform in [-1, 1]^m, for normals (..., m)."""
    m = normal.shape[-1]
    total = normal.abs().sum(-1)
    never = constant > raised(total, m + 4)
    if m > _MOST:
        return torch.where(never, 0.0, 1.0)
    given = normal.abs() / total[..., None]
    b = ((given * _FINE).ceil() / _FINE).clamp_min(_LEAST)
    whole = b.sum(-1)  # exact
    moved = (b - given).sum(-1) + dot_error(m, 16)
    height = -constant / total
    y = (height + whole + moved) / 2
    y = raised_to_grid(y + dot_error(height.abs() + whole + moved + 1.0, 8))
    mirrored = 2 * y > whole
    near = torch.where(mirrored, whole - y, y).clamp_min(0.0)
    value, error = corner(b, near)
    share = torch.where(mirrored, 1.0 - (value - error).clamp_min(0.0) + UNIT_ROUNDOFF, value + error)
    share = torch.where(share.isfinite(), share, 1.0).clamp(0.0, 1.0)
    return torch.where(never | (y <= 0), 0.0, torch.where(y >= whole, 1.0, share))


def raised_to_grid(y: Tensor) -> Tensor:
    """The next multiples of 1 / _FINER; those far from [0, 2 m] as they are."""
    return torch.where(y.abs() < 2.0**10, (y * _FINER).ceil() / _FINER, y)


def corner(b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The share (...) of the unit cube with b.v <= y, and a bound on its error.

    Args:
        b: (..., m) positive multiples of 1 / _FINE, below 2; y: (...) of 1 / _FINER, from 0 to half of b's sum.
    """
    m = b.shape[-1]
    subsets = torch.tensor(list(itertools.product([0.0, 1.0], repeat=m)), dtype=torch.float64)
    beyond = (y[..., None] - b @ subsets.t()).clamp_min(0.0)  # exact
    powers = beyond
    for _ in range(m - 1):
        powers = powers * beyond
    divisor = math.factorial(m) * b.prod(-1)
    error = dot_error(powers.sum(-1), 2**m + 4 * m + 16) / divisor
    return powers @ (-1.0) ** subsets.sum(1) / divisor, raised(error, 16)


def occurring(cases: Cases, most: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds (L,) from above and from below on the probability of an event, by those (L, C) that its forms fail."""
    counted = -cases.kept(-most)  # of each case the likeliest are left out
    above = raised(counted.clamp_min(0.0).sum(1), counted.shape[1] + 4).clamp_max(1.0)
    each = []
    for case, part in zip(cases.each, cases.parts(least), strict=True):
        missed = 1.0 - part.topk(case.needed, 1).values
        each.append(less(raised(missed.sum(1), case.needed + 8)))
    return above, torch.stack(each, 1).amax(1)


def less(share: Tensor) -> Tensor:
    """1 - share, rounded down; 0 or more, and 1 where the share is 0."""
    return torch.where(share == 0, 1.0, (1.0 - share - UNIT_ROUNDOFF).clamp_min(0.0))
