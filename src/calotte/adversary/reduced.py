"""Reduced: a chain of dense layers seen in the span of its first layer's rows, where searching costs less.

Moving across that span changes no output, so the nearest misclassified point differs from the input within it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calotte.network.affine import Dense, Reshape
from calotte.network.chain import chain_of
from calotte.network.graph import Network, Node

__all__ = ["Reduced", "reduced"]

_LARGEST = 2**24  # entries of a first layer: larger ones are not decomposed for a search


@dataclass(frozen=True, eq=False)
class Reduced:
    """A network on r coordinates, c = Q'x, that computes what the original does on x, rounding apart.

    Attributes:
        network: of input shape (r,).
        basis: Q (d, r), orthonormal columns that span the rows of the first layer; None for x itself.
    """

    network: Network
    basis: Tensor | None

    def down(self, x: Tensor) -> Tensor:
        """Coordinates (..., r) of points (..., d)."""
        return x if self.basis is None else x @ self.basis

    def up(self, x: Tensor, c: Tensor) -> Tensor:
        """The points (..., d) nearest to x that have coordinates c (..., r)."""
        return c if self.basis is None else x + (c - self.down(x)) @ self.basis.t()


def reduced(network: Network) -> Reduced:
    """The network in the row space of its first layer where that pays, else as it is."""
    chain = chain_of(network)
    if chain is None or len(chain.weights[0]) > 0.75 * network.d or chain.weights[0].numel() > _LARGEST:
        return Reduced(network, None)
    end, weight = chain.ends[0], chain.weights[0]
    offset = next(v for i, v in network.values(torch.zeros(1, network.d, dtype=torch.float64)) if i == end)
    basis, _ = torch.linalg.qr(weight.t())
    before, after = (len(weight),), network.shape(end)
    nodes = [Node("coordinates", None), Node("first", Dense(weight @ basis, offset.flatten()), (0,))]
    if after != before:
        nodes.append(Node("shaped", Reshape(before, after), (1,)))
    for node in network.nodes[end + 1 :]:
        nodes.append(replace(node, inputs=(len(nodes) - 1,)))
    return Reduced(Network(tuple(nodes), (basis.shape[1],), network.decision), basis)
