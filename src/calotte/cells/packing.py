"""Normals: transposed products through the affine map of one cell, one unit each or several packed into one.

The normal of a unit behind convolutions lives on its receptive field. Units with disjoint receptive fields share
a product: the transposed map of the sum of their one-hot vectors is the sum of their normals, which do not
overlap. A value between them that two of the units read has no path to any input, for such a path would lie in
both fields. So packing loses nothing, and rounding is that of one product for each unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.network.affine import Affine
from calotte.network.graph import Network, Relu

__all__ = ["Packing", "one_hot_blocks", "pack", "pull_back", "receptive_fields", "row_norms"]

_SMALL = 2.0**-400  # norms below it, or above its reciprocal, are taken again after scaling
_LARGEST = 2e8  # entries of a table of receptive fields: larger ones are not made


def pull_back(network: Network, masks: Mapping[int, Tensor], node: int, y: Tensor) -> Tensor:
    """Rows of the transposed affine map of one cell: (n, *shape of node) -> (n, d).

    Row i is the gradient with respect to the input of y[i] . (values of `node`) on the cell of `masks`, which
    hold one pattern, (1, *shape) or (*shape).
    """
    cotangents: dict[int, Tensor] = {node: y}
    for i in range(node, 0, -1):
        if i not in cotangents:
            continue
        here, step = cotangents.pop(i), network.nodes[i]
        assert step.op is not None
        below = (here * masks[i],) if isinstance(step.op, Relu) else step.op.adjoint(here)
        for j, cotangent in zip(step.inputs, below, strict=True):
            cotangents[j] = cotangents[j] + cotangent if j in cotangents else cotangent
    if 0 not in cotangents:
        return torch.zeros(len(y), network.d, dtype=torch.float64)
    return cotangents[0].flatten(1)


def one_hot_blocks(network: Network, node: int, memory_limit: float) -> Iterator[tuple[slice, Tensor]]:
    """One-hot cotangents of a node in blocks that fit the memory limit: (slice of its units, (n, *shape))."""
    shape = network.shape(node)
    size = math.prod(shape)
    widest = max(math.prod(network.shape(i)) for i in range(len(network.nodes)))
    block = max(1, min(size, int(memory_limit / (8 * 6 * widest))))
    for begin in range(0, size, block):
        end = min(begin + block, size)
        hot = torch.zeros(end - begin, size, dtype=torch.float64)
        hot[torch.arange(end - begin), torch.arange(begin, end)] = 1.0
        yield slice(begin, end), hot.reshape(-1, *shape)


def row_norms(rows: Tensor) -> Tensor:
    """Euclidean norms of the rows of a matrix, right also where squares overflow or underflow."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    for doubtful, scale in ((norms < _SMALL, 2.0**600), (norms > 1.0 / _SMALL, 2.0**-600)):
        if doubtful.any():
            norms[doubtful] = torch.linalg.vector_norm(rows[doubtful] * scale, dim=1) / scale
    return norms


@dataclass(frozen=True)
class Packing:
    """Groups of positions of a node; a unit is a channel (first axis, where there are several) at a position.

    Attributes:
        channels: number of channels; positions P of each.
        members: (G, P) float64, 1 where a position belongs to a group.
        owner: (G, d) int64: the position of the group that an input coordinate belongs to, P for none. None
            where every group is a single position and owns all inputs.
    """

    channels: int
    members: Tensor
    owner: Tensor | None

    @property
    def products(self) -> int:
        """Transposed products that find the normals of all units."""
        return self.channels * len(self.members)

    def blocks(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Products in blocks: channels (n,), groups (n,), cotangents (n, channels * P)."""
        groups, positions = self.members.shape
        for begin in range(0, self.products, size):
            which = torch.arange(begin, min(begin + size, self.products))
            channel, group = which // groups, which % groups
            cotangents = torch.zeros(len(which), self.channels, positions, dtype=torch.float64)
            cotangents[torch.arange(len(which)), channel] = self.members[group]
            yield channel, group, cotangents.flatten(1)

    def norms(self, channel: Tensor, group: Tensor, rows: Tensor, out: Tensor) -> None:
        """Write the norms of the normals in `rows` (n, d), one product each, to `out` (channels, P)."""
        if self.owner is None:
            out[channel, group] = row_norms(rows)
            return
        positions = self.members.shape[1]
        squares = torch.zeros(len(rows), positions + 1, dtype=torch.float64)
        squares.scatter_add_(1, self.owner[group], rows * rows)
        row, position = self.members[group].nonzero(as_tuple=True)
        out[channel[row], position] = squares[row, position].sqrt()


def pack(network: Network, node: int, local: bool = True) -> Packing:
    """Pack the units of a node: greedily, every position joins the first group that it does not overlap.

    With `local` false every unit stands alone.
    """
    shape = network.shape(node)
    channels = shape[0] if len(shape) > 1 else 1
    positions = math.prod(shape) // channels
    single = Packing(channels, torch.eye(positions, dtype=torch.float64), None)
    if not local or len(shape) == 1 or positions * network.d > _LARGEST:
        return single
    fields = receptive_fields(network, node, channels)
    if (fields.sum(1) > network.d / 2).all():
        return single
    used = torch.zeros(0, network.d, dtype=torch.bool)
    home = torch.empty(positions, dtype=torch.int64)
    for p, field in enumerate(fields):
        free = (~(used & field).any(1)).nonzero()
        if len(free):
            home[p] = free[0, 0]
            used[home[p]] |= field
        else:
            home[p] = len(used)
            used = torch.cat([used, field[None]])
    members = torch.nn.functional.one_hot(home, len(used)).t().to(torch.float64)
    owner = torch.full((len(used), network.d), positions)
    for p, field in enumerate(fields):
        owner[home[p], field] = p
    return Packing(channels, members, owner)


def receptive_fields(network: Network, node: int, channels: int) -> Tensor:
    """Inputs that the units of a node can depend on, all channels of a position together: bool (P, d)."""
    shape = network.shape(node)
    positions = math.prod(shape) // channels
    one_hot = torch.eye(positions, dtype=torch.float64)[:, None, :].expand(positions, channels, positions)
    reached: dict[int, Tensor] = {node: one_hot.reshape(positions, *shape)}
    for i in range(node, 0, -1):
        if i not in reached:
            continue
        here, step = reached.pop(i), network.nodes[i]
        below = step.op.support.adjoint(here) if isinstance(step.op, Affine) else (here,)
        for j, mark in zip(step.inputs, below, strict=True):
            mark = (mark > 0).to(torch.float64)
            reached[j] = torch.maximum(reached[j], mark) if j in reached else mark
    if 0 not in reached:
        return torch.zeros(positions, network.d, dtype=torch.bool)
    return reached[0].flatten(1) > 0
