"""GridSample with a constant grid: each place of the result is a fixed combination of neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import torch

from calotte.models.operators.elementwise import scaled
from calotte.models.operators.reduction import summed
from calotte.models.operators.resize import HALF, keys
from calotte.models.operators.step import Step, Value, operator

__all__: list[str] = []

MODES = {"linear": "linear", "bilinear": "linear", "nearest": "nearest", "cubic": "cubic", "bicubic": "cubic"}

MOST_PLACES = 2**18
"""More places than this are refused: their weights are found one by one."""


@operator("GridSample")
def grid_sample(step: Step) -> Value:
    """Weights are fractions, computed exactly and rounded once each, which `terms` counts."""
    x, grid = step.variable(), step.weights(1)
    spatial = x.shape[2:]
    rank = len(spatial)
    mode = MODES.get(step.attributes.get("mode", b"linear").decode())
    if rank < 1 or x.shape[0] != 1 or grid.ndim != rank + 2 or grid.shape[0] != 1 or grid.shape[-1] != rank:
        raise step.error(f"a grid of shape {tuple(grid.shape)} does not fit input {x.shape}")
    after = tuple(grid.shape[1:-1])
    if mode is None or math.prod(after) > MOST_PLACES:
        raise step.unsupported(f"in this mode, or of more than {MOST_PLACES} places, is not supported")
    if mode != "nearest":
        step.builder.recomputed = step.op_type
    rows = []
    for point in grid.reshape(-1, rank).tolist():
        axes = [taps(step, Fraction(g), n, mode) for g, n in zip(reversed(point), spatial, strict=True)]
        row: dict[int, Fraction] = {}
        for neighbours in product(*(one.items() for one in axes)):
            at, weight = 0, Fraction(1)
            for (place, w), n in zip(neighbours, spatial, strict=True):
                at, weight = at * n + place, weight * w
            row[at] = row.get(at, Fraction(0)) + weight
        rows.append({at: w for at, w in row.items() if w})
    most = max(1, *(len(row) for row in rows))
    places, weights = np.zeros((len(rows), most), dtype=np.int64), np.zeros((len(rows), most))
    for j, row in enumerate(rows):
        for k, (at, w) in enumerate(row.items()):
            places[j, k], weights[j, k] = at, float(w)
    y = step.moved(x, lambda index: index.reshape(1, x.shape[1], -1)[:, :, places], "/neighbours")
    y = scaled(step, y, torch.from_numpy(weights), terms=3, suffix="/weights")
    return step.reshaped(summed(step, y, (3,)), (1, x.shape[1], *after))


def taps(step: Step, g: Fraction, n: int, mode: str) -> dict[int, Fraction]:
    """The places of an axis of size n, and their weights, that a coordinate g in [-1, 1] reads."""
    align = bool(step.attributes.get("align_corners", 0))
    at = (g + 1) * (n - 1) / 2 if align else ((g + 1) * n - 1) / 2
    padding = step.attributes.get("padding_mode", b"zeros").decode()
    low, high = (Fraction(0), Fraction(n - 1)) if align else (-HALF, n - HALF)
    inside: Callable[[Fraction], Fraction] = {
        "zeros": lambda v: v,
        "border": lambda v: min(max(v, Fraction(0)), Fraction(n - 1)),
        "reflection": lambda v: reflected(v, low, high),
    }[padding]
    if mode != "cubic":  # neighbours are found behind the edge, then; in cubic mode each is moved by itself
        at = inside(at)
    if mode == "nearest":
        weights = {round(at): Fraction(1)}  # half to even
    else:
        start = math.floor(at)
        span = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
        kernel = (lambda s: 1 - s) if mode == "linear" else (lambda s: keys(s, Fraction(-3, 4)))
        weights = {start + k: kernel(abs(at - start - k)) for k in span}
    found: dict[int, Fraction] = {}
    for place, w in weights.items():
        moved = place if padding == "zeros" else min(max(int(inside(Fraction(place))), 0), n - 1)
        if 0 <= moved < n:
            found[moved] = found.get(moved, Fraction(0)) + w
    return found


def reflected(v: Fraction, low: Fraction, high: Fraction) -> Fraction:
    """v mirrored at both ends until it lies between them."""
    span = high - low
    if span == 0:
        return low
    turned = (v - low) % (2 * span)
    return low + min(turned, 2 * span - turned)
