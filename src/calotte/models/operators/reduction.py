"""Sums and means over axes."""

from __future__ import annotations

import math

from calotte.models.operators.elementwise import scaled
from calotte.models.operators.linear import scalar
from calotte.models.operators.step import Step, Value, Variable, operator, plain
from calotte.network.reduction import AxisSum

__all__ = ["reduced_axes", "summed", "without"]


def summed(step: Step, x: Variable, axes: tuple[int, ...]) -> Variable:
    """The sum over axes, which are kept with size 1."""
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    dropped = len(x.shape) - len(plain(x.shape))
    inner = tuple(axis - dropped for axis in axes if axis >= dropped)
    if math.prod(x.shape[axis] for axis in axes) == 1 or not inner:
        return step.reshaped(x, shape)
    op = AxisSum(plain(x.shape), inner)
    return step.reshaped(step.add(op, (x,), (1, *op.output_shape), "/sum"), shape)


def reduced_axes(step: Step, x: Variable, since: int) -> tuple[int, ...]:
    """The axes of a reduction: those named, or all."""
    axes = step.setting("axes", 1, since)
    if not axes:
        keep = bool(step.attributes.get("noop_with_empty_axes", 0))
        return () if keep else tuple(range(len(x.shape)))
    return step.axes(axes, len(x.shape))


def without(step: Step, y: Variable, axes: tuple[int, ...]) -> Variable:
    """Drop the reduced axes unless they are to be kept."""
    if step.attributes.get("keepdims", 1):
        return y
    return step.reshaped(y, tuple(n for axis, n in enumerate(y.shape) if axis not in axes))


@operator("ReduceSum", "ReduceMean")
def reduce_sum(step: Step) -> Value:
    """The sum or mean over axes."""
    x, mean = step.variable(), step.op_type == "ReduceMean"
    axes = reduced_axes(step, x, since=18 if mean else 13)
    y = summed(step, x, axes)
    count = math.prod(x.shape[axis] for axis in axes)
    if mean and count > 1:
        y = scaled(step, y, scalar(float(count)), divide=True, suffix="/mean")
    return without(step, y, axes)
