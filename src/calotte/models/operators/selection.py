"""Operators that choose entries by constants: each is asked what it does to the numbers of the entries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotte.models.operators.elementwise import total
from calotte.models.operators.evaluation import evaluated
from calotte.models.operators.movement import assembled
from calotte.models.operators.step import Constant, Step, Value, operator

__all__: list[str] = []


@operator(
    "CenterCropPad",
    "Compress",
    "DepthToSpace",
    "GatherElements",
    "GatherND",
    "ReverseSequence",
    "SpaceToDepth",
    "Trilu",
)
def rearranged(step: Step) -> Value:
    """What the operator does to the numbers of the entries, counted from 1; zeros that it puts in stay zeros."""
    x = step.variable()
    rest = [step.constant(i) if step.has(i) else None for i in range(1, len(step.inputs))]

    def move(index: NDArray[Any]) -> NDArray[Any]:
        return evaluated(step, [index + 1, *rest])[0].astype(np.int64) - 1

    return step.moved(x, move)


@operator("Where")
def where(step: Step) -> Value:
    """The entries of one value or of another, as a constant says."""
    condition = step.constant(0)
    if condition.dtype != np.bool_:
        raise step.error(f"expected truth values as input 0, came {condition.dtype}")
    step.common_shape(*(value.shape for value in step.arguments()))
    return assembled(step, step.arguments()[1:], lambda arrays: np.where(condition, *arrays))


@operator("Scatter", "ScatterElements", "ScatterND")
def scattered(step: Step) -> Value:
    """Entries put at constant places of a value, in place of what is there or added to it; each place once."""
    data, places, updates = step.argument(0), step.constant(1), step.argument(2)
    reduction = step.attributes.get("reduction", b"none").decode()
    if reduction not in ("none", "add"):
        raise step.unsupported(f"with reduction '{reduction}' is not supported")

    attributes = {key: value for key, value in step.attributes.items() if key != "reduction"}
    plainly = replace(step, attributes=attributes)
    if step.op_type == "Scatter":  # the old name
        plainly = replace(plainly, op_type="ScatterElements", opset=max(step.opset, 11))

    def move(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        result = evaluated(plainly, [arrays[0], places, arrays[1]])[0]
        if len(np.intersect1d(result, arrays[1])) != arrays[1].size:
            raise step.unsupported("puts several entries at one place, which leaves open what it computes")
        return result

    if reduction == "none":
        return assembled(step, [data, updates], move)
    if isinstance(data, Constant) or isinstance(updates, Constant):
        raise step.unsupported("adds constants at some places: write it as Add")
    more = assembled(step, [Constant(np.zeros(data.shape)), updates], move)
    return total(step, [data, more], (1, 1))


@operator("EyeLike")
def eye_like(step: Step) -> Value:
    """Ones on a diagonal, in the shape of a value."""
    return Constant(evaluated(step, [np.zeros(step.variable().shape, dtype=step.builder.dtype)])[0])


@operator("IsInf", "IsNaN")
def not_finite(step: Step) -> Value:
    """False: real numbers are finite."""
    return Constant(np.zeros(step.variable().shape, dtype=np.bool_))
