"""Matrix products with a constant: what Gemm, MatMul and Einsum are made of, and Gemm."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from calotte.models.operators.step import Step, Value, Variable, operator, plain
from calotte.network.affine import Affine, Dense, Diagonal

__all__ = ["scalar", "times", "transposed"]


def scalar(value: float) -> Tensor:
    """A number as a float64 tensor."""
    return torch.tensor(value, dtype=torch.float64)


def times(step: Step, x: Variable, weight: Tensor, bias: Tensor | None = None, terms: int = 0) -> Variable:
    """x W + b on the last axis of x; W (n_in, n_out), which is `terms` roundings off, b (n_out,)."""
    if not x.shape or x.shape[-1] != weight.shape[0] or weight.shape[1] == 0:
        raise step.error(f"shapes do not fit: input {x.shape}, weights {tuple(weight.shape)}")
    op = Dense(weight.t().contiguous(), bias, leading=plain(x.shape)[:-1])
    return step.add(step.counted(op, terms), (x,), (*x.shape[:-1], weight.shape[1]))


def transposed(step: Step, x: Variable) -> Variable:
    """The last two axes exchanged."""
    return step.moved(x, lambda index: np.swapaxes(index, -1, -2), "/transpose")


@operator("Gemm")
def gemm(step: Step) -> Value:
    """y = alpha A' B' + beta C, B and C constant."""
    x, (weight, terms) = step.variable(0), step.coefficients(1)
    alpha, beta = (float(step.attributes.get(key, 1.0)) for key in ("alpha", "beta"))
    if not (np.isfinite(alpha) and np.isfinite(beta)):
        raise step.error("alpha and beta must be finite")
    if len(x.shape) != 2 or weight.ndim != 2:
        raise step.error(f"expected matrices, came input {x.shape} and weights {tuple(weight.shape)}")
    if step.attributes.get("transA", 0):
        x = transposed(step, x)
    if step.attributes.get("transB", 0):
        weight = weight.t()
    shape = (x.shape[0], weight.shape[1])
    bias = None
    if step.has(2) and beta != 0.0:
        bias = step.weights(2)
        if step.common_shape(tuple(bias.shape), shape) != shape:
            raise step.error(f"bias of shape {tuple(bias.shape)} does not fit outputs {shape}")
        bias = bias.expand(shape)
        bias = bias[0] if shape[0] == 1 else bias
    if alpha == beta == 1.0 and (bias is None or bias.ndim == 1):
        return times(step, x, weight, bias, terms)
    y = times(step, x, weight, terms=terms)
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
