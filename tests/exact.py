"""Truth in 60 digits: the matrices of affine maps, and the values of a network, in exact arithmetic."""

import mpmath
import torch

from calotte.network.affine import Diagonal
from calotte.network.graph import Relu

__all__ = ["assert_enclosed", "exact_matrix", "exact_values", "matrix", "randn"]


def randn(*shape, seed=0, wild=False):
    generator = torch.Generator().manual_seed(seed + len(shape))
    values = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return values * 10.0 ** torch.randint(-6, 7, shape, generator=generator) if wild else values


def matrix(op, i):
    """The matrix of argument i, column by column: (outputs, inputs)."""
    columns = []
    for k in range(torch.zeros(op.input_shapes[i]).numel()):
        xs = [torch.zeros(1, *shape, dtype=torch.float64) for shape in op.input_shapes]
        xs[i].reshape(-1)[k] = 1.0
        columns.append(op.linear(*xs).reshape(-1))
    return torch.stack(columns, 1)


def exact_matrix(op, i):
    """The matrix of argument i in mpmath numbers, from the definition of the map."""
    if isinstance(op, Diagonal) and op.divide:
        weight = [1 / mpmath.mpf(v) for v in op.weight.expand(op.output_shape).reshape(-1).tolist()]
        return [[w if j == k else mpmath.mpf(0) for k in range(len(weight))] for j, w in enumerate(weight)]
    return [[mpmath.mpf(v) for v in row] for row in matrix(op, i).tolist()]


def exact_values(network, x):
    """Every pre-activation and output in 60 digits: lists by node, -1 the outputs."""
    found, values = {}, {0: [mpmath.mpf(v) for v in x.tolist()]}
    for i, step in enumerate(network.nodes[1:], start=1):
        if isinstance(step.op, Relu):
            below = values[step.inputs[0]]
            found[step.inputs[0]] = below
            values[i] = [max(v, mpmath.mpf(0)) for v in below]
            continue
        values[i] = [mpmath.mpf(0)] * torch.zeros(step.op.output_shape).numel()
        if step.op.offset is not None:
            values[i] = [mpmath.mpf(v) for v in step.op.offset.expand(step.op.output_shape).reshape(-1).tolist()]
        for k, j in enumerate(step.inputs):
            for row, weights in enumerate(exact_matrix(step.op, k)):
                values[i][row] += mpmath.fsum(w * v for w, v in zip(weights, values[j], strict=True) if w)
    found[-1] = values[len(network.nodes) - 1]
    return found


def assert_enclosed(enclosed, exact, b):
    for i, values in exact.items():
        value, error = (t[b].reshape(-1).tolist() for t in (enclosed[i].value, enclosed[i].error))
        for v, e, true in zip(value, error, values, strict=True):
            assert abs(mpmath.mpf(v) - true) <= mpmath.mpf(e)
