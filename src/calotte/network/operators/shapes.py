"""Operators that give the same numbers another shape, and constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from calotte.network.affine import Shape
from calotte.network.operators.step import Constant, Step, Value, operator

__all__: list[str] = []


@operator("Constant")
def constant(step: Step) -> Value:
    """The tensor or number in the attributes."""
    if len(step.attributes) != 1:
        raise step.error(f"expected one value, came {sorted(step.attributes) or 'none'}")
    ((key, value),) = step.attributes.items()
    if key == "value":
        return Constant(numpy_helper.to_array(value))
    types = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if key not in types:
        raise step.unsupported(f"with '{key}' is not supported")
    array: NDArray[Any] = np.array(value, dtype=types[key])
    return Constant(array)


def in_shape(step: Step, shape: Shape) -> Value:
    """Argument 0 in another shape."""
    x = step.argument(0)
    if isinstance(x, Constant):
        if math.prod(x.shape) != math.prod(shape):
            raise step.error(f"cannot reshape {x.shape} into {shape}: the number of entries differs")
        return Constant(x.array.reshape(shape))
    return step.reshaped(x, shape)


@operator("Flatten")
def flatten(step: Step) -> Value:
    """(product of the axes before `axis`, product of the rest)."""
    x = step.argument(0)
    axis = int(step.attributes.get("axis", 1))
    rank = len(x.shape)
    if not -rank <= axis <= rank:
        raise step.error(f"axis {axis} is out of range for shape {x.shape}")
    axis = axis + rank if axis < 0 else axis
    return in_shape(step, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Reshape")
def reshape(step: Step) -> Value:
    """A new shape; 0 keeps an axis (unless `allowzero`), -1 is what is left."""
    x, target = step.argument(0), step.integers(1)
    if step.attributes.get("allowzero", 0) == 0:
        if any(n == 0 and i >= len(x.shape) for i, n in enumerate(target)):
            raise step.error(f"new shape {target} copies an axis that {x.shape} does not have")
        target = [x.shape[i] if n == 0 else n for i, n in enumerate(target)]
    known = math.prod(n for n in target if n != -1)
    if target.count(-1) == 1 and known > 0:
        target[target.index(-1)] = math.prod(x.shape) // known
    if min(target, default=0) < 0:
        raise step.error(f"new shape {target} is not a shape")
    return in_shape(step, tuple(target))


def axes_of(step: Step) -> list[int] | None:
    """The axes of a squeeze: an attribute before opset 13, an argument since."""
    if step.has(1):
        return step.integers(1)
    axes = step.attributes.get("axes")
    return None if axes is None else [int(a) for a in axes]


@operator("Squeeze")
def squeeze(step: Step) -> Value:
    """Without the axes named, which must have size 1, or without all such."""
    x, axes = step.argument(0), axes_of(step)
    rank = len(x.shape)
    if axes is None:
        dropped = {i for i, n in enumerate(x.shape) if n == 1}
    else:
        dropped = {a % rank for a in axes if -rank <= a < rank}
        if len(dropped) != len(axes) or any(x.shape[i] != 1 for i in dropped):
            raise step.error(f"cannot squeeze axes {axes} of shape {x.shape}")
    return in_shape(step, tuple(n for i, n in enumerate(x.shape) if i not in dropped))


@operator("Unsqueeze")
def unsqueeze(step: Step) -> Value:
    """With new axes of size 1 at the places named."""
    x, axes = step.argument(0), axes_of(step)
    rank = len(x.shape) + len(axes or ())
    if not axes or any(not -rank <= a < rank for a in axes) or len({a % rank for a in axes}) != len(axes):
        raise step.error(f"cannot unsqueeze axes {axes} of shape {x.shape}")
    added = {a % rank for a in axes}
    rest = iter(x.shape)
    return in_shape(step, tuple(1 if i in added else next(rest) for i in range(rank)))
