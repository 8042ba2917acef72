"""Operators: what each ONNX operator becomes in a network of affine maps and ReLUs."""

from calotte.models.operators import (
    convolution,
    elementwise,
    final,
    linear,
    ml,
    movement,
    piecewise,
    pooling,
    reduction,
    shapes,
)
from calotte.models.operators.step import HANDLERS

__all__ = [
    "HANDLERS",
    "convolution",
    "elementwise",
    "final",
    "linear",
    "ml",
    "movement",
    "piecewise",
    "pooling",
    "reduction",
    "shapes",
]
