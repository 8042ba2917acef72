"""Single precision: a float32 copy of a network, for searches that are re-checked and samples that are enclosed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from calotte.network.affine import Affine, Sum
from calotte.network.graph import Network

__all__ = ["in_single"]


def in_single(network: Network) -> Network:
    """The network with its coefficients rounded to float32: an approximation, for float32 inputs only."""
    nodes = tuple(
        replace(node, op=rounded(node.op)) if isinstance(node.op, Affine) else node for node in network.nodes
    )
    return replace(network, nodes=nodes, original=None, clipping=None)


def rounded(op: Affine) -> Affine:
    """An affine map with float32 coefficients."""
    if isinstance(op, Sum):
        return op  # it has signs only
    linear = op.with_coefficients(to_single)
    if linear is not op:
        linear.offset = None if op.offset is None else op.offset.to(torch.float32)
    return linear


def to_single(t: Tensor) -> Tensor:
    """A tensor in float32."""
    return t.to(torch.float32)
