"""Products: transposed products through the affine map of one cell, and norms of the rows that they give."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from calotte.network.graph import Network, Relu

__all__ = ["one_hot_blocks", "one_hot_rows", "pull_back", "row_norms"]

_SMALL = 2.0**-400  # norms below it, or above its reciprocal, are taken again after scaling


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


def one_hot_rows(network: Network, node: int, begin: int, end: int) -> Tensor:
    """Cotangents (end - begin, *shape) of the units of a node from `begin` up to `end`."""
    shape = network.shape(node)
    hot = torch.zeros(end - begin, math.prod(shape), dtype=torch.float64)
    hot[torch.arange(end - begin), torch.arange(begin, end)] = 1.0
    return hot.reshape(-1, *shape)


def one_hot_blocks(network: Network, node: int, memory_limit: float) -> Iterator[tuple[slice, Tensor]]:
    """One-hot cotangents of a node in blocks that fit the memory limit: (slice of its units, (n, *shape))."""
    shape = network.shape(node)
    size = math.prod(shape)
    widest = network.widest
    block = max(1, min(size, int(memory_limit / (8 * 6 * widest))))
    for begin in range(0, size, block):
        end = min(begin + block, size)
        hot = torch.zeros(end - begin, size, dtype=torch.float64)
        hot[torch.arange(end - begin), torch.arange(begin, end)] = 1.0
        yield slice(begin, end), hot.reshape(-1, *shape)


def row_norms(rows: Tensor, dim: int = 1) -> Tensor:
    """Euclidean norms along one axis (of rows), right also where squares overflow or underflow."""
    if rows.stride(dim) == 1:
        norms: Tensor = torch.linalg.vector_norm(rows, dim=dim)
    else:  # several times faster across rows
        norms = rows.square().sum(dim).sqrt()
    if norms.numel() == 0 or (norms.min() >= _SMALL and norms.max() <= 1.0 / _SMALL):
        return norms
    for doubtful, scale in ((norms < _SMALL, 2.0**600), (norms > 1.0 / _SMALL, 2.0**-600)):
        if doubtful.any():
            norms[doubtful] = torch.linalg.vector_norm(rows.movedim(dim, -1)[doubtful] * scale, dim=-1) / scale
    return norms
