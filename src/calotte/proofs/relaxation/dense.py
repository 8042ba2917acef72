"""Back-substitution through a ReLU and the dense layer before it, for one input: only what is alive is multiplied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Layer", "Lines", "Step", "lines_of", "through"]


@dataclass(frozen=True)
class Layer:
    """y = W x + b.

    Attributes:
        weight: (n, k) W; offset: (n,) b.
        doubts: (n, T) what a coefficient of 1 of y adds to each of T bounds on errors.
    """

    weight: Tensor
    offset: Tensor
    doubts: Tensor


@dataclass(frozen=True)
class Lines:
    """What bounds n ReLUs: z for the active ones, below z and above z + intercept for the loose ones, else 0.

    Attributes:
        active, loose: (a,), (l,) their positions.
        below, above, intercept: (l,).
        doubts: (l,) what a coefficient of 1 adds to the first bound on errors.
    """

    active: Tensor
    loose: Tensor
    below: Tensor
    above: Tensor
    intercept: Tensor
    doubts: Tensor

    @staticmethod
    def none(n: int) -> Lines:
        """No ReLU at all: everything is active."""
        empty = torch.zeros(0, dtype=torch.float64)
        return Lines(torch.arange(n), torch.arange(0), empty, empty, empty, empty)


def lines_of(below: Tensor, above: Tensor, intercept: Tensor, doubts: Tensor, without: Tensor | None) -> Lines:
    """The lines of n ReLUs, all arguments (n,), some of them left `without`: bool (n,)."""
    active = (below == 1) & (above == 1) & (intercept == 0)
    loose = ~active & ~((below == 0) & (above == 0) & (intercept == 0))
    if without is not None:
        active, loose = active & ~without, loose & ~without
    bent = loose.nonzero()[:, 0]
    return Lines(active.nonzero()[:, 0], bent, below[bent], above[bent], intercept[bent], doubts[bent])


@dataclass(frozen=True)
class Step:
    """What R rows become on the way through.

    Attributes:
        rows: (R, k) coefficients of the layer's input.
        bend, moved: (R,) to be added to the constant, one after the other.
        doubts: (R, T) to be added to the bounds on errors.
    """

    rows: Tensor
    bend: Tensor
    moved: Tensor
    doubts: Tensor


def through(rows: Tensor, lines: Lines, layer: Layer, mirrored: bool) -> Step:
    """Coefficients (R, n) of the ReLUs' values pulled back to the input of the layer that feeds them.

    Where rows are `mirrored`, the second half minus the first, so are their products with active units: these are
    taken once.
    """
    count = len(rows)
    half = count // 2 if mirrored else count
    columns, a = torch.cat([lines.active, lines.loose]), len(lines.active)
    if a or len(columns) < rows.shape[1]:
        rows = rows[:, columns]
    doubts, loose = layer.doubts[columns], rows[:, a:]
    doubts[a:] *= torch.maximum(lines.below, lines.above)[:, None]
    doubts[a:, 0] += lines.doubts
    met = rows[:half].abs() @ doubts
    negative = loose.clamp_max(0.0)
    bend = negative @ lines.intercept
    relaxed = torch.addcmul(negative * lines.above, loose.clamp_min(0.0), lines.below)
    moved = rows[:, :a] @ layer.offset[lines.active] + relaxed @ layer.offset[lines.loose]
    product = rows[:half, :a] @ layer.weight[lines.active]
    if mirrored:
        met, product = torch.cat([met, met]), torch.cat([product, -product])
    return Step(product.addmm_(relaxed, layer.weight[lines.loose]), bend, moved, met)
