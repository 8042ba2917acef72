"""Clipping: the network that sees its input clipped to a valid range, as one piecewise-linear network."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from calotte.errors import InvalidInput
from calotte.network.affine import Diagonal, Sum
from calotte.network.graph import Clipping, Network, Node, Original, Relu

__all__ = ["clipped"]


def clipped(network: Network, low: float, high: float) -> Network:
    """The network x -> network(clip(x, low, high)), clip(x) = low + relu(x - low) - relu(x - high) entrywise.

    N grows by 2 d. An input with entries on low or high lies on a hyperplane of it, so that the rungs that bound
    leaving the cell say nothing there.

    Raises:
        InvalidInput: low and high are not finite or not in order.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidInput(f"a clipping range needs low < high, both finite, came {low} and {high}")
    shape = network.input_shape

    def shift(by: float) -> Diagonal:
        return Diagonal(shape, None, torch.tensor(by, dtype=torch.float64))

    first = (
        network.nodes[0],
        Node("above_low", shift(-low), (0,)),
        Node("clip_low", Relu(shape), (1,)),
        Node("above_high", shift(-high), (0,)),
        Node("clip_high", Relu(shape), (3,)),
        Node("between", Sum(shape, (1, -1)), (2, 4)),
        Node("clipped", shift(low), (5,)),
    )
    added = len(first) - 1
    rest = (replace(node, inputs=tuple(i + added for i in node.inputs)) for node in network.nodes[1:])
    return replace(
        network,
        nodes=(*first, *rest),
        clipping=Clipping(network, low, high),
        original=None if network.original is None else behind_clipping(network.original, low, high),
    )


def behind_clipping(original: Original, low: float, high: float) -> Original:
    """The original model behind the same clipping."""
    return replace(original, answers=lambda x: original.answers(x.clamp(low, high)))
