"""Tidying a fresh graph: nodes that the output does not need are dropped, separate biases are merged (exactly)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from calotte.network.affine import Dense, Diagonal
from calotte.network.graph import Node

__all__ = ["simplify"]


def simplify(nodes: Sequence[Node], output: int) -> tuple[Node, ...]:
    """The nodes that `output` depends on, in order and renumbered, the output last; node 0 stays.

    A shift x + c that alone reads a Dense without bias becomes the bias of that Dense.
    """
    nodes = list(nodes)
    needed = reachable(nodes, output)
    readers = Counter(j for i in needed for j in nodes[i].inputs)
    alias: dict[int, int] = {}
    for i in needed:
        op, inputs = nodes[i].op, nodes[i].inputs
        if not isinstance(op, Diagonal) or op.weight is not None or op.offset is None:
            continue
        below = nodes[inputs[0]]
        if not isinstance(below.op, Dense) or below.op.offset is not None or readers[inputs[0]] > 1:
            continue
        shape = below.op.output_shape
        rows = op.offset.expand(shape).reshape(-1, shape[-1])
        if not (rows == rows[0]).all():
            continue
        bias = rows[0].clone()
        nodes[inputs[0]] = replace(below, op=Dense(below.op.weight, bias, leading=below.op.output_shape[:-1]))
        alias[i] = inputs[0]
    kept = [i for i in needed if i not in alias]
    number = {i: k for k, i in enumerate(kept)}
    number.update({i: number[j] for i, j in alias.items()})
    return tuple(replace(nodes[i], inputs=tuple(number[j] for j in nodes[i].inputs)) for i in kept)


def reachable(nodes: Sequence[Node], output: int) -> list[int]:
    """The nodes that `output` depends on, node 0 always, in order."""
    needed = {0, output}
    for i in range(output, 0, -1):
        if i in needed:
            needed.update(nodes[i].inputs)
    return sorted(needed)
