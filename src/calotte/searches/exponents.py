"""Proposals of exponents for Hölder's inequality: small where it matters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.sparse import linalg
from torch import Tensor

from calotte.proofs.first_layer_moments import short
from calotte.proofs.moments.exponents import Exponents, Group, verified, verified_each
from calotte.proofs.moments.first import FirstLayer

__all__ = ["exponents", "exponents_each", "least"]

_STEPS, _RANK = 30, 6
_UNIMPORTANT = 0.2  # share of the importance that is spread over all units
_SMALLEST = 1e-12  # of them, before they are scaled up
_ROOM = 1e-4  # above the least multiple that will do, as computed
_ROOM_EACH = 1e-3  # the same in float32
_ENTRIES = 2**22  # of the matrices that are looked at together
_MOST_WORK = 4e9  # cubes of the units that forms read, up to which each has exponents of its own: some seconds


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
        found = verified(first, short(power * (largest * (1.0 + room))))
        if found is not None:
            return found
    return None


def exponents_each(first: FirstLayer, group: Group, importance: Tensor) -> Exponents:
    """As `exponents`, for each form's own units, importance (R, n); the same for the forms of a place if costly."""
    each = group.forms(importance)
    shares = each / each.sum(2, keepdim=True).clamp_min(1e-300)
    if each.numel() * each.shape[2] ** 2 > _MOST_WORK:
        shares = shares.mean(1, keepdim=True)
    together = max(1, _ENTRIES // max(1, shares[:1].numel() * shares.shape[2]))
    found = [
        least_each(*some)
        for some in zip(torch.split(group.gram, together), torch.split(shares, together), strict=True)
    ]
    return verified_each(first, group, torch.cat(found))


def least_each(gram: Tensor, share: Tensor) -> Tensor:
    """Exponents (G F, n) for groups of units with inner products (G, n, n) and importance (G, F, n)."""
    grams = gram.to(torch.float32).repeat_interleave(share.shape[1], 0)  # near enough, in half of the time
    power = least(lambda v: grams @ v, share.flatten(0, 1).to(torch.float32)).clamp_min(_SMALLEST)
    root = power.rsqrt()
    largest = torch.linalg.eigvalsh(grams * root[:, :, None] * root[:, None, :])[:, -1:]
    none = grams.diagonal(dim1=1, dim2=2) == 0.0  # no unit
    return short(torch.where(none, 1.0, power * largest * (1.0 + _ROOM_EACH)).to(torch.float64))


def least(product: Callable[[Tensor], Tensor], importance: Tensor) -> Tensor:
    """(R, n) p, up to a factor, near the least sum of importance_j p_j under diag(p) >= R.

    By the dual problem: the largest tr(R X) for X = V V', X_jj = importance_j, R the inner products of the
    directions, V of low rank (Burer and Monteiro, 2003). Linearisation only ever raises it, and p_j =
    |(R V)_j| / |V_j| where it ends.

    Args:
        product: of R with some V (R, n, rank); importance: (R, n).
    """
    count, n = importance.shape
    tiny = torch.finfo(importance.dtype).tiny
    share = importance / importance.sum(1, keepdim=True).clamp_min(tiny) + _UNIMPORTANT / n
    length = share.sqrt()[:, :, None]
    v = torch.randn(count, n, _RANK, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(share.dtype)
    for _ in range(_STEPS):
        v = product(length * v / v.norm(dim=2, keepdim=True).clamp_min(tiny))
    power: Tensor = v.norm(dim=2) / length[:, :, 0]
    return power
