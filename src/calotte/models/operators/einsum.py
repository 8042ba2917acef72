"""Sums of products of one value and constants over named axes: Einsum, and MatMul with stacks of matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.models.operators.elementwise import scaled
from calotte.models.operators.linear import times, transposed
from calotte.models.operators.reduction import summed
from calotte.models.operators.step import Step, Value, Variable, operator, plain
from calotte.network.convolution import Convolution

__all__: list[str] = []


@operator("Einsum")
def einsum(step: Step) -> Value:
    """One value that depends on the input, and at most one constant."""
    equation = step.attributes.get("equation", b"").decode().replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    values = step.arguments()
    if "." in equation:
        raise step.unsupported("with '...' is not supported: name all axes")
    if len(terms) != len(values) or any(len(t) != len(v.shape) for t, v in zip(terms, values, strict=True)):
        raise step.error(f"equation '{equation}' does not fit its inputs")
    right = right if arrow else "".join(sorted(a for a in set(left) - {","} if left.count(a) == 1))
    variables = [i for i, value in enumerate(values) if isinstance(value, Variable)]
    if len(variables) != 1 or len(values) > 2:
        raise step.unsupported(
            "of two values that both depend on the input, or with several constants, is not supported"
        )
    i = variables[0]
    sizes = {a: n for t, v in zip(terms, values, strict=True) for a, n in zip(t, v.shape, strict=True)}
    for t, v in zip(terms, values, strict=True):
        if any(sizes[a] != n for a, n in zip(t, v.shape, strict=True)) or not set(right) <= set(sizes):
            raise step.error(f"equation '{equation}' does not fit its inputs")
    x, axes = diagonal(step, step.variable(i), terms[i])
    if len(values) == 1:
        return ordered(step, *without(step, x, axes, right), right)
    weight, names = step.weights(1 - i).numpy(), terms[1 - i]
    unique = "".join(dict.fromkeys(names))
    return product(step, x, axes, np.einsum(f"{names}->{unique}", weight), unique, right)


def diagonal(step: Step, x: Variable, axes: str) -> tuple[Variable, str]:
    """x with an axis that is named twice once only: its diagonal."""
    unique = "".join(dict.fromkeys(axes))
    return step.moved(x, lambda index: np.einsum(f"{axes}->{unique}", index), "/diagonal"), unique


def without(step: Step, x: Variable, axes: str, kept: str) -> tuple[Variable, str]:
    """x summed over the axes that are not to be kept."""
    rest = "".join(a for a in axes if a in kept)
    y = summed(step, x, tuple(k for k, a in enumerate(axes) if a not in kept))
    return step.reshaped(y, tuple(n for n, a in zip(x.shape, axes, strict=True) if a in kept)), rest


def ordered(step: Step, x: Variable, axes: str, wanted: str) -> Variable:
    """x with its axes in another order."""
    return step.moved(x, lambda index: np.einsum(f"{axes}->{wanted}", index), "/axes")


def product(step: Step, x: Variable, axes: str, weight: NDArray[Any], names: str, wanted: str) -> Variable:
    """The sum of x times a constant over the axes that are not wanted; each axis has a letter."""
    if any(a not in axes + wanted for a in names):
        raise step.unsupported("that sums a constant over an axis of its own is not supported: sum it in the model")
    x, axes = without(step, x, axes, names + wanted)
    size = dict(zip(axes + names, (*x.shape, *weight.shape), strict=True))
    both = [a for a in axes if a in names]
    stack, summed_over = ("".join(a for a in both if (a in wanted) == kept) for kept in (True, False))
    free, new = "".join(a for a in axes if a not in names), "".join(a for a in names if a not in axes)
    if not summed_over:
        full = stack + free + new
        x = step.reshaped(ordered(step, x, axes, stack + free), tuple(size[a] if a not in new else 1 for a in full))
        w = np.einsum(f"{names}->{stack + new}", weight)
        w = w.reshape([1 if a in free else size[a] for a in full])
        return ordered(step, scaled(step, x, torch.from_numpy(np.ascontiguousarray(w))), full, wanted)
    w = np.einsum(f"{names}->{stack + new + summed_over}", weight)
    b, f, g, c = (math.prod(size[a] for a in group) for group in (stack, free, new, summed_over))
    matrix = torch.from_numpy(np.ascontiguousarray(w).reshape(b * g, c))
    if b == 1:
        x = step.reshaped(ordered(step, x, axes, stack + free + summed_over), (f, c))
        full, y = stack + free + new, times(step, x, matrix.t())
    else:  # a stack of products is a convolution of one place in groups
        x = step.reshaped(ordered(step, x, axes, stack + summed_over + free), (1, b * c, f))
        op = Convolution(
            matrix[:, :, None], None, plain(x.shape), stride=[1], padding=[(0, 0)], dilation=[1], groups=b
        )
        full, y = stack + new + free, step.add(op, (x,), (1, b * g, f))
    return ordered(step, step.reshaped(y, tuple(size[a] for a in full)), full, wanted)


@operator("MatMul")
def matmul(step: Step) -> Value:
    """x W or W x for a constant vector, matrix or stack of matrices W."""
    first, second = step.argument(0), step.argument(1)
    if isinstance(first, Variable) and isinstance(second, Variable):
        raise step.unsupported("of two values that both depend on the input is not piecewise linear")
    left = isinstance(second, Variable)
    x, (weight, terms) = step.variable(int(left)), step.coefficients(1 - int(left))
    if not x.shape or weight.ndim == 0:
        raise step.error(f"shapes do not fit: {x.shape} and {tuple(weight.shape)}")
    while weight.ndim > 2 and weight.shape[0] == 1 and weight.ndim <= len(x.shape):
        weight = weight[0]
    if weight.ndim > 2:
        return stacked(step, x, step.weights(1 - int(left)).reshape(weight.shape), left)
    vector = weight.ndim == 1
    if not left:
        y = times(step, x, weight[:, None] if vector else weight, terms=terms)
        return step.reshaped(y, x.shape[:-1]) if vector else y
    row = weight[None] if vector else weight
    if len(x.shape) == 1:
        y = times(step, x, row.t(), terms=terms)
        return step.reshaped(y, ()) if vector else y
    y = transposed(step, times(step, transposed(step, x), row.t(), terms=terms))
    return step.reshaped(y, (*x.shape[:-2], x.shape[-1])) if vector else y


def stacked(step: Step, x: Variable, weight: Tensor, left: bool) -> Value:
    """x W or W x for a stack of matrices W; the stacks are broadcast."""
    stack = step.common_shape(x.shape[:-2], tuple(weight.shape[:-2]))
    letters = "abcdefghijklmnopqrstuvw"[: len(stack)]
    first, second = (
        ("x" if left or len(x.shape) > 1 else "") + "y",
        "y" + ("z" if not left or len(x.shape) > 1 else ""),
    )
    own, core = (second, first) if left else (first, second)
    shape = tuple(weight.shape[:-2])
    kept = [n > 1 for n in shape]
    names = "".join(a for a, k in zip(letters[len(stack) - len(shape) :], kept, strict=True) if k)
    weight = weight.reshape([n for n, k in zip(shape, kept, strict=True) if k] + list(weight.shape[-2:]))
    x = step.widened(x, (*stack, *x.shape[-len(own) :]))
    sizes = dict(zip(own, x.shape[-len(own) :], strict=True))
    if dict(zip(core, weight.shape[-2:], strict=True))["y"] != sizes["y"]:
        raise step.error(f"shapes do not fit: {x.shape} and {tuple(weight.shape)}")
    wanted = letters + "".join(a for a in "xz" if a in own + core)
    return product(step, x, letters + own, weight.numpy(), names + core, wanted)
