"""Resize and Upsample: what each axis becomes is a matrix of fractions, exact."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch

from calotte.models.operators.elementwise import scaled, shifted
from calotte.models.operators.movement import taken
from calotte.models.operators.reduction import summed
from calotte.models.operators.step import MOST_ENTRIES, Step, Value, Variable, operator

__all__: list[str] = []

Row = dict[int, Fraction]
"""Weights of one place of an axis by the places that it is made of."""

HALF = Fraction(1, 2)


@operator("Resize", "Upsample")
def resize(step: Step) -> Value:
    """Other sizes of axes, one axis after the other."""
    x = step.variable()
    mode = step.attributes.get("mode", b"nearest").decode()
    if mode not in ("nearest", "linear", "cubic") or step.attributes.get("antialias", 0):
        raise step.unsupported(
            f"in mode '{mode}', or with antialias, is not supported: use mode nearest, linear or cubic"
        )
    if mode != "nearest":
        step.builder.recomputed = step.op_type
    axes, scales, sizes = targets(step, x)
    for axis, scale, size in zip(axes, scales, sizes, strict=True):
        if size == x.shape[axis] and scale == 1:
            continue
        rows, beyond = rows_of(step, x.shape[axis], size, scale, mode, axis)
        x = along(step, x, axis, rows)
        if any(beyond):
            value = float(step.attributes.get("extrapolation_value", 0.0))
            fill = np.array([value if b else 0.0 for b in beyond]).reshape(
                [-1 if k == axis else 1 for k in range(len(x.shape))]
            )
            x = shifted(step, x, step.numbers(fill), "/outside")
    return x


def targets(step: Step, x: Variable) -> tuple[list[int], list[Fraction], list[int]]:
    """The axes that change, their scales and their sizes afterwards."""
    old = step.op_type == "Upsample" or step.opset < 11
    rank = len(x.shape)
    axes = [int(axis) for axis in step.attributes.get("axes", range(rank))]
    step.axes(axes, rank)
    axes = [axis % rank for axis in axes]
    at = 1 if old else 2
    if not old and step.has(3) and step.constant(3).size:
        sizes = step.integers(3)
        policy = step.attributes.get("keep_aspect_ratio_policy", b"stretch").decode()
        if len(sizes) != len(axes):
            raise step.error(f"expected {len(axes)} sizes, came {len(sizes)}")
        ratios = [Fraction(size, x.shape[axis]) for axis, size in zip(axes, sizes, strict=True)]
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(axes)
            sizes = [math.floor(ratio * x.shape[axis] + HALF) for axis in axes]
    else:
        given = (
            step.weights(at).reshape(-1)
            if step.has(at)
            else step.numbers(np.array(step.attributes.get("scales", [])))
        )
        ratios = [Fraction(float(v)) for v in given.tolist()]
        if len(ratios) != len(axes) or min(ratios) <= 0:
            raise step.error(f"expected {len(axes)} positive scales, came {[float(v) for v in ratios]}")
        sizes = [math.floor(x.shape[axis] * ratio) for axis, ratio in zip(axes, ratios, strict=True)]
    if min(sizes) < 1 or max(sizes) > MOST_ENTRIES:
        raise step.error(f"has a result of sizes {sizes}: the model is damaged")
    return axes, ratios, sizes


def rows_of(step: Step, n: int, size: int, scale: Fraction, mode: str, axis: int) -> tuple[list[Row], list[bool]]:
    """What each place of an axis of size n resized to `size` is made of; and whether it lies outside."""
    old = step.op_type == "Upsample" or step.opset < 11
    transform = step.attributes.get(
        "coordinate_transformation_mode", b"asymmetric" if old else b"half_pixel"
    ).decode()
    rounding = step.attributes.get("nearest_mode", b"floor" if old else b"round_prefer_floor").decode()
    a = Fraction(float(step.attributes.get("cubic_coeff_a", -0.75)))
    exclude = bool(step.attributes.get("exclude_outside", 0))
    start, end = region(step, axis) if transform == "tf_crop_and_resize" else (Fraction(0), Fraction(1))
    rows: list[Row] = []
    beyond: list[bool] = []
    for j in range(size):
        at = place(step, transform, j, n, size, scale, start, end)
        outside = transform == "tf_crop_and_resize" and not 0 <= at <= n - 1
        beyond.append(outside)
        if outside:
            rows.append({})
        elif mode == "nearest":
            rows.append({min(max(nearest(step, rounding, at), 0), n - 1): Fraction(1)})
        else:
            rows.append(blended(at, n, a if mode == "cubic" else None, exclude))
    return rows, beyond


def region(step: Step, axis: int) -> tuple[Fraction, Fraction]:
    """Start and end of the region of interest on an axis, in shares of it."""
    axes = [
        int(k) % len(step.variable().shape) for k in step.attributes.get("axes", range(len(step.variable().shape)))
    ]
    roi = step.weights(1).reshape(-1).tolist() if step.has(1) else []
    if len(roi) != 2 * len(axes):
        raise step.error(f"expected {2 * len(axes)} numbers as region of interest, came {len(roi)}")
    k = axes.index(axis)
    return Fraction(roi[k]), Fraction(roi[len(axes) + k])


def place(
    step: Step, transform: str, j: int, n: int, size: int, scale: Fraction, start: Fraction, end: Fraction
) -> Fraction:
    """Where place j of the result lies on the axis before."""
    if transform == "half_pixel":
        return (j + HALF) / scale - HALF
    if transform == "half_pixel_symmetric":  # the result may be shorter than size * scale
        return n * HALF * (1 - size / (n * scale)) + (j + HALF) / scale - HALF
    if transform == "pytorch_half_pixel":
        return (j + HALF) / scale - HALF if size > 1 else Fraction(0)
    if transform == "align_corners":
        return Fraction(j * (n - 1), size - 1) if size > 1 else Fraction(0)
    if transform == "asymmetric":
        return j / scale
    if transform == "tf_crop_and_resize":
        return (
            start * (n - 1) + j * (end - start) * (n - 1) / (size - 1) if size > 1 else HALF * (start + end) * (n - 1)
        )
    raise step.error(f"coordinate_transformation_mode '{transform}' is not known")


def nearest(step: Step, rounding: str, at: Fraction) -> int:
    """The place next to a fraction."""
    if rounding == "round_prefer_floor":
        return math.ceil(at - HALF)
    if rounding == "round_prefer_ceil":
        return math.floor(at + HALF)
    if rounding == "floor":
        return math.floor(at)
    if rounding == "ceil":
        return math.ceil(at)
    raise step.error(f"nearest_mode '{rounding}' is not known")


def blended(at: Fraction, n: int, a: Fraction | None, exclude: bool) -> Row:
    """Weights of the neighbours of a place: two (a None), or four with Keys' cubic kernel of parameter a."""
    low = math.floor(at)
    t = at - low
    near = {low: 1 - t, low + 1: t}
    weights = near if a is None else {low + k: keys(abs(t - k), a) for k in (-1, 0, 1, 2)}
    if exclude and a is not None:
        weights = {k: w for k, w in weights.items() if 0 <= k < n}
        whole = sum(weights.values())
        weights = {k: w / whole for k, w in weights.items()}
    row: Row = {}
    for k, w in weights.items():
        k = min(max(k, 0), n - 1)  # the edge goes on
        row[k] = row.get(k, Fraction(0)) + w
    return {k: w for k, w in row.items() if w}


