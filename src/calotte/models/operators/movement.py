"""Operators that copy, drop, reorder or repeat entries: all of them are what numpy does to an array of indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calotte.models.operators.elementwise import shifted
from calotte.models.operators.step import MOST_ENTRIES, Constant, Parts, Step, Value, Variable, operator, plain
from calotte.network.rearrange import Concatenation

__all__ = ["assembled", "concatenated", "taken"]


def taken(step: Step, x: Variable, places: list[int], axis: int, suffix: str = "") -> Variable:
    """The entries at some places of an axis."""
    return step.moved(x, lambda index: np.take(index, places, axis), suffix)


def assembled(
    step: Step, values: Sequence[Variable | Constant], move: Callable[[list[NDArray[Any]]], NDArray[Any]]
) -> Variable:
    """What a rearrangement makes of several values, given arrays of numbers of their entries; -1 stands for zero."""
    branches = [x for x in values if isinstance(x, Variable)]
    if sum(math.prod(x.shape) for x in values) > MOST_ENTRIES:
        raise step.error("has too many entries: the model is damaged")
    if any(isinstance(x, Constant) and x.terms for x in values):
        raise step.unsupported("with constants that were computed inexactly: fold constants in the model")
    entries = sum(math.prod(x.shape) for x in branches)
    numbered, start, fixed, beyond = [], 0, [], entries  # variables first, constants after them
    for x in values:
        size = math.prod(x.shape)
        if isinstance(x, Constant):
            numbered.append(np.arange(beyond, beyond + size, dtype=np.int64).reshape(x.shape))
            fixed.append(step.numbers(x.array).numpy().reshape(-1))
            beyond += size
        else:
            numbered.append(np.arange(start, start + size, dtype=np.int64).reshape(x.shape))
            start += size
    index = np.asarray(move(numbered))
    y, before = branches[0], tuple(plain(x.shape) for x in branches)
    in_order = np.array_equal(index.reshape(-1), np.arange(entries))
    if len(branches) > 1:
        shape = index.shape if in_order else (entries,)
        y = step.add(Concatenation(before, plain(shape)), branches, shape)
    if len(branches) == 1 or not in_order:
        y = step.moved(y, lambda _: np.where(index < entries, index, -1), "/order")
    if not fixed:
        return y
    known = np.concatenate([np.zeros(entries), *fixed, [0.0]])  # index -1, zero, is the last
    return shifted(step, y, step.numbers(known[index]), "/constants")


def concatenated(step: Step, values: Sequence[Variable | Constant], axis: int) -> Variable:
    """Values one after the other along an axis."""
    return assembled(step, values, lambda arrays: np.concatenate(arrays, axis))


@operator("Concat")
def concat(step: Step) -> Value:
    """Values one after the other along `axis`."""
    values = step.arguments()
    if "axis" not in step.attributes:
        raise step.error("attribute 'axis' is missing")
    return concatenated(step, values, step.axis(0, len(values[0].shape)))


@operator("Transpose")
def transpose(step: Step) -> Value:
    """Axes in another order, by default reversed."""
    x = step.variable()
    perm = [int(axis) for axis in step.attributes.get("perm", range(len(x.shape))[::-1])]
    if sorted(perm) != list(range(len(x.shape))):
        raise step.error(f"order {perm} does not fit {len(x.shape)} axes")
    return step.moved(x, lambda index: np.transpose(index, perm))


@operator("Slice")
def slice_of(step: Step) -> Value:
    """A range of places on some axes, with steps of either sign."""
    x = step.variable()
    starts, ends = (step.setting(key, i, since=10) for i, key in enumerate(("starts", "ends"), start=1))
    axes, steps = step.setting("axes", 3, since=10), step.setting("steps", 4, since=10)
    if starts is None or ends is None:
        raise step.error("starts or ends are missing")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if {len(ends), len(axes), len(steps)} != {len(starts)} or 0 in steps:
        raise step.error("expected as many starts as ends, axes and steps, and no step of 0")
    step.axes(axes, len(x.shape))
    ranges = [slice(None)] * len(x.shape)
    for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
        ranges[axis] = slice(start, end, stride)
    return step.moved(x, lambda index: index[tuple(ranges)])


@operator("Gather")
def gather(step: Step) -> Value:
    """The entries at constant places of an axis."""
    x, places = step.variable(), step.constant(1)
    if places.dtype.kind not in "iu":
        raise step.error(f"expected integers as places, came {places.dtype}")
    axis = step.axis(0, len(x.shape))
    return step.moved(x, lambda index: np.take(index, places, axis))


@operator("Split", "SplitToSequence")
def split(step: Step) -> Value | list[Value]:
    """The parts of an axis: of the sizes given, or equal ones."""
    x = step.variable()
    axis = step.axis(0, len(x.shape))
    size = x.shape[axis]
    whole = step.op_type == "SplitToSequence"
    if whole and not step.attributes.get("keepdims", 1) and not step.has(1):
        raise step.unsupported("with keepdims = 0 is not supported")
    sizes = step.setting("split", 1, since=0 if whole else 13)
    if whole and (sizes is None or step.constant(1).ndim == 0):
        each = sizes[0] if sizes else 1
        if each < 1:
            raise step.error(f"expected parts of a positive size, came {each}")
        sizes = [min(each, size - begin) for begin in range(0, size, each)]
    elif sizes is None:
        parts = int(step.attributes.get("num_outputs", step.outputs))
        each = -(-size // parts)
        sizes = [max(min(each, size - k * each), 0) for k in range(parts)]
    if min(sizes, default=0) < 1 or sum(sizes) != size:
        raise step.error(f"parts {sizes} do not fit an axis of size {size}")
    begins = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    values = [
        taken(step, x, list(range(begin, begin + n)), axis, f"/{k}")
        for k, (begin, n) in enumerate(zip(begins, sizes, strict=False))
    ]
    return Parts(tuple(values)) if whole else list(values)


@operator("Expand")
def expand(step: Step) -> Value:
    """x broadcast against a shape."""
    x = step.variable()
    return step.widened(x, step.common_shape(x.shape, tuple(max(n, 0) for n in step.integers(1))))


@operator("Tile")
def tile(step: Step) -> Value:
    """x repeated along its axes."""
    x, repeats = step.variable(), step.integers(1)
    if (
        len(repeats) != len(x.shape)
        or min(repeats, default=1) < 1
        or math.prod(x.shape) * math.prod(repeats) > MOST_ENTRIES
    ):
        raise step.error(f"repeats {repeats} do not fit shape {x.shape}")
    return step.moved(x, lambda index: np.tile(index, repeats))


MODES: dict[str, Literal["constant", "reflect", "edge", "wrap"]] = {
    "constant": "constant",
    "reflect": "reflect",
    "edge": "edge",
    "wrap": "wrap",
}


@operator("Pad")
def pad(step: Step) -> Value:
    """Entries before and after each axis: constant, or copies; negative numbers cut off."""
    x = step.variable()
    mode = step.attributes.get("mode", b"constant").decode()
    pads = step.setting("pads", 1, since=11)
    axes = [axis % len(x.shape) for axis in step.integers(3)] if step.has(3) else list(range(len(x.shape)))
    step.axes(axes, len(x.shape))
    if mode not in MODES or pads is None or len(pads) != 2 * len(axes):
        raise step.error(f"pads {pads} in mode '{mode}' do not fit shape {x.shape}")
    half = len(axes)
    before, after = [0] * len(x.shape), [0] * len(x.shape)
    for k, axis in enumerate(axes):
        before[axis], after[axis] = pads[k], pads[half + k]
    if math.prod(float(b + n + a) for b, n, a in zip(before, x.shape, after, strict=True)) > MOST_ENTRIES:
        raise step.error(f"pads {pads} are too large")
    fill = 0.0
    if mode == "constant":
        fill = float(step.weights(2).reshape(-1)[0]) if step.has(2) else float(step.attributes.get("value", 0.0))
        if not math.isfinite(fill):
            raise step.error(f"pads with {fill}")

    def padded(index: NDArray[Any], outside: int) -> NDArray[Any]:
        cut = tuple(slice(max(-b, 0), n - max(-a, 0)) for b, a, n in zip(before, after, x.shape, strict=True))
        widths = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
        if mode == "constant":
            return np.pad(index[cut], widths, constant_values=outside)
        copied: NDArray[Any] = np.pad(index[cut], widths, mode=MODES[mode])
        return copied

    y = step.moved(x, lambda index: padded(index, -1))
    if fill == 0.0:
        return y
    return shifted(step, y, step.numbers(fill * padded(np.zeros(x.shape, dtype=np.int64), 1)), "/value")
