"""Affine maps between shaped vectors: the nodes of a network that are not a ReLU.

A map of k arguments computes y = A_1 x_1 + ... + A_k x_k + b. It offers the map itself, its linear part, the
transpose of the linear part, and the same map with |A| in place of A, which error bounds need. Nothing is
ever made dense. All tensors are float64 with a leading batch axis: x_i has shape (B, *input_shapes[i]).

Rounding contract, for every map: with `t = terms`, the computed y differs from the exact one by at most
`gamma(t) (sum_i |A_i| |x_i| + |b|)` entrywise, and `absolute` returns `sum_i |A_i| x_i` with relative error
at most `gamma(t)`. Coefficients that are no floats (1/3, say) are counted in `terms`. `adjoint_terms` says
the same of the transpose. `terms = 0` means that nothing is ever rounded.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from calotte.network.norms import spectral_norm
from calotte.rounding import NORM_SLACK, raised

__all__ = ["Affine", "Dense", "Diagonal", "Inexact", "Reshape", "Shape", "Sum"]

Shape = tuple[int, ...]


class Affine(ABC):
    """An affine map; `offset` is b, broadcast over the batch, or None for b = 0."""

    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    offset: Tensor | None
    terms: int
    adjoint_terms: int

    @abstractmethod
    def linear(self, *xs: Tensor) -> Tensor:
        """The linear part at a batch: (B, *input_shapes[i]) each -> (B, *output_shape)."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        """The transpose of the linear part: (B, *output_shape) -> (B, *input_shapes[i]) for each argument."""

    @abstractmethod
    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        """The linear map whose coefficients are `f` of this one's, without offset; f(0) = 0, f(1) = 1."""

    def __call__(self, *xs: Tensor) -> Tensor:
        """The map at a batch, offset included."""
        y = self.linear(*xs)
        return y if self.offset is None else y + self.offset

    @cached_property
    def absolute(self) -> Affine:
        """The linear map with |A| in place of A."""
        return self.with_coefficients(torch.abs)

    @cached_property
    def squares(self) -> Affine:
        """The linear map with the squares of the coefficients: at ones, squared norms of rows."""
        return self.with_coefficients(torch.square)

    @cached_property
    def row_sum(self) -> float:
        """The largest sum of a row's coefficients, which must not be negative, rounded up."""
        ones = (torch.ones(1, *shape, dtype=torch.float64) for shape in self.input_shapes)
        return raised(self.linear(*ones).max().item(), self.terms + 4)

    @cached_property
    def norm(self) -> float:
        """The Euclidean operator norm of [A_1 ... A_k], rounded up: ||A||^2 <= ||A||_1 ||A||_inf (Schur's test)."""
        rows = self.absolute.row_sum
        columns = self.absolute.adjoint(torch.ones(1, *self.output_shape, dtype=torch.float64))
        largest = max(column.max().item() for column in columns)
        return raised(math.sqrt(rows * largest), self.terms + self.adjoint_terms + 16) + NORM_SLACK

    @cached_property
    def support(self) -> Affine:
        """The linear map with 1 in place of every coefficient that is not zero."""
        return self.with_coefficients(lambda a: (a != 0).to(a.dtype))


class Dense(Affine):
    """y = W x + b on the last axis; W has shape (n_out, n_in), b (n_out,) or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, leading: Shape = ()) -> None:
        self.weight, self.offset = weight, bias
        n_out, n_in = weight.shape
        self.input_shapes, self.output_shape = ((*leading, n_in),), (*leading, n_out)
        self.terms, self.adjoint_terms = n_in + 1, n_out

    def linear(self, *xs: Tensor) -> Tensor:
        return torch.nn.functional.linear(xs[0], self.weight)

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        return (y @ self.weight,)

    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        return Dense(f(self.weight), leading=self.output_shape[:-1])

    @cached_property
    def norm(self) -> float:
        return spectral_norm(self.weight)

    def __call__(self, *xs: Tensor) -> Tensor:
        return torch.nn.functional.linear(xs[0], self.weight, self.offset)


class Diagonal(Affine):
    """y = w * x + b entrywise, or x / w + b with `divide`; w and b broadcast to the shape of x.

    `terms` counts what made w inexact (2 for w as given: one product or quotient, one sum).
    """

    def __init__(
        self,
        shape: Shape,
        weight: Tensor | None,
        offset: Tensor | None,
        *,
        divide: bool = False,
        terms: int = 2,
    ) -> None:
        self.input_shapes, self.output_shape = (shape,), shape
        self.weight, self.offset, self.divide = weight, offset, divide
        self.terms = self.adjoint_terms = terms

    def linear(self, *xs: Tensor) -> Tensor:
        if self.weight is None:
            return xs[0]
        return xs[0] / self.weight if self.divide else xs[0] * self.weight

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        return (self.linear(y),)

    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        weight = torch.ones((), dtype=torch.float64) if self.weight is None else self.weight
        weight = f(1.0 / weight if self.divide else weight)
        return Diagonal(self.output_shape, weight, None, terms=self.terms + 1)


class Reshape(Affine):
    """The same numbers in another shape (row-major); exact."""

    def __init__(self, before: Shape, after: Shape) -> None:
        if math.prod(before) != math.prod(after):
            raise ValueError(f"cannot reshape {before} into {after}: the number of entries differs")
        self.input_shapes, self.output_shape, self.offset = (before,), after, None
        self.terms = self.adjoint_terms = 0

    def linear(self, *xs: Tensor) -> Tensor:
        return xs[0].reshape(-1, *self.output_shape)

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        return (y.reshape(-1, *self.input_shapes[0]),)

    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        return self


class Sum(Affine):
    """y = c_1 x_1 + ... + c_k x_k of k branches of one shape, each c_i = +1, -1 or 0."""

    def __init__(self, shape: Shape, signs: tuple[int, ...]) -> None:
        self.input_shapes, self.output_shape, self.offset = (shape,) * len(signs), shape, None
        self.signs = signs
        self.terms, self.adjoint_terms = len(signs), 0

    def linear(self, *xs: Tensor) -> Tensor:
        y, *rest = (signed(x, sign) for x, sign in zip(xs, self.signs, strict=True))
        for x in rest:
            y = y + x
        return y

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        return tuple(signed(y, sign) for sign in self.signs)

    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        found = f(torch.tensor(self.signs, dtype=torch.float64)).tolist()
        return Sum(self.output_shape, tuple(int(c) for c in found))


def signed(x: Tensor, sign: int) -> Tensor:
    """x, -x or zeros."""
    return x if sign > 0 else -x if sign < 0 else torch.zeros_like(x)


class Inexact(Affine):
    """A map with coefficients that are `extra` roundings away from the exact ones, each relative to itself.

    The offset is exact, as that of every map.
    """

    def __init__(self, op: Affine, extra: int) -> None:
        self.op, self.extra = op, extra
        self.input_shapes, self.output_shape, self.offset = op.input_shapes, op.output_shape, op.offset
        self.terms, self.adjoint_terms = op.terms + extra, op.adjoint_terms + extra

    def linear(self, *xs: Tensor) -> Tensor:
        return self.op.linear(*xs)

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        return self.op.adjoint(y)

    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        return Inexact(self.op.with_coefficients(f), self.extra)
