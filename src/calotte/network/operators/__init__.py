"""Operators: what each ONNX operator becomes in a network of affine maps and ReLUs."""

from calotte.network.operators import elementwise, linear, shapes
from calotte.network.operators.step import HANDLERS, Builder, Constant, Step, Value, Variable, plain

__all__ = [
    "HANDLERS",
    "Builder",
    "Constant",
    "Step",
    "Value",
    "Variable",
    "elementwise",
    "linear",
    "plain",
    "shapes",
]
