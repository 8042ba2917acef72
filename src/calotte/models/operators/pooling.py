"""Pools: averages as grouped convolutions with kernels of ones, maxima as tournaments of ReLUs."""

from __future__ import annotations

import numpy as np
import torch

from calotte.models.operators.elementwise import scaled
from calotte.models.operators.linear import scalar
from calotte.models.operators.movement import concatenated, taken
from calotte.models.operators.piecewise import extreme, size
from calotte.models.operators.reduction import reduced_axes, summed, without
from calotte.models.operators.step import Step, Value, Variable, operator, plain
from calotte.models.operators.windows import Windows, windows_of
from calotte.network.convolution import Convolution

__all__: list[str] = []

Window = tuple[int, ...]


def pooled_input(step: Step) -> Variable:
    """The argument of a pool, (1, C, *spatial)."""
    x = step.variable()
    if not 3 <= len(x.shape) <= 5 or x.shape[0] != 1:
        raise step.error(f"input {x.shape}: expected batch size 1, channels and 1 to 3 more axes")
    return x


def window_sums(step: Step, x: Variable, windows: Windows) -> Variable:
    """The sum over each window."""
    padding = []
    for axis, n in enumerate(x.shape[2:]):
        last = windows.places(axis, windows.counts[axis] - 1)[-1]
        padding.append((windows.padding[axis][0], max(last + 1 - n, 0)))
    op = Convolution(
        torch.ones(x.shape[1], 1, *windows.size, dtype=torch.float64),
        None,
        plain(x.shape),
        stride=windows.stride,
        padding=padding,
        dilation=windows.dilation,
        groups=x.shape[1],
    )
    return step.add(op, (x,), (1, *op.output_shape), "/sum")


@operator("AveragePool")
def average_pool(step: Step) -> Value:
    """Sum over each window, divided by the number of entries it covers (padding included if so asked)."""
    x = pooled_input(step)
    spatial = x.shape[2:]
    windows = windows_of(step, spatial, tuple(step.attributes.get("kernel_shape", ())))
    divisor = torch.ones((), dtype=torch.float64)
    for axis, n in enumerate(spatial):
        low, high = windows.padding[axis]
        inside = range(-low, n + high) if step.attributes.get("count_include_pad", 0) else range(n)
        counts = [sum(p in inside for p in windows.places(axis, k)) for k in range(windows.counts[axis])]
        divisor = divisor[..., None] * torch.tensor(counts, dtype=torch.float64)
    if (divisor == 0).any():
        raise step.error("a window covers nothing but padding")
    return scaled(step, window_sums(step, x, windows), divisor, divide=True, suffix="/mean")


@operator("LpPool", "GlobalLpPool")
def norm_pool(step: Step) -> Value:
    """For p = 1 the sum of absolute values over each window, or over all spatial axes."""
    p = step.attributes.get("p", 2)
    if p != 1:
        raise step.unsupported(f"with p = {p} is not piecewise linear: p = 1 is, and AveragePool and MaxPool are")
    x = size(step, pooled_input(step))
    if step.op_type == "GlobalLpPool":
        return summed(step, x, tuple(range(2, len(x.shape))))
    return window_sums(step, x, windows_of(step, x.shape[2:], tuple(step.attributes.get("kernel_shape", ()))))


@operator("GlobalAveragePool")
def global_average(step: Step) -> Value:
    """The mean over all spatial axes."""
    x = pooled_input(step)
    count = float(np.prod(x.shape[2:]))
    y = summed(step, x, tuple(range(2, len(x.shape))))
    return scaled(step, y, scalar(count), divide=True, suffix="/mean")


@operator("MaxPool")
def max_pool(step: Step) -> Value:
    """The largest entry of each window, one axis after the other; padding never wins."""
    x = pooled_input(step)
    windows = windows_of(step, x.shape[2:], tuple(step.attributes.get("kernel_shape", ())))
    covered, used = [], []
    for axis, n in enumerate(x.shape[2:]):
        places = [windows.places(axis, k) for k in range(windows.counts[axis])]
        spans = [tuple(p for p in place if 0 <= p < n) for place in places]
        if not all(spans):
            raise step.error("a window covers nothing but padding")
        used.append(sorted({p for span in spans for p in span}))
        number = {p: k for k, p in enumerate(used[axis])}
        covered.append([tuple(number[p] for p in span) for span in spans])
    # what no window reads needs no comparison
    x = step.moved(x, lambda index: index[np.ix_([0], range(x.shape[1]), *used)], "/used")
    for axis, spans in enumerate(covered):
        x = window_extremes(step, x, axis + 2, spans)
    return x


@operator("ReduceMax", "ReduceMin", "GlobalMaxPool")
def reduce_extreme(step: Step) -> Value:
    """The largest or smallest entry over axes."""
    x = step.variable()
    spatial = tuple(range(2, len(x.shape)))
    axes = spatial if step.op_type == "GlobalMaxPool" else reduced_axes(step, x, since=18)
    for axis in axes:
        x = window_extremes(step, x, axis, [tuple(range(x.shape[axis]))], -1 if step.op_type == "ReduceMin" else 1)
    return x if step.op_type == "GlobalMaxPool" else without(step, x, axes)


def parts(window: Window) -> tuple[Window, Window]:
    """Halves of a window, or its first entry and the rest: so that neighbours share as many parts as possible."""
    half = len(window) // 2 if len(window) % 2 == 0 else 1
    return window[:half], window[half:]


def window_extremes(step: Step, x: Variable, axis: int, windows: list[Window], sign: int = 1) -> Variable:
    """The largest entry (smallest: sign -1) of each window of places on an axis.

    Windows of length n are compared from two parts, each of which is computed once, however many windows have
    it: overlapping windows share comparisons, and so units.
    """
    wanted: dict[int, set[Window]] = {}
    for window in windows:
        wanted.setdefault(len(window), set()).add(window)
    for length in range(max(wanted), 1, -1):
        for window in wanted.get(length, ()):
            for part in parts(window):
                wanted.setdefault(len(part), set()).add(part)
    levels: dict[int, tuple[Variable, dict[Window, int]]] = {
        1: (x, {(place,): place for place in range(x.shape[axis])})
    }

    def found(these: list[Window], suffix: str) -> Variable:
        value, number = levels[len(these[0])]
        return taken(step, value, [number[window] for window in these], axis, suffix)

    for length in sorted(set(wanted) - {1}):
        ordered = sorted(wanted[length])
        first, second = zip(*(parts(window) for window in ordered), strict=True)
        won = extreme(step, found(list(first), "/first"), found(list(second), "/second"), sign)
        levels[length] = (won, {window: k for k, window in enumerate(ordered)})
    lengths = sorted({len(window) for window in windows})
    if len(lengths) == 1:
        return found(windows, "/windows")
    start, number = 0, dict[Window, int]()
    for length in lengths:
        number |= {window: start + k for window, k in levels[length][1].items()}
        start += len(levels[length][1])
    joined = concatenated(step, [levels[length][0] for length in lengths], axis)
    return taken(step, joined, [number[window] for window in windows], axis, "/windows")
