"""Linear relaxation: bounds a.r + c on the units and margins of a network around x, by back-substitution.

Going backwards, a ReLU with pre-activation z in [l, u], l < 0 < u, lies between alpha z and s z + t with any alpha
in [0, 1], s = u / (u - l), t = -s l (Singh et al., DeepPoly, POPL 2019; Zhang et al., CROWN, NeurIPS 2018).
What is rounded on the way is an error in a coefficient; times a bound on the value that it multiplies it moves the
constant down. So the coefficients that arrive are exact, and

    value(x + r) >= a.r + c   for every r for which the bounds on the pre-activations hold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from calotte.cells.geometry import Geometry
from calotte.cells.products import row_norms
from calotte.network.affine import Affine, Dense
from calotte.network.enclosure import Enclosure, evaluate, magnitude_pass
from calotte.network.graph import Relu
from calotte.proofs.dense import Layer, Lines, lines_of, through
from calotte.proofs.forms import Form, LinearBounds
from calotte.rounding import NORM_SLACK, UNIT_ROUNDOFF, VALUE_SLACK, gamma

_AT_ONCE = 2e10  # multiplications of a block: a second or so, after which the time limit is looked at

__all__ = ["Relaxation", "relaxed_lines"]


class Relaxation:
    """A batch of inputs with bounds on the pre-activations around them, found layer by layer.

    Args:
        geometry: of the network, in the space of the noise.
        x: (B, d) inputs.
        radius: (B,) bound on ||u|| for all noise that is considered at all.
    """

    def __init__(self, geometry: Geometry, x: Tensor, radius: Tensor) -> None:
        self.geometry, self.network, self.x = geometry, geometry.network, x
        self.stop = geometry.chain.ends[0] if geometry.chain is not None else 0
        widest = max(math.prod(self.network.shape(i)) for i in range(len(self.network.nodes)))
        self.inflation = 1.0 + 4.0 * gamma(widest + 16)  # sums of bounds on errors are rounded too
        self.lines: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.intervals: dict[int, tuple[Tensor, Tensor]] = {}
        self.magnitude: dict[int, Tensor] = {}
        self.products: dict[int, Tensor] = {}
        sizes = geometry.coordinates.value
        moved = (radius[:, None] * sizes * (1.0 + gamma(4))).clamp_min(VALUE_SLACK)  # the product may underflow
        first = (x.abs() + torch.where(sizes == 0, 0.0, moved)) * (1.0 + gamma(4))
        self.magnitude[0] = first.reshape(-1, *self.network.input_shape)

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

    def bound_magnitude(self, i: int) -> None:
        """Bound |values| of node i, from those of the nodes that it reads."""
        node = self.network.nodes[i]
        if isinstance(node.op, Affine):
            product = magnitude_pass(node.op, VALUE_SLACK, *(self.magnitude[j] for j in node.inputs))
            self.products[i] = product
            offset = 0.0 if node.op.offset is None else node.op.offset.abs()
            self.magnitude[i] = (product + offset) * (1.0 + gamma(4))
        elif isinstance(node.op, Relu):
            self.magnitude[i] = self.magnitude[node.inputs[0]]

    def settle(self, relu: int, lower: Tensor, upper: Tensor, reach_lower: Tensor, reach_upper: Tensor) -> None:
        """Fix the lines of a ReLU node.

        Args:
            relu: the node; lower, upper: (B, *shape) bounds on its pre-activations that may be used.
            reach_lower, reach_upper: bounds for all noise considered; they only limit magnitudes.
        """
        feeder = self.network.nodes[relu].inputs[0]
        largest = torch.minimum(self.magnitude[feeder], torch.maximum(reach_lower.abs(), reach_upper.abs()))
        self.magnitude[feeder] = largest
        lower, upper = torch.maximum(lower, -largest), torch.minimum(upper, largest)
        self.lines[relu] = relaxed_lines(lower, upper)
        self.intervals[relu] = (lower, upper)
        self.magnitude[relu] = torch.minimum(largest, upper.clamp_min(0.0))

    def bounds(self, node: int, rows: Tensor, constants: Tensor | None = None) -> LinearBounds:
        """Linear functions below rows . (values of node) + constants, (B, R, *shape of node) and (B, R)."""
        return self._enclosed(self._form(node, rows, {}, constants))

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
            constant = dot(here, offset.expand(len(here), *op.output_shape))
            here = op.adjoint(here.flatten(0, 1))[0].reshape(*rows.shape[:2], *op.input_shapes[0])
            node = self.network.nodes[node].inputs[0]
        if node not in self.intervals:
            return never
        high = self.intervals[node][1]
        return ((here >= 0) | (high <= 0)[:, None]).flatten(2).all(2) & (constant >= 0)

    def unit_bounds(self, node: int, block: slice) -> LinearBounds:
        """`bounds` on units of a node, and on their negatives after them: what is one-hot is not multiplied."""
        begin, step, batch = None, self.network.nodes[node], len(self.x)
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat_interleave(block.stop - block.start)
        if node in self.first:
            return self._first(node, block, signs)
        if isinstance(step.op, Dense) and step.op.output_shape == step.op.weight.shape[:1]:
            rows = signs[:, None] * step.op.weight[block].repeat(2, 1)
            offset = step.op.offset
            begin = (signs * (0.0 if offset is None else offset[block].repeat(2))).expand(batch, -1)
            node = step.inputs[0]
        else:
            hot = torch.zeros(block.stop - block.start, math.prod(self.network.shape(node)), dtype=torch.float64)
            hot[:, block].fill_diagonal_(1.0)
            rows = torch.cat([hot, -hot])
        rows = rows.reshape(1, -1, *self.network.shape(node)).expand(batch, -1, *self.network.shape(node))
        return self._enclosed(self._form(node, rows, {}, begin, mirrored=True))

    def _first(self, node: int, block: slice, signs: Tensor) -> LinearBounds:
        """Units of the first layer, and their negatives, as they are."""
        norms, errors, accuracy = self.first[node]
        here = self.at_x[node]
        value, error = (t.flatten(1)[:, block].repeat(1, 2) for t in (here.value, here.error))
        norm, doubt = (t[block].repeat(2).expand(value.shape) for t in (norms, errors))
        doubt = doubt * self.inflation + NORM_SLACK
        normal = None
        if not self.geometry.isotropic:
            normal = (signs[:, None] * self.geometry.space.rows[block].repeat(2, 1)).expand(len(value), -1, -1)
        return self._rounded(signs * value, (error + VALUE_SLACK) * self.inflation, norm, doubt, accuracy, normal)

    @cached_property
    def first(self) -> dict[int, tuple[Tensor, Tensor, float]]:
        """As `Geometry.first_norms`; none where the normals themselves are wanted, and are not at hand."""
        if self.stop == 0:
            return self.geometry.first_norms if self.geometry.isotropic else {}
        return {self.stop: (row_norms(self.geometry.space.rows), self.row_errors, self.accuracy)}

    def _enclosed(self, form: Form) -> LinearBounds:
        """A form's constant rounded down, and the norm of its normal."""
        norm = row_norms(form.normal.flatten(0, 1)).reshape(form.constant.shape)
        normal = None if self.geometry.isotropic else form.normal
        return self._rounded(form.constant, form.error, norm, form.normal_error, form.accuracy, normal)

    def _rounded(
        self,
        constant: Tensor,
        error: Tensor,
        norm: Tensor,
        norm_error: Tensor,
        accuracy: float,
        normal: Tensor | None = None,
    ) -> LinearBounds:
        """Bounds with their constant rounded down."""
        lower = constant - error
        lower = lower - 2 * UNIT_ROUNDOFF * lower.abs()
        known = lower.isfinite() & norm.isfinite() & norm_error.isfinite()  # overflow: nothing is known
        return LinearBounds(torch.where(known, lower, -torch.inf), norm, norm_error, accuracy, normal=normal)

    def forms(self, node: int, rows: Tensor, kept: Mapping[int, Tensor], constants: Tensor | None = None) -> Form:
        """rows . (values of node) + constants as an affine function of noise and some units' activations, enclosed.

        Args:
            node, rows, constants: as for `bounds`.
            kept: ReLU node -> bool (*shape): the units whose activations stay in the form. All others on the way
                must be stable.
        """
        return self._form(node, rows, kept, constants)

    def _form(
        self,
        node: int,
        rows: Tensor,
        kept: Mapping[int, Tensor],
        constant: Tensor | None = None,
        mirrored: bool = False,
    ) -> Form:
        """rows . (values of node) + constant; `mirrored`: the second half of the rows is minus the first."""
        if self.plain and node > self.stop:
            return self._dense_form(node, rows, kept, constant, mirrored)
        coefficients, constant, error, activations = self._pull_back(node, rows, kept, constant)
        return replace(self._at_noise(coefficients, constant, error), activations=activations)

    @cached_property
    def plain(self) -> bool:
        """Whether this is a chain of vectors, all after the node `stop` single matrices with ReLUs between them."""
        nodes = range(self.stop, len(self.network.nodes))
        pairs = itertools.pairwise(self.network.nodes[i].op for i in nodes)
        single = [isinstance(b, Relu) or (isinstance(a, Relu) and isinstance(b, Dense)) for a, b in pairs]
        return self.stop > 0 and all(single) and all(len(self.network.shape(i)) == 1 for i in nodes)

    def _dense_form(
        self, node: int, rows: Tensor, kept: Mapping[int, Tensor], constant: Tensor | None, mirrored: bool
    ) -> Form:
        """`_form` for a plain chain."""
        batch, count = len(self.x), rows.shape[1]
        here = list(rows)
        c = torch.zeros(batch, count, dtype=torch.float64) if constant is None else constant
        error = torch.full((batch, count), VALUE_SLACK, dtype=torch.float64)
        activations: dict[int, Tensor] = {}
        while True:
            op, feeder = self.network.nodes[node].op, node
            if isinstance(op, Relu):
                feeder = self.network.nodes[node].inputs[0]
                below, above, intercept = self.lines[node]
                bent = intercept * gamma(below.shape[1] + 4) + self.magnitude[feeder] * gamma(4)
                if node in kept:
                    activations[node] = torch.stack([h[:, kept[node]] for h in here])
                every = zip(below, above, intercept, bent, strict=True)
                lines = [lines_of(*line, kept.get(node)) for line in every]
            else:
                lines = [Lines.none(self.network.shape(node)[0])] * batch
            given = zip(here, lines, self._layers(feeder), strict=True)
            steps = [through(h, line, layer, mirrored) for h, line, layer in given]
            bend = torch.stack([step.bend for step in steps])
            moved = torch.stack([step.moved for step in steps])
            doubts = torch.stack([step.doubts for step in steps])
            here, mirrored = [step.rows for step in steps], False
            before, c = c + bend, c + bend + moved
            error = error + doubts[:, :, 0] + gamma(4) * (before.abs() + c.abs())
            lost = VALUE_SLACK * self.magnitude[feeder].sum(1, keepdim=True)
            if feeder == self.stop:
                error = (error + lost) * self.inflation
                normal_error = doubts[:, :, 1] * self.inflation + NORM_SLACK
                return Form(c, error, torch.stack(here), normal_error, self.accuracy, activations)
            node = self.network.nodes[feeder].inputs[0]
            lost = lost + VALUE_SLACK * self.magnitude[node].sum(1, keepdim=True)
            error = (error + lost) * self.inflation

    def _layers(self, feeder: int) -> list[Layer]:
        """The matrix that ends in a node of a plain chain, for each input; from the noise for the node `stop`."""
        if feeder == self.stop:
            n = self.start.value.shape[1]
            doubts = self.start.error + gamma(n + 4) * self.start.value.abs()
            return [
                Layer(self.geometry.space.rows, value, torch.stack([doubt, self.row_errors], 1))
                for value, doubt in zip(self.start.value, doubts, strict=True)
            ]
        op = self.network.nodes[feeder].op
        assert isinstance(op, Dense)
        doubts = self.products[feeder] * gamma(op.adjoint_terms + op.terms + 2)
        offset = torch.zeros(len(op.weight), dtype=torch.float64) if op.offset is None else op.offset
        doubts = doubts + gamma(len(op.weight) + 4) * offset.abs()
        return [Layer(op.weight, offset, doubt[:, None]) for doubt in doubts]

    @cached_property
    def row_errors(self) -> Tensor:
        """What rows of the chain's first matrix in coordinates of their span, and products with them, are off."""
        space = self.geometry.space
        norms = row_norms(space.rows) * (1.0 + gamma(space.rows.shape[1] + 4))
        return space.errors + gamma(len(space.rows) + 4) * norms

    @cached_property
    def accuracy(self) -> float:
        """Relative accuracy of norms in coordinates of the span."""
        space = self.geometry.space
        return gamma(space.rows.shape[1] + 4) + space.stretch

    def _pull_back(
        self, node: int, rows: Tensor, kept: Mapping[int, Tensor], constant: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, dict[int, Tensor]]:
        """Coefficients of the node `stop`, the constant, its error, and coefficients of kept activations."""
        batch, count = rows.shape[:2]
        cotangents = {node: rows}
        activations: dict[int, Tensor] = {}
        constant = torch.zeros(batch, count, dtype=torch.float64) if constant is None else constant
        error = torch.full((batch, count), VALUE_SLACK, dtype=torch.float64)
        for i in range(node, self.stop, -1):
            if i not in cotangents:
                continue
            here, step = cotangents.pop(i), self.network.nodes[i]
            if isinstance(step.op, Relu):
                if i in kept:
                    activations[i] = here[:, :, kept[i]]
                    here = torch.where(kept[i], 0.0, here)
                below_slope, above_slope, intercept = (t[:, None] for t in self.lines[i])
                negative = here.clamp_max(0.0)
                below: tuple[Tensor, ...] = (torch.addcmul(negative * above_slope, here.clamp_min(0.0), below_slope),)
                constant = constant + dot(negative, intercept[:, 0])
                n = math.prod(self.network.shape(i))
                size = intercept[:, 0] * gamma(n + 4) + self.magnitude[step.inputs[0]] * gamma(4)
                error = error + dot(here.abs(), size)
            else:
                op = step.op
                assert isinstance(op, Affine)
                flat = op.adjoint(here.flatten(0, 1))
                below = tuple(t.reshape(batch, count, *t.shape[1:]) for t in flat)
                size = self.products[i] * gamma(op.adjoint_terms + op.terms + 2)
                if op.offset is not None:
                    n = math.prod(op.output_shape)
                    offset = op.offset.expand(op.output_shape)
                    constant = constant + dot(here, offset.expand(batch, *op.output_shape))
                    size = size + gamma(n + 4) * offset.abs()
                error = error + dot(here.abs(), size)
            for j, cotangent in zip(step.inputs, below, strict=True):
                if j in cotangents:
                    cotangent = cotangents[j] + cotangent
                    error = error + gamma(2) * dot(cotangent.abs(), self.magnitude[j])
                cotangents[j] = cotangent
            error = error + VALUE_SLACK * sum(self.magnitude[j].flatten(1).sum(1)[:, None] for j in step.inputs)
            error = (error + gamma(4) * constant.abs()) * self.inflation
        if self.stop not in cotangents:
            cotangents[self.stop] = torch.zeros(batch, count, *self.network.shape(self.stop), dtype=torch.float64)
        return cotangents[self.stop].flatten(2), constant, error, activations

    def _at_noise(self, rows: Tensor, constant: Tensor, error: Tensor) -> Form:
        """From coefficients (B, R, n) of the node `stop` to functions of the noise."""
        value, doubt = self.start.value[:, :, None], self.start.error[:, :, None]
        n = rows.shape[2]
        magnitude = rows.abs()
        c = constant + (rows @ value).squeeze(2)
        error = error + (magnitude @ (doubt + gamma(n + 4) * value.abs())).squeeze(2)
        error = (error + gamma(4) * (constant.abs() + c.abs())) * self.inflation
        flat = rows.flatten(0, 1)
        if self.stop:
            normals, each, accuracy = flat @ self.geometry.space.rows, self.row_errors, self.accuracy
        else:
            normals = self.geometry.mapped(flat)
            each = self.geometry.coordinates.error
            accuracy = gamma(n + self.geometry.m + 4)
        errors = (flat.abs() @ each) * self.inflation + NORM_SLACK
        return Form(c, error, normals.reshape(*c.shape, -1), errors.reshape(c.shape), accuracy, {})

    def blocks(self, node: int, memory_limit: float) -> Iterator[slice]:
        """The units of a node in blocks for which `unit_bounds` takes no more than so many bytes."""
        size = math.prod(self.network.shape(node))
        widest = max(math.prod(self.network.shape(i)) for i in range(len(self.network.nodes)))
        block = max(1, min(size, int(memory_limit / (8 * 16 * widest * len(self.x)))))
        block = min(block, max(1, int(_AT_ONCE / (self.network.multiplications * len(self.x) + 1))))
        for begin in range(0, size, block):
            yield slice(begin, min(begin + block, size))


def relaxed_lines(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes alpha, s and the constant t with alpha z <= relu(z) <= s z + t on [lower, upper], entrywise.

    The chord is rounded up; alpha is 0 or 1, whichever leaves the smaller triangle.
    """
    active, inactive = lower >= 0, upper <= 0
    width = upper - lower
    slope = (upper / width * (1.0 + 4 * UNIT_ROUNDOFF) + VALUE_SLACK).clamp(0.0, 1.0)
    slope = torch.where(width.isfinite(), slope, 1.0)  # relu(z) <= z - lower wherever lower <= z
    intercept = -slope * lower * (1.0 + 4 * UNIT_ROUNDOFF) + VALUE_SLACK
    above = torch.where(active, 1.0, torch.where(inactive, 0.0, slope))
    constant = torch.where(active | inactive, 0.0, intercept)
    below = torch.where(active, 1.0, torch.where(inactive, 0.0, (upper > -lower).to(torch.float64)))
    return below, above, constant


def dot(rows: Tensor, values: Tensor) -> Tensor:
    """Sums (B, R) of the products of rows (B, R, ...) with values (B, ...)."""
    return (rows.flatten(2) @ values.flatten(1)[:, :, None])[:, :, 0]
