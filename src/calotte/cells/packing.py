"""Packing: norms of all normals on one cell by few products, inputs that no unit sees together sharing one.

The normals of a node's units are the rows of a Jacobian. Its columns are products of the network's linear map on the
cell with one-hot inputs, and columns of inputs that no unit reads both of may be added up: each unit then still
finds its own entry, alone, in one of the products (Curtis, Powell and Reid, 1974). Where no receptive field is wider
than w along an axis, inputs whose indices agree modulo w never meet in one. So a node needs as many *columns* as a
box of these widths has entries, however large the image; and a value on the way that two such inputs reach has no
path to any unit of the node, for its own field would lie in that unit's.

Fields grow from layer to layer. A `Stage` is a part of the network that is passed with the columns that its end
needs; between stages every unit's entries are dealt out anew to the columns of the next one. Where a node has fewer
units than columns (dense layers, outputs) one transposed product for each unit costs less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from calotte.cells.fields import Fields, grid
from calotte.cells.products import row_norms
from calotte.cells.stages import Stage
from calotte.deadline import NEVER, Deadline
from calotte.network.graph import Network, Relu

__all__ = ["Columns", "norms_by_columns"]


class Columns:
    """The one-hot inputs of a stage, those that share a column added up.

    Args:
        network: the network.
        noise_map: S, (d, m) or a scale per feature (d,); None for the input space itself.
    """

    def __init__(self, network: Network, noise_map: Tensor | None) -> None:
        self.network, self.noise_map = network, noise_map
        self.axes = grid(network)

    def inputs(self, which: Tensor, widths: tuple[int, ...]) -> Tensor:
        """The sums of one-hot inputs (n, *input shape) of the columns `which` (n,), through the noise map."""
        if self.noise_map is not None and self.noise_map.ndim == 2:
            return self.noise_map[:, which].t().reshape(-1, *self.network.input_shape)
        place = torch.zeros((), dtype=torch.int64)
        for n, width in zip(self.axes, widths, strict=True):
            place = place[..., None] * width + torch.arange(n) % width
        hot = (place.flatten() == which[:, None]).to(torch.float64)
        hot = hot if self.noise_map is None else hot * self.noise_map
        return hot.reshape(-1, *self.network.input_shape)


class Carried:
    """The entries of a node's rows in the columns of one stage, to be dealt out anew to those of the next.

    Channels that share their fields lie together, so that they are moved as one.

    Args:
        shape: of the node.
        low: (axes, *shape or 1) where the field of each unit begins.
        widths: of the stage that fills in the entries.
    """

    def __init__(self, shape: Sequence[int], low: Tensor, widths: tuple[int, ...]) -> None:
        together = shape[0] if len(shape) > 1 and low.shape[1] == 1 else 1
        kept = low.expand(len(low), *(shape if together == 1 else (1, *shape[1:])))
        self.low = torch.where(kept.isinf(), 0, kept).to(torch.int64).flatten(1)
        self.shape, self.widths = tuple(shape), widths
        self.entries = torch.empty(math.prod(widths), self.low.shape[1], together, dtype=torch.float64)

    def store(self, begin: int, values: Tensor) -> None:
        """Keep the values (n, *shape) of the columns from `begin` on."""
        n, positions, together = len(values), *self.entries.shape[1:]
        self.entries[begin : begin + n] = values.reshape(n, together, positions).transpose(1, 2)

    def read(self, which: Tensor, widths: tuple[int, ...]) -> Tensor:
        """The values (n, *shape) of the columns `which` (n,) of a stage with wider `widths`."""
        _, positions, together = self.entries.shape
        place, within = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.bool)
        digits = torch.unravel_index(which, widths)
        for low, digit, new, old in zip(self.low, digits, widths, self.widths, strict=True):
            beyond = (digit[:, None] - low) % new  # of the one index of that column that a field of width `new` holds
            within = within & (beyond < old)
            place = place * old + (low + beyond) % old
        place = place * positions + torch.arange(positions)
        found = self.entries.flatten(0, 1).index_select(0, place.flatten()).reshape(-1, positions, together)
        found.masked_fill_(~within[:, :, None], 0.0)
        return found.transpose(1, 2).reshape(-1, *self.shape)


def norms_by_columns(
    columns: Columns,
    stages: Sequence[Stage],
    fields: Mapping[int, Fields],
    masks: Mapping[int, Tensor],
    margins: Callable[[Tensor], Tensor],
    deadline: Deadline = NEVER,
) -> dict[int, Tensor]:
    """Euclidean norms of the normals of the stages' targets on one cell: node -> (*shape).

    Args:
        columns: of the network's inputs.
        stages: of a plan.
        fields: of the nodes that are carried from one stage to the next.
        masks: ReLU node -> bool (*shape), of the cell.
        margins: (n, K) values of the outputs -> (n, R), what the norms (R,) of the last node are those of.
        deadline: checked for every block.
    """
    network, last = columns.network, columns.network.last
    before: dict[int, Carried] = {}
    norms: dict[int, Tensor] = {}
    for stage in stages:
        after = {j: Carried(network.shape(j), fields[j].low, stage.widths) for j in stage.carries}
        for begin in range(0, stage.columns, stage.block):
            deadline.check("in the distances to hyperplanes")
            which = torch.arange(begin, min(begin + stage.block, stage.columns))
            values = {
                j: before[j].read(which, stage.widths) if j else columns.inputs(which, stage.widths)
                for j in stage.reads
            }
            for j in after.keys() & values.keys():
                after[j].store(begin, values[j])
            for i, value in pushed(network, stage.nodes, values, masks):
                if i in stage.targets:
                    found = row_norms(value if i != last else margins(value.flatten(1)), 0)
                    norms[i] = torch.hypot(norms[i], found) if i in norms else found
                if i in after:
                    after[i].store(begin, value)
        before = after
    return norms


def pushed(
    network: Network, nodes: Sequence[int], values: dict[int, Tensor], masks: Mapping[int, Tensor]
) -> Iterator[tuple[int, Tensor]]:
    """Values of the linear map of one cell at `nodes`, in order, given those (n, *shape) that come before.

    What nothing reads again is dropped.
    """
    last = {j: i for i in nodes for j in network.nodes[i].inputs}
    for i in nodes:
        node = network.nodes[i]
        parts = [values[j] for j in node.inputs]
        assert node.op is not None
        value = parts[0] * masks[i] if isinstance(node.op, Relu) else node.op.linear(*parts)
        for j in node.inputs:
            if last[j] == i:
                values.pop(j, None)
        if i in last:
            values[i] = value
        del parts
        yield i, value
