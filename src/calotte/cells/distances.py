"""Geometry: how far inputs are from the hyperplanes of their cells, batched and enclosed.

The cell of x is the convex set of inputs around x on which the network is one affine map (Kůrková, Theorem 4.1).
Its hyperplanes belong to the N units: the ReLUs and the output comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from calotte.cells.packing import Packing, pack, pull_back, row_norms
from calotte.network.chain import RowSpace, chain_of, row_space
from calotte.network.enclosure import Enclosure, evaluate, normal_errors
from calotte.network.graph import Network, Relu
from calotte.rounding import NORM_SLACK, UNIT_ROUNDOFF, gamma

__all__ = ["Distances", "Geometry", "signed_distances"]

_TINIEST = 1e-323  # two steps of the subnormal floats


@dataclass(frozen=True)
class Distances:
    """Distances of a batch of inputs to the N hyperplanes of their cells.

    Attributes:
        predicted: (B,) the answers, as evaluated in float64.
        nearest: (B, N) distances as computed; inf where the unit has no hyperplane on the cell.
        lower: (B, N) lower ends of the enclosures of the *signed* distances: how far x lies on the side where
            its cell was computed. Negative where that side is not certain, -inf where nothing is known, inf
            where there is no hyperplane. Leaving the cell of the computed signs means leaving one of these
            half-spaces, whatever the true signs at x are.
    """

    predicted: Tensor
    nearest: Tensor
    lower: Tensor

    @property
    def rho(self) -> Tensor:
        """rho_x (B,), rounded down: 0 where x may lie on a hyperplane, inf where there is none."""
        return self.lower.amin(1).clamp_min(0.0)

    @property
    def unit(self) -> Tensor:
        """Index (B,) of the nearest hyperplane among the N."""
        return self.lower.argmin(1)


def signed_distances(
    value: Tensor, value_error: Tensor, norm: Tensor, norm_error: Tensor, norm_accuracy: float
) -> tuple[Tensor, Tensor]:
    """Distances to hyperplanes and lower ends of their signed enclosures.

    Args:
        value: n.x + b as computed, positive on the side of x; value_error bounds its error.
        norm: ||n|| as computed; the exact one is within relative `norm_accuracy` and absolute `norm_error`.
            A normal with norm and norm_error both zero is exactly zero: no hyperplane, unless the sign of the
            constant that is left is uncertain.

    Returns:
        (nearest, lower), shapes of `value`.
    """
    finite = torch.finfo(value.dtype).max
    numerator = value - value_error
    above = (norm * (1.0 + norm_accuracy) + norm_error) * (1.0 + gamma(4))
    below = (norm * (1.0 - norm_accuracy) * (1.0 - gamma(4)) - norm_error) * (1.0 - gamma(4))
    # one rounding of the subtraction, one of the quotient: 4 u moves both to the safe side (subnormals: _TINIEST)
    lower = torch.where(
        numerator >= 0,
        (numerator / above * (1.0 - 4 * UNIT_ROUNDOFF) - _TINIEST).clamp_max(finite),
        torch.where(below > 0, numerator / below * (1.0 + 4 * UNIT_ROUNDOFF) - _TINIEST, -torch.inf),
    )
    constant = (norm == 0) & (norm_error == 0)
    settled = (numerator > 0) | ((value == 0) & (value_error == 0))
    lower = torch.where(constant, torch.where(settled, torch.inf, -torch.inf), lower)
    known = value.isfinite() & norm.isfinite() & norm_error.isfinite() & ~lower.isnan()
    lower = torch.where(known, lower, -torch.inf)  # overflow: nothing is known
    nearest = torch.where(norm == 0, torch.inf, (value.abs() / norm).clamp_max(finite))
    return torch.where(nearest.isnan(), 0.0, nearest), lower


def times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Batched matrix-vector product (B, m, n), (B, n) -> (B, m)."""
    return (matrices @ vectors[:, :, None]).squeeze(2)


