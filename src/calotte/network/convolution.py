"""Convolutions (1-D to 3-D) and their transposes; the kernel is all that is stored."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from calotte.network.affine import Affine, Shape

__all__ = ["Convolution", "TransposedConvolution", "transposed"]

CONVOLVE = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_BLOCK, _WIDE = 2**17, 512  # entries that stay in a cache, and columns that make a product fast: measured
_MIXED = 8  # channels from which a product for each entry of the kernel is faster than scattering: measured
TRANSPOSE = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def per_channel(bias: Tensor | None, shape: Shape) -> Tensor | None:
    """Biases (C,) as an offset of shape (C, *spatial)."""
    return None if bias is None else bias.reshape(-1, *(1,) * (len(shape) - 1)).expand(shape)


class Convolution(Affine):
    """Cross-correlation of (C, *spatial) with a kernel, plus a bias per channel of the output.

    Args:
        kernel: (C_out, C / groups, *size).
        bias: (C_out,) or None.
        shape: (C, *spatial) of the input.
        stride, dilation: one number per spatial axis.
        padding: zeros before and after each spatial axis, not negative.
        groups: channels fall into so many groups that do not mix.

    Raises:
        ValueError: the shapes do not fit.
    """

    def __init__(
        self,
        kernel: Tensor,
        bias: Tensor | None,
        shape: Shape,
        *,
        stride: Sequence[int],
        padding: Sequence[tuple[int, int]],
        dilation: Sequence[int],
        groups: int = 1,
    ) -> None:
        rank = len(shape) - 1
        if rank not in CONVOLVE or kernel.ndim != rank + 2:
            raise ValueError(f"kernel {tuple(kernel.shape)} does not fit an input of shape {shape}")
        if {len(stride), len(padding), len(dilation)} != {rank} or min(*stride, *dilation) < 1:
            raise ValueError(f"strides and dilations must be positive, and as pads one for each of {rank} axes")
        if groups < 1 or kernel.shape[0] % groups or shape[0] != kernel.shape[1] * groups:
            raise ValueError(f"kernel {tuple(kernel.shape)} in {groups} groups does not fit input {shape}")
        if min(min(pair) for pair in padding) < 0:
            raise ValueError("negative padding")
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel.shape[2:], strict=True)]
        padded = [n + sum(pair) for n, pair in zip(shape[1:], padding, strict=True)]
        if any(r > n for r, n in zip(reach, padded, strict=True)) or 0 in kernel.shape:
            raise ValueError(f"kernel {tuple(kernel.shape)} is larger than the padded input {padded}")
        spatial = [(n - r) // s + 1 for n, r, s in zip(padded, reach, stride, strict=True)]
        after = (kernel.shape[0], *spatial)
        self.kernel, self.offset = kernel, per_channel(bias, after)
        self.stride, self.padding, self.dilation, self.groups = tuple(stride), tuple(padding), tuple(dilation), groups
        self.input_shapes, self.output_shape = (shape,), after
        self.rank = rank
        self.even = all(low == high for low, high in padding)
        self.rest = [(n - r) % s for n, r, s in zip(padded, reach, stride, strict=True)]
        entries = math.prod(kernel.shape[2:])
        self.terms = kernel.shape[1] * entries + 1
        self.adjoint_terms = kernel.shape[0] // groups * entries

    def linear(self, *xs: Tensor) -> Tensor:
        x, padding = xs[0], [low for low, _ in self.padding]
        if not self.even:
            x = functional.pad(x, [n for pair in reversed(self.padding) for n in pair])
            padding = [0] * self.rank
        if self.rank == 2 and self.groups == 1 and x.dtype == torch.float64 and x.device.type == "cpu":
            return self._products(x, padding)
        y: Tensor = CONVOLVE[self.rank](x, self.kernel, None, self.stride, padding, self.dilation, self.groups)
        return y

    def _products(self, x: Tensor, padding: list[int]) -> Tensor:
        """The same as matrix products with patches, a block of images at a time.

        In float64 on a CPU, PyTorch unfolds the whole batch at once and multiplies image by image: that needs more
        memory, and twice the time where images are small.
        """
        rows = self.kernel.flatten(1)
        outputs, entries, places = len(rows), rows.shape[1], math.prod(self.output_shape[1:])
        block = max(1, _BLOCK // (entries * places), -(-_WIDE // places))
        y = x.new_empty(len(x), outputs, places)
        for i in range(0, len(x), block):
            part = x[i : i + block]
            patches = functional.unfold(
                part, tuple(self.kernel.shape[2:]), self.dilation, tuple(padding), self.stride
            )
            if places < _WIDE and len(part) > 1:
                product = rows @ patches.transpose(0, 1).reshape(entries, -1)
                y[i : i + block] = product.reshape(outputs, len(part), places).transpose(0, 1)
            else:
                y[i : i + block] = rows @ patches
        return y.reshape(-1, *self.output_shape)

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        padding = [low for low, _ in self.padding] if self.even else [0] * self.rank
        x = transposed(self, y, padding, self.rest)
        if not self.even:
            for axis, ((low, _), n) in enumerate(zip(self.padding, self.input_shapes[0][1:], strict=True), start=2):
                x = x.narrow(axis, low, n)
        return (x,)

    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        return self.like(f(self.kernel))

    def like(self, kernel: Tensor) -> Convolution:
        """The convolution with another kernel of the same shape, without bias."""
        return Convolution(
            kernel,
            None,
            self.input_shapes[0],
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class TransposedConvolution(Affine):
    """The transpose of the linear part of a convolution, plus a bias per channel of the output."""

    def __init__(self, forward: Convolution, bias: Tensor | None) -> None:
        self.forward = forward
        self.input_shapes, self.output_shape = (forward.output_shape,), forward.input_shapes[0]
        self.offset = per_channel(bias, self.output_shape)
        self.terms, self.adjoint_terms = forward.adjoint_terms + 1, forward.terms

    def linear(self, *xs: Tensor) -> Tensor:
        return self.forward.adjoint(xs[0])[0]

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        return (self.forward.linear(y),)

    def with_coefficients(self, f: Callable[[Tensor], Tensor]) -> Affine:
        return TransposedConvolution(self.forward.like(f(self.forward.kernel)), None)


def transposed(op: Convolution, y: Tensor, padding: list[int], rest: list[int]) -> Tensor:
    """The transpose of the linear part at images of any size, less `padding` at each end, with `rest` zeros more."""
    if op.rank == 2 and max(op.dilation) == 1 and y.dtype == torch.float64 and y.device.type == "cpu":
        if op.groups == 1 and max(op.stride) == 1 and min(op.kernel.shape[:2]) >= _MIXED:
            return _shifted_products(op.kernel, y, padding)
        if op.groups == len(op.kernel) == op.input_shapes[0][0]:
            return _spread_by_channel(op, y, padding, rest)
    x: Tensor = TRANSPOSE[op.rank](y, op.kernel, None, op.stride, padding, rest, op.groups, op.dilation)
    return x


def _shifted_products(kernel: Tensor, y: Tensor, padding: list[int]) -> Tensor:
    """The same where strides are 1: a product for each entry of the kernel, added up at its place.

    Images of a block stand one after the other, with so many zeros behind their rows, and behind them, that a place
    to move by is a shift of the whole block: what lies before the first place of a row ends behind the last one of
    the row before, where none is kept. PyTorch scatters the products of one image after the other, which takes up
    to three times as long.
    """
    (before, after, *size), (count, _, height, width) = kernel.shape, y.shape
    ends = [k - 1 - p for k, p in zip(size, padding, strict=True)]
    rows, columns = height + max(ends[0], 0), width + max(ends[1], 0)
    kept = height + ends[0] - padding[0], width + ends[1] - padding[1]
    x = y.new_empty(count, after, *kept)
    matrices = kernel.permute(2, 3, 1, 0).flatten(0, 1).contiguous()
    block = max(1, _BLOCK // (max(before, after) * rows * columns))
    for i in range(0, count, block):
        part = y[i : i + block]
        read = y.new_zeros(before, len(part), rows, columns)
        read[:, :, :height, :width] = part.transpose(0, 1)
        read = read.flatten(1)
        places = read.shape[1]
        total = y.new_zeros(after, places)
        for k, matrix in enumerate(matrices):
            shift = (k // size[1] - padding[0]) * columns + k % size[1] - padding[1]
            low, high = max(shift, 0), min(places + shift, places)
            if low < high:
                total[:, low:high].addmm_(matrix, read[:, low - shift : high - shift])
        moved = total.reshape(after, len(part), rows, columns)[:, :, : kept[0], : kept[1]]
        x[i : i + block] = moved.transpose(0, 1)
    return x


def _spread_by_channel(op: Convolution, y: Tensor, padding: list[int], rest: list[int]) -> Tensor:
    """The same where each channel has a kernel of its own: a multiple of the image for each entry, at its place.

    PyTorch takes three times as long.
    """
    (count, channels, *places), size = y.shape, op.kernel.shape[2:]
    ends = [(n - 1) * s + 1 for n, s in zip(places, op.stride, strict=True)]
    full = [n + k - 1 + more for n, k, more in zip(ends, size, rest, strict=True)]
    x = y.new_zeros(count, channels, *full)
    for i, j in itertools.product(*map(range, size)):
        at = x[:, :, i : i + ends[0] : op.stride[0], j : j + ends[1] : op.stride[1]]
        at.addcmul_(y, op.kernel[:, :, i, j, None])
    top, left = padding
    return x[:, :, top : full[0] - top, left : full[1] - left]
