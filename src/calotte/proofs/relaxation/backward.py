"""Linear relaxation: bounds a.r + c on the units and margins of a network around x, by back-substitution.

Going backwards, a ReLU with pre-activation z in [l, u], l < 0 < u, lies between alpha z and s z + t with any alpha
in [0, 1], s = u / (u - l), t = -s l (Singh et al., DeepPoly, POPL 2019; Zhang et al., CROWN, NeurIPS 2018).
By `pulling`, whose coefficients are exact, and whose errors move the constant down,

    value(x + r) >= a.r + c   for every r for which the bounds on the pre-activations hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from calotte.cells.hyperplanes import Hyperplanes
from calotte.cells.products import row_norms
from calotte.network.affine import Dense, Diagonal
from calotte.network.enclosure import Enclosure, evaluate
from calotte.network.graph import Network, Relu
from calotte.proofs.forms import Forms
from calotte.proofs.relaxation.dense import Layer, Lines, Step, lines_of, through
from calotte.proofs.relaxation.lines import relaxed_lines
from calotte.proofs.relaxation.pulling import inflation, pull_back
from calotte.proofs.relaxation.reach import Reach, doubts_of_relu
from calotte.proofs.relaxation.windows import (
    Fields,
    Pulled,
    Rows,
    Whole,
    Windows,
    batches,
    by_channel,
    offsets,
    unit_rows,
    unit_work,
)
from calotte.rounding import NORM_SLACK, VALUE_SLACK, dot_error, gamma, raised

_MOST_WORK = 2e10  # multiplications that the units of a graph are worth in a pass: some 5 to 10 seconds
_FEW = 0.3  # of the units before that are loose: then narrowing leaves at most half of those behind loose, measured
_AT_ONCE = 2e10  # multiplications of a block: a second or so, after which the time limit is looked at

__all__ = ["Relaxation"]


class Relaxation:
    """A batch of inputs with bounds on the pre-activations around them, found layer by layer.

    Args:
        hyperplanes: of the network, in the space of the noise.
        x: (B, d) inputs.
        radius: (B,) bound on ||u|| for all noise that is considered at all.
    """

    def __init__(self, hyperplanes: Hyperplanes, x: Tensor, radius: Tensor) -> None:
        self.hyperplanes, self.network, self.x, self.radius = hyperplanes, hyperplanes.network, x, radius
        self.stop = hyperplanes.chain.ends[0] if hyperplanes.chain is not None else 0
        self.inflation = inflation(self.network)
        self.lines: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.intervals: dict[int, tuple[Tensor, Tensor]] = {}
        self.work, self._loose = torch.full((len(x),), _MOST_WORK, dtype=torch.float64), dict[int, Tensor]()
        self._met: dict[tuple[int, bool], dict[int, Fields]] = {}
        sizes = hyperplanes.coordinates.value
        moved = raised(radius[:, None] * sizes, 4).clamp_min(VALUE_SLACK)  # the product may underflow
        shape = (-1, *self.network.input_shape)
        moved = torch.where(sizes == 0, 0.0, moved).reshape(shape)
        self.reach = Reach(self.network, x.reshape(shape), moved, intervals=not self.plain)

    @cached_property
    def at_x(self) -> dict[int, Enclosure]:
        """Values at x of the nodes that feed a ReLU, and of the outputs as node -1."""
        return evaluate(self.network, self.x)

    @cached_property
    def start(self) -> Enclosure:
        """Values at x of the node where back-substitution ends."""
        if self.stop == 0:
            return Enclosure(self.x, torch.zeros_like(self.x))
        here = self.at_x[self.stop if self.stop in self.at_x else -1]
        return Enclosure(here.value.flatten(1), here.error.flatten(1))

    def settle(self, relu: int, lower: Tensor, upper: Tensor, reach_lower: Tensor, reach_upper: Tensor) -> None:
        """Fix the lines of a ReLU node.

        Args:
            relu: the node; lower, upper: (B, *shape) bounds on its pre-activations that may be used.
            reach_lower, reach_upper: bounds for all noise considered; they only limit magnitudes.
        """
        largest = torch.maximum(reach_lower.abs(), reach_upper.abs())
        lower, upper = self.reach.settle(relu, lower, upper, largest)
        self.lines[relu] = relaxed_lines(lower, upper)
        self.intervals[relu] = (lower, upper)
        for met in self._met.values():
            met.pop(relu, None)
        feeder, n = self.network.feeders[relu], self.network.size(relu)
        size = self.reach.magnitude[feeder]
        self.reach.doubts[relu] = doubts_of_relu(self.lines[relu][2], upper, size, n)

    def never_negative(self, node: int, rows: Tensor) -> Tensor:
        """Where rows . (values of node) is a sum of terms that are all >= 0 for certain: bool (B, R).

        Seen through the last dense layer, whose entries differences of rows give with their exact signs.

        Args:
            node: the output; rows: (B, R, *shape of node), entries 0, 1, -1, at most two of them not 0.
        """
        here, never = rows, torch.zeros(rows.shape[:2], dtype=torch.bool)
        op, constant = self.network.nodes[node].op, torch.zeros(rows.shape[:2], dtype=torch.float64)
        if isinstance(op, Dense):
            offset = torch.zeros(op.output_shape).double() if op.offset is None else op.offset.expand(op.output_shape)
            constant = here.flatten(2) @ offset.flatten()
            here = op.adjoint(here.flatten(0, 1))[0].reshape(*rows.shape[:2], *op.input_shapes[0])
            node = self.network.nodes[node].inputs[0]
        if node not in self.intervals:
            return never
        high = self.intervals[node][1]
        return ((here >= 0) | (high <= 0)[:, None]).flatten(2).all(2) & (constant >= 0)

    def unit_forms(self, node: int, block: slice) -> Forms:
        """Forms below units of a node, and below their negatives after them: what is one-hot is not multiplied."""
        if node in self.first:
            return self._first(node, block)
        if not self.plain:
            return self._units(node, block)
        rows = unit_rows(self.network, node, torch.arange(block.start, block.stop))
        pulled = [self.pull_back(b, *rows, {}, mirrored=True) for b in range(len(self.x))]
        return Forms.joined([self.at_noise(b, one.in_one(), whole=True) for b, one in enumerate(pulled)])

    def _units(self, node: int, block: slice) -> Forms:
        """Units and their negatives; of those that are not pulled back the intervals are all that is said."""
        low, high = (t.flatten(1)[:, block] for t in self.reach.between[node])
        constant = torch.stack([low, -high], 1)
        norm, doubt, accuracy = torch.zeros_like(constant), torch.zeros_like(constant), 0.0
        for b, loose in enumerate(self.loose(node)[:, block]):
            for some in batches(
                self.network, node, loose.nonzero()[:, 0] + block.start, self.hyperplanes.widths[node]
            ):
                pulled = self.pull_back(b, *unit_rows(self.network, node, some), {}, mirrored=True)
                found = self.at_noise(b, pulled, whole=False)
                for whole, part in ((constant, found.lower), (norm, found.norm), (doubt, found.normal_error)):
                    whole[b][:, some - block.start] = part
                accuracy = found.accuracy
        constant, norm, doubt = (t.flatten(1) for t in (constant, norm, doubt))
        return Forms(constant, torch.zeros_like(constant), doubt, accuracy, length=norm)

    def loose(self, node: int) -> Tensor:
        """The units (B, n) of a node of a graph that are pulled back: those that intervals leave both signs.

        As many as are worth the work, those first that are nearest to keeping a sign; any would be sound. Nothing is
        decided here that a Proof would have to record: the rule is fixed, and looks at nothing but this one input,
        the network and the bounds found so far. A Proof pulls back the same units again, alone and in any batch.
        Where few units of the layer before are loose, the intervals are narrowed first.
        """
        if node not in self._loose:
            loose = self._undecided(node) & ~self._told_by_ends(node)
            layers = sum(self.network.feeders[i] >= node for i in self.network.relus)
            dear = loose.sum(1) * 2 * self.network.multiplications > self.work / layers
            if dear.any():
                each = 2 * self.hyperplanes.once(("unit work", node), lambda: unit_work(self.network, node))
                most = (self.work / (layers * each)).to(torch.int64)
                low, high = (t.flatten(1) for t in self.reach.between[node])
                near = torch.where(loose, torch.minimum(-low, high) / (high - low), torch.inf)
                rank = near.argsort(1).argsort(1)
                loose &= (rank < most[:, None]) | ~dear[:, None]
            before, spent = max((i for i in self.intervals if i < node), default=None), torch.zeros_like(self.work)
            for b, (low, high) in enumerate(zip(*self.intervals[before], strict=True) if before is not None else ()):
                if ((low < 0) & (high > 0)).double().mean() < _FEW:
                    self.narrow(node, b, loose[b].nonzero()[:, 0])
                    spent[b] = loose[b].sum() / 2
            self._loose[node] = loose = loose & self._undecided(node)
            if dear.any():
                self.work = torch.where(dear, self.work - each * (spent + loose.sum(1)), self.work)
        return self._loose[node]

    def _undecided(self, node: int) -> Tensor:
        """The units (B, n) of a node that intervals leave both signs."""
        low, high = (t.flatten(1) for t in self.reach.between[node])
        return ~((low >= 0) | (high <= 0))

    def narrow(self, node: int, b: int, units: Tensor) -> None:
        """Narrow the intervals of units of a node, for one input, by rows that both ends share: half of the work."""
        low, high = (t[b].flatten().clone() for t in self.reach.between[node])
        for some in batches(self.network, node, units, self.hyperplanes.widths[node]):
            pulled = pull_back(self.around(b, parallel=True), *unit_rows(self.network, node, some), {}, parallel=True)
            above = self.at_noise(b, pulled, whole=False)
            below = replace(above, constant=-above.constant)
            radius = self.radius[b : b + 1, None]
            low[some] = torch.maximum(low[some], above.lowest(radius)[0])
            high[some] = torch.minimum(high[some], -below.lowest(radius)[0])
        for t, found in zip(self.reach.between[node], (low, high), strict=True):
            t[b] = found.reshape(t[b].shape)

    def _told_by_ends(self, node: int) -> Tensor:
        """Units (B, n) that move with one ReLU alone, as in a clip, which may be on or off: rows of theirs go through
        its lines, and reach no farther than its two ends do."""
        below, op = self.network.nodes[node].inputs, self.network.nodes[node].op
        if not isinstance(op, Diagonal) or below[0] not in self.intervals:
            return torch.zeros(1, 1, dtype=torch.bool)
        low, high = self.intervals[below[0]]
        return ((low < 0) & (high > 0)).flatten(1)

    def _first(self, node: int, block: slice) -> Forms:
        """Units of the first layer, and their negatives, as they are."""
        norms, errors, accuracy = self.first[node]
        here = self.at_x[node]
        value, error = (t.flatten(1)[:, block] for t in (here.value, here.error))
        value, error = torch.cat([value, -value], 1), error.repeat(1, 2)
        norm, doubt = (t[block].repeat(2).expand(value.shape) for t in (norms, errors))
        error, doubt = (error + VALUE_SLACK) * self.inflation, doubt * self.inflation + NORM_SLACK
        normal = None
        if not self.hyperplanes.isotropic:
            normal = self.hyperplanes.space.rows[block].repeat(2, 1).expand(*value.shape, -1)
        return Forms(value, error, doubt, accuracy, normal, norm)

    @cached_property
    def first(self) -> dict[int, tuple[Tensor, Tensor, float]]:
        """As `Hyperplanes.first_norms`; none where the normals themselves are wanted, and are not at hand."""
        if self.stop == 0:
            return self.hyperplanes.first_norms if self.hyperplanes.isotropic else {}
        return {self.stop: (row_norms(self.hyperplanes.space.rows), self.row_errors, self.accuracy)}

    def forms(self, node: int, rows: Tensor, kept: Mapping[int, Tensor], constants: Tensor | None = None) -> Forms:
        """rows . (values of node) + constants as an affine function of noise and some units' activations, enclosed.

        Args:
            node: whose values are multiplied; rows: (B, R, *shape of node); constants: (B, R), zeros by default.
            kept: ReLU node -> bool (*shape): the units whose activations stay in the form. All others on the way
                must be stable.
        """
        constants = torch.zeros(rows.shape[:2], dtype=torch.float64) if constants is None else constants
        each = []
        for b, own in enumerate(rows):
            pulled = self.pull_back(b, node, Whole(own[None]), constants[b : b + 1], kept, mirrored=False)
            each.append(self.at_noise(b, pulled, whole=True))
        return Forms.joined(each)

    @cached_property
    def plain(self) -> bool:
        """Whether this is a chain of vectors, all after the node `stop` single matrices with ReLUs between them."""
        nodes = range(self.stop, len(self.network.nodes))
        pairs = itertools.pairwise(self.network.nodes[i].op for i in nodes)
        single = [isinstance(b, Relu) or (isinstance(a, Relu) and isinstance(b, Dense)) for a, b in pairs]
        return self.stop > 0 and all(single) and all(len(self.network.shape(i)) == 1 for i in nodes)

    @cached_property
    def row_errors(self) -> Tensor:
        """What rows of the chain's first matrix in coordinates of their span, and products with them, are off."""
        space = self.hyperplanes.space
        norms = raised(row_norms(space.rows), space.rows.shape[1] + 4)
        return space.errors + dot_error(norms, len(space.rows) + 4)

    @cached_property
    def accuracy(self) -> float:
        """Relative accuracy of norms in coordinates of the span."""
        return gamma(self.hyperplanes.space.rows.shape[1] + 4) + self.hyperplanes.space.stretch

    def pull_back(
        self,
        b: int,
        node: int,
        rows: Rows,
        constant: Tensor,
        kept: Mapping[int, Tensor | None],
        mirrored: bool,
        told: Callable[[int, Rows, Fields], None] | None = None,
    ) -> Pulled:
        """As `pulling.pull_back`, for one input; kept: as for `forms`, None where nothing passes."""
        return pull_back(self.around(b), node, rows, constant, kept, mirrored, told)

    def around(self, b: int, parallel: bool = False) -> AroundInput:
        """What rows meet for one input."""
        return AroundInput(self, b, self._met.setdefault((b, parallel), {}), parallel)

    def at_noise(self, b: int, pulled: Pulled, whole: bool) -> Forms:
        """From coefficients of the node `stop`, or of the noise, to functions of the noise."""
        if pulled.normal_error is not None:
            kept, normals = pulled.activations, pulled.rows.entries
            return Forms(pulled.constant, pulled.error, pulled.normal_error, self.accuracy, normals, None, kept)
        n, fields = self.start.value.shape[1], self.around(b).fields(self.stop)
        rows, before, noise_map = pulled.rows, pulled.constant, self.hyperplanes.noise_map
        if whole or self.stop or (noise_map is not None and noise_map.ndim == 2):
            rows = rows.whole()
        met = rows.at(fields)
        constant = before + rows.sums(rows.entries, met[0])
        error = pulled.error + rows.cost(fields.prices)
        error = (error + dot_error(before.abs() + constant.abs(), 4)) * self.inflation
        each = self.row_errors if self.stop else self.hyperplanes.coordinates.error
        prices = by_channel(each.reshape(self.network.shape(self.stop)))
        normal_error = rows.cost(prices) * self.inflation + NORM_SLACK
        accuracy = self.accuracy if self.stop else gamma(n + self.hyperplanes.m + 4)
        if isinstance(rows, Windows):  # not in the order of the noise's coordinates: the norm is the same
            normals = rows.entries if noise_map is None else rows.entries * met[1]
            length = row_norms(normals.flatten(2).flatten(0, 1)).reshape(constant.shape)
            return Forms(constant, error, normal_error, accuracy, None, length, pulled.activations)
        flat = rows.entries.flatten(2).flatten(0, 1)
        normals = flat @ self.hyperplanes.space.rows if self.stop else self.hyperplanes.mapped(flat)
        normals = normals.reshape(*constant.shape, -1)
        return Forms(constant, error, normal_error, accuracy, normals, activations=pulled.activations)

    def blocks(self, node: int, memory_limit: float, whole: bool = False) -> Iterator[slice]:
        """The units of a node in blocks for which `unit_forms` takes no more than so many bytes, and seconds.

        `whole`: blocks in which all units are pulled back as whole rows, by `forms`.
        """
        size = self.network.size(node)
        most = int(_AT_ONCE / (self.network.multiplications * len(self.x) + 1))
        if node in self.first and not whole:
            rows = torch.zeros(size, dtype=torch.int64)
        elif self.plain or whole:
            most = min(most, int(memory_limit / (8 * 16 * self.network.widest * len(self.x))))
            rows = torch.ones(size, dtype=torch.int64)
        else:
            rows = self.loose(node).amax(0).to(torch.int64)
        begun = (rows.cumsum(0) - 1).clamp_min(0) // max(1, most)
        begin = 0
        for count in begun.bincount().tolist():
            yield slice(begin, begin + count)
            begin += count


