"""Chains: networks that are dense layers and ReLUs in one line, where geometry is cheap.

All hyperplane normals of such a network are combinations of the rows of its first matrix W_1 (n_1, d). With
d > n_1 an orthonormal basis of these rows, found once, makes the cost per input independent of d: a normal
c W_1 has the norm of c R' where W_1' = Q R.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.network.affine import Affine, Dense, Diagonal, Reshape
from calotte.network.graph import Network, Relu
from calotte.rounding import NORM_SLACK, dot_error, raised

__all__ = ["Chain", "RowSpace", "chain_of", "row_space"]


@dataclass(frozen=True)
class Chain:
    """A network seen as matrices with ReLUs between them.

    Attributes:
        weights: W_l (n_l, n_{l-1}); reshapes and entrywise factors are multiplied in.
        ends: the node that each W_l ends in (the input of a ReLU, or the output).
        first_error: bound on the Euclidean norm of the error of each row of W_1 (n_1,).
        final_relu: whether a ReLU follows the last matrix (then it feeds the output).
    """

    weights: tuple[Tensor, ...]
    ends: tuple[int, ...]
    first_error: Tensor
    final_relu: bool

    @property
    def width(self) -> int:
        """Widest layer, the input not counted."""
        return max(len(weight) for weight in self.weights)


@dataclass(frozen=True)
class RowSpace:
    """The rows of a matrix W (n, d) in coordinates of their span.

    The exact row i has the norm of `rows[i]` within relative `stretch` and absolute `errors[i]`, and so do all
    linear combinations, the errors adding up: W' = Q rows' + E with column norms of E at most `errors` and
    singular values of Q within 1 -+ stretch.
    """

    rows: Tensor
    errors: Tensor
    stretch: float


def chain_of(network: Network) -> Chain | None:
    """The network as a chain of dense layers, or None where it is not one."""
    segments: list[tuple[int, list[Affine]]] = []
    current: list[Affine] = []
    final_relu = False
    for i, node in enumerate(network.nodes):
        if node.op is None:
            continue
        if node.inputs != (i - 1,):
            return None
        if isinstance(node.op, Relu):
            if not current:
                return None
            segments.append((i - 1, current))
            current, final_relu = [], True
        elif isinstance(node.op, Dense | Diagonal | Reshape):
            current.append(node.op)
            final_relu = False
        else:
            return None
    if not final_relu:
        segments.append((network.last, current))
    if not segments or not any(isinstance(op, Dense) for op in segments[0][1]):
        return None
    weights, errors = zip(*(segment_matrix(ops) for _, ops in segments), strict=True)
    return Chain(weights, tuple(end for end, _ in segments), errors[0], final_relu)


def segment_matrix(ops: list[Affine]) -> tuple[Tensor, Tensor]:
    """The matrix of a row of affine maps, and a bound on the norm of the error of each of its rows."""
    width = math.prod(ops[-1].output_shape)
    if isinstance(ops[-1], Dense) and ops[-1].output_shape == (width,):
        rows, rest = ops[-1].weight, ops[:-1]
    else:
        rows, rest = torch.eye(width, dtype=torch.float64), ops
    magnitude, reached, terms = rows.abs(), (rows != 0).to(rows.dtype), 0
    exact = rows is getattr(ops[-1], "weight", None)
    for op in reversed(rest):
        rows = op.adjoint(rows.reshape(-1, *op.output_shape))[0]
        magnitude = op.absolute.adjoint(magnitude.reshape(-1, *op.output_shape))[0]
        reached = (op.support.adjoint(reached.reshape(-1, *op.output_shape))[0] > 0).to(rows.dtype)
        one_hot_dense = isinstance(op, Dense) and not exact
        if not (isinstance(op, Reshape) or (isinstance(op, Diagonal) and op.weight is None) or one_hot_dense):
            terms += op.terms + op.adjoint_terms
        exact = exact or one_hot_dense
    rows, magnitude = rows.reshape(width, -1), magnitude.reshape(width, -1)
    if terms == 0:
        return rows, torch.zeros(width, dtype=torch.float64)
    errors = dot_error(raised(magnitude.norm(dim=1), 2 * magnitude.shape[1] + 12), terms + 4)
    return rows, torch.where(reached.reshape(width, -1).any(1), errors.clamp_min(NORM_SLACK), errors)


def row_space(weight: Tensor, errors: Tensor, spanned: bool = True) -> RowSpace:
    """Coordinates for the rows of a matrix (n, d) whose rows carry errors (n,) in the Euclidean norm.

    For d <= n, or where the coordinates of the rows themselves are wanted, the matrix itself. Else R' of a QR
    decomposition of W', taken over blocks of columns of W so that no second matrix of its size is needed; what each
    step leaves (residual, lack of orthogonality) is measured and bounded, not assumed.
    """
    n, d = weight.shape
    errors = torch.where((weight != 0).any(1), errors.clamp_min(NORM_SLACK), errors)
    if d <= n or not spanned:
        return RowSpace(weight, errors, 0.0)
    r = torch.zeros(0, n, dtype=torch.float64)
    stretch = 0.0
    for block in torch.split(weight.t(), max(8 * n, 1024)):
        a = torch.cat([r, block])
        q, r = torch.linalg.qr(a)
        defect = (q.t() @ q - torch.eye(q.shape[1], dtype=torch.float64)).norm().item()
        defect = raised(defect + dot_error(2.0 * q.shape[1], len(a)), 2 * len(a) + 12)
        residual = (a - q @ r).norm(dim=0) + dot_error((1.0 + defect) * r.abs().sum(0), n + 4)
        errors = errors + raised(residual, 2 * len(a) + 12) * (1.0 + stretch)
        stretch += defect * (1.0 + stretch)
    return RowSpace(r.t().contiguous(), errors, stretch)
