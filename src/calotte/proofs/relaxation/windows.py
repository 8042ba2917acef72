"""Rows: coefficients of the values of one node, whole or on windows of an image, and how maps take them back.

A unit of a convolution reads a window of the layer before, that window a wider one of the layer before that. Rows of
such units are kept on their windows, which start at places of their own and have one size. Entries of a window that
lie outside of the image multiply nothing: they are read as zero wherever values are met, and are zeroed before a map
would take them further. Where windows are as large as the image, or a map has no windows, rows are whole.

Both kinds hold entries (S, N, ...): the N rows of S sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from calotte.network.affine import Affine, Dense, Diagonal, Inexact, Shape, Sum
from calotte.network.convolution import Convolution, transposed
from calotte.network.graph import Network
from calotte.network.rearrange import Concatenation, Select
from calotte.rounding import VALUE_SLACK

__all__ = [
    "Fields",
    "Pulled",
    "Rows",
    "Whole",
    "Windows",
    "batches",
    "by_channel",
    "offsets",
    "unit_rows",
    "unit_work",
    "weighed",
]

_ENTRIES, _FEWEST = 2**19, 16  # on windows at the input, or rows, that are pulled back together: measured


class Fields:
    """What rows meet at a node, again and again: the lines of ReLUs or the offset of a map, and what errors cost.

    Args:
        values: F fields (*shape), or (L, *shape): those of L sides of rows that are whole.
        doubts: (*shape) 0 or more, what a coefficient of 1 adds to the bound on errors; or (L, *shape).
        read: magnitudes of what the node reads, which underflow may take from.
        sides: whether there are L.

    Attributes:
        prices: the doubts, of images the largest of each channel: rows need no windows of them.
        lost: what is added to it whatever the coefficients are.
        levels: (C,) of an image, where the only field is the same in each channel.
    """

    def __init__(self, values: Sequence[Tensor], doubts: Tensor, read: list[Tensor], sides: bool = False) -> None:
        self.sides = int(sides)
        self.values = torch.stack(list(values)) if values else doubts.new_zeros(0, *doubts.shape)
        self._framed, self._frame = self.values, [0, 0, 0, 0]
        self.prices = by_channel(doubts, self.sides)
        self.lost = VALUE_SLACK * sum(t.flatten(self.sides).sum(-1, keepdim=sides) for t in read)
        self.levels: Tensor | None = None
        if len(values) == 1 and doubts.ndim == 3 and not sides and bool((values[0] == values[0][:, :1, :1]).all()):
            self.levels = values[0][:, 0, 0]

    def framed(self, frame: list[int]) -> tuple[Tensor, list[int]]:
        """The fields of an image with at least so many zeros on the left, on the right, above and below; how many."""
        if any(here < n for here, n in zip(self._frame, frame, strict=True)):
            self._frame = [max(pair) for pair in zip(self._frame, frame, strict=True)]
            self._framed = functional.pad(self.values, self._frame)
        return self._framed, self._frame


def by_channel(t: Tensor, sides: int = 0) -> Tensor:
    """The largest number of each channel of an image; a vector as it is; after one axis for sides, or none."""
    return t.flatten(1 + sides).amax(1 + sides) if t.ndim > 1 + sides else t


def weighed(rows: Tensor, values: Tensor) -> Tensor:
    """Sums (S, N) of rows (S, N, n) times values (n,), or (S, n)."""
    return rows @ values if values.ndim == 1 else (rows @ values[:, :, None])[:, :, 0]


@dataclass(frozen=True)
class Coefficients:
    """Entries (S, N, ...): the N rows of S sides, of vectors or, channel by channel, of images."""

    entries: Tensor

    @cached_property
    def sizes(self) -> Tensor:
        """The sums (S, N, C) of |entries| in each channel; of vectors as they are."""
        sizes = self.entries.abs()
        return sizes if sizes.ndim == 3 else sizes.flatten(3).sum(3)

    def cost(self, prices: Tensor) -> Tensor:
        """The sums (S, N) of |entries| times prices (C,), or (S, C): the same in each channel."""
        return weighed(self.sizes, prices)


@dataclass(frozen=True)
class Whole(Coefficients):
    """Rows of coefficients of all values of a node: entries (S, N, *shape)."""

    def at(self, fields: Fields) -> Tensor:
        """Fields of the node where the rows have their entries: (F, 1, *shape), or (F, S, 1, *shape)."""
        return fields.values.unsqueeze(1 + fields.sides)

    def sums(self, entries: Tensor, met: Tensor) -> Tensor:
        """Sums (S, N) of the products of entries like these rows' with one of the fields that `at` gives."""
        return weighed(entries.flatten(2), met.flatten() if len(met) == 1 else met.flatten(1))

    def offset(self, fields: Fields) -> Tensor:
        """Sums (S, N) of the products with the only field."""
        return self.sums(self.entries, self.at(fields)[0])

    def whole(self) -> Whole:
        """The same."""
        return self

    def inside(self) -> Whole:
        """The same."""
        return self

    def times(self, entries: Tensor) -> Whole:
        """The same rows with other entries, each the old one times a number that `at` gives."""
        return Whole(entries)

    def both(self) -> Whole:
        """The same with a second side, minus the first."""
        return Whole(torch.cat([self.entries, -self.entries]))

    def plus(self, other: Rows) -> Whole:
        """The sums with other rows of the same node."""
        return Whole(self.entries + other.whole().entries)

    def through(self, op: Affine) -> tuple[Rows, ...]:
        """Coefficients of each argument of a map whose values these rows multiply."""
        sides, n = self.entries.shape[:2]
        found = op.adjoint(self.entries.flatten(0, 1))
        return tuple(Whole(t.reshape(sides, n, *t.shape[1:])) for t in found)


