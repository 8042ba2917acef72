"""Single precision: a float32 copy of a network, for searches that are re-checked and samples that are enclosed.

It may live on another device than the network.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from calotte.network.affine import Affine, Sum
from calotte.network.graph import Network

__all__ = ["in_single"]


def in_single(network: Network, device: str = "cpu") -> Network:
    """The network with its coefficients rounded to float32: an approximation, for float32 inputs on `device` only."""
    nodes = tuple(
        replace(node, op=rounded(node.op, device)) if isinstance(node.op, Affine) else node for node in network.nodes
    )
    return replace(network, nodes=nodes, original=None, clipping=None)


def rounded(op: Affine, device: str) -> Affine:
    """An affine map with float32 coefficients."""
    if isinstance(op, Sum):
        return op  # it has signs only

    def to_single(t: Tensor) -> Tensor:
        return t.to(device, torch.float32)

    linear = op.with_coefficients(to_single)
    if linear is not op:
        linear.offset = None if op.offset is None else to_single(op.offset)
    return linear
