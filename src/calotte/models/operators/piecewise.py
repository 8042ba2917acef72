"""Piecewise linear operators, rewritten into affine maps and as few ReLUs as they need."""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor

from calotte.models.operators.elementwise import reflected, scaled, shifted, total
from calotte.models.operators.linear import scalar
from calotte.models.operators.step import Constant, Step, Value, Variable, operator, plain
from calotte.network.graph import Relu

__all__ = ["extreme", "size"]

LARGEST = 3.4e38
"""Bounds of a Clip beyond this are the ends of float32: no bound."""


def rectified(step: Step, x: Variable, suffix: str = "/relu") -> Variable:
    """max(x, 0)."""
    return step.add(Relu(plain(x.shape)), (x,), x.shape, suffix)


def extreme(step: Step, a: Variable, b: Variable, sign: int = 1) -> Variable:
    """max(a, b) = b + relu(a - b), or min(a, b) = b - relu(b - a) with sign -1."""
    excess = rectified(step, total(step, [a, b], (sign, -sign), "/difference"))
    return total(step, [b, excess], (1, sign), "/extreme")


FAR = 2.0**12
"""Bounds beyond this are thought to be for safety: no value reaches them. Either way of writing them is exact."""


def at_least(step: Step, x: Variable, c: Tensor) -> Variable:
    """max(x, c) = c + relu(x - c): exactly c where it is not x; or x + relu(c - x): x, not rounded, where it is."""
    if (c.abs() > FAR).any():
        return total(step, [x, rectified(step, reflected(step, x, c, "/shift"))], (1, 1), "/maximum")
    return shifted(step, rectified(step, shifted(step, x, -c, "/shift")), c, "/maximum")


def at_most(step: Step, x: Variable, c: Tensor) -> Variable:
    """min(x, c) = c - relu(c - x): exactly c where it is not x; or x - relu(x - c): x, not rounded, where it is."""
    if (c.abs() > FAR).any():
        return total(step, [x, rectified(step, shifted(step, x, -c, "/shift"))], (1, -1), "/minimum")
    return reflected(step, rectified(step, reflected(step, x, c, "/shift")), c, "/minimum")


@operator("Relu")
def relu(step: Step) -> Value:
    """max(x, 0)."""
    return rectified(step, step.variable(), "")


@operator("Max", "Min")
def extremum(step: Step) -> Value:
    """The largest or smallest of any number of branches and constants."""
    smallest = step.op_type == "Min"
    xs = [x for x in step.arguments() if isinstance(x, Variable)]
    constants = [step.weights(i) for i, x in enumerate(step.inputs) if isinstance(x, Constant)]
    while len(xs) > 1:  # a tournament, so that errors pass through few sums
        pairs = list(zip(xs[::2], xs[1::2], strict=False))
        xs = [extreme(step, a, b, -1 if smallest else 1) for a, b in pairs] + xs[2 * len(pairs) :]
    if not constants:
        return xs[0]
    bound = reduce(torch.minimum if smallest else torch.maximum, constants)
    return (at_most if smallest else at_least)(step, xs[0], bound)


@operator("Clip")
def clip(step: Step) -> Value:
    """min(max(x, low), high); a bound that is left out or infinite does nothing."""
    y = step.variable()
    bounds = []
    for i, (key, end) in enumerate([("min", -1.0), ("max", 1.0)], start=1):
        given = step.constant(i) if step.has(i) else step.attributes.get(key, end * math.inf)
        if getattr(given, "size", 1) != 1:
            raise step.error(f"expected one number as '{key}'")
        bound = float(given)
        if math.isnan(bound) or bound * end < -LARGEST:
            raise step.error(f"bound {bound} as '{key}': the model is damaged")
        bounds.append(bound)
    low, high = bounds
    if low > high:
        raise step.error(f"the lower bound {low:g} is above the upper bound {high:g}")
    if low > -LARGEST:
        y = at_least(step, y, scalar(low))
    return at_most(step, y, scalar(high)) if high < LARGEST else y


@operator("LeakyRelu", "PRelu")
def leaky_relu(step: Step) -> Value:
    """x for x >= 0, a x below: a x + (1 - a) relu(x)."""
    x = step.variable()
    if step.op_type == "PRelu":
        slope = step.weights(1)
        if step.common_shape(x.shape, tuple(slope.shape)) != x.shape:
            raise step.error(f"slopes of shape {tuple(slope.shape)} do not fit input {x.shape}")
    else:
        slope = scalar(float(step.attributes.get("alpha", 0.01)))
        if not slope.isfinite():
            raise step.error("the slope must be finite")
    below = scaled(step, x, slope, suffix="/slope")
    above = scaled(step, rectified(step, x), 1.0 - slope, terms=3, suffix="/rest")
    return total(step, [below, above], (1, 1))


def size(step: Step, x: Variable) -> Variable:
    """|x| = 2 relu(x) - x."""
    double = scaled(step, rectified(step, x), scalar(2.0), terms=1, suffix="/double")
    return total(step, [double, x], (1, -1), "/absolute")


@operator("Abs")
def absolute(step: Step) -> Value:
    """|x|."""
    return size(step, step.variable())


@operator("HardSigmoid")
def hard_sigmoid(step: Step) -> Value:
    """min(max(alpha x + beta, 0), 1)."""
    alpha, beta = (float(step.attributes.get(key, default)) for key, default in (("alpha", 0.2), ("beta", 0.5)))
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise step.error("alpha and beta must be finite")
    line = shifted(step, scaled(step, step.variable(), scalar(alpha), suffix="/slope"), scalar(beta), "/line")
    return at_most(step, rectified(step, line), scalar(1.0))


@operator("Shrink")
def shrink(step: Step) -> Value:
    """relu(x - lambd) - relu(-x - lambd), where bias = lambd makes the operator continuous."""
    bias, threshold = (float(step.attributes.get(key, default)) for key, default in (("bias", 0.0), ("lambd", 0.5)))
    if not 0.0 <= threshold < math.inf or bias != threshold:
        raise step.unsupported(
            f"with bias {bias:g} and lambd {threshold:g} is not continuous: bias = lambd >= 0 (soft thresholding) is"
        )
    x, c = step.variable(), scalar(threshold)
    above = rectified(step, shifted(step, x, -c, "/above"), "/above/relu")
    below = rectified(step, reflected(step, x, -c, "/below"), "/below/relu")
    return total(step, [above, below], (1, -1))
