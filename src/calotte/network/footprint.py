"""Footprint: the memory that a forward pass takes."""

from __future__ import annotations

import math

from calotte.network.affine import Affine, Inexact
from calotte.network.convolution import Convolution
from calotte.network.graph import Network

__all__ = ["footprint", "pass_size"]

_PASS = 2**23  # numbers that a pass holds at most: larger ones gain nothing, fresh pages and cold caches cost time


def pass_size(network: Network, memory: float, start: int = 0, width: int = 8) -> int:
    """Rows that a forward pass from the values of node `start` is to take at once, at least 1.

    Args:
        memory: bytes that it may hold; width: bytes of a number.
    """
    row = footprint(network, start) + network.d
    return max(1, int(min(memory / (width * row), _PASS / row)))


def footprint(network: Network, start: int = 0) -> int:
    """Numbers that a forward pass from the values of node `start` holds at once for each row, at most."""
    size = [math.prod(network.shape(i)) for i in range(len(network.nodes))]
    held = most = size[start]
    for i in range(start + 1, len(network.nodes)):
        held += size[i]
        most = max(most, held + (temporaries(op, size[i]) if isinstance(op := network.nodes[i].op, Affine) else 0))
        held -= sum(size[j] for j in set(network.nodes[i].inputs) if network.last_reader[j] == i and j >= start)
    return most


def temporaries(op: Affine, size: int) -> int:
    """Numbers that an affine map of `size` outputs holds for each row beside its arguments and its result."""
    if isinstance(op, Inexact):
        return temporaries(op.op, size)
    if isinstance(op, Convolution):
        inputs = op.input_shapes[0]
        padded = (
            0 if op.even else math.prod(n + sum(pair) for n, pair in zip(inputs, ((0, 0), *op.padding), strict=True))
        )
        patches = 0 if op.rank == 2 and op.groups == 1 else op.terms * op.groups * math.prod(op.output_shape[1:])
        return size + padded + patches
    return size
