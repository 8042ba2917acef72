"""Network: an acyclic graph whose only nodes are the input, affine maps and ReLUs.

Everything piecewise linear is rewritten into these two on loading, so that Theorem 4.1 of Kůrková
(arXiv:2602.18674) holds with N = number of scalar ReLUs plus output comparisons: on the set of inputs where
every ReLU keeps its sign the network is one affine map.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from calotte.checks import array
from calotte.errors import InvalidInput, InvalidModel
from calotte.network.affine import Affine, Shape
from calotte.network.axes import other_order, same_order
from calotte.network.decision import Decision

__all__ = ["Clipping", "Network", "Node", "Original", "Relu"]

T = TypeVar("T")


@dataclass(frozen=True)
class Relu:
    """max(x, 0) entrywise; every entry is one unit of the network."""

    output_shape: Shape


@dataclass(frozen=True)
class Node:
    """One step of a network: what it computes and the indices of the nodes that it reads.

    Node 0 is the input (`op` None); every other node reads earlier ones only.

    Attributes:
        inner: whether it is part of an operator that programs execute as a whole (a maximum, a clip), so that no
            map outside is merged with it.
    """

    name: str
    op: Affine | Relu | None
    inputs: tuple[int, ...] = ()
    inner: bool = False


@dataclass(frozen=True, eq=False)
class Clipping:
    """What a network that clips its input was made from: the network, and the range."""

    network: Network
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Original:
    """The model that a network was loaded from, run in its own arithmetic.

    Attributes:
        answers: points (n, d) in float64 that are numbers of `dtype`, to the model's answers (n,). It opens the model
            when it is first called, and pickles without what it opened.
        dtype: what the model computes with: float16, float32 or float64.
        name: of what runs it.
    """

    answers: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    name: str


@dataclass(frozen=True, eq=False)
class Network:
    """A piecewise-linear network, the last of its `nodes` being the output.

    Args:
        nodes: in topological order, the input first.
        input_shape: shape of one input, without batch.
        decision: how outputs become an answer.
        notices: what the loader changed or noticed, in sentences for the user.
        sha256: of the model file and of the files that hold its weights, one after the other; of what the network
            computes (`fingerprint`) where it comes from elsewhere.
        files: name and sha256 of each file that it was loaded from.
        left_off: what stood at the model's end, where the outputs are its arguments, in the same order.
        clipping: where this network clips its input before another one.
        original: the model that it was loaded from, where there is one that can be run.
        recomputed: an operator in it whose numbers each program finds by arithmetic of its own.
        raw: whether it normalises its inputs itself, so that they, noise and distances are in raw units.
        judged: the name in the model's file of the outputs, before what is left off, as --output takes it.
    """

    nodes: tuple[Node, ...]
    input_shape: Shape
    decision: Decision
    notices: tuple[str, ...] = ()
    sha256: str | None = None
    clipping: Clipping | None = None
    original: Original | None = None
    files: tuple[tuple[str, str], ...] = ()
    left_off: str | None = None
    recomputed: str | None = None
    raw: bool = False
    judged: str = "NAME"

    def __post_init__(self) -> None:
        for i, node in enumerate(self.nodes):
            if (node.op is None) != (i == 0) or any(j >= i for j in node.inputs):
                raise InvalidModel(f"node '{node.name}' is out of order: the input first, then what reads it")
            if isinstance(node.op, Affine):
                expected = node.op.input_shapes
            else:
                expected = (node.op.output_shape,) if node.op else ()
            got = tuple(self.shape(j) for j in node.inputs)
            if got != expected:
                raise InvalidModel(f"node '{node.name}' takes inputs of shapes {expected}, its inputs have {got}")
        if self.size(self.last) != self.decision.outputs:
            raise InvalidModel(
                f"the decision expects {self.decision.outputs} outputs, the last node has another number"
            )

    def __repr__(self) -> str:
        kinds = Counter("relu" if isinstance(node.op, Relu) else "affine" for node in self.nodes[1:])
        digest = f", sha256 {self.sha256[:8]}" if self.sha256 else ""
        outputs = f"{self.decision.rule} of {self.decision.outputs}"
        return (
            f"<Network: input {self.input_shape}, {kinds['affine']} affine maps, {kinds['relu']} ReLU layers, "
            f"N = {self.units}, {outputs}{digest}>"
        )

    def shape(self, i: int) -> Shape:
        """Shape of the values of node i, without batch."""
        op = self.nodes[i].op
        return self.input_shape if op is None else op.output_shape

    def size(self, i: int) -> int:
        """Number of values of node i."""
        return math.prod(self.shape(i))

    @property
    def d(self) -> int:
        """Dimension of the input."""
        return self.size(0)

    @property
    def last(self) -> int:
        """Index of the output."""
        return len(self.nodes) - 1

    @cached_property
    def widest(self) -> int:
        """Largest number of values of a node."""
        return max(self.size(i) for i in range(len(self.nodes)))

    @cached_property
    def relus(self) -> tuple[int, ...]:
        """Indices of the ReLU nodes."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node.op, Relu))

    @cached_property
    def feeders(self) -> Mapping[int, int]:
        """ReLU node -> the node whose values it takes: the units' pre-activations."""
        return {i: self.nodes[i].inputs[0] for i in self.relus}

    @cached_property
    def hidden_units(self) -> int:
        """Number of scalar ReLUs."""
        return sum(map(self.size, self.relus))

    @property
    def units(self) -> int:
        """N: scalar ReLUs plus output comparisons."""
        return self.hidden_units + self.decision.comparisons

    @cached_property
    def multiplications(self) -> int:
        """About what one pass through the network multiplies."""
        ops = (node.op for node in self.nodes)
        return sum(op.terms * math.prod(op.output_shape) for op in ops if isinstance(op, Affine))

    def unit_name(self, unit: int, predicted: int) -> str:
        """The name of one of the N hyperplanes of a cell with the answer `predicted`.

        'node[index]' for a hidden unit; 'output[k]' where the answer changes to class k; 'output[0]' for the sign of
        a single one.
        """
        for i in self.relus:
            size = self.size(i)
            if unit < size:
                return f"{self.nodes[i].name}[{unit}]"
            unit -= size
        if self.decision.rule == "sign":
            return "output[0]"
        return f"output[{self.decision.rivals(torch.tensor([predicted]))[0, unit].item()}]"

    def unit_names(self, predicted: int) -> list[str]:
        """The names of all N hyperplanes of a cell with the answer `predicted`, as of `unit_name`."""
        names = [f"{self.nodes[i].name}[{j}]" for i in self.relus for j in range(self.size(i))]
        return names + [self.unit_name(len(names) + k, predicted) for k in range(self.decision.comparisons)]

    @property
    def measured_in(self) -> str:
        """The unit of inputs, noise and distances, in words."""
        return "raw units" if self.raw else "network units"

    def takes_one(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape is one input without an axis for the batch."""
        shape = tuple(shape)
        return math.prod(shape) == self.d and shape != () and (shape[0] != 1 or shape in ((1,), self.input_shape))

    def inputs(self, x: ArrayLike | Tensor) -> Tensor:
        """Check a batch of inputs and give it as float64 of shape (B, d).

        Args:
            x: (B, d), (B, *input_shape), or one input of shape (d,) or input_shape; other shapes where the numbers
                stand in the same order (`same_order`).

        Raises:
            InvalidInput: wrong size, axes in another order, no rows, NaN or infinite entries.
        """
        return torch.from_numpy(np.array(self.rows(x)))

    def rows(self, x: ArrayLike | Tensor) -> NDArray[np.float64]:
        """As `inputs`, an array that may be the same memory."""
        found = array("inputs", x)
        if self.takes_one(found.shape):
            found = found[None]
        rows = len(found) if found.ndim else 0
        if rows == 0:
            raise InvalidInput(f"no inputs: expected rows of {self.d} numbers, came shape {found.shape}")
        if found.size != rows * self.d:
            raise InvalidInput(
                f"inputs of shape {found.shape}: each row has {found.size // rows} numbers, "
                f"the network takes {self.d} (shape {self.input_shape})"
            )
        if not same_order(found.shape[1:], self.input_shape):
            raise InvalidInput(f"inputs of shape {found.shape}: {other_order(found.shape[1:], self.input_shape)}")
        found = found.reshape(rows, self.d)
        for bad, row in enumerate(found):
            if not np.isfinite(row).all():
                raise InvalidInput(f"input {bad} holds NaN or infinite numbers: remove or repair it")
        return found

    def sweep(self, first: T, step: Callable[[int, Node, list[T]], T], start: int = 0) -> Iterator[tuple[int, T]]:
        """What `step` makes of each node of what it made of those that this one reads, from `start` on, in order.

        Dropped when nothing reads it again. A start other than the input must be a node that all paths cross.

        Args:
            first: what the node `start` has.
        """
        kept: dict[int, T] = {}
        for i, node in enumerate(self.nodes[start:], start=start):
            kept[i] = found = first if i == start else step(i, node, [kept[j] for j in node.inputs])
            for j in node.inputs:
                if self.last_reader[j] == i:
                    kept.pop(j, None)
            yield i, found

    def swept(self, first: T, step: Callable[[int, Node, list[T]], T], start: int = 0) -> T:
        """What a `sweep` makes of the output."""
        for _, found in self.sweep(first, step, start):  # noqa: B007
            pass
        return found

    def values(self, x: Tensor, start: int = 0) -> Iterator[tuple[int, Tensor]]:
        """A `sweep` for the values of nodes, given those of the node `start` for a batch (B, *shape)."""

        def step(i: int, node: Node, below: list[Tensor]) -> Tensor:
            return node.op(*below) if isinstance(node.op, Affine) else below[0].clamp_min(0.0)

        return self.sweep(x.reshape(-1, *self.shape(start)), step, start)

    @cached_property
    def last_reader(self) -> Sequence[int]:
        """For every node the last node that reads it; its own index where nothing does."""
        last = list(range(len(self.nodes)))
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                last[j] = i
        return last

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Outputs (B, K) at a batch (B, d) of inputs, or of values of the node `start`, in float64."""
        for _, value in self.values(x, start):  # noqa: B007
            pass
        return value.reshape(len(value), -1)

    def predict(self, x: Tensor) -> Tensor:
        """Answers (B,) at a batch (B, d)."""
        return self.decision.decide(self.forward(x))

    def pattern(self, x: Tensor) -> Tensor:
        """Signs of all hidden units at a batch (B, d): bool (B, hidden_units), true where active (> 0)."""
        feeders = self.feeders.values()
        signs = {i: (value > 0).flatten(1) for i, value in self.values(x) if i in feeders}
        empty = torch.zeros(len(x), 0, dtype=torch.bool)
        return torch.cat([empty, *(signs[i] for i in feeders)], dim=1)

    def masks(self, pattern: Tensor) -> dict[int, Tensor]:
        """The pattern (B, hidden_units) split by ReLU node: node -> bool (B, *shape)."""
        sizes = [self.size(i) for i in self.relus]
        parts = torch.split(pattern, sizes, dim=1)
        return {i: part.reshape(-1, *self.shape(i)) for i, part in zip(self.relus, parts, strict=True)}