@dataclass(frozen=True)
class Windows(Coefficients):
    """Rows of coefficients on windows of a node of shape (C, H, W): entries (S, N, C, h, w).

    Attributes:
        places: (U, 2) where windows start, all of them different; which: (N,) the place of each row.
        shape: (C, H, W).
        clean: whether entries outside of the image are known to be zero.
    """

    places: Tensor
    which: Tensor
    shape: Shape
    clean: bool = False

    def at(self, fields: Fields) -> Tensor:
        """Fields of the node on the windows, zero outside of the image: (F, N, C, h, w), or N = 1 for all of them."""
        framed, (left, _, top, _) = fields.framed(self.sticking_out)
        h, w = self.entries.shape[3:]
        seen = framed.unfold(2, h, 1).unfold(3, w, 1).permute(2, 3, 0, 1, 4, 5)
        there = seen[self.places[:, 0] + top, self.places[:, 1] + left].transpose(0, 1)  # (F, U, C, h, w)
        return there if len(self.places) == 1 else there.index_select(1, self.which)

    @cached_property
    def sticking_out(self) -> list[int]:
        """How far windows stick out of the image on the left, on the right, above and below."""
        (height, width), (h, w) = self.shape[1:], self.entries.shape[3:]
        (top, left), (bottom, right) = self.places.amin(0).tolist(), self.places.amax(0).tolist()
        return [max(n, 0) for n in (-left, right + w - width, -top, bottom + h - height)]

    def sums(self, entries: Tensor, met: Tensor) -> Tensor:
        """As of `Whole`."""
        if len(met) == 1:
            return entries.flatten(2) @ met.flatten()
        return torch.bmm(entries.flatten(2).transpose(0, 1), met.flatten(1)[:, :, None])[:, :, 0].t()

    def offset(self, fields: Fields) -> Tensor:
        """As of `Whole`; these have zeros outside of the image."""
        if fields.levels is not None:
            return self.entries.flatten(3).sum(3) @ fields.levels
        return self.sums(self.entries, self.at(fields)[0])

    def whole(self) -> Whole:
        """The same as whole rows."""
        (c, height, width), (h, w) = self.shape, self.entries.shape[3:]
        y = torch.arange(height) - self.places[:, :1]
        x = torch.arange(width) - self.places[:, 1:]
        inside = ((y >= 0) & (y < h))[:, :, None] & ((x >= 0) & (x < w))[:, None]
        index = y.clamp(0, h - 1)[:, :, None] * w + x.clamp(0, w - 1)[:, None]
        index, inside = (t.flatten(1)[self.which][None, :, None] for t in (index, inside))
        sides, n = self.entries.shape[:2]
        found = self.entries.flatten(3).gather(3, index.expand(sides, n, c, -1))
        return Whole(found.masked_fill_(~inside, 0.0).reshape(sides, n, *self.shape))

    def inside(self) -> Windows:
        """The same with zeros outside of the image."""
        if self.clean or not any(self.sticking_out):
            return self
        size = self.entries.shape[3:]
        kept = []
        for axis in (0, 1):
            index = self.places[:, axis, None] + torch.arange(size[axis])
            kept.append(((index >= 0) & (index < self.shape[1 + axis]))[self.which])
        outside = ~(kept[0][:, None, :, None] & kept[1][:, None, None, :])
        return replace(self, entries=self.entries.masked_fill(outside, 0.0), clean=True)

    def times(self, entries: Tensor) -> Windows:
        """As of `Whole`: zero outside of the image, like what `at` gives."""
        return replace(self, entries=entries, clean=True)

    def both(self) -> Windows:
        """As of `Whole`."""
        return replace(self, entries=torch.cat([self.entries, -self.entries]))

    def plus(self, other: Rows) -> Rows:
        """The sums with other rows of the same node, on windows that hold both."""
        apart = other.places - self.places if isinstance(other, Windows) else self.places
        if not isinstance(other, Windows) or (apart != apart[:1]).any():
            return self.whole().plus(other)
        low = apart[0].clamp_max(0)
        sizes = [torch.tensor(rows.entries.shape[3:]) for rows in (self, other)]
        high = torch.maximum(sizes[0], apart[0] + sizes[1])
        sides, n = self.entries.shape[:2]
        entries = self.entries.new_zeros(sides, n, self.shape[0], *(high - low).tolist())
        for rows, start, (h, w) in zip((self, other), (-low, apart[0] - low), sizes, strict=True):
            y, x = start.tolist()
            entries[..., y : y + h, x : x + w] += rows.entries
        return replace(self, entries=entries, places=self.places + low, clean=False).fitting()

    def fitting(self) -> Rows:
        """Whole rows where these are no larger."""
        h, w = self.entries.shape[3:]
        return self.whole() if h * w >= math.prod(self.shape[1:]) else self

    def through(self, op: Affine) -> tuple[Rows, ...]:
        """As of `Whole`."""
        match op:
            case Inexact():
                return self.through(op.op)
            case Sum():
                signed = op.adjoint(self.entries)
                return tuple(self if t is self.entries else replace(self, entries=t) for t in signed)
            case Diagonal() if op.weight is None or set(op.weight.shape[-2:]) <= {1}:  # the same everywhere
                return (replace(self, entries=op.linear(self.entries)),)
            case Convolution() if op.rank == 2:
                return (self._through_convolution(op),)
            case Select() if op.grid is not None:  # as pooling reads, or some channels
                return (self._through_grid(op.grid, op.input_shapes[0]),)
            case Concatenation() if {shape[1:] for shape in op.input_shapes} == {self.shape[1:]}:  # of channels
                parts = torch.split(self.entries, [shape[0] for shape in op.input_shapes], dim=2)
                shapes = op.input_shapes
                return tuple(replace(self, entries=t, shape=s) for t, s in zip(parts, shapes, strict=True))
            case _:
                return self.whole().through(op)

    def _through_convolution(self, op: Convolution) -> Rows:
        rows = self.inside()
        entries = transposed(op, rows.entries.flatten(0, 1), [0, 0], [0, 0])
        entries = entries.reshape(*rows.entries.shape[:2], *entries.shape[1:])
        return Windows(entries, moved(op, rows.places), rows.which, op.input_shapes[0]).fitting()

    def _through_grid(self, grid: tuple[Tensor, Tensor, Tensor], shape: Shape) -> Rows:
        (channels, stride, offset), rows = grid, self.inside()
        (sy, sx), (h, w) = stride.tolist(), rows.entries.shape[3:]
        entries = rows.entries
        if channels.tolist() != list(range(shape[0])):
            entries = entries.new_zeros(*entries.shape[:2], shape[0], h, w).index_add_(2, channels, entries)
        if sy * sx > 1:
            apart = entries.new_zeros(*entries.shape[:3], (h - 1) * sy + 1, (w - 1) * sx + 1)
            apart[..., ::sy, ::sx] = entries
            entries = apart
        return Windows(entries, rows.places * stride + offset, rows.which, shape).fitting()


