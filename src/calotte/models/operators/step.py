"""Step: one ONNX node under import, the values it reads, and the registry of operators that know what to do.

Shapes here are those of ONNX at batch size 1, batch axis included. A node of the network drops a leading axis of
size 1 (`plain`), so that a batch of images (1, 3, 32, 32) is a node of shape (3, 32, 32), and what moves the
batch axis about needs no special care: at batch size 1 the file is a function of one input.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.errors import InvalidModel, UnsupportedOperator
from calotte.network.affine import Affine, Inexact, Reshape, Shape
from calotte.network.decision import Rule
from calotte.network.graph import Node, Relu
from calotte.network.rearrange import Select

__all__ = ["HANDLERS", "Builder", "Constant", "Final", "Parts", "Step", "Value", "Variable", "operator", "plain"]

MOST_ENTRIES = 2**24
"""A value with more entries than this is taken for a mistake in the file."""


@dataclass(frozen=True)
class Constant:
    """A value that does not depend on the input.

    `terms` roundings lie between it and the exact value, where float arithmetic was folded; 0: it is exact.
    `computed`: whether it was: other arithmetic finds another value.
    """

    array: NDArray[Any]
    terms: int = 0
    computed: bool = False

    @property
    def shape(self) -> Shape:
        """Shape as ONNX has it."""
        return tuple(self.array.shape)


@dataclass(frozen=True)
class Variable:
    """A value that depends on the input: the node that computes it, and its ONNX shape at batch size 1."""

    node: int
    shape: Shape


@dataclass(frozen=True)
class Straight:
    """v (B, M) to factor v + shift, and one more output that is always zero at place `zero`, 0 or -1, if any."""

    factor: float = 1.0
    shift: float = 0.0
    zero: int | None = None

    def __call__(self, v: Tensor) -> Tensor:
        y = v * self.factor + self.shift
        if self.zero is None:
            return y
        nothing = torch.zeros_like(y[:, :1])
        return torch.cat([nothing, y] if self.zero == 0 else [y, nothing], 1)

    def then(self, factor: float, shift: float = 0.0) -> Straight:
        """factor y + shift of its result y."""
        return replace(self, factor=factor * self.factor, shift=factor * self.shift + shift)


@dataclass(frozen=True)
class Final:
    """Scores or an answer that only the end of the network may compute from `before`.

    Attributes:
        before: the value that decides; scores are in its order, a single score grows with it.
        source: the name of a value in the file that `before` is made of, to compare with.
        op_type: the operator that is not piecewise linear, the first one dropped.
        name: its node.
        rule: the decision that the file takes, if it takes one.
        ties: for the decision `sign`, the answer where `before` is zero.
        scores: `before` (B, K) to what the file computes, for scores; None where it computes an answer.
        level: a single score where `before` is zero: what it has to exceed for answer 1.
        inverse: a number that a single score is compared with to the value of `before` there; None where this is
            not known.
        positive: whether scores are positive, whatever the input.
        gentle: whether scores differ by no more than `before` does.
        node: the node that `before` is in some shape; its negative where `turned`.
        from_source: the value named `source` (B, M) to `before` (B, K); None where it is that value.
    """

    before: Variable
    source: str
    op_type: str
    name: str
    rule: Rule | None = None
    ties: int = 0
    scores: Callable[[Tensor], Tensor] | None = None
    level: float = 0.0
    inverse: Callable[[float], float | None] | None = None
    positive: bool = False
    gentle: bool = True
    node: int = -1
    turned: bool = False
    from_source: Straight | None = None

    @property
    def single(self) -> bool:
        """Whether it is made of one value."""
        return math.prod(self.before.shape) == 1

    @property
    def notice(self) -> str:
        """What the user should know about it."""
        if self.rule:
            return f"the final {self.op_type} is the decision '{self.rule}' on the values it reads"
        if self.single:
            return (
                f"the final {self.op_type} was dropped: the answer is 1 where its result is above {self.level:g}, "
                "which is where its argument is positive, and else 0"
            )
        return (
            f"the final {self.op_type} does not change the order of the outputs and was dropped: answers are about "
            "the values it reads, even where its own results are so close that floating point makes them equal"
        )


@dataclass(frozen=True)
class Parts:
    """A sequence of values."""

    values: tuple[Constant | Variable, ...]


Value = Constant | Variable | Final | Parts


def plain(shape: Shape) -> Shape:
    """The shape of a network node for an ONNX shape: without a leading axis of size 1; (1,) for a scalar."""
    if len(shape) >= 2 and shape[0] == 1:
        return tuple(shape[1:])
    return tuple(shape) or (1,)


@dataclass
class Builder:
    """The nodes of a network under construction, and what the user should know about it.

    `recomputed` is the operator, if any, whose numbers programs find by arithmetic of their own;
    `batch` is the fixed batch size of the file, which is imported at batch size 1; `dtype` the type of its input;
    `rounds` the number of rounds of loops that were written out.
    """

    batch: int = 1
    dtype: Any = np.float64
    nodes: list[Node] = field(default_factory=lambda: [Node("input", None)])
    notices: list[str] = field(default_factory=list)
    rounds: int = 0
    recomputed: str | None = None
    names: Counter[str] = field(default_factory=lambda: Counter({"input": 1}))

    def add(self, name: str, op: Affine | Relu, inputs: Sequence[Variable], shape: Shape) -> Variable:
        """Append a node; `shape` is its ONNX shape."""
        self.names[name] += 1
        unique = name if self.names[name] == 1 else f"{name}_{self.names[name]}"
        self.nodes.append(Node(unique, op, tuple(v.node for v in inputs)))
        return Variable(len(self.nodes) - 1, tuple(shape))

    def enclose(self, first: int) -> None:
        """Say of the nodes from `first` on, those of one operator, that it is executed as a whole if it has ReLUs."""
        if any(isinstance(node.op, Relu) for node in self.nodes[first:]):
            self.nodes[first:] = [replace(node, inner=True) for node in self.nodes[first:]]


@dataclass
class Step:
    """One ONNX node: its name, operator, arguments (None where left out), their names, attributes, the opset."""

    name: str
    op_type: str
    inputs: tuple[Value | None, ...]
    input_names: tuple[str, ...]
    outputs: int
    attributes: dict[str, Any]
    opset: int
    builder: Builder

    def error(self, what: str) -> InvalidModel:
        """An error that names this node."""
        return InvalidModel(f"node '{self.name}' ({self.op_type}): {what}")

    def unsupported(self, why: str) -> UnsupportedOperator:
        """A refusal that names this node."""
        return UnsupportedOperator(f"node '{self.name}': operator '{self.op_type}' {why}")

    def has(self, i: int) -> bool:
        """Whether argument i is given."""
        return i < len(self.inputs) and self.inputs[i] is not None

    def argument(self, i: int) -> Constant | Variable:
        """Argument i, which must be given."""
        value = self.inputs[i] if i < len(self.inputs) else None
        if value is None:
            raise self.error(f"input {i} is missing")
        if not isinstance(value, Constant | Variable):
            raise self.unsupported("cannot read a sequence")
        return value

    def arguments(self) -> list[Constant | Variable]:
        """All arguments, each of which must be given."""
        return [self.argument(i) for i in range(len(self.inputs))]

    def variable(self, i: int = 0) -> Variable:
        """Argument i, which must depend on the input of the network."""
        value = self.argument(i)
        if isinstance(value, Constant):
            raise self.unsupported(f"with a constant as input {i} is not supported")
        return value

    def constant(self, i: int) -> NDArray[Any]:
        """Argument i, which must be constant."""
        value = self.argument(i)
        if isinstance(value, Variable):
            raise self.unsupported(f"needs a constant as input {i}, here it depends on the network's input")
        return value.array

    def weights(self, i: int) -> Tensor:
        """Constant i as float64 numbers to compute with: exact; NaN and infinity are refused."""
        self.constant(i)
        value = self.inputs[i]
        assert isinstance(value, Constant)
        if value.terms:
            raise self.unsupported(f"with input {i} computed inexactly from constants: fold constants in the model")
        return self.numbers(value.array)

    def coefficients(self, i: int) -> tuple[Tensor, int]:
        """Constant i as float64 numbers, and how many roundings they are away from the exact ones."""
        value = self.argument(i)
        return self.numbers(self.constant(i)), value.terms if isinstance(value, Constant) else 0

    def numbers(self, array: NDArray[Any]) -> Tensor:
        """An array of the file as float64 numbers: exact; NaN and infinity are refused."""
        if array.dtype.kind in "USObc":
            raise self.error(f"expected numbers, came {array.dtype}")
        numbers = np.array(array, dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise self.error("its weights hold NaN or infinite numbers: the model is damaged")
        return torch.from_numpy(numbers)

    def integers(self, i: int) -> list[int]:
        """Argument i as a list of integers."""
        array = self.constant(i)
        if array.dtype.kind not in "iu":
            raise self.error(f"input {i} must hold integers, it has {array.dtype}")
        return [int(v) for v in array.reshape(-1)]

    def setting(self, key: str, i: int, since: int) -> list[int] | None:
        """Integers that are attribute `key` before opset `since`, and argument i from then on; None if left out."""
        if self.opset >= since:
            return self.integers(i) if self.has(i) else None
        value = self.attributes.get(key)
        return None if value is None else [int(v) for v in value]

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Axes of a value of that rank, counted from the front, in order; refused where out of range or double."""
        if any(not -rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) != len(axes):
            raise self.error(f"axes {list(axes)} do not fit {rank} axes")
        return tuple(sorted(axis % rank for axis in axes))

    def axis(self, default: int, rank: int) -> int:
        """Attribute `axis`, counted from the front."""
        return self.axes([int(self.attributes.get("axis", default))], rank)[0]

    def add(self, op: Affine | Relu, inputs: Sequence[Variable], shape: Shape, suffix: str = "") -> Variable:
        """Append a node named after this step."""
        if not 0 < math.prod(shape) <= MOST_ENTRIES:
            raise self.error(f"has a result of shape {tuple(shape)}: the model is damaged")
        return self.builder.add(self.name + suffix, op, inputs, shape)

    def counted(self, op: Affine, terms: int) -> Affine:
        """A map whose coefficients are `terms` roundings away from the exact ones."""
        return Inexact(op, terms) if terms else op

    def reshaped(self, x: Variable, shape: Shape) -> Variable:
        """The same numbers in another ONNX shape; a node only where the shape without batch differs."""
        if math.prod(x.shape) != math.prod(shape) or min(shape, default=1) < 0:
            raise self.error(f"cannot reshape {x.shape} into {shape}: the number of entries differs")
        if plain(x.shape) == plain(shape):
            return Variable(x.node, tuple(shape))
        return self.add(Reshape(plain(x.shape), plain(shape)), (x,), shape)

    def moved(self, x: Variable, move: Callable[[NDArray[Any]], NDArray[Any]], suffix: str = "") -> Variable:
        """What a rearrangement of arrays does to x; entries that it makes -1 are zeros."""
        if math.prod(x.shape) > MOST_ENTRIES:
            raise self.error(f"has an input of shape {x.shape}: the model is damaged")
        index = np.asarray(move(np.arange(math.prod(x.shape), dtype=np.int64).reshape(x.shape)))
        shape = tuple(index.shape)
        if not 0 < index.size <= MOST_ENTRIES:
            raise self.error(f"has a result of shape {shape}: the model is damaged")
        if index.size == math.prod(x.shape) and np.array_equal(index.reshape(-1), np.arange(index.size)):
            return self.reshaped(x, shape)
        return self.add(Select(plain(x.shape), index.reshape(plain(shape))), (x,), shape, suffix)

    def widened(self, x: Variable, shape: Shape) -> Variable:
        """x broadcast to a shape."""
        if math.prod(shape) > MOST_ENTRIES:
            raise self.error(f"has a result of shape {shape}: the model is damaged")
        return self.moved(x, lambda index: np.broadcast_to(index, shape), "/broadcast")

    def common_shape(self, *shapes: Shape) -> Shape:
        """What shapes broadcast to."""
        try:
            return tuple(np.broadcast_shapes(*shapes))
        except ValueError:
            raise self.error(f"shapes do not fit: {' and '.join(str(tuple(s)) for s in shapes)}") from None


Handler = Callable[[Step], "Value | Sequence[Value]"]
HANDLERS: dict[str, Handler] = {}


def operator(*op_types: str) -> Callable[[Handler], Handler]:
    """Register what imports an ONNX operator."""

    def register(handler: Handler) -> Handler:
        for op_type in op_types:
            HANDLERS[op_type] = handler
        return handler

    return register
