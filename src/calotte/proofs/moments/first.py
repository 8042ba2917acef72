"""The first layer: units that are affine functions of the noise, their directions in u-space, enclosed.

Unit j is z_j = zeta_j + a_j.u, zeta_j its value at x. Its direction is a_j divided by an upper bound on its norm;
what was rounded on the way is a bound on the error of each direction, in the Euclidean norm. Directions of
convolutions are sparse and are kept so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from calotte.cells.hyperplanes import Hyperplanes
from calotte.deadline import Deadline
from calotte.network.affine import Affine
from calotte.network.enclosure import Enclosure
from calotte.network.graph import Network
from calotte.proofs.moments.ends import Ends, ends_of
from calotte.rounding import NORM_SLACK, dot_error, lowered, raised

__all__ = ["FirstLayer", "first_layer"]

_BLOCK = 2**23  # entries of columns that are found at once
_DENSE = 4096  # units up to which all their inner products are kept


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """n units of the first layer: those of its ReLU nodes where pull-backs end, in order, then members of maxima.

    Attributes:
        ends: where pull-backs end.
        rows: (n, k) directions a_j / longest_j in orthonormal coordinates, sparse; zero where a unit reads no noise.
        shortest, longest: (n,) bounds on ||a_j||.
        doubt: bound on the distance of each row from the exact one.
        plain: whether the k coordinates are those of u.
    """

    ends: Ends
    rows: sparse.csr_matrix
    shortest: Tensor
    longest: Tensor
    doubt: float
    plain: bool

    @property
    def units(self) -> int:
        """n."""
        return len(self.longest)

    def units_of(self, network: Network, at_x: Mapping[int, Enclosure]) -> tuple[Tensor, Tensor]:
        """The units' values (n,) at one input, and bounds on their errors; at_x: those of affine nodes."""
        parts, none = self.ends.parts(network), torch.zeros(0, dtype=torch.float64)
        value = torch.cat([none, *(at_x[i].value.flatten()[some] for i, some in parts)])
        error = torch.cat([none, *(at_x[i].error.flatten()[some] for i, some in parts)])
        return value, error

    @cached_property
    def read(self) -> np.ndarray:
        """The coordinates that some unit reads."""
        return np.flatnonzero(np.diff(self.rows.tocsc().indptr))

    @cached_property
    def gram(self) -> Tensor | None:
        """(n, n) inner products of the directions, within `accuracy`; None where there are too many."""
        if self.units > _DENSE:
            return None
        return torch.from_numpy(np.ascontiguousarray((self.rows @ self.rows.T).toarray()))

    @cached_property
    def accuracy(self) -> float:
        """What sums of inner products of directions are off, in the sum of the absolute values of coefficients.

        Of a.a_j / longest_j and of ||a||^2 / s, for a = sum_i w_i a_i / longest_i and s = sum_i |w_i|.
        """
        n, k = self.rows.shape
        return (dot_error(4.0, n + k + 64) + 4.0 * self.doubt) * (1.0 + 4.0 * self.doubt)

    def products(self, weights: Tensor, linear: Tensor | None) -> tuple[Tensor, Tensor]:
        """Inner products (R, n) of b + sum_i w_i row_i with the rows, and its squared norms (R,), as computed.

        Args:
            weights: (R, n) w; linear: (R, k) b in the coordinates of u; None for zero.
        """
        if linear is None and self.gram is not None and self.units**2 <= 2 * self.rows.nnz:
            inner = weights @ self.gram
            return inner, (inner * weights).sum(1)
        total = torch.from_numpy(np.ascontiguousarray((self.rows.T @ weights.numpy().T).T))
        if linear is not None:
            total = total + linear
        inner = torch.from_numpy(np.ascontiguousarray((self.rows @ total.numpy().T).T))
        return inner, (total * total).sum(1)


