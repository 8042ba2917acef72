"""Sums over axes: what sum, mean and global average pooling are made of."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from calotte.network.affine import Affine, Shape

__all__ = ["AxisSum"]


class AxisSum(Affine):
    """The sum over some axes of x, which are kept with size 1.

    Args:
        before: shape of x.
        axes: axes of `before`, not negative, at least one.
    """

    def __init__(self, before: Shape, axes: tuple[int, ...]) -> None:
        self.axes = tuple(axis + 1 for axis in axes)
        after = tuple(1 if axis in axes else size for axis, size in enumerate(before))
        self.input_shapes, self.output_shape, self.offset = (before,), after, None
        self.terms, self.adjoint_terms = math.prod(before[axis] for axis in axes), 0

    def linear(self, *xs: Tensor) -> Tensor:
        return xs[0].sum(self.axes, keepdim=True)

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        return (y.expand(-1, *self.input_shapes[0]),)

    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        return self
