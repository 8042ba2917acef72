"""Exponents of Hölder's inequality for Gaussian vectors, verified: diag(p_j ||a_j||^2) >= (a_i.a_j) as matrices.

Then E prod_j f_j(a_j.g) <= prod_j (E f_j(a_j.g)^p_j)^(1/p_j) for a Gaussian g and all f_j >= 0 (Chen, Dafnis and
Paouris, arXiv:1306.2410). With more units than coordinates the condition is taken in the smaller dimension, by a
Schur complement: I >= sum_j e_j e_j' / p_j, e_j = a_j / ||a_j||.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy import sparse
from torch import Tensor

from calotte.proofs.definite import positive
from calotte.proofs.first import FirstLayer
from calotte.rounding import gamma

__all__ = ["Exponents", "Group", "dominates", "dominates_each", "group_of", "verified", "verified_each"]

_T = 1e-9  # (e + h)(e + h)' <= (1 + t) e e' + (1 + 1/t) h h'


@dataclass(frozen=True, eq=False)
class Group:
    """For each of R forms the units that it reads.

    Attributes:
        index: (R, n) positions in the first layer, distinct where a form has coefficients that are not zero.
        gram: (R, n, n) inner products of their directions.
    """

    index: Tensor
    gram: Tensor


@dataclass(frozen=True, eq=False)
class Exponents:
    """Exponents for which the inequality holds; made by `verified` and `verified_each` alone.

    Attributes:
        first, group: the units; None for all of them.
        power: (n,) for all units, (R, n) for those of a group; inf where nothing could be verified.
    """

    first: FirstLayer
    group: Group | None
    power: Tensor


def verified(first: FirstLayer, power: Tensor) -> Exponents | None:
    """Exponents of all units, about `power` (n,), where the inequality holds with these for certain."""
    return Exponents(first, None, stretched(first, power)) if dominates(first, power) else None


def verified_each(first: FirstLayer, group: Group, power: Tensor) -> Exponents:
    """Exponents of groups, about `power` (R, n), inf where the inequality may fail with these."""
    sound = dominates_each(first, group.gram, power)[:, None]
    return Exponents(first, group, torch.where(sound, stretched(first, power, group.index), torch.inf))


def group_of(first: FirstLayer, index: Tensor) -> Group:
    """The group of units at the positions `index` (R, n)."""
    if first.gram is not None:
        return Group(index, first.gram[index[:, :, None], index[:, None, :]])
    found = [first.rows[some] for some in index.numpy()]
    grams = [torch.from_numpy((rows @ rows.T).toarray()) for rows in found]
    return Group(index, torch.stack(grams))


def stretched(first: FirstLayer, power: Tensor, index: Tensor | None = None) -> Tensor:
    """Exponents that are verified with `longest` for norms are so, with the exact norms, if made larger by this."""
    longest, shortest = (t if index is None else t[index] for t in (first.longest, first.shortest))
    ratio = torch.where(longest > 0, longest / shortest, 1.0)
    return power * (ratio * ratio) * (1.0 + gamma(8))


def dominates(first: FirstLayer, power: Tensor) -> bool:
    """Whether diag(p_j longest_j^2) >= (a_i.a_j) for certain; false for whatever is not positive and finite."""
    if power.shape != first.longest.shape or not bool((power.isfinite() & (power > 0)).all()):
        return False
    n, k = first.units, len(first.read)
    if n == 0:
        return True
    if n <= k:
        gram = first.gram
        if gram is None:
            gram = torch.from_numpy((first.rows @ first.rows.T).toarray())
        return bool(dominates_each(first, gram[None], power[None])[0])
    rows = first.rows[:, first.read]
    root = sparse.diags((1.0 / power.sqrt()).numpy()) @ rows
    matrix = torch.from_numpy((root.T @ root).toarray())
    total = (1.0 / power).sum().item() * (1.0 + gamma(n + 8))
    off = (gamma(n + 16) * 2.0 + (1.0 + 1.0 / _T) * first.doubt**2) * total
    return bool(positive(torch.eye(k, dtype=torch.float64) - (1.0 + _T) * matrix, off + gamma(4) * total))


def dominates_each(first: FirstLayer, gram: Tensor, power: Tensor) -> Tensor:
    """As `dominates`, for G groups of units: bool (G,).

    Args:
        gram: (G, n, n) inner products of the directions in each, as computed; power: (G, n).
    """
    n = power.shape[1]
    known = (power.isfinite() & (power > 0)).all(1)
    power = torch.where(known[:, None], power, 1.0)
    # a doubt about entries, and one about directions; the directions have norm at most 1
    off = n * (gamma(first.rows.shape[1] + 16) * 2.0 + (1.0 + 1.0 / _T) * first.doubt**2)
    return known & positive(torch.diag_embed(power) - (1.0 + _T) * gram, off + gamma(4) * (n + power.sum(1)))
