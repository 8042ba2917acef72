"""Hyperplanes of the cells of inputs: how far they are from the inputs, in input space or in that of a noise map."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from calotte.cells.distances import Distances, signed_distances
from calotte.cells.fields import Fields, receptive_fields
from calotte.cells.packing import Columns, norms_by_columns
from calotte.cells.products import one_hot_rows, pull_back, row_norms
from calotte.cells.stages import Cost, Plan, make_plan, work
from calotte.deadline import NEVER, Deadline
from calotte.network.affine import Dense
from calotte.network.chain import Chain, RowSpace, chain_of, row_space
from calotte.network.enclosure import Enclosure, evaluate, normal_errors
from calotte.network.event import CHANGE
from calotte.network.graph import Network, Relu
from calotte.network.margins import Margins
from calotte.rounding import NORM_SLACK, dot_error, gamma, norm_up, raised

__all__ = ["Hyperplanes"]

S = TypeVar("S")
_GROUP = 32  # inputs of a chain that are evaluated together, always as many


class Hyperplanes:
    """The hyperplane distances of a network, in input space or in the space of a noise map r = S u.

    Nothing is computed before it is asked for.

    Args:
        network: the network.
        noise_map: S, (d, m) or a scale per feature (d,); None for the input space itself. Distances then live
            in u-space: a hyperplane n.r = t is (S' n).u = t there.
        memory_limit: bytes that distances may take beside the network; what a single product takes is the least.
        isotropic: whether the noise is alike in all directions, so that normals are needed in the span of the first
            layer's rows only; else they are kept in the coordinates of u.
    """

    def __init__(
        self,
        network: Network,
        noise_map: Tensor | None = None,
        memory_limit: float = 2e9,
        isotropic: bool = True,
    ) -> None:
        self.network, self.noise_map, self.memory_limit, self.isotropic = network, noise_map, memory_limit, isotropic
        if noise_map is None:
            self.m = network.d
        else:
            self.m = int((noise_map != 0).sum()) if noise_map.ndim == 1 else noise_map.shape[1]
        self.known: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], S]) -> S:
        """What `compute` gives, computed once for this network and map."""
        if key not in self.known:
            self.known[key] = compute()
        found: S = self.known[key]
        return found

    @cached_property
    def chain(self) -> Chain | None:
        """The network as a chain of dense layers, or None where it is not one."""
        return chain_of(self.network)

    @cached_property
    def coordinates(self) -> Enclosure:
        """Norm of the normal of each input coordinate (d,): ones, or the row norms of the noise map."""
        if self.noise_map is None:
            norms = torch.ones(self.network.d, dtype=torch.float64)
            return Enclosure(norms, 0.0 * norms)
        if self.noise_map.ndim == 1:
            norms = self.noise_map.abs()
        else:
            norms = norm_up(self.noise_map, 1)
            norms = torch.where((self.noise_map != 0).any(1), norms.clamp_min(NORM_SLACK), norms)
        return Enclosure(norms, dot_error(norms, self.network.d + 4))

    @cached_property
    def space(self) -> RowSpace:
        """First-layer normals of a chain in coordinates of their span, in the space of the noise."""
        assert self.chain is not None
        weight, errors = self.chain.weights[0], self.chain.first_error
        if self.noise_map is not None:
            spread = weight.abs() @ self.coordinates.value
            # ||S' e|| <= ||S|| ||e||: a diagonal S has its largest entry for norm, any S at most its Frobenius norm
            sizes = self.coordinates.value
            size = sizes.max() if self.noise_map.ndim == 1 else norm_up(sizes, 0)
            errors = raised(errors * size, 4) + dot_error(spread, 2 * self.network.d + 8)
            reached = ((weight != 0) & (sizes > 0)).any(1)  # spread may underflow
            errors = torch.where(reached, errors.clamp_min(NORM_SLACK), errors)
        return row_space(self.mapped(weight), errors, spanned=self.isotropic)

    def mapped(self, normals: Tensor) -> Tensor:
        """Normals (n, d) of input space in u-space (n, m): S' n."""
        if self.noise_map is None:
            return normals
        if self.noise_map.ndim == 2:
            return normals @ self.noise_map
        kept = self.noise_map != 0
        return normals[:, kept] * self.noise_map[kept]

    def scaled(self, normals: Tensor) -> Tensor:
        """As `mapped`, the columns of a scale's zeros kept."""
        if self.noise_map is not None and self.noise_map.ndim == 1:
            return normals * self.noise_map
        return self.mapped(normals)

    def distances(self, x: Tensor, deadline: Deadline = NEVER, margins: Margins | None = None) -> Distances:
        """Distances of a batch x (B, d) to the hyperplanes of their cells; each input's are the same in any batch.

        Args:
            x: (B, d); margins: of an event at these inputs, whose hyperplanes come after those of the hidden units;
                None for those of the answers as evaluated.

        Raises:
            OutOfTime: the deadline has passed.
        """
        group = self._group
        parts = []
        for begin, some in zip(range(0, len(x), group), torch.split(x, group), strict=True):
            full = torch.zeros(group, x.shape[1], dtype=x.dtype)  # a copy: how rows lie in memory changes bits too
            full[: len(some)] = some
            own = None if margins is None else margins[begin : begin + len(some)]
            parts.append(self._group_distances(full, len(some), deadline, own))
        if len(parts) == 1:
            return parts[0]
        return Distances(
            torch.cat([part.predicted for part in parts]),
            torch.cat([part.nearest for part in parts]),
            torch.cat([part.lower for part in parts]),
        )

    @cached_property
    def _group(self) -> int:
        """Inputs that are evaluated together, always as many, for a matrix product of another size rounds anew.

        Inner dimensions that are no multiple of 8 (of the widest vectors of CPUs) make rows of one product round
        differently by their place: then one by one, as where there is little to gain.
        """
        ops = (node.op for node in self.network.nodes)
        uneven = any(op.weight.shape[1] % 8 for op in ops if isinstance(op, Dense))
        return 1 if uneven or self.chain is None else _GROUP

    def _group_distances(self, x: Tensor, count: int, deadline: Deadline, margins: Margins | None) -> Distances:
        """Distances of the first `count` of a group of inputs."""
        network = self.network
        deadline.check("before the distances to hyperplanes")
        masks = network.masks(network.pattern(x))
        inside = evaluate(network, x, masks)
        predicted = network.decision.decide(inside[-1].value)[:count]
        if margins is None:
            margins = CHANGE.margins(network, x[:count], predicted)
        if self.chain is not None:
            norms, output_norms, accuracy = self._chain_norms(masks, margins, deadline)
            start = {self.chain.ends[0]: self.space.errors.reshape(network.shape(self.chain.ends[0]))}
            extra = self.chain.width
        else:
            norms, output_norms, accuracy = self._graph_norms(masks, margins, deadline)
            start, extra = None, len(network.nodes)
        above = {i: norm * (1.0 + accuracy) for i, norm in norms.items()}
        errors = normal_errors(network, masks, above, self.coordinates, start=start, extra_terms=extra)
        units = network.hidden_units + margins.cases.forms
        nearest = torch.empty(count, units, dtype=torch.float64)
        lower = torch.empty(count, units, dtype=torch.float64)
        begin = 0
        for i in network.relus:
            feeder = network.feeders[i]
            signs = torch.where(masks[i][:count], 1.0, -1.0).flatten(1)
            end = begin + signs.shape[1]
            nearest[:, begin:end], lower[:, begin:end] = signed_distances(
                inside[feeder].value[:count].flatten(1) * signs,
                inside[feeder].error[:count].flatten(1),
                norms[feeder][:count].flatten(1),
                errors[feeder][:count].flatten(1),
                accuracy,
            )
            begin = end
        z = inside[-1]
        row_errors = errors[-1].expand(len(x), -1)[:count]  # without ReLUs all inputs share their normals
        nearest[:, begin:], lower[:, begin:] = signed_distances(
            margins.of(z.value[:count]),
            margins.errors(z.value[:count], z.error[:count]),
            output_norms,
            margins.normal_errors(row_errors),
            accuracy,
            margins.ties,
        )
        lower[predicted < 0] = -torch.inf  # no answer: nothing is known
        return Distances(predicted, nearest, lower)

    def _chain_norms(
        self, masks: Mapping[int, Tensor], margins: Margins, deadline: Deadline
    ) -> tuple[dict[int, Tensor], Tensor, float]:
        """Norms of all normals by the recursion of Theorem 4.1, in the span of the first layer's rows."""
        assert self.chain is not None
        chain, network = self.chain, self.network
        first = self.space.rows
        accuracy = gamma(first.shape[1] + 4) + self.space.stretch
        layers = [masks[i].flatten(1) for i in network.relus]
        count = len(margins.rows)
        batch = len(layers[0]) if layers else count
        norms = [torch.zeros(batch, len(weight), dtype=torch.float64) for weight in chain.weights]
        norms[0][:] = row_norms(first)
        output_norms = torch.empty(count, margins.cases.forms, dtype=torch.float64)
        for b in range(count):
            deadline.check("in the distances to hyperplanes")
            rows = first
            for layer, weight in enumerate(self._transposed, start=1):
                active = layers[layer - 1][b].nonzero().squeeze(1)
                rows = weight[active].t() @ rows[active]
                norms[layer][b] = row_norms(rows)
            if chain.final_relu:
                rows = rows * layers[-1][b, :, None]
            output_norms[b] = row_norms(rows.t() @ margins.rows[b].t(), 0)
        feeders = list(network.feeders.values())
        shaped = {
            i: norm.reshape(batch, *network.shape(i))
            for i, norm in zip(chain.ends, norms, strict=True)
            if i in feeders
        }
        return shaped, output_norms, accuracy

    @cached_property
    def _transposed(self) -> list[Tensor]:
        """The matrices behind the first, of which the recursion takes the columns of active units."""
        assert self.chain is not None
        return [weight.t().contiguous() for weight in self.chain.weights[1:]]

    def _graph_norms(
        self, masks: Mapping[int, Tensor], margins: Margins, deadline: Deadline
    ) -> tuple[dict[int, Tensor], Tensor, float]:
        """Norms of all normals by packed columns and by transposed products, input by input."""
        last = self.network.last
        found = []
        for b, rows in enumerate(margins.rows):
            own = {i: mask[b] for i, mask in masks.items()}
            found.append(self._planned_norms(self.plan, own, rows, deadline) | self._input_norms)
        norms = {i: torch.stack([each[i] for each in found]) for i in found[0] if i != last}
        return norms, torch.stack([each[last] for each in found]), self._accuracy

    def _planned_norms(
        self, plan: Plan, masks: Mapping[int, Tensor], margins: Tensor, deadline: Deadline
    ) -> dict[int, Tensor]:
        """Norms (*shape) of the normals of a plan's nodes on one cell, (C,) of rows `margins` (C, K) for the last."""
        network, last = self.network, self.network.last
        norms = norms_by_columns(
            Columns(network, self.noise_map),
            plan.stages,
            self.fields,
            masks,
            lambda outputs: outputs @ margins.t(),
            deadline,
        )
        for node in plan.rows:
            shape = (len(margins),) if node == last else network.shape(node)
            blocks = []
            for begin in range(0, math.prod(shape), plan.block):
                deadline.check("in the distances to hyperplanes")
                end = min(begin + plan.block, math.prod(shape))
                rows = (
                    one_hot_rows(network, node, begin, end)
                    if node != last
                    else margins[begin:end].reshape(-1, *network.shape(last))
                )
                blocks.append(row_norms(self.scaled(pull_back(network, masks, node, rows))))
            norms[node] = torch.cat(blocks).reshape(shape)
        return norms

    @property
    def _input_norms(self) -> dict[int, Tensor]:
        """Norms of the input's own coordinates where a ReLU reads them."""
        read = any(self.network.nodes[i].inputs == (0,) for i in self.network.relus)
        return {0: self.coordinates.value.reshape(self.network.input_shape)} if read else {}

    @property
    def _accuracy(self) -> float:
        """Relative accuracy of norms that are found by products: their entries are at most max(d, m)."""
        return gamma(2 * max(self.network.d, self.m) + 4)

    @cached_property
    def fields(self) -> dict[int, Fields]:
        """The fields of the units of all nodes."""
        return receptive_fields(self.network)

    @cached_property
    def widths(self) -> dict[int, tuple[int, ...]]:
        """Of the widest field of each node, for the last one of all its units together: margins read two of them."""
        if self.noise_map is not None and self.noise_map.ndim == 2:
            return dict.fromkeys(range(len(self.network.nodes)), (self.m,))
        last = self.network.last
        return {i: (fields.joint if i == last else fields).widths for i, fields in self.fields.items()}

    @cached_property
    def plan(self) -> Plan:
        """How the norms of all normals on a cell are found where the network is no chain."""
        network = self.network
        feeders = set(network.feeders.values())
        targets = {i: network.size(i) for i in feeders if i}
        targets[network.last] = network.decision.comparisons
        return make_plan(network, targets, self.widths, self.memory_limit)

    def cost(self) -> Cost:
        """What `distances` of one input will take, estimated; what is prepared already is not counted."""
        network = self.network
        passes = 6.0 * sum(work(network, i) for i in range(1, len(network.nodes)))
        values = 80.0 * network.units + 48.0 * network.widest
        if self.chain is None:
            return Cost(network.units, passes + self.plan.operations, values + self.plan.bytes)
        weights = self.chain.weights
        n, d = weights[0].shape
        rank = min(n, self.m)
        norms = sum(float(weight.numel()) * rank for weight in weights[1:])
        once = 0.0 if "space" in self.__dict__ else 4.0 * n * n * d
        return Cost(
            network.units,
            self._group * passes + norms + once,
            self._group * values + 16.0 * n * d + 24.0 * self.chain.width * rank,
        )

    @cached_property
    def first_nodes(self) -> list[int]:
        """The first layer: the nodes that feed a ReLU and have none before them."""
        after = {0: False}
        for i, node in enumerate(self.network.nodes[1:], start=1):
            after[i] = isinstance(node.op, Relu) or any(after[j] for j in node.inputs)
        feeders = set(self.network.feeders.values())
        return sorted(i for i in feeders if not after[i])

    @property
    def deep_units(self) -> int:
        """Number of hidden units behind the first layer."""
        return self.network.hidden_units - sum(self.network.size(i) for i in self.first_nodes)

    @cached_property
    def first_norms(self) -> dict[int, tuple[Tensor, Tensor, float]]:
        """Node of the first layer -> norms (n,) of its units' normals on every cell, errors (n,), accuracy."""
        network = self.network
        targets = {i: network.size(i) for i in self.first_nodes if i}
        plan = make_plan(network, targets, self.widths, self.memory_limit)
        none = torch.zeros(0, network.decision.outputs, dtype=torch.float64)
        norms = self._planned_norms(plan, {}, none, NEVER) | self._input_norms
        masks = {i: torch.ones(1, *network.shape(i), dtype=torch.bool) for i in network.relus}
        above = {i: norm[None] * (1.0 + self._accuracy) for i, norm in norms.items()}
        errors = normal_errors(network, masks, above, self.coordinates, extra_terms=len(network.nodes))
        return {i: (norms[i].flatten(), errors[i].flatten(), self._accuracy) for i in norms}