def keys(s: Fraction, a: Fraction) -> Fraction:
    """The cubic convolution kernel of Keys (1981) at distance s."""
    if s <= 1:
        return (a + 2) * s**3 - (a + 3) * s**2 + 1
    return a * s**3 - 5 * a * s**2 + 8 * a * s - 4 * a if s < 2 else Fraction(0)


def along(step: Step, x: Variable, axis: int, rows: list[Row]) -> Variable:
    """x with an axis multiplied by a sparse matrix of fractions: whole numbers, then their denominators; exact."""
    if all(len(row) == 1 and next(iter(row.values())) == 1 for row in rows):
        return taken(step, x, [next(iter(row)) for row in rows], axis, "/nearest")
    taps = max(len(row) for row in rows)
    places, numerators = np.zeros((len(rows), taps), dtype=np.int64), np.zeros((len(rows), taps))
    denominators = [math.lcm(*(w.denominator for w in row.values())) if row else 1 for row in rows]
    for j, (row, whole) in enumerate(zip(rows, denominators, strict=True)):
        for k, (entry, w) in enumerate(row.items()):
            if abs(w * whole) > 2**53 or whole > 2**53:
                raise step.unsupported(
                    "with scales that are no simple fractions is not supported: give sizes instead"
                )
            places[j, k], numerators[j, k] = entry, float(w * whole)
    behind = (1,) * (len(x.shape) - axis - 1)
    y = step.moved(x, lambda index: np.take(index, places, axis), "/neighbours")
    y = scaled(step, y, torch.from_numpy(numerators.reshape(len(rows), taps, *behind)), suffix="/numerators")
    y = step.reshaped(summed(step, y, (axis + 1,)), (*x.shape[:axis], len(rows), *x.shape[axis + 1 :]))
    if all(whole == 1 for whole in denominators):
        return y
    c = torch.tensor([float(whole) for whole in denominators], dtype=torch.float64).reshape(len(rows), *behind)
    return scaled(step, y, c, divide=True, suffix="/denominators")
