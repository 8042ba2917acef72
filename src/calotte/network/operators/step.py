"""Step: one ONNX node under import, the values it reads and the registry of operators that know what to do.

Shapes here are those of ONNX at batch size 1, batch axis included. A node of the network drops a leading axis of
size 1 (`plain`), so that a batch of images (1, 3, 32, 32) is a node of shape (3, 32, 32), and what moves the
batch axis about needs no special care: at batch size 1 the file is a function of one input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.errors import InvalidModel, UnsupportedOperator
from calotte.network.affine import Affine, Reshape, Shape
from calotte.network.graph import Node, Relu

__all__ = ["HANDLERS", "Builder", "Constant", "Step", "Value", "Variable", "operator", "plain"]


@dataclass(frozen=True)
class Constant:
    """A value that does not depend on the input, in the number type of the file."""

    array: NDArray[Any]

    @property
    def shape(self) -> Shape:
        """Shape as ONNX has it."""
        return tuple(self.array.shape)


@dataclass(frozen=True)
class Variable:
    """A value that depends on the input: the node that computes it, and its ONNX shape at batch size 1."""

    node: int
    shape: Shape


Value = Constant | Variable


def plain(shape: Shape) -> Shape:
    """The shape of a network node for an ONNX shape: without a leading axis of size 1; (1,) for a scalar."""
    if len(shape) >= 2 and shape[0] == 1:
        return tuple(shape[1:])
    return tuple(shape) or (1,)


@dataclass
class Builder:
    """The nodes of a network under construction, and what the user should know about it."""

    nodes: list[Node]
    notices: list[str] = field(default_factory=list)

    def add(self, name: str, op: Affine | Relu, inputs: Sequence[Variable], shape: Shape) -> Variable:
        """Append a node; `shape` is its ONNX shape."""
        taken = {node.name for node in self.nodes}
        unique, k = name, 2
        while unique in taken:
            unique, k = f"{name}_{k}", k + 1
        self.nodes.append(Node(unique, op, tuple(v.node for v in inputs)))
        return Variable(len(self.nodes) - 1, tuple(shape))


@dataclass
class Step:
    """One ONNX node: its name, operator, arguments (None where left out), attributes and the opset."""

    name: str
    op_type: str
    inputs: tuple[Value | None, ...]
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

    def argument(self, i: int) -> Value:
        """Argument i, which must be given."""
        value = self.inputs[i] if i < len(self.inputs) else None
        if value is None:
            raise self.error(f"input {i} is missing")
        return value

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

    def weights(self, array: NDArray[Any]) -> Tensor:
        """A constant as float64 numbers to compute with: exact; NaN and infinity are refused."""
        if array.dtype.kind in "US" or array.dtype == object:
            raise self.error("expected numbers as weights, came strings")
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

    def add(self, op: Affine | Relu, inputs: Sequence[Variable], shape: Shape, suffix: str = "") -> Variable:
        """Append a node named after this step."""
        return self.builder.add(self.name + suffix, op, inputs, shape)

    def reshaped(self, x: Variable, shape: Shape) -> Variable:
        """The same numbers in another ONNX shape; a node only where the shape without batch differs."""
        if math.prod(x.shape) != math.prod(shape):
            raise self.error(f"cannot reshape {x.shape} into {shape}: the number of entries differs")
        if plain(x.shape) == plain(shape):
            return Variable(x.node, tuple(shape))
        return self.add(Reshape(plain(x.shape), plain(shape)), (x,), shape)


Handler = Callable[[Step], "Value | Sequence[Value]"]
HANDLERS: dict[str, Handler] = {}


def operator(*op_types: str) -> Callable[[Handler], Handler]:
    """Register what imports an ONNX operator."""

    def register(handler: Handler) -> Handler:
        for op_type in op_types:
            HANDLERS[op_type] = handler
        return handler

    return register
