"""Extremes: the nodes of a network that are the larger or the smaller of two values, as graphs have them."""

from __future__ import annotations

from typing import NamedTuple

from calotte.network.affine import Sum
from calotte.network.graph import Network, Node, Relu

__all__ = ["Extreme", "extreme"]


class Extreme(NamedTuple):
    """max(a, b) = b + relu(a - b) where the sign is 1, min(a, b) = b - relu(b - a) where it is -1: nodes."""

    a: int
    b: int
    relu: int
    sign: int


def extreme(network: Network, node: Node) -> Extreme | None:
    """What a node is an extreme of; None where it is none."""
    if not (isinstance(node.op, Sum) and len(node.inputs) == 2):
        return None
    first, second = zip(node.inputs, node.op.signs, strict=True)
    for (b, one), (relu, sign) in ((first, second), (second, first)):
        if one != 1 or not isinstance(network.nodes[relu].op, Relu):
            continue
        less = network.nodes[network.feeders[relu]]
        if isinstance(less.op, Sum) and less.op.signs == (sign, -sign) and less.inputs[1] == b:
            return Extreme(less.inputs[0], b, relu, int(sign))
    return None
