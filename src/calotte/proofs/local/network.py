"""A network near one input: its unstable units only, and bounds on its margins over many boxes of the noise.

On a good event G of probability close to 1 most units keep their sign. What is left is a small network,

    z_i(u) = a_i.u + c_i + sum_{k < i} b_ik relu(z_k(u))    (up to e_i),

of the unstable units i and, after them, the margins; exact on G but for an enclosed error e_i. Relaxed bounds on all
z_i over a box of the noise, on a good event of their own that is paid for, cost a fraction of a pass through the
network: only the inner products a_i.a_j and the components of the a_i along the box's directions are needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from calotte.network.margins import Cases
from calotte.noise import Noise
from calotte.proofs.local.boxes import log_tail_up
from calotte.proofs.relaxation.triangular import Triangular, UnitRows
from calotte.proofs.union import log_sum_up
from calotte.rounding import NORM_SLACK, dot_error, gamma, raised

__all__ = ["LocalNetwork", "Products", "consecutive"]


@dataclass(frozen=True)
class Products:
    """What is known of the normals of rows by inner products of the a_i, as computed.

    Attributes:
        squared: (L, R) squares of their norms; components: (L, R, K) along the directions.
        spread: (L, R) the lengths added up in them: errors are relative to it.
    """

    squared: Tensor
    components: Tensor
    spread: Tensor


@dataclass(frozen=True)
class LocalNetwork:
    """The unstable units of a network near one input, N of them, followed by its C margins.

    Attributes:
        noise, m: the law of u, the noise in units of its size; scale: that size.
        groups: slices of the units of one ReLU node each, in order.
        normal: (N + C, n) a_i in an orthonormal system; constant, error: (N + C,) c_i and e_i.
        weight: (N + C, N) b_ik.
        low, high: (N,) bounds on the units on G; radius: bound on ||u|| there.
        log_missed: log P(not G), rounded up.
        directions: (n, K) orthonormal up to rounding: the axes of boxes; span: bound on the components of u along
            them on G.
        cases: how many of the margins must fail for the event to occur.
    """

    noise: Noise
    m: int
    scale: float
    groups: tuple[slice, ...]
    normal: Tensor
    constant: Tensor
    error: Tensor
    weight: Tensor
    low: Tensor
    high: Tensor
    radius: float
    log_missed: float
    directions: Tensor
    span: float
    cases: Cases

    @property
    def units(self) -> int:
        """N."""
        return len(self.low)

    @property
    def sigma(self) -> float:
        """Standard deviation of a component of u."""
        return self.noise.sigma(self.m)

    @cached_property
    def gram(self) -> Tensor:
        """(N + C, N + C) inner products a_i.a_j."""
        return self.normal @ self.normal.t()

    @cached_property
    def length(self) -> Tensor:
        """(N + C,) upper bounds on ||a_i||."""
        norm: Tensor = self.normal.norm(dim=1)
        return raised(norm, self.normal.shape[1] + 4) + NORM_SLACK

    @cached_property
    def magnitude(self) -> Tensor:
        """(N + C,) four times a bound on everything that is added up in z_i, the unit itself included."""
        active = self.high.clamp_min(0.0)
        return 4.0 * (self.weight.abs() @ active + self.constant.abs() + self.length * self.radius + self.error)

    @cached_property
    def components(self) -> Tensor:
        """(N + C, K) components of the a_i along the directions."""
        return self.normal @ self.directions

    @cached_property
    def accuracy(self) -> float:
        """Relative error of inner products of rows with each other and with directions, in the sum of lengths.

        The exact directions are V (V'V)^(-1/2), within ||V'V - I|| of V in the spectral norm.
        """
        n, k = self.directions.shape
        gram = self.directions.t() @ self.directions
        lack = float((gram - torch.eye(k, dtype=torch.float64)).norm())
        terms = 4 * (len(self.constant) + self.units + n + k) + 64
        return raised(2.0 * lack + dot_error(4.0 * k, n + 4) + gamma(terms), k * k + 8)

    @property
    def margins(self) -> Tensor:
        """Positions of the margins."""
        return torch.arange(self.units, len(self.constant))

    @cached_property
    def triangular(self) -> Triangular:
        """The same as units one after the other, whose x_i is a_i.u."""
        read = [[h for h in self.groups[:k] if self.weight[g, h].any()] for k, g in enumerate(self.groups)]
        return Triangular(self.groups, read, self.weight, self.constant, self.error, self.magnitude)

    def pull_back(self, own: Tensor, sign: Tensor, lines: Tensor) -> UnitRows:
        """Linear functions below sign * z_own (R,), given the lines (3, L, N) of the units before them."""
        return self.triangular.pull_back(own, sign, lines)

    def margin_rows(self, lines: Tensor) -> UnitRows:
        """Linear functions below the margins, given the lines (3, L, N) of the units."""
        return self.pull_back(self.margins, torch.ones(len(self.margins), dtype=torch.float64), lines)

    def products(self, rows: UnitRows, begin: int = 0) -> Products:
        """What inner products say of the rows' normals, whose coefficients are those of the units from `begin` on."""
        n = rows.linear.shape[2]
        some = slice(begin, begin + n)
        flat = rows.linear.flatten(0, 1)
        shape = rows.linear.shape[:2]
        own = rows.sign[..., None] * self.components[rows.own]
        components = (flat @ self.components[some]).reshape(*shape, self.components.shape[1]) + own
        spread = rows.linear.abs() @ self.length[some] + self.length[rows.own]
        if n <= self.normal.shape[1]:
            squared = ((flat @ self.gram[some, some]).reshape(rows.linear.shape) * rows.linear).sum(2)
            cross = (rows.linear * (rows.sign[..., None] * self.gram[rows.own, some])).sum(2)
            squared = squared + 2.0 * cross + self.gram[rows.own, rows.own]
        else:
            normal = (flat @ self.normal[some]).reshape(*shape, self.normal.shape[1]) + rows.sign[
                ..., None
            ] * self.normal[rows.own]
            squared = (normal * normal).sum(2)
        return Products(squared, components, spread)

    @cached_property
    def diagonals(self) -> dict[Hashable, tuple[Tensor, Tensor]]:
        """What `tilted.diagonals` has found, by who proposed the shapes, and the components that are split."""
        return {}

    def along(self, directions: Tensor, height: float) -> LocalNetwork:
        """The same with other axes (n, K) for boxes; |v.u| <= height size joins G for each, and is paid for."""
        ends = torch.full((1, 2 * directions.shape[1]), height, dtype=torch.float64)
        one = torch.ones(1, dtype=torch.float64)
        price = log_tail_up(self.noise, ends, one, one, torch.tensor([self.m]))
        missed = log_sum_up(torch.cat([price, torch.tensor([[self.log_missed]], dtype=torch.float64)], 1)).item()
        return replace(self, directions=directions, span=raised(height, 4), log_missed=missed)


def consecutive(counts: list[int]) -> tuple[slice, ...]:
    """Slices of these lengths, one after the other."""
    return tuple(slice(end - n, end) for n, end in zip(counts, itertools.accumulate(counts), strict=True))
