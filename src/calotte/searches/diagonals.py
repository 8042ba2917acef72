"""Diagonals that may dominate the Gram matrix of first-layer units, for the rows that read them.

What is proposed here `proofs.moments` scales up until a Cholesky decomposition has verified it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.proofs.local.network import LocalNetwork
from calotte.searches.exponents import least

__all__ = ["least_diagonals", "shapes"]

_MOST_ROWS, _MOST_ENTRIES = 128, 2e6  # that are given exponents of their own: rows, entries of their matrices


def shapes(local: LocalNetwork, correlation: Tensor, longest: Tensor) -> Tensor:
    """(K, n) diagonals up to factors: all the same, and the least for the rows of the second group, some of them.

    Args:
        correlation: (n, n) of the first group's units; longest: (n,) their norms.
    """
    rows = local.groups[1] if len(local.groups) > 1 else slice(local.units, None)
    most = min(_MOST_ROWS, int(_MOST_ENTRIES / (len(longest) ** 2 + 1)))
    importance = (local.weight[rows, : len(longest)][:most] * longest) ** 2
    return torch.cat([torch.ones(1, len(longest), dtype=torch.float64), least_diagonals(correlation, importance)])


def least_diagonals(correlation: Tensor, importance: Tensor) -> Tensor:
    """(R, n) diagonals D, up to a factor, near the least sum_j importance_j D_j with diag(D) >= correlation."""
    d = least(lambda v: correlation @ v, importance).clamp_min(1e-300)
    return d / d.amin(1, keepdim=True)
