"""Rearrangements: maps that copy, drop or zero entries, and the concatenation of branches; all of them exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.network.affine import Affine, Shape

__all__ = ["Concatenation", "Select"]


class Select(Affine):
    """y[j] = x[index[j]], or 0 where index[j] = -1; both sides row-major.

    Slices, gathers, transpositions, padding with zeros and broadcasting are all of this form.

    Args:
        before: shape of x.
        index: for each entry of y the place in x, or -1; int64, in the shape of y.
    """

    def __init__(self, before: Shape, index: NDArray[np.int64]) -> None:
        self.input_shapes, self.output_shape, self.offset = (before,), tuple(index.shape), None
        flat = torch.from_numpy(np.ascontiguousarray(index).reshape(-1))
        self.index, outside = flat.clamp_min(0), flat < 0
        self.zero = outside.nonzero().squeeze(1)
        self.kept = (~outside).nonzero().squeeze(1) if len(self.zero) else None  # None: all
        uses = torch.bincount(flat if self.kept is None else flat[self.kept], minlength=math.prod(before))
        self.terms, self.adjoint_terms = 0, max(int(uses.max()) - 1, 0)

    @cached_property
    def grid(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Of images, channels (C,), stride and offset (2,) where y[c, i] = x[channels[c], stride * i + offset].

        0 outside of x; None where it is nothing of the kind.
        """
        if len(self.input_shapes[0]) != 3 or len(self.output_shape) != 3:
            return None
        (_, height, width), after = self.input_shapes[0], torch.tensor(self.output_shape[1:])
        area, index = height * width, self.index.clone()
        index[self.zero] = -1
        index = index.reshape(self.output_shape)
        kept = (index[0] >= 0).nonzero()
        if not len(kept):
            return None
        first = index[:, kept[0, 0], kept[0, 1]]
        if (first < 0).any():  # a channel of zeros
            return None
        channels = torch.div(first, area, rounding_mode="floor")
        met = torch.stack([index[0][tuple(ends)] for ends in kept[[0, -1]]]) % area
        places = torch.stack([met // width, met % width], 1)
        apart, moved = kept[-1] - kept[0], places[1] - places[0]
        stride = torch.where(apart > 0, moved // apart.clamp_min(1), 1)
        offset = places[0] - stride * kept[0]
        y, x = (stride[k] * torch.arange(int(after[k])) + offset[k] for k in (0, 1))
        inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
        plane = torch.where(inside, y[:, None] * width + x, -1)
        same = torch.equal(index, torch.where(plane >= 0, plane + channels[:, None, None] * area, -1))
        return (channels, stride, offset) if same and bool((stride >= 1).all()) else None

    def linear(self, *xs: Tensor) -> Tensor:
        y = xs[0].flatten(1).index_select(1, self.index.to(xs[0].device))
        if len(self.zero):
            y.index_fill_(1, self.zero.to(y.device), 0.0)
        return y.reshape(-1, *self.output_shape)

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        y, places = y.flatten(1), self.index
        if self.kept is not None:
            y, places = y.index_select(1, self.kept), places[self.kept]
        x = torch.zeros(len(y), math.prod(self.input_shapes[0]), dtype=y.dtype, device=y.device)
        x.index_add_(1, places, y)
        return (x.reshape(-1, *self.input_shapes[0]),)

    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        return self


class Concatenation(Affine):
    """The entries of all arguments, one after the other (row-major), in a shape of that many entries."""

    def __init__(self, before: tuple[Shape, ...], after: Shape) -> None:
        self.input_shapes, self.output_shape, self.offset = before, after, None
        self.sizes = [math.prod(shape) for shape in before]
        if sum(self.sizes) != math.prod(after):
            raise ValueError(f"cannot concatenate {before} into {after}: the number of entries differs")
        self.terms = self.adjoint_terms = 0

    def linear(self, *xs: Tensor) -> Tensor:
        return torch.cat([x.flatten(1) for x in xs], dim=1).reshape(-1, *self.output_shape)

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        parts = torch.split(y.flatten(1), self.sizes, dim=1)
        return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, self.input_shapes, strict=True))

    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        return self
