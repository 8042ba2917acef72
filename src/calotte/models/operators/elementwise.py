"""Entrywise affine operators: sums and products with constants, sums of branches, batch normalisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from calotte.models.operators.linear import scalar
from calotte.models.operators.step import Constant, Step, Value, Variable, operator, plain
from calotte.network.affine import Diagonal, Shape, Sum

__all__ = ["FLOATS", "cast_like", "reflected", "scaled", "shifted", "total"]


def fitted(weights: Tensor, shape: Shape) -> Tensor:
    """A constant broadcast to the plain form of an ONNX shape (no memory)."""
    return weights.expand(shape).reshape(plain(shape))


def shifted(step: Step, x: Variable, c: Tensor, suffix: str = "") -> Variable:
    """x + c, broadcast."""
    shape = step.common_shape(x.shape, tuple(c.shape))
    x = step.widened(x, shape)
    if not (c != 0).any():
        return x
    return step.add(Diagonal(plain(shape), None, fitted(c, shape), terms=1), (x,), shape, suffix)


def scaled(step: Step, x: Variable, c: Tensor, *, divide: bool = False, terms: int = 2, suffix: str = "") -> Variable:
    """c x or x / c, broadcast; `terms` as for Diagonal."""
    shape = step.common_shape(x.shape, tuple(c.shape))
    x = step.widened(x, shape)
    op = Diagonal(plain(shape), fitted(c, shape), None, divide=divide, terms=terms)
    return step.add(op, (x,), shape, suffix)


def reflected(step: Step, x: Variable, c: Tensor, suffix: str = "") -> Variable:
    """c - x, broadcast."""
    shape = step.common_shape(x.shape, tuple(c.shape))
    op = Diagonal(plain(shape), scalar(-1.0).expand(plain(shape)), fitted(c, shape), terms=1)
    return step.add(op, (step.widened(x, shape),), shape, suffix)


def total(step: Step, xs: list[Variable], signs: tuple[int, ...], suffix: str = "") -> Variable:
    """Sum of branches with signs, broadcast."""
    shape = step.common_shape(*(x.shape for x in xs))
    return step.add(Sum(plain(shape), signs), [step.widened(x, shape) for x in xs], shape, suffix)


@operator("Add", "Sub")
def add(step: Step) -> Value:
    """x + c, x - c, c - x, and sums and differences of two branches."""
    sign = -1 if step.op_type == "Sub" else 1
    first, second = step.argument(0), step.argument(1)
    if isinstance(first, Variable) and isinstance(second, Variable):
        return total(step, [first, second], (1, sign))
    if isinstance(first, Variable):
        return shifted(step, first, sign * step.weights(1))
    x, c = step.variable(1), step.weights(0)
    return shifted(step, x, c) if sign > 0 else reflected(step, x, c)


@operator("Sum", "Mean")
def sum_of(step: Step) -> Value:
    """The sum or mean of any number of branches and constants."""
    xs = [x for x in step.arguments() if isinstance(x, Variable)]
    y = xs[0] if len(xs) == 1 else total(step, xs, (1,) * len(xs))
    for i, x in enumerate(step.inputs):
        if isinstance(x, Constant):
            y = shifted(step, y, step.weights(i), "/constant")
    if step.op_type == "Mean" and len(step.inputs) > 1:
        return scaled(step, y, scalar(float(len(step.inputs))), divide=True, suffix="/mean")
    return y


@operator("Neg")
def negative(step: Step) -> Value:
    """-x."""
    return scaled(step, step.variable(), scalar(-1.0), terms=1)


@operator("Mul", "Div")
def multiply(step: Step) -> Value:
    """c x and x / c."""
    divide = step.op_type == "Div"
    first, second = step.argument(0), step.argument(1)
    if isinstance(first, Variable) and isinstance(second, Variable):
        raise step.unsupported("of two values that both depend on the input is not piecewise linear")
    if divide and isinstance(second, Variable):
        raise step.unsupported("of a constant by a value that depends on the input is not piecewise linear")
    x, c = (first, second) if isinstance(first, Variable) else (second, first)
    assert isinstance(x, Variable)
    assert isinstance(c, Constant)
    weight = step.numbers(c.array)
    if divide and not ((weight.abs() > 2.0**-1000) & (weight.abs() < 2.0**1000)).all():
        raise step.error("divides by zero, or by numbers that are next to zero or infinity")
    return scaled(step, x, weight, divide=divide, terms=2 + c.terms)


@operator("BatchNormalization")
def batch_normalisation(step: Step) -> Value:
    """(x - mean) / sqrt(var + epsilon) scale + bias for each channel (axis 1), with stored mean and variance."""
    if step.attributes.get("training_mode", 0) or step.attributes.get("is_test", 1) == 0:
        raise step.unsupported("in training mode is not affine: export the model in evaluation mode")
    if step.attributes.get("spatial", 1) == 0:
        raise step.unsupported("with spatial = 0 is not supported")
    x = step.variable()
    if len(x.shape) < 2:
        raise step.error(f"expected (batch, channels, ...), came {x.shape}")
    channels = x.shape[1]
    parameters = [step.weights(i) for i in range(1, 5)]
    if any(p.shape != (channels,) for p in parameters):
        raise step.error(f"expected {channels} numbers for scale, bias, mean and variance each")
    scale, bias, mean, variance = (p.reshape(channels, *(1,) * (len(x.shape) - 2)) for p in parameters)
    spread = variance + float(step.attributes.get("epsilon", 1e-5))
    if not (spread > 0).all():
        raise step.error("variance + epsilon is not positive: the model is damaged")
    # the weight is inexact by three roundings (sum under a root, root, quotient), two more come with its use
    y = scaled(step, shifted(step, x, -mean, "/mean"), scale / torch.sqrt(spread), terms=6)
    return shifted(step, y, bias, "/bias")


@operator("Identity", "Dropout")
def identity(step: Step) -> Value:
    """The argument itself; dropout does nothing in inference."""
    training = step.inputs[2] if step.has(2) else None
    if isinstance(training, Variable) or (isinstance(training, Constant) and training.array.any()):
        raise step.unsupported("in training mode is random: export the model in evaluation mode")
    value = step.inputs[0] if step.has(0) else None
    return value if value is not None else step.argument(0)


FLOATS = (1, 10, 11, 16)
"""Numbers of float32, float16, float64 and bfloat16 in ONNX."""
HALVES = (10, 16)
"""Those with 16 bits, in which float32 is not what computes."""


@operator("Cast", "CastLike")
def cast(step: Step) -> Value:
    """Between floating-point types: nothing, in real arithmetic."""
    if step.op_type == "Cast" and int(step.attributes.get("to", 1)) not in FLOATS:
        raise step.unsupported("to a type other than float16, bfloat16, float32 or float64 is not piecewise linear")
    like = step.inputs[1] if step.op_type == "CastLike" and step.has(1) else None
    if isinstance(like, Constant) and not np.issubdtype(like.array.dtype, np.floating):
        raise step.unsupported(f"to {like.array.dtype} is not piecewise linear")
    short = int(step.attributes.get("to", 1)) in HALVES if like is None else halved(like)
    if short:
        step.builder.recomputed = "float16 or bfloat16"
    value = step.argument(0)
    return cast_like(step, value) if isinstance(value, Constant) else value


def halved(like: Value) -> bool:
    """Whether a constant is of a type with 16 bits."""
    return isinstance(like, Constant) and like.array.dtype.itemsize == 2


def cast_like(step: Step, value: Value) -> Constant:
    """A constant as a number of the type that all variables have, that of the input."""
    if not isinstance(value, Constant):
        raise step.error("expected a constant")
    return replace(value, array=value.array.astype(step.builder.dtype))
