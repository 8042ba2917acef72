"""Diagonals that may dominate the Gram matrix of first-layer units, for the rows that read them.

What is proposed here `proofs.moments` scales up until a Cholesky decomposition has verified it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.proofs.local.network import LocalNetwork
from calotte.searches.exponents import least

__all__ = ["least_diagonals", "shapes"]

_MOST = 24  # kinds of rows that are given exponents of their own
_ENTRIES = 2e6  # of the matrices of exponents, at most
_LLOYD = 6  # steps by which kinds of rows are found


def shapes(local: LocalNetwork, correlation: Tensor, longest: Tensor) -> Tensor:
    """(K, n) diagonals up to factors: all the same, and the least for kinds of rows of the second group, and margins.

    On `256x4`, image 1 at eps 3.95, log p is at most -8.5 with 24 kinds, -8.7 with 128 of them in four times
    the time, and -7.6 with the first 128 rows and not the margins.

    Args:
        correlation: (n, n) of the first group's units; longest: (n,) their norms.
    """
    rows = local.groups[1] if len(local.groups) > 1 else slice(local.units, None)
    importance = (local.weight[rows, : len(longest)] * longest) ** 2
    some = kinds(importance, min(_MOST, int(_ENTRIES / (len(longest) ** 2 + 1))))
    some = torch.cat([some, (margins(local)[:, : len(longest)] * longest) ** 2])
    return torch.cat([torch.ones(1, len(longest), dtype=torch.float64), least_diagonals(correlation, some)])


def kinds(importance: Tensor, most: int) -> Tensor:
    """(K, n) what is important on average to rows that are alike, `most` kinds of them or fewer; of rows (R, n)."""
    share = importance / importance.sum(1, keepdim=True).clamp_min(1e-300)
    if len(share) <= most:
        return share
    root = share.sqrt()
    centres = root[:most]  # any to begin with: rows far from all others are not kinds
    for _ in range(_LLOYD):
        nearest = (root @ centres.t()).argmax(1)
        of_kind = torch.nn.functional.one_hot(nearest, len(centres)).double().t()
        of_kind = of_kind[of_kind.sum(1) > 0]
        centres = ((of_kind @ share) / of_kind.sum(1, keepdim=True)).sqrt()
    return centres**2


def margins(local: LocalNetwork) -> Tensor:
    """(C, N) by what margins move with the units, about: each in between counts as often as it is active."""
    value, moved = local.constant.clone(), local.weight[local.units :].clone()
    for group in local.groups:
        value[group] += local.weight[group, : group.start] @ value[: group.start].clamp_min(0.0)
    active = torch.special.ndtr(value / (local.length * local.sigma))
    for group in reversed(local.groups):
        moved[:, : group.start] += (moved[:, group] * active[group]) @ local.weight[group, : group.start]
    return moved


def least_diagonals(correlation: Tensor, importance: Tensor) -> Tensor:
    """(R, n) diagonals D, up to a factor, near the least sum_j importance_j D_j with diag(D) >= correlation."""
    d = least(lambda v: correlation @ v, importance).clamp_min(1e-300)
    return d / d.amin(1, keepdim=True)
