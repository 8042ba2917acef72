"""Random networks: dense ReLU networks of any widths with the usual initialisations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from calotte.checks import kind, whole
from calotte.errors import InvalidModel
from calotte.network.affine import Dense
from calotte.network.decision import Decision
from calotte.network.fingerprint import fingerprint
from calotte.network.graph import Network, Node, Relu

__all__ = ["Initialisation", "random_network"]

Initialisation = Literal["he", "kaiming_uniform"]


def random_network(widths: Sequence[int], generator: torch.Generator, init: Initialisation = "he") -> Network:
    """A dense ReLU network with random weights.

    Args:
        widths: (d, n_1, ..., n_L, K): input dimension, hidden widths, outputs; K = 1 decides by sign, else argmax.
        generator: where the randomness comes from.
        init: "he": weights N(0, 2 / n_in), biases N(0, 1 / n_in), so that hyperplanes do not all meet in 0
            (He et al., arXiv:1502.01852, with biases); "kaiming_uniform": weights and biases uniform on
            +- 1 / sqrt(n_in), the default of `torch.nn.Linear`.

    Raises:
        InvalidModel: fewer than two widths, a width below 1, an unknown initialisation, no generator.
        InvalidInput: widths that are no whole numbers.

    Examples:
        >>> import torch, calotte
        >>> calotte.random_network((784, 200, 10), torch.Generator().manual_seed(0)).units  # 200 ReLUs, 9 comparisons
        209
    """
    if not isinstance(generator, torch.Generator):
        raise InvalidModel(f"generator: expected a torch.Generator, came {kind(generator)}")
    widths = tuple(whole("widths", n) for n in widths)
    if len(widths) < 2 or min(widths) < 1:
        raise InvalidModel(f"widths {widths}: expected (d, ..., K), at least two positive numbers")
    if init not in get_args(Initialisation):
        raise InvalidModel(f"init '{init}': expected one of {', '.join(get_args(Initialisation))}")
    nodes = [Node("input", None)]
    for k, (n_in, n_out) in enumerate(pairwise(widths), start=1):
        weight, bias = layer(n_in, n_out, generator, init)
        nodes.append(Node(f"layer{k}", Dense(weight, bias), (len(nodes) - 1,)))
        if k < len(widths) - 1:
            nodes.append(Node(f"relu{k}", Relu((n_out,)), (len(nodes) - 1,)))
    rule: Literal["sign", "argmax"] = "sign" if widths[-1] == 1 else "argmax"
    network = Network(tuple(nodes), (widths[0],), Decision(rule, widths[-1]))
    return replace(network, sha256=fingerprint(network))


def layer(n_in: int, n_out: int, generator: torch.Generator, init: Initialisation) -> tuple[Tensor, Tensor]:
    """Weights (n_out, n_in) and biases (n_out,) of one layer."""
    shapes = ((n_out, n_in), (n_out,))
    if init == "he":
        weight, bias = (torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes)
        return weight * math.sqrt(2.0 / n_in), bias * math.sqrt(1.0 / n_in)
    weight, bias = (torch.rand(s, dtype=torch.float64, generator=generator) for s in shapes)
    return (2.0 * weight - 1.0) / math.sqrt(n_in), (2.0 * bias - 1.0) / math.sqrt(n_in)
