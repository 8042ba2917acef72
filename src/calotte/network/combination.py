"""Combinations: one more form for a conjunction, a non-negative combination of its own, <= 0 where they all are.

Where all forms f_i of a conjunction are <= 0, so is w . f for every w >= 0: the event is the same with w . f among
its forms, and a bound may take the best of all. Which w is a matter of tightness only. Here it is the one by which
{w . f = 0} is farthest from x where the network is taken for the affine map that it is at x: the multipliers of the
nearest point at which all linearised forms are <= 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import Tensor

from calotte.network.graph import Network
from calotte.network.margins import Case, Cases, Margins
from calotte.rounding import down

__all__ = ["with_combinations"]

_MOST = 32  # forms of a conjunction that are combined: each takes a pass back through the network
_PARTS = 2.0**10  # weights are multiples of 1 / _PARTS, so that combinations of plain rows are exact
_ROUNDS = 100  # of coordinate descent


def with_combinations(network: Network, x: Tensor, margins: Margins) -> Margins:
    """The margins with one form more for each conjunction of which a combination may say more than its best form.

    Args:
        network: the network; x: (B, d) inputs; margins: of an event at them.
    """
    wide = [case.needed == case.forms and 1 < case.forms <= _MOST for case in margins.cases.each]
    if not any(wide):
        return margins
    each = [list(combined(network, x[b : b + 1], margins[b : b + 1], wide)) for b in range(len(x))]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    cases, begin = [], 0
    for k, case in enumerate(margins.cases.each):
        own = slice(begin, begin + case.forms)
        parts.append((margins.rows[:, own], margins.constants[:, own], margins.ties[:, own]))
        begin += case.forms
        if not wide[k]:
            cases.append(case)
            continue
        found = [one[sum(wide[:k])] for one in each]
        rows, constants = (torch.cat(tensors) for tensors in zip(*found, strict=True))
        parts.append((rows[:, None], constants[:, None], torch.zeros(len(x), 1, dtype=torch.bool)))
        cases.append(Case(case.forms + 1, case.needed + 1))
    rows, constants, ties = (torch.cat(tensors, 1) for tensors in zip(*parts, strict=True))
    return Margins(rows, constants, ties, Cases(tuple(cases)))


def combined(network: Network, x: Tensor, margins: Margins, wide: list[bool]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each conjunction the row (1, K) and the constant (1,) of a combination, at one input."""
    begin = 0
    for case, is_wide in zip(margins.cases.each, wide, strict=True):
        own = slice(begin, begin + case.forms)
        begin += case.forms
        if is_wide:
            rows, constants = margins.rows[0, own], margins.constants[0, own]
            yield combination(rows, constants, weights(*linearised(network, x, rows, constants)))


def linearised(network: Network, x: Tensor, rows: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives (n, d) and the values (n,) of forms at x (1, d), as float64 has them."""
    with torch.enable_grad():
        at = x.clone().requires_grad_()
        forms = rows @ network.forward(at)[0] + constants
        if not forms.requires_grad:  # of a constant network
            return torch.zeros(len(rows), x.shape[1], dtype=torch.float64), forms
        normals = torch.cat([torch.autograd.grad(form, at, retain_graph=True)[0] for form in forms])
    return normals, forms.detach()


def weights(normals: Tensor, heights: Tensor) -> Tensor:
    """Multiples of 1 / _PARTS, >= 0, their sum at most 1: of the nearest point with heights + normals . r <= 0.

    The multipliers w maximise w . heights - ||normals' w||^2 / 2 over w >= 0, here by coordinate descent.
    """
    gram, weight = normals @ normals.t(), torch.zeros_like(heights)
    diagonal = gram.diagonal()
    for step in range(_ROUNDS * len(weight)):
        i = step % len(weight)
        if diagonal[i] > 0:
            weight[i] = (weight[i] + (heights[i] - gram[i] @ weight) / diagonal[i]).clamp_min(0.0)
    total = weight.sum()
    if not (total.isfinite() and total > 0):
        return torch.zeros_like(heights)
    return (weight / total * _PARTS).floor() / _PARTS


def combination(rows: Tensor, constants: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The row (1, K) and the constant (1,) of a form that is at most w . f, whatever the weights; or the first form.

    It is w . f where all w are >= 0 and the row is exact in float64, with the constant rounded down.
    """
    used = weight.nonzero()[:, 0].tolist()
    if not used or not bool((weight >= 0).all() & weight.isfinite().all()):
        return rows[:1], constants[:1]
    exact = [Fraction(0)] * (rows.shape[1] + 1)
    for i in used:
        w = Fraction(weight[i].item())
        for k, c in enumerate([*rows[i].tolist(), constants[i].item()]):
            exact[k] += w * Fraction(c)
    row, constant = [float(c) for c in exact[:-1]], float(exact[-1])
    if any(Fraction(c) != e for c, e in zip(row, exact, strict=False)):
        return rows[:1], constants[:1]
    lowest = constant if Fraction(constant) <= exact[-1] else down(constant)
    return torch.tensor([row], dtype=torch.float64), torch.tensor([lowest], dtype=torch.float64)
