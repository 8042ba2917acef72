"""Matrix products with a constant: Gemm and MatMul."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from calotte.network.affine import Affine, Dense, Diagonal
from calotte.network.operators.step import Constant, Step, Value, Variable, operator, plain

__all__: list[str] = []


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@operator("Gemm")
def gemm(step: Step) -> Value:
    """y = alpha A' B' + beta C with B and C constant; A' = A (transA of a single row is refused)."""
    x = step.variable(0)
    weight, alpha, beta = (
        step.weights(step.constant(1)),
        *(float(step.attributes.get(key, 1.0)) for key in ("alpha", "beta")),
    )
    if step.attributes.get("transA", 0):
        raise step.unsupported("with transA = 1 on a variable is not supported: transpose in the model")
    if not (np.isfinite(alpha) and np.isfinite(beta)):
        raise step.error("alpha and beta must be finite")
    if not step.attributes.get("transB", 0):
        weight = weight.t()
    if len(x.shape) != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise step.error(f"shapes do not fit: input {x.shape}, weights {tuple(weight.t().shape)}")
    shape = (x.shape[0], weight.shape[0])
    bias = None
    if step.has(2) and beta != 0.0:
        bias = step.weights(step.constant(2))
        if bias.ndim > 2 or any(n not in (1, m) for n, m in zip(bias.shape[::-1], shape[::-1], strict=False)):
            raise step.error(f"bias of shape {tuple(bias.shape)} does not fit outputs {shape}")
        bias = bias.expand(shape)
        bias = bias[0] if shape[0] == 1 else bias
    leading = plain(x.shape)[:-1]
    if alpha == beta == 1.0 and (bias is None or bias.ndim == 1):
        return step.add(Dense(weight.contiguous(), bias, leading=leading), (x,), shape)
    y = step.add(Dense(weight.contiguous(), leading=leading), (x,), shape)
    scaled: list[Affine] = []
    if alpha != 1.0:
        scaled.append(Diagonal(plain(shape), scalar(alpha), None))
    if bias is not None and beta == 1.0:
        scaled.append(Diagonal(plain(shape), None, bias))
    elif bias is not None:  # beta C is inexact in general: y + beta C = beta (y / beta + C)
        scaled.append(Diagonal(plain(shape), scalar(beta), bias, divide=True))
        scaled.append(Diagonal(plain(shape), scalar(beta), None))
    for op in scaled:
        y = step.add(op, (y,), shape, "/scale")
    return y


@operator("MatMul")
def matmul(step: Step) -> Value:
    """y = x W on the last axis of x, W a constant matrix or vector."""
    x, w = step.argument(0), step.argument(1)
    if isinstance(x, Variable) and isinstance(w, Variable):
        raise step.unsupported("of two values that both depend on the input is not piecewise linear")
    if isinstance(x, Constant):
        raise step.unsupported("with the constant on the left is not supported")
    weight = step.weights(step.constant(1))
    vector = weight.ndim == 1
    weight = weight[:, None] if vector else weight
    while weight.ndim > 2 and weight.shape[0] == 1 and weight.ndim <= len(x.shape):
        weight = weight[0]
    if weight.ndim != 2:
        raise step.unsupported(f"with constant matrices of shape {tuple(weight.shape)} is not supported")
    if x.shape[-1:] != weight.shape[:1]:
        raise step.error(f"shapes do not fit: input {x.shape}, weights {tuple(weight.shape)}")
    op = Dense(weight.t().contiguous(), leading=plain(x.shape)[:-1])
    y = step.add(op, (x,), (*x.shape[:-1], weight.shape[1]))
    return step.reshaped(y, x.shape[:-1]) if vector else y