class Geometry:
    """The hyperplane distances of a network, in input space or in the space of a noise map r = S u.

    Args:
        network: the network.
        noise_map: S, (d, m) or a scale per feature (d,); None for the input space itself. Distances then live
            in u-space: a hyperplane n.r = t is (S' n).u = t there.
        memory_limit: bytes that blocks of normals may take.
    """

    def __init__(self, network: Network, noise_map: Tensor | None = None, memory_limit: float = 2e9) -> None:
        self.network, self.memory_limit = network, memory_limit
        self.noise_map = noise_map
        self.chain = chain_of(network)
        d = network.d
        if noise_map is None:
            self.m, norms = d, torch.ones(d, dtype=torch.float64)
        elif noise_map.ndim == 1:
            self.m, norms = int((noise_map != 0).sum()), noise_map.abs()
        else:
            self.m = noise_map.shape[1]
            norms = noise_map.norm(dim=1) * (1.0 + gamma(self.m + 4))
            norms = torch.where((noise_map != 0).any(1), norms.clamp_min(NORM_SLACK), norms)
        self.coordinates = Enclosure(norms, norms * (0.0 if noise_map is None else gamma(d + 4)))

    @cached_property
    def space(self) -> RowSpace:
        """First-layer normals of a chain in coordinates of their span, in the space of the noise."""
        assert self.chain is not None
        weight, errors = self.chain.weights[0], self.chain.first_error
        if self.noise_map is not None:
            spread = weight.abs() @ self.coordinates.value
            # ||S' e|| <= ||S|| ||e||: a diagonal S has its largest entry for norm, any S at most its Frobenius norm
            sizes = self.coordinates.value
            size = sizes.max() if self.noise_map.ndim == 1 else sizes.norm() * (1.0 + gamma(self.network.d + 4))
            errors = errors * size * (1.0 + gamma(4)) + spread * gamma(2 * self.network.d + 8)
            reached = ((weight != 0) & (sizes > 0)).any(1)  # spread may underflow
            errors = torch.where(reached, errors.clamp_min(NORM_SLACK), errors)
        return row_space(self.mapped(weight), errors)

    def mapped(self, normals: Tensor) -> Tensor:
        """Normals (n, d) of input space in u-space (n, m): S' n."""
        if self.noise_map is None:
            return normals
        if self.noise_map.ndim == 2:
            return normals @ self.noise_map
        kept = self.noise_map != 0
        return normals[:, kept] * self.noise_map[kept]

    def distances(self, x: Tensor) -> Distances:
        """Distances of a batch x (B, d) to the hyperplanes of their cells."""
        network = self.network
        pattern = network.pattern(x)
        masks = network.masks(pattern)
        inside = evaluate(network, x, masks)
        predicted = network.decision.decide(inside[-1].value)
        comparison = network.decision.comparison(predicted)
        if self.chain is not None:
            norms, output_norms, accuracy = self._chain_norms(masks, comparison)
            start = {self.chain.ends[0]: self.space.errors.reshape(network.shape(self.chain.ends[0]))}
            extra = self.chain.width
        else:
            norms, output_norms, accuracy = self._streamed_norms(masks, comparison)
            start, extra = None, len(network.nodes)
        above = {i: norm * (1.0 + accuracy) for i, norm in norms.items()}
        errors = normal_errors(network, masks, above, self.coordinates, start=start, extra_terms=extra)
        nearest, lower = [], []
        for i in network.relus:
            feeder = network.nodes[i].inputs[0]
            signs = torch.where(masks[i], 1.0, -1.0).flatten(1)
            near, low = signed_distances(
                inside[feeder].value.flatten(1) * signs,
                inside[feeder].error.flatten(1),
                norms[feeder].flatten(1),
                errors[feeder].flatten(1),
                accuracy,
            )
            nearest.append(near)
            lower.append(low)
        z = inside[-1]
        magnitude = comparison.abs()
        near, low = signed_distances(
            times(comparison, z.value),
            times(magnitude, z.error + gamma(2) * z.value.abs()) * (1.0 + gamma(8)),
            output_norms,
            times(magnitude, errors[-1]) * (1.0 + gamma(8)),
            accuracy,
        )
        return Distances(predicted, torch.cat([*nearest, near], 1), torch.cat([*lower, low], 1))

    def _chain_norms(
        self, masks: Mapping[int, Tensor], comparison: Tensor
    ) -> tuple[dict[int, Tensor], Tensor, float]:
        """Norms of all normals by the recursion of Theorem 4.1, in the span of the first layer's rows."""
        assert self.chain is not None
        chain, network = self.chain, self.network
        first = self.space.rows
        accuracy = gamma(first.shape[1] + 4) + self.space.stretch
        batch = len(comparison)
        transposed = [weight.t().contiguous() for weight in chain.weights]
        layers = [masks[i].flatten(1) for i in network.relus]
        norms = [torch.empty(batch, len(weight), dtype=torch.float64) for weight in chain.weights]
        norms[0][:] = row_norms(first)
        output_norms = torch.empty(comparison.shape[:2], dtype=torch.float64)
        for b in range(batch):
            rows = first
            for layer, weight in enumerate(transposed[1:], start=1):
                active = layers[layer - 1][b].nonzero().squeeze(1)
                rows = weight[active].t() @ rows[active]
                norms[layer][b] = row_norms(rows)
            if chain.final_relu:
                rows = rows * layers[-1][b, :, None]
            output_norms[b] = row_norms(comparison[b] @ rows)
        feeders = [network.nodes[i].inputs[0] for i in network.relus]
        shaped = {
            i: norm.reshape(batch, *network.shape(i))
            for i, norm in zip(chain.ends, norms, strict=True)
            if i in feeders
        }
        return shaped, output_norms, accuracy

    def _streamed_norms(
        self, masks: Mapping[int, Tensor], comparison: Tensor
    ) -> tuple[dict[int, Tensor], Tensor, float]:
        """Norms of all normals by packed transposed products, input by input, in blocks within the memory limit."""
        network = self.network
        batch, last = len(comparison), len(network.nodes) - 1
        norms = {i: torch.empty(batch, *network.shape(i), dtype=torch.float64) for i in self.packings}
        output_norms = torch.empty(comparison.shape[:2], dtype=torch.float64)
        for b in range(batch):
            own = {i: mask[b] for i, mask in masks.items()}
            for i, norm in norms.items():
                norm[b] = self._packed_norms(i, own)
            rows = pull_back(network, own, last, comparison[b].reshape(-1, *network.shape(last)))
            output_norms[b] = row_norms(self.scaled(rows))
        return norms, output_norms, self._accuracy

    def _packed_norms(self, node: int, masks: Mapping[int, Tensor]) -> Tensor:
        """Norms (*shape) of the normals of a node's units on one cell."""
        network, packing = self.network, self.packings[node]
        widest = max(math.prod(network.shape(i)) for i in range(len(network.nodes)))
        size = max(1, int(self.memory_limit / (8 * (6 * widest + 4 * network.d))))
        norms = torch.empty(network.shape(node), dtype=torch.float64)
        for channel, group, cotangents in packing.blocks(size):
            rows = pull_back(network, masks, node, cotangents.reshape(-1, *network.shape(node)))
            packing.norms(channel, group, self.scaled(rows), norms.view(packing.channels, -1))
        return norms

    @property
    def _accuracy(self) -> float:
        """Relative accuracy of norms that are found by transposed products."""
        return gamma(2 * max(self.network.d, self.m) + 4)

    @cached_property
    def first_nodes(self) -> list[int]:
        """The first layer: the nodes that feed a ReLU and have none before them."""
        after = {0: False}
        for i, node in enumerate(self.network.nodes[1:], start=1):
            after[i] = isinstance(node.op, Relu) or any(after[j] for j in node.inputs)
        feeders = {self.network.nodes[i].inputs[0] for i in self.network.relus}
        return sorted(i for i in feeders if not after[i])

    @property
    def deep_units(self) -> int:
        """Number of hidden units behind the first layer."""
        return self.network.hidden_units - sum(math.prod(self.network.shape(i)) for i in self.first_nodes)

    @cached_property
    def first_norms(self) -> dict[int, tuple[Tensor, Tensor, float]]:
        """Node of the first layer -> norms (n,) of its units' normals on every cell, errors (n,), accuracy."""
        network = self.network
        norms = {i: self._packed_norms(i, {}) for i in self.first_nodes}
        masks = {i: torch.ones(1, *network.shape(i), dtype=torch.bool) for i in network.relus}
        above = {i: norm[None] * (1.0 + self._accuracy) for i, norm in norms.items()}
        errors = normal_errors(network, masks, above, self.coordinates, extra_terms=len(network.nodes))
        return {i: (norms[i].flatten(), errors[i].flatten(), self._accuracy) for i in norms}

    @cached_property
    def packings(self) -> dict[int, Packing]:
        """For every node that feeds a ReLU, the products that find its normals; none are shared under a matrix S."""
        local = self.noise_map is None or self.noise_map.ndim == 1
        return {
            j: pack(self.network, j, local) for j in (self.network.nodes[i].inputs[0] for i in self.network.relus)
        }

    def scaled(self, normals: Tensor) -> Tensor:
        """As `mapped`, the columns of a scale's zeros kept."""
        if self.noise_map is not None and self.noise_map.ndim == 1:
            return normals * self.noise_map
        return self.mapped(normals)
