"""Proposals of exponents for Hölder's inequality: small where it matters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.sparse import linalg
from torch import Tensor

from calotte.proofs.exponents import Exponents, Group, verified, verified_each
from calotte.proofs.first import FirstLayer

__all__ = ["exponents", "exponents_each", "least"]

_STEPS, _RANK = 30, 6
_UNIMPORTANT = 0.2  # share of the importance that is spread over all units
_SMALLEST = 1e-12  # of them, before they are scaled up
_ROOM = 1e-4  # above the least multiple that will do, as computed


def exponents(first: FirstLayer, importance: Tensor) -> Exponents | None:
    """Exponents with about the least sum of importance_j p_j, importance (n,); None where none were verified."""
    if not first.units:
        return verified(first, importance)
    power = least(lambda v: first.products(v[0].t(), None)[0].t()[None], importance[None])[0].clamp_min(_SMALLEST)
    root = power.rsqrt().numpy()

    def product(x: object) -> object:
        return root * first.products(torch.from_numpy((root * x).reshape(1, -1)), None)[0].numpy()[0]

    n = first.units
    largest = float(n)
    if n > 2:
        operator = linalg.LinearOperator((n, n), matvec=product, dtype=root.dtype)
        start = torch.ones(n, dtype=torch.float64).numpy()
        try:
            largest = linalg.eigsh(operator, 1, which="LA", v0=start, tol=1e-6, return_eigenvectors=False)[0]
        except linalg.ArpackError:
            return None
    for room in (_ROOM, 30 * _ROOM, 1.0):
        found = verified(first, power * (largest * (1.0 + room)))
        if found is not None:
            return found
    return None


def exponents_each(first: FirstLayer, group: Group, importance: Tensor) -> Exponents:
    """As `exponents`, for each form's own units, importance (R, n)."""
    power = least(lambda v: group.gram @ v, importance).clamp_min(_SMALLEST)
    root = power.rsqrt()
    scaled = group.gram * root[:, :, None] * root[:, None, :]
    largest = torch.linalg.eigvalsh(scaled)[:, -1:]
    return verified_each(first, group, power * largest * (1.0 + _ROOM))


def least(product: Callable[[Tensor], Tensor], importance: Tensor) -> Tensor:
    """(R, n) p, up to a factor, near the least sum of importance_j p_j under diag(p) >= R.

    By the dual problem: the largest tr(R X) for X = V V', X_jj = importance_j, R the inner products of the
    directions, V of low rank (Burer and Monteiro, 2003). Linearisation only ever raises it, and p_j =
    |(R V)_j| / |V_j| where it ends.

    Args:
        product: of R with some V (R, n, rank); importance: (R, n).
    """
    count, n = importance.shape
    share = importance / importance.sum(1, keepdim=True).clamp_min(1e-300) + _UNIMPORTANT / n
    length = share.sqrt()[:, :, None]
    v = torch.randn(count, n, _RANK, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for _ in range(_STEPS):
        v = product(length * v / v.norm(dim=2, keepdim=True).clamp_min(1e-300))
    power: Tensor = v.norm(dim=2) / length[:, :, 0]
    return power
