"""Triangular networks: units each of which reads those before it, taken back to what is their own, for many regions.

    z_i = x_i + c_i + sum_{k < i} w_ik relu(z_k)    (up to e_i).

Back-substitution as of `backward`, of matrices: rows sum r_k relu(z_k) + c end in coefficients of the x_i. These are
taken as the exact floats that were computed. What that is off, times what they multiply, is less than a gamma times
the magnitudes added up, and is taken off the constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["Triangular", "UnitRows", "bent", "sums"]


@dataclass(frozen=True)
class UnitRows:
    """Linear functions w . x + constant below R values, in L regions; x_own of the value itself is left out.

    Attributes:
        middle: (L, R) the constant as computed; doubt: (L, R) bound on its error and that of the coefficients.
        linear: (L, R, N) coefficients w of the units' x_i; own: (R,) the form that each row starts from, sign (R,).
        read: (L, R, N) coefficients of the units' activations met on the way.
        before: (L, R) `middle` had the first group not been relaxed.
    """

    middle: Tensor
    before: Tensor
    doubt: Tensor
    linear: Tensor
    read: Tensor
    own: Tensor
    sign: Tensor

    @property
    def constant(self) -> Tensor:
        """(L, R) rounded down."""
        return self.middle - self.doubt


@dataclass(frozen=True)
class Triangular:
    """N units, and C values that nothing reads after them; weights and what follows may be of L regions, (L, ...).

    Attributes:
        groups: slices of units that do not read each other, in order; read: for each, slices of earlier units that
            hold all that it reads.
        weight: (N + C, N) w_ik; constant, error: (N + C,) c_i and e_i.
        magnitude: (N + C,) four times a bound on everything that is added up in z_i, the unit itself included.
    """

    groups: Sequence[slice]
    read: Sequence[Sequence[slice]]
    weight: Tensor
    constant: Tensor
    error: Tensor
    magnitude: Tensor

    def pull_back(self, own: Tensor, sign: Tensor, lines: Tensor) -> UnitRows:
        """Linear functions below sign * z_own (R,), given the lines (3, L, N) of the units before them.

        Args:
            own: of one group, or of the last C; lines: as `relaxed_lines`.
        """
        count = lines.shape[1]
        n = min(int(own[0]), self.weight.shape[-1])
        below, above, intercept = (t[:, None, :n] for t in lines)
        read = (sign[:, None] * self.weight[..., own, :n]).expand(count, -1, -1).clone()
        linear = torch.zeros_like(read)
        constant = (sign * self.constant[..., own]).expand(count, -1).clone()
        before, bends = constant, torch.zeros_like(constant)
        for k, group in reversed([(k, g) for k, g in enumerate(self.groups) if g.stop <= n]):
            if k == 0:
                before = constant.clone()
            through, negative = bent(read[:, :, group], below[:, :, group], above[:, :, group])
            bend = sums(negative, intercept[:, 0, group])  # all of one sign
            bends += bend
            constant += bend + sums(through, self.constant[..., group])
            linear[:, :, group] = through
            for earlier in self.read[k]:
                read[:, :, earlier] += product(through, self.weight[..., group, earlier])
        magnitude, error = self.magnitude[..., :n], self.error[..., :n]
        met = sums(read.abs(), magnitude) + self.magnitude[..., own]
        doubt = sums(linear.abs(), error) + self.error[..., own]
        size = torch.maximum(constant.abs(), before.abs()) - bends
        underflow = VALUE_SLACK * (1.0 + 2.0 * magnitude.sum(-1, keepdim=True))
        doubt = raised(doubt + dot_error(met + size, 4 * n + 64), n + 16) + underflow
        return UnitRows(constant, before, doubt, linear, read, own, sign)


def bent(rows: Tensor, below: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of activations as rows of what ReLUs take, and the negative part, whose intercepts are to be added."""
    negative = rows.clamp_max(0.0)
    return rows.clamp_min(0.0) * below + negative * above, negative


def sums(rows: Tensor, values: Tensor) -> Tensor:
    """(L, R) sums of rows (L, R, n) times values (n,), or (L, n)."""
    return product(rows, values[..., None])[..., 0]


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b; of columns and rows entry by entry, which is as fast whatever axis lies innermost."""
    return a * b if a.shape[-1] == 1 else a @ b
