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

from calotte.proofs.moments.definite import positive
from calotte.proofs.moments.first import FirstLayer
from calotte.rounding import dot_error, raised

__all__ = ["Exponents", "Group", "dominates", "dominates_each", "group_of", "verified", "verified_each"]

_T = 1e-9  # (e + h)(e + h)' <= (1 + t) e e' + (1 + 1/t) h h'
_ENTRIES = 2**22  # of the matrices that are looked at together


@dataclass(frozen=True, eq=False)
class Group:
    """P places of units of the first layer: the R / P forms of each read n units, all the same ones.

    Attributes:
        index: (P, n) positions in the first layer, those that some form reads distinct.
        inside: (P, n) bool, whether there is a unit; where there is none, none is read.
        gram: (P, n, n) inner products of the directions; zero where there is no unit.
    """

    index: Tensor
    inside: Tensor
    gram: Tensor

    def forms(self, values: Tensor) -> Tensor:
        """Values (R, ...) of forms, place by place: (P, R / P, ...)."""
        return values.reshape(len(self.index), -1, *values.shape[1:])


@dataclass(frozen=True, eq=False)
class Exponents:
    """Exponents for which the inequality holds; made by `verified` and `verified_each` alone.

    Attributes:
        first, group: the units; None for all of them.
        power: (n,) for all units, (Q, n) for those of a group, Q a multiple of its places: of R / Q forms each, in
            order; inf where nothing could be verified.
        asked: the same as they were proposed.
    """

    first: FirstLayer
    group: Group | None
    power: Tensor
    asked: Tensor


def verified(first: FirstLayer, power: Tensor) -> Exponents | None:
    """Exponents of all units, about `power` (n,), where the inequality holds with these for certain."""
    return Exponents(first, None, stretched(first, power), power) if dominates(first, power) else None


def verified_each(first: FirstLayer, group: Group, power: Tensor) -> Exponents:
    """Exponents of a group's forms, about `power` (Q, n), inf where the inequality may fail with these."""
    each = group.forms(power)
    together = max(1, _ENTRIES // max(1, each[:1].numel() * group.gram.shape[1]))
    parts = range(0, len(each), together)
    sound = torch.cat([dominates_each(first, group.gram[i : i + together], each[i : i + together]) for i in parts])
    found = torch.where(sound[:, :, None], stretched(first, each, group.index[:, None]), torch.inf)
    return Exponents(first, group, found.reshape(power.shape), power)


def group_of(first: FirstLayer, index: Tensor, inside: Tensor | None = None) -> Group:
    """The group of units at the positions `index` (P, n), where there are some."""
    inside = torch.ones_like(index, dtype=torch.bool) if inside is None else inside
    if first.gram is not None:
        gram = first.gram[index[:, :, None], index[:, None, :]]
    else:
        found = [first.rows[some] for some in index.numpy()]
        gram = torch.stack([torch.from_numpy((rows @ rows.T).toarray()) for rows in found])
    return Group(index, inside, torch.where(inside[:, :, None] & inside[:, None, :], gram, 0.0))


def stretched(first: FirstLayer, power: Tensor, index: Tensor | None = None) -> Tensor:
    """Exponents that are verified with `longest` for norms are so, with the exact norms, if made larger by this."""
    longest, shortest = (t if index is None else t[index] for t in (first.longest, first.shortest))
    ratio = torch.where(longest > 0, longest / shortest, 1.0)
    return raised(power * (ratio * ratio), 8)


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
        return bool(dominates_each(first, gram[None], power[None, None])[0, 0])
    rows = first.rows[:, first.read]
    root = sparse.diags((1.0 / power.sqrt()).numpy()) @ rows
    matrix = torch.from_numpy((root.T @ root).toarray())
    total = raised((1.0 / power).sum().item(), n + 8)
    off = (dot_error(2.0, n + 16) + (1.0 + 1.0 / _T) * first.doubt**2) * total
    return bool(positive(torch.eye(k, dtype=torch.float64) - (1.0 + _T) * matrix, off + dot_error(total, 4)))


def dominates_each(first: FirstLayer, gram: Tensor, power: Tensor) -> Tensor:
    """As `dominates`, for G groups of units: bool (G, F).

    Args:
        gram: (G, n, n) inner products of the directions in each, as computed; power: (G, F, n), F for each group.
    """
    n = power.shape[2]
    known = (power.isfinite() & (power > 0)).all(2)
    power = torch.where(known[:, :, None], power, 1.0)
    # a doubt about entries, and one about directions; the directions have norm at most 1
    off = n * (dot_error(2.0, first.rows.shape[1] + 16) + (1.0 + 1.0 / _T) * first.doubt**2)
    matrix = torch.diag_embed(power) - (1.0 + _T) * gram[:, None]
    return known & positive(matrix, off + dot_error(n + power.sum(2), 4))
