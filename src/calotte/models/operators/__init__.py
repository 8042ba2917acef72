"""Operators: what each ONNX operator becomes in a network of affine maps and ReLUs."""

from calotte.models.operators import (
    convolution,
    einsum,
    elementwise,
    final,
    grid,
    linear,
    ml,
    movement,
    piecewise,
    pooling,
    reduction,
    resize,
    selection,
    sequences,
    shapes,
)
from calotte.models.operators.step import HANDLERS

__all__ = [
    "HANDLERS",
    "convolution",
    "einsum",
    "elementwise",
    "final",
    "grid",
    "linear",
    "ml",
    "movement",
    "piecewise",
    "pooling",
    "reduction",
    "resize",
    "selection",
    "sequences",
    "shapes",
]
