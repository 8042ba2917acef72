"""Conversion: a copy of a network in another arithmetic, or on another device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from calotte.network.affine import Affine, Sum
from calotte.network.graph import Network

__all__ = ["converted", "in_single"]


def in_single(network: Network) -> Network:
    """The network with its coefficients rounded to float32: an approximation, for searches that are re-checked."""
    return converted(network, torch.float32)


def converted(network: Network, dtype: torch.dtype, device: str = "cpu") -> Network:
    """The network with coefficients of a type on a device, for inputs of that type there; it has no original."""

    def moved(t: Tensor) -> Tensor:
        return t.to(device, dtype)

    nodes = tuple(
        replace(node, op=with_tensors(node.op, moved)) if isinstance(node.op, Affine) else node
        for node in network.nodes
    )
    return replace(network, nodes=nodes, original=None, clipping=None)


def with_tensors(op: Affine, moved: Callable[[Tensor], Tensor]) -> Affine:
    """An affine map whose coefficients and offset are `moved`."""
    if isinstance(op, Sum):
        return op  # it has signs only
    linear = op.with_coefficients(moved)
    if linear is not op:
        linear.offset = None if op.offset is None else moved(op.offset)
    return linear
