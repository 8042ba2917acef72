"""Operators that give the same numbers another shape, and shapes as numbers."""

from __future__ import annotations

import math

import numpy as np

from calotte.models.operators.step import Constant, Step, Value, operator
from calotte.network.affine import Shape

__all__: list[str] = []


def in_shape(step: Step, shape: Shape) -> Value:
    """Argument 0 in another shape."""
    return step.reshaped(step.variable(), shape)


@operator("Shape")
def shape_of(step: Step) -> Value:
    """The shape at batch size 1."""
    x = step.variable()
    start, end = int(step.attributes.get("start", 0)), step.attributes.get("end")
    return Constant(np.array(x.shape[start : None if end is None else int(end)], dtype=np.int64))


@operator("Size")
def size_of(step: Step) -> Value:
    """The number of entries at batch size 1."""
    return Constant(np.array(math.prod(step.variable().shape), dtype=np.int64))


@operator("Flatten")
def flatten(step: Step) -> Value:
    """(product of the axes before `axis`, product of the rest)."""
    x = step.variable()
    axis, rank = int(step.attributes.get("axis", 1)), len(x.shape)
    if not -rank <= axis <= rank:
        raise step.error(f"axis {axis} is out of range for shape {x.shape}")
    axis = axis + rank if axis < 0 else axis
    return in_shape(step, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Reshape")
def reshape(step: Step) -> Value:
    """A new shape; 0 keeps an axis (unless `allowzero`), -1 is what is left; a hard-coded batch size becomes 1."""
    x, target = step.variable(), step.integers(1)
    if target[:1] == [step.builder.batch]:
        target[0] = 1
    if step.attributes.get("allowzero", 0) == 0:
        if any(n == 0 and i >= len(x.shape) for i, n in enumerate(target)):
            raise step.error(f"new shape {target} copies an axis that {x.shape} does not have")
        target = [x.shape[i] if n == 0 else n for i, n in enumerate(target)]
    known = math.prod(n for n in target if n != -1)
    if target.count(-1) == 1 and known > 0:
        target[target.index(-1)] = math.prod(x.shape) // known
    return in_shape(step, tuple(target))


@operator("Squeeze")
def squeeze(step: Step) -> Value:
    """Without the axes named, which must have size 1, or without all such."""
    x, axes = step.variable(), step.setting("axes", 1, since=13)
    ones = tuple(i for i, n in enumerate(x.shape) if n == 1)
    dropped = ones if axes is None else step.axes(axes, len(x.shape))
    if any(x.shape[i] != 1 for i in dropped):
        raise step.error(f"cannot squeeze axes {axes} of shape {x.shape}")
    return in_shape(step, tuple(n for i, n in enumerate(x.shape) if i not in dropped))


@operator("Unsqueeze")
def unsqueeze(step: Step) -> Value:
    """With new axes of size 1 at the places named."""
    x, axes = step.variable(), step.setting("axes", 1, since=13) or []
    rank = len(x.shape) + len(axes)
    added = step.axes(axes, rank)
    rest = iter(x.shape)
    return in_shape(step, tuple(1 if i in added else next(rest) for i in range(rank)))