@dataclass(frozen=True)
class AroundInput:
    """What rows meet around one input, as `pulling.Met`.

    Attributes:
        relaxation: of a batch of inputs; b: the one; known: node -> what was met there before.
        parallel: whether ReLUs are met as in `pull_back` between parallel lines.
    """

    relaxation: Relaxation
    b: int
    known: dict[int, Fields]
    parallel: bool = False

    @property
    def network(self) -> Network:
        return self.relaxation.network

    @property
    def stop(self) -> int:
        return self.relaxation.stop

    def prices(self, i: int) -> Tensor:
        return by_channel(self.relaxation.reach.magnitude[i][self.b])

    def fields(self, i: int) -> Fields:
        """As of `Met`; at the node `stop` values at x, and the noise's scales where they are numbers of their own."""
        if i not in self.known:
            around, b, shape, step = self.relaxation, self.b, self.network.shape(i), self.network.nodes[i]
            values: tuple[Tensor, ...]
            if i == self.stop:
                value, scales = around.start.value[b].reshape(shape), around.hyperplanes.noise_map
                values = (value,) if scales is None or scales.ndim == 2 or i else (value, scales.reshape(shape))
                cost = around.start.error[b].reshape(shape) + dot_error(value.abs(), value.numel() + 4)
            else:
                op, cost = step.op, around.reach.doubts[i][b]
                assert op is not None
                values = tuple(t[b] for t in around.lines[i]) if isinstance(op, Relu) else offsets(op)
                if isinstance(op, Relu) and self.parallel:
                    half = values[2] / 2  # s z <= relu(z) too, with any s in [0, 1]
                    values = values[1], half, half + cost
            self.known[i] = Fields(values, cost, [around.reach.magnitude[j][b] for j in step.inputs])
        return self.known[i]

    def through_layer(self, i: int, rows: Rows, without: Tensor | None, mirrored: bool) -> tuple[int, Step] | None:
        """As of `Met`, of a plain chain."""
        if not self.relaxation.plain:
            return None
        flat = rows.whole().entries.flatten(0, 1)
        if not isinstance(self.network.nodes[i].op, Relu):
            return i, through(flat, Lines.none(flat.shape[1]), self.layer(i), mirrored)
        feeder = self.network.feeders[i]
        below, above, intercept = (t[self.b] for t in self.relaxation.lines[i])
        lines = lines_of(below, above, intercept, self.relaxation.reach.doubts[i][self.b], without)
        return feeder, through(flat, lines, self.layer(feeder), mirrored)

    def layer(self, feeder: int) -> Layer:
        """The matrix that ends in a node of a plain chain; from the noise for the node `stop`."""
        around, b = self.relaxation, self.b
        if feeder == self.stop:
            value, doubt = around.start.value[b], around.start.error[b]
            doubt = doubt + dot_error(value.abs(), len(value) + 4)
            return Layer(around.hyperplanes.space.rows, value, torch.stack([doubt, around.row_errors], 1))
        op = self.network.nodes[feeder].op
        assert isinstance(op, Dense)
        offset = torch.zeros(len(op.weight), dtype=torch.float64) if op.offset is None else op.offset
        return Layer(op.weight, offset, around.reach.doubts[feeder][b][:, None])