def first_layer(hyperplanes: Hyperplanes, deadline: Deadline) -> FirstLayer | None:
    """The first layer of a network in the space of the noise; None where lengths are not ordinary numbers.

    Raises:
        OutOfTime: the deadline passed.
    """
    network, ends = hyperplanes.network, ends_of(hyperplanes.network, hyperplanes.first_nodes)
    if hyperplanes.chain is not None and ends.nodes:
        space = hyperplanes.space
        rows, errors = sparse.csr_matrix(space.rows.numpy()), space.errors
        norm = torch.from_numpy(np.sqrt(np.asarray(rows.multiply(rows).sum(1))[:, 0]))
        errors = errors + raised(space.stretch * norm, 8)
    else:
        k = hyperplanes.m if hyperplanes.chain is None else hyperplanes.space.rows.shape[1]
        parts = ends.parts(network)
        each = {i: affine_rows(hyperplanes, i, deadline) for i in dict.fromkeys(i for i, _ in parts)}
        found = [each[i][0][some.numpy()] for i, some in parts]
        rows = sparse.vstack([sparse.csr_matrix((0, k)), *found], format="csr")
        errors = torch.cat([torch.zeros(0, dtype=torch.float64), *(each[i][1][some] for i, some in parts)])
        norm = torch.from_numpy(np.sqrt(np.asarray(rows.multiply(rows).sum(1))[:, 0]))
    terms = rows.shape[1] + 8
    longest = raised(raised(norm, terms) + errors, 4)
    shortest = (lowered(norm, terms) - raised(errors, 4)).clamp_min(0.0)
    read = longest > 0
    if not bool(((longest[read] > 1e-100) & (longest[read] < 1e100)).all()):
        return None
    scale = torch.where(read, 1.0 / longest, 0.0)
    doubt = raised(float((errors * scale).max()), 8) + dot_error(1.0, 8) if len(errors) else 0.0
    rows = (sparse.diags(scale.numpy()) @ rows).tocsr()
    return FirstLayer(ends, rows, shortest, longest, doubt, hyperplanes.chain is None) if doubt < 1e-3 else None


def affine_rows(hyperplanes: Hyperplanes, node: int, deadline: Deadline) -> tuple[sparse.csr_matrix, Tensor]:
    """Normals (units, m) of a node that affine maps alone stand before, in u-space, and bounds on their errors.

    By columns: the linear part at each coordinate of the noise.
    """
    network = hyperplanes.network
    needed = {node}
    for i in range(node, 0, -1):
        if i in needed:
            needed.update(network.nodes[i].inputs)
    terms = sum(op.terms for i in needed if isinstance(op := network.nodes[i].op, Affine)) + 1
    size = math.prod(network.shape(node))
    squares = torch.zeros(size, dtype=torch.float64)
    found = []
    for block in moved_inputs(hyperplanes, max(1, _BLOCK // max(size, network.d))):
        deadline.check("in the directions of the first layer")
        found.append(sparse.csr_matrix(linear_part(network, node, needed, block, lambda op: op).flatten(1).numpy()))
        most = linear_part(network, node, needed, block.abs(), lambda op: op.absolute).flatten(1)
        squares += (most * most).sum(0)
    rows = sparse.vstack(found, format="csc").T.tocsr()
    errors = dot_error(raised(squares.sqrt(), hyperplanes.m + 16), 2 * terms + 16)
    moved = (hyperplanes.coordinates.value > 0).to(torch.float64)[None]
    reached = linear_part(network, node, needed, moved, lambda op: op.support).flatten() > 0  # squares may underflow
    return rows, torch.where(reached, errors + NORM_SLACK, errors)


def moved_inputs(hyperplanes: Hyperplanes, count: int) -> Iterator[Tensor]:
    """The columns of S, in order, `count` at a time: (n, d)."""
    d, s = hyperplanes.network.d, hyperplanes.noise_map
    kept = torch.arange(d) if s is None or s.ndim == 2 else s.nonzero()[:, 0]
    for begin in range(0, hyperplanes.m, count):
        if s is not None and s.ndim == 2:
            yield s[:, begin : begin + count].t().contiguous()
            continue
        some = kept[begin : begin + count]
        block = torch.zeros(len(some), d, dtype=torch.float64)
        block[torch.arange(len(some)), some] = 1.0 if s is None else s[some]
        yield block


def linear_part(
    network: Network, node: int, needed: set[int], x: Tensor, change: Callable[[Affine], Affine]
) -> Tensor:
    """The linear part of an affine node at a batch (n, d), each map on the way changed: (n, *shape)."""
    values = {0: x.reshape(-1, *network.input_shape)}
    for i in range(1, node + 1):
        op = network.nodes[i].op
        if i in needed and isinstance(op, Affine):
            values[i] = change(op).linear(*(values[j] for j in network.nodes[i].inputs))
    return values[node]
