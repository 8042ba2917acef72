"""Entrywise operators: sums and products with constants, sums of branches, ReLU, and what changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.network.affine import Diagonal, Shape, Sum
from calotte.network.graph import Relu
from calotte.network.operators.step import Constant, Step, Value, Variable, operator, plain

__all__: list[str] = []


def broadcast(step: Step, x: Variable, array: NDArray[Any]) -> tuple[Tensor, Shape]:
    """A constant against a variable: the constant in the plain shape of the result, and the result's shape."""
    weights = step.weights(array)
    try:
        shape = np.broadcast_shapes(tuple(weights.shape), x.shape)
    except ValueError:
        raise step.error(f"shapes do not fit: {x.shape} and constant {tuple(weights.shape)}") from None
    if plain(shape) != plain(x.shape):
        raise step.unsupported(f"that widens {x.shape} to {shape} is not supported")
    weights = weights.reshape((1,) * (len(shape) - weights.ndim) + weights.shape)
    if plain(shape) != shape:
        weights = weights.reshape(weights.shape[1:] or (1,))
    return weights, shape


def both(step: Step) -> tuple[Variable, Variable] | None:
    """The two arguments where both are variables (of one shape), else None."""
    x, y = step.argument(0), step.argument(1)
    if not (isinstance(x, Variable) and isinstance(y, Variable)):
        return None
    if x.shape != y.shape:
        raise step.error(f"shapes do not fit: {x.shape} and {y.shape}")
    return x, y


@operator("Add", "Sub")
def add(step: Step) -> Value:
    """x + c, x - c, c - x, and sums and differences of two branches."""
    sign = -1 if step.op_type == "Sub" else 1
    pair = both(step)
    if pair:
        return step.add(Sum(plain(pair[0].shape), (1, sign)), pair, pair[0].shape)
    first, second = step.argument(0), step.argument(1)
    if isinstance(first, Variable):
        offset, shape = broadcast(step, first, step.constant(1))
        return step.add(Diagonal(plain(shape), None, sign * offset, terms=1), (first,), shape)
    x = step.variable(1)
    offset, shape = broadcast(step, x, step.constant(0))
    weight = torch.tensor(-1.0, dtype=torch.float64) if sign < 0 else None
    assert isinstance(second, Variable)
    return step.add(Diagonal(plain(shape), weight, offset), (x,), shape)


@operator("Mul", "Div")
def multiply(step: Step) -> Value:
    """c x and x / c."""
    divide = step.op_type == "Div"
    first, second = step.argument(0), step.argument(1)
    if isinstance(first, Variable) and isinstance(second, Variable):
        raise step.unsupported("of two values that both depend on the input is not piecewise linear")
    if divide and isinstance(second, Variable):
        raise step.unsupported("of a constant by a value that depends on the input is not piecewise linear")
    i, c = (0, 1) if isinstance(first, Variable) else (1, 0)
    x = step.variable(i)
    weight, shape = broadcast(step, x, step.constant(c))
    if divide and (weight == 0).any():
        raise step.error("divides by zero")
    return step.add(Diagonal(plain(shape), weight, None, divide=divide), (x,), shape)


@operator("Relu")
def relu(step: Step) -> Value:
    """max(x, 0)."""
    x = step.variable()
    return step.add(Relu(plain(x.shape)), (x,), x.shape)


@operator("Identity", "Dropout")
def identity(step: Step) -> Value:
    """The argument itself; dropout does nothing in inference."""
    training = step.inputs[2] if step.has(2) else None
    if isinstance(training, Constant) and training.array.any():
        raise step.unsupported("in training mode is random: export the model in evaluation mode")
    if step.outputs > 1:
        raise step.unsupported("with a mask as second output is not supported")
    return step.argument(0)
