"""Fields: which inputs the units of a network can depend on, as one interval of indices for each axis of the input.

A receptive field is enclosed by a box: for every unit and every axis of the input the lowest and the highest index.
Boxes go forward through the graph, each the smallest that holds the boxes of what its unit reads; kernels and
matrices are taken as full. So a box may be too large, never too small. What all units of an axis share (the channels
of a convolution) is stored once: an axis of size 1 stands for all of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from calotte.network.affine import Affine, Dense, Diagonal, Inexact, Reshape, Shape, Sum
from calotte.network.convolution import Convolution, TransposedConvolution
from calotte.network.graph import Network
from calotte.network.rearrange import Concatenation, Select
from calotte.network.reduction import AxisSum

__all__ = ["Fields", "grid", "receptive_fields"]

POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


@dataclass(frozen=True)
class Fields:
    """The boxes that hold the receptive fields of a node's units.

    Attributes:
        low, high: (axes of the input, *shape) lowest and highest index, as whole floats; axes of the shape along
            which all are equal may have size 1. A unit that reads no input has low = inf, high = -inf.
    """

    low: Tensor
    high: Tensor

    @property
    def widths(self) -> tuple[int, ...]:
        """The largest extent of a box along each axis of the input, at least 1."""
        extents = (self.high - self.low + 1.0).flatten(1).amax(1).clamp_min(1.0)
        return tuple(int(extent) for extent in extents.tolist())

    @property
    def joint(self) -> Fields:
        """The one box that holds them all: the field of functions that read several of the units."""
        axes = len(self.low)
        return Fields(self.low.flatten(1).amin(1).reshape(axes, 1), self.high.flatten(1).amax(1).reshape(axes, 1))


def grid(network: Network) -> Shape:
    """The shape in which the first layers see the input: its own, or that of the reshape which it starts with."""
    shape, here = network.input_shape, 0
    while True:
        readers = [i for i, node in enumerate(network.nodes) if here in node.inputs]
        op = network.nodes[readers[0]].op if len(readers) == 1 else None
        if not isinstance(op, Diagonal | Reshape):
            return shape
        here, shape = readers[0], max(shape, op.output_shape, key=lambda s: sum(n > 1 for n in s))


def receptive_fields(network: Network) -> dict[int, Fields]:
    """The fields of the units of every node: node -> Fields over the axes of `grid(network)`."""
    axes = grid(network)
    dtype = torch.float32 if max(axes) < 2**24 else torch.float64  # whole numbers up to there are exact
    index = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=dtype) for n in axes), indexing="ij"))
    index = index.reshape(len(axes), *network.input_shape)
    above = {0: torch.stack([-index, index])}  # maxima only: the lowest index is minus the highest of its negative
    for i, node in enumerate(network.nodes[1:], start=1):
        parts = [above[j] for j in node.inputs]
        above[i] = _union(node.op, parts) if isinstance(node.op, Affine) else parts[0]
    return {i: Fields(-high[0], high[1]) for i, high in above.items()}


def _union(op: Affine, parts: list[Tensor]) -> Tensor:
    """Entrywise maxima, (2, axes, *output shape), over the entries that each entry of the output reads."""
    match op:
        case Inexact():
            return _union(op.op, parts)
        case AxisSum():
            return _full(parts[0], op.input_shapes[0]).amax([axis + 1 for axis in op.axes], keepdim=True)
        case Diagonal():
            return parts[0]
        case Sum():
            joint = parts[0]
            for part in parts[1:]:
                joint = torch.maximum(joint, part)
            return joint
        case Reshape():
            return _full(parts[0], op.input_shapes[0]).reshape(*parts[0].shape[:2], *op.output_shape)
        case Concatenation():
            flat = [_full(part, shape).flatten(2) for part, shape in zip(parts, op.input_shapes, strict=True)]
            return torch.cat(flat, 2).reshape(*parts[0].shape[:2], *op.output_shape)
        case Select():
            return _selected(op, parts[0])
        case Dense():
            return parts[0].amax(-1, keepdim=True)
        case Convolution():
            return _pooled(op, _in_groups(parts[0], op.groups, op.kernel.shape[0]))
        case TransposedConvolution():
            forward = op.forward
            return _spread(forward, _in_groups(parts[0], forward.groups, forward.input_shapes[0][0]))
        case _:  # nothing is known of it: every entry may read all others
            whole = torch.stack([part.flatten(2).amax(2) for part in parts]).amax(0)
            return whole.reshape(*whole.shape, *(1,) * len(op.output_shape))


def _full(above: Tensor, shape: Shape) -> Tensor:
    return above.expand(*above.shape[:2], *shape)


def _selected(op: Select, above: Tensor) -> Tensor:
    """Of the entries that a selection takes; an entry that is zero reads nothing."""
    before, after = op.input_shapes[0], op.output_shape
    place = op.index.index_fill(0, op.zero, -1)
    if above.shape[2] == 1 and len(before) > 1 and _same_in_all_channels(place, before, after):
        place, before, after = place[: len(place) // after[0]], (1, *before[1:]), (1, *after[1:])
    found = _full(above, before).flatten(2).index_select(2, place.clamp_min(0))
    return found.masked_fill_(place < 0, -torch.inf).reshape(*above.shape[:2], *after)


def _same_in_all_channels(place: Tensor, before: Shape, after: Shape) -> bool:
    """Whether a selection does the same in every channel, the first axis."""
    if before[0] != after[0]:
        return False
    first = torch.arange(before[0])[:, None] * math.prod(before[1:])
    within = place.reshape(before[0], -1)
    moved = torch.where(within < 0, -1, within - first)
    return bool((moved == moved[0]).all())


def _in_groups(above: Tensor, groups: int, out: int) -> Tensor:
    """Maxima over the channels of each group, for each of `out` channels of the output (or 1 for all of them)."""
    if above.shape[2] == 1 or groups == 1:
        return above.amax(2, keepdim=True)
    each = above.reshape(*above.shape[:2], groups, -1, *above.shape[3:]).amax(3)
    return each.repeat_interleave(out // groups, 2)


def _pooled(op: Convolution, above: Tensor) -> Tensor:
    """Maxima over the windows of a convolution, the channels dealt with."""
    above = above.expand(*above.shape[:3], *op.input_shapes[0][1:])
    pads = [n for pair in reversed(op.padding) for n in pair]
    padded = functional.pad(above.flatten(0, 1), pads, value=-torch.inf)
    pooled: Tensor = POOL[op.rank](padded, op.kernel.shape[2:], op.stride, 0, op.dilation)
    return pooled.reshape(*above.shape[:3], *op.output_shape[1:])


def _spread(forward: Convolution, above: Tensor) -> Tensor:
    """Maxima over the entries whose windows in `forward` hold each entry of its input."""
    before, after = forward.output_shape[1:], forward.input_shapes[0][1:]
    above = above.expand(*above.shape[:3], *before)
    spaced = [(n - 1) * s + 1 for n, s in zip(before, forward.stride, strict=True)]
    apart = torch.full((*above.shape[:3], *spaced), -torch.inf, dtype=above.dtype)
    apart[(slice(None), slice(None), slice(None), *(slice(None, None, s) for s in forward.stride))] = above
    pads = []
    for k, d, (low, _), n, m in zip(
        forward.kernel.shape[2:], forward.dilation, forward.padding, spaced, after, strict=True
    ):
        reach = d * (k - 1)
        pads.append((reach - low, m + low - n))
    padded = functional.pad(apart.flatten(0, 1), [n for pair in reversed(pads) for n in pair], value=-torch.inf)
    pooled: Tensor = POOL[forward.rank](padded, forward.kernel.shape[2:], 1, 0, forward.dilation)
    return pooled.reshape(*above.shape[:3], *after)