Rows = Whole | Windows


@dataclass(frozen=True)
class Pulled:
    """Rows that were pulled back, for one input.

    Attributes:
        rows: of the values of the node where that ends, or of the noise.
        constant, error: (S, N) and a bound on the error of the whole.
        activations: ReLU node -> (S, N, number kept) coefficients, exact.
        ends: ReLU node -> rows of its activations, where rows ended there, exact.
        normal_error: (S, N) what rows of the noise are off by, in the Euclidean norm; None: they are of a node.
    """

    rows: Rows
    constant: Tensor
    error: Tensor
    activations: dict[int, Tensor]
    ends: dict[int, Rows]
    normal_error: Tensor | None = None

    def in_one(self) -> Pulled:
        """The same with one side, its rows those of all sides, one after the other."""
        rows = Whole(self.rows.whole().entries.flatten(0, 1)[None])
        constant, error = self.constant.flatten()[None], self.error.flatten()[None]
        doubt = None if self.normal_error is None else self.normal_error.flatten()[None]
        kept = {i: t.flatten(0, 1)[None] for i, t in self.activations.items()}
        return Pulled(rows, constant, error, kept, self.ends, doubt)


def unit_rows(network: Network, node: int, units: Tensor) -> tuple[int, Rows, Tensor]:
    """Rows of units (N,) of a node, seen through its map where that copies entries; else one-hot rows.

    Returns:
        the node whose values the rows multiply, one side of them, and the constants (1, N) beside them.
    """
    op, shape, n = network.nodes[node].op, network.shape(node), len(units)
    below, constant = network.nodes[node].inputs, torch.zeros(1, n, dtype=torch.float64)
    if len(shape) != 3:
        if isinstance(op, Dense) and op.output_shape == op.weight.shape[:1]:
            return below[0], Whole(op.weight[units][None]), constant if op.offset is None else op.offset[units][None]
        hot = torch.zeros(n, math.prod(shape), dtype=torch.float64)
        hot[torch.arange(n), units] = 1.0
        return node, Whole(hot.reshape(1, n, *shape)), constant
    area = math.prod(shape[1:])
    channel, here = units // area, units % area
    place = here.bincount(minlength=area).nonzero()[:, 0]
    which = torch.searchsorted(place, here)
    places = torch.stack([place // shape[2], place % shape[2]], 1)
    if isinstance(op, Convolution) and op.rank == 2 and op.groups == 1 and max(op.dilation) == 1:
        rows = Windows(op.kernel[channel][None], moved(op, places), which, op.input_shapes[0])
        return below[0], rows.fitting(), constant if op.offset is None else op.offset[:, 0, 0][channel][None]
    hot = torch.zeros(1, n, shape[0], 1, 1, dtype=torch.float64)
    hot[0, torch.arange(n), channel] = 1.0
    return node, Windows(hot, places, which, shape).fitting(), constant


def unit_work(network: Network, node: int) -> float:
    """Multiplications that it takes to pull back the unit in the middle of a node."""
    shape = network.shape(node)
    middle = math.prod(shape[1:]) // 2 + shape[-1] // 2 if len(shape) == 3 else 0
    last, rows, _ = unit_rows(network, node, torch.tensor([middle]))
    met, work = {last: rows}, 1.0
    for i in range(last, 0, -1):
        if i not in met:
            continue
        here, op = met.pop(i), network.nodes[i].op
        parts: tuple[Rows, ...] = (here,)
        if isinstance(op, Affine):
            parts, work = here.through(op), work + here.entries.numel() * op.terms
        for j, part in zip(network.nodes[i].inputs, parts, strict=True):
            met[j] = met[j].plus(part) if j in met else part
    return work


def batches(network: Network, node: int, units: Tensor, widths: tuple[int, ...]) -> Iterator[Tensor]:
    """Units (N,) of a node in parts that are best pulled back together; widths: of their fields at the input.

    Units of one place of an image, which meet the same, stand together.
    """
    shapes = [network.shape(i) for i in range(node + 1)]
    channels = max([shape[0] for shape in shapes if len(shape) == 3], default=1)
    entries = min(channels * math.prod(widths[-2:]), max(map(math.prod, shapes)))
    if len(units):
        order = (units % math.prod(shapes[node][1:])).argsort(stable=True)
        yield from torch.split(units[order], max(_FEWEST, _ENTRIES // entries))


def offsets(op: Affine) -> tuple[Tensor, ...]:
    """The offset of a map in full size, where there is one."""
    return () if op.offset is None else (op.offset.expand(op.output_shape),)


def moved(op: Convolution, places: Tensor) -> Tensor:
    """Where the windows of a convolution start that units at these places read."""
    return places * torch.tensor(op.stride) - torch.tensor([low for low, _ in op.padding])
