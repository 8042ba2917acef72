"""Dependence: whether anything that a network computes can depend on some of its inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.network.affine import Affine
from calotte.network.graph import Network, Node

__all__ = ["depends"]


def depends(network: Network, features: Tensor) -> bool:
    """Whether a path of coefficients that are not zero leads from some `features` (d,), bool, to an output."""

    def step(i: int, node: Node, below: list[Tensor]) -> Tensor:
        return (node.op.support.linear(*below) > 0).double() if isinstance(node.op, Affine) else below[0]

    return bool((network.swept(features.to(torch.float64).reshape(1, *network.input_shape), step) > 0).any())
