"""What only the end of a network may do: scores in the same order as the logits, and decisions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotte.models.operators.elementwise import reflected, shifted
from calotte.models.operators.step import Final, Step, Value, Variable, operator

__all__ = ["AFTER_FINAL"]

AFTER_FINAL = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that may follow, as they do not change the order of the outputs."""


def softmax(z: Tensor) -> Tensor:
    """Softmax of rows."""
    return torch.softmax(z, 1)


def log_softmax(z: Tensor) -> Tensor:
    """Logarithm of the softmax of rows."""
    return torch.log_softmax(z, 1)


@operator("Softmax", "LogSoftmax")
def softmax_of(step: Step) -> Value:
    """Over the class axis the order of the outputs is that of the logits."""
    x = step.variable()
    rank, late = len(x.shape), step.opset >= 13
    axis = step.axis(-1 if late else 1 if rank > 1 else 0, rank)
    over = {axis} if late else set(range(axis, rank))
    if any(n != 1 for i, n in enumerate(x.shape) if i not in over) or math.prod(x.shape) < 2:
        raise step.unsupported(f"over axis {axis} of {x.shape} does not run over all classes: not piecewise linear")
    scores = softmax if step.op_type == "Softmax" else log_softmax
    return Final(x, step.input_names[0], step.op_type, scores=scores)


@operator("Sigmoid")
def sigmoid(step: Step) -> Value:
    """With several outputs the order is that of the logits; with one, `sign` of it is always 1."""
    x = step.variable()
    if math.prod(x.shape) == 1:
        raise step.unsupported(
            "of a single output is positive everywhere, so its sign says nothing: export the model without its final "
            "Sigmoid, whose input is positive exactly where the Sigmoid is above 1/2"
        )
    return Final(x, step.input_names[0], "Sigmoid", scores=torch.sigmoid)


@operator("Sign")
def sign(step: Step) -> Value:
    """The decision `sign` of a single output."""
    x = step.variable()
    if math.prod(x.shape) != 1:
        raise step.unsupported(f"of {x.shape} values is not piecewise linear; as a decision it takes one")
    return Final(x, step.input_names[0], "Sign", rule="sign")


@operator("Greater", "Less")
def threshold(step: Step) -> Value:
    """x > c or x < c for a single output: the decision `sign` of x - c or c - x."""
    first, second = step.argument(0), step.argument(1)
    if isinstance(first, Variable) and isinstance(second, Variable):
        raise step.unsupported("of two values that both depend on the input is not supported")
    i = 0 if isinstance(first, Variable) else 1
    x, c = step.variable(i), step.weights(1 - i)
    if math.prod(x.shape) != 1 or c.numel() != 1:
        raise step.unsupported(f"of {x.shape} values is not piecewise linear; as a decision it takes one")
    above = (step.op_type == "Greater") == (i == 0)
    c = c.reshape((1,) * len(x.shape))
    y = shifted(step, x, -c) if above else reflected(step, x, c)
    level = c.item()
    return Final(
        y,
        step.input_names[i],
        step.op_type,
        rule="sign",
        at_source=(lambda z: z + level) if above else (lambda z: level - z),
    )


@operator("ArgMax", "ArgMin")
def index_of_extreme(step: Step) -> Value:
    """The decision `argmax` or `argmin`."""
    x = step.variable()
    axis = step.axis(0, len(x.shape))
    if x.shape[axis] != math.prod(x.shape) or x.shape[axis] < 2:
        raise step.unsupported(f"over axis {axis} of {x.shape} does not run over all classes: not piecewise linear")
    if step.attributes.get("select_last_index", 0):
        raise step.unsupported("with select_last_index = 1 is not supported: the first of equal outputs decides here")
    return Final(x, step.input_names[0], step.op_type, rule="argmax" if step.op_type == "ArgMax" else "argmin")
