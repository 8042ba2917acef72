"""Sums, means, sums of absolute values and running sums over axes."""

from __future__ import annotations

import math

import numpy as np
import torch

from calotte.models.operators.elementwise import scaled
from calotte.models.operators.linear import scalar
from calotte.models.operators.piecewise import size
from calotte.models.operators.step import Step, Value, Variable, operator, plain
from calotte.network.convolution import Convolution
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


@operator("ReduceSum", "ReduceMean", "ReduceL1")
def reduce_sum(step: Step) -> Value:
    """The sum, the mean or the sum of absolute values over axes."""
    x, mean = step.variable(), step.op_type == "ReduceMean"
    axes = reduced_axes(step, x, since=13 if step.op_type == "ReduceSum" else 18)
    y = summed(step, size(step, x) if step.op_type == "ReduceL1" else x, axes)
    count = math.prod(x.shape[axis] for axis in axes)
    if mean and count > 1:
        y = scaled(step, y, scalar(float(count)), divide=True, suffix="/mean")
    return without(step, y, axes)


@operator("CumSum")
def running_sum(step: Step) -> Value:
    """The sum of all entries up to each place of an axis: a convolution with ones."""
    x, place = step.variable(), step.integers(1)
    axis = step.axes(place, len(x.shape))[0] if len(place) == 1 else -1
    if axis < 0:
        raise step.error(f"expected one axis, came {place}")
    n = x.shape[axis]
    last = [k for k in range(len(x.shape)) if k != axis] + [axis]
    y = step.moved(x, lambda index: np.transpose(index, last), "/last")
    shape = y.shape
    if step.attributes.get("reverse", 0):
        y = step.moved(y, lambda index: index[..., ::-1], "/reversed")
    if step.attributes.get("exclusive", 0):  # a zero first, the last entry never
        y = step.moved(
            y, lambda index: np.concatenate([np.full_like(index[..., :1], -1), index[..., :-1]], -1), "/late"
        )
    y = step.reshaped(y, (1, 1, math.prod(shape[:-1]), n))
    ones = torch.ones(1, 1, 1, n, dtype=torch.float64)
    op = Convolution(ones, None, plain(y.shape), stride=(1, 1), padding=((0, 0), (n - 1, 0)), dilation=(1, 1))
    y = step.reshaped(step.add(op, (y,), y.shape, "/sums"), shape)
    if step.attributes.get("reverse", 0):
        y = step.moved(y, lambda index: index[..., ::-1], "/back")
    return step.moved(y, lambda index: np.transpose(index, np.argsort(last)), "/axis")
