"""Reach: how far the values of all nodes can go, found forwards, and what a rounded coefficient of them can cost."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotte.network.affine import Affine
from calotte.network.enclosure import magnitude_pass
from calotte.network.graph import Network, Relu
from calotte.rounding import UNIT_ROUNDOFF, VALUE_SLACK, dot_error, raised

__all__ = ["Reach", "doubts_of_map", "doubts_of_relu"]


class Reach:
    """Bounds on the values of a network's nodes, for a batch: on what is considered, and on what is paid for.

    Args:
        network: the network.
        x, moved: (B, *input shape) inputs and how far each number may move; exactly zero where it may not.
        intervals: whether interval arithmetic is of use.

    Attributes:
        magnitude: node -> (B, *shape) bounds on |values|.
        doubts: node -> (B, *shape) what rounding costs where a coefficient of 1 of the node's values is pulled back
            through its map or ReLU.
        between: node -> (B, *shape) low, high: intervals that hold wherever the bounds on the units before them do.
    """

    def __init__(self, network: Network, x: Tensor, moved: Tensor, intervals: bool) -> None:
        self.network = network
        self.magnitude = {0: raised(x.abs() + moved, 4)}
        self.doubts: dict[int, Tensor] = {}
        self.between: dict[int, tuple[Tensor, Tensor]] = {}
        if intervals:
            off = moved + UNIT_ROUNDOFF * 2 * self.magnitude[0]
            self.between[0] = x - off, x + off

    def bound(self, i: int) -> None:
        """Bound node i, from the nodes that it reads; ReLUs are dealt with by `settle`."""
        node = self.network.nodes[i]
        if isinstance(node.op, Relu):
            self.magnitude[i] = self.magnitude[node.inputs[0]]
            return
        op = node.op
        assert isinstance(op, Affine)
        product = magnitude_pass(op, VALUE_SLACK, *(self.magnitude[j] for j in node.inputs))
        offset = torch.zeros((), dtype=torch.float64) if op.offset is None else op.offset.abs()
        self.magnitude[i] = raised(product + offset, 4)
        self.doubts[i] = doubts_of_map(op, product)
        if all(j in self.between for j in node.inputs):
            self._bound_between(i, op, product + offset)

    def _bound_between(self, i: int, op: Affine, size: Tensor) -> None:
        """Interval arithmetic by middles and radii; size: of all that is added up in the node."""
        ends = [self.between[j] for j in self.network.nodes[i].inputs]
        middles = [(low + high) / 2 for low, high in ends]
        radii = [
            raised(torch.maximum(high - middle, middle - low).clamp_min(0.0), 4) + VALUE_SLACK
            for (low, high), middle in zip(ends, middles, strict=True)
        ]
        middle, largest = op(*middles), self.magnitude[i]
        off = magnitude_pass(op, VALUE_SLACK, *radii) + dot_error(size, op.terms + 8) + VALUE_SLACK
        off = raised(off, 4)
        low, high = middle - off, middle + off
        low, high = low - 2 * UNIT_ROUNDOFF * low.abs(), high + 2 * UNIT_ROUNDOFF * high.abs()
        known = low.isfinite() & high.isfinite()  # overflow: only the magnitude is known
        low, high = torch.where(known, low, -largest), torch.where(known, high, largest)
        largest = self.magnitude[i] = torch.minimum(largest, torch.maximum(-low, high).clamp_min(0.0))
        self.between[i] = torch.maximum(low, -largest), torch.minimum(high, largest)

    def settle(self, relu: int, lower: Tensor, upper: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
        """Fix the reach of a ReLU node and of what feeds it.

        Args:
            relu: the node; lower, upper: (B, *shape) bounds on its pre-activations that may be used.
            largest: (B, *shape) bounds on their magnitudes, for all noise considered.

        Returns:
            lower and upper, within the magnitudes.
        """
        feeder = self.network.feeders[relu]
        largest = self.magnitude[feeder] = torch.minimum(self.magnitude[feeder], largest)
        lower, upper = torch.maximum(lower, -largest), torch.minimum(upper, largest)
        self.magnitude[relu] = torch.minimum(largest, upper.clamp_min(0.0))
        if self.between:
            self.between[relu] = lower.clamp_min(0.0), upper.clamp_min(0.0)
        return lower, upper


def doubts_of_map(op: Affine, product: Tensor) -> Tensor:
    """What rounding costs where a coefficient of 1 of the values of a map is pulled back through it.

    Args:
        product: bounds on the magnitudes added up in the values, but for the offset.
    """
    doubts = dot_error(product, op.adjoint_terms + op.terms + 2)
    if op.offset is None:
        return doubts
    return doubts + dot_error(op.offset.abs(), math.prod(op.output_shape) + 4)


def doubts_of_relu(intercept: Tensor, upper: Tensor, size: Tensor, units: int) -> Tensor:
    """The same of ReLUs, with the intercepts of their lines.

    Args:
        upper: bounds on what they take, where nothing is rounded in products with zero; size: of its magnitude.
        units: how many intercepts are added up.
    """
    return torch.where(upper <= 0, 0.0, dot_error(intercept, units + 4) + dot_error(size, 4))
