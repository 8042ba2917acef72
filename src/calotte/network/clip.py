"""Clipping: the network that sees its input clipped to a valid range, as one piecewise-linear network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calotte.checks import kind, number
from calotte.errors import InvalidInput
from calotte.network.affine import Diagonal, Shape, Sum
from calotte.network.graph import Clipping, Network, Node, Relu

__all__ = ["clip_nodes", "clipped"]


def clipped(network: Network, low: float, high: float) -> Network:
    """The network x -> network(clip(x, low, high)), clip(x) = low + relu(x - low) - relu(x - high) entrywise.

    N grows by 2 d. An input with entries on low or high lies on a hyperplane of it, so that the rungs that bound
    leaving the cell say nothing there.

    Raises:
        InvalidInput: no Network; low and high are no numbers, not finite or not in order.
    """
    if not isinstance(network, Network):
        raise InvalidInput(f"network: expected a calotte Network, came {kind(network)}")
    low, high = number("low", low), number("high", high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidInput(f"a clipping range needs low < high, both finite, came {low} and {high}")
    first = (network.nodes[0], *clip_nodes(network.input_shape, low, high, 0))
    added = len(first) - 1
    rest = (replace(node, inputs=tuple(i + added for i in node.inputs)) for node in network.nodes[1:])
    original = network.original
    if original is not None:
        original = replace(original, answers=ClippedAnswers(original.answers, low, high))
    return replace(network, nodes=(*first, *rest), clipping=Clipping(network, low, high), original=original)


def clip_nodes(shape: Shape, low: float, high: float, i: int) -> tuple[Node, ...]:
    """The nodes after node i that clip its values, of this shape, to [low, high]; the last one holds them."""

    def shift(by: float) -> Diagonal:
        return Diagonal(shape, None, torch.tensor(by, dtype=torch.float64))

    return (
        Node("above_low", shift(-low), (i,)),
        Node("clip_low", Relu(shape), (i + 1,)),
        Node("above_high", shift(-high), (i,)),
        Node("clip_high", Relu(shape), (i + 3,)),
        Node("between", Sum(shape, (1, -1)), (i + 2, i + 4)),
        Node("clipped", shift(low), (i + 5,)),
    )


@dataclass(frozen=True)
class ClippedAnswers:
    """Answers of an original model behind the same clipping."""

    answers: Callable[[Tensor], Tensor]
    low: float
    high: float

    def __call__(self, x: Tensor) -> Tensor:
        return self.answers(x.clamp(self.low, self.high))
