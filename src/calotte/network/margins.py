"""Margins: affine forms of the outputs; an event cannot occur while enough of them are positive."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from calotte.rounding import NORM_SLACK, VALUE_SLACK, dot_error, gamma, raised

__all__ = ["Case", "Cases", "Margins"]


class Case(NamedTuple):
    """One way in which an event occurs: so many of its forms fail, `needed` or more of them."""

    forms: int
    needed: int


@dataclass(frozen=True)
class Cases:
    """The cases of an event, whose forms stand one after the other; it occurs where one of the cases does.

    Where `needed` of n forms fail, so does one of any n - needed + 1 of them: as many are enough for a bound, and the
    likeliest are left out. For a conjunction that leaves its best form, for a disjunction all of them.
    """

    each: tuple[Case, ...]

    @property
    def forms(self) -> int:
        """Number of forms, C."""
        return sum(case.forms for case in self.each)

    @property
    def counted(self) -> int:
        """Number of forms that a bound counts."""
        return sum(case.forms - case.needed + 1 for case in self.each)

    def kept(self, heights: Tensor) -> Tensor:
        """Heights (..., C) with inf for the needed - 1 lowest of each case, which are left out."""
        if self.counted == self.forms:
            return heights
        parts = []
        for case, part in zip(self.each, self.parts(heights), strict=True):
            lowest = part.topk(case.needed - 1, dim=-1, largest=False).indices
            parts.append(part.scatter(-1, lowest, torch.inf))
        return torch.cat(parts, -1)

    def kept_logs(self, logs: Tensor) -> Tensor:
        """Logarithms (..., C) of probabilities with -inf for those that are left out: the largest ones."""
        return -self.kept(-logs)

    def holding(self, heights: Tensor) -> Tensor:
        """Where so many heights (..., C) are positive that no case can occur: bool (...)."""
        return (self.kept(heights) > 0).all(-1)

    def occurring(self, failing: Tensor) -> Tensor:
        """Whether enough forms of a case fail, by `failing` (..., C) bool: bool (...)."""
        parts = zip(self.each, self.parts(failing), strict=True)
        return torch.stack([part.sum(-1) >= case.needed for case, part in parts]).any(0)

    def least(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The level (n,) of forms (n, C), <= 0 where a case may occur, and the form (n,) that has it."""
        found, begin = [], 0
        for case, part in zip(self.each, self.parts(values), strict=True):
            level, place = part.min(1) if case.needed == 1 else part.kthvalue(case.needed, 1)
            found.append((level, place + begin))
            begin += case.forms
        if len(found) == 1:
            return found[0]
        levels, places = (torch.stack(each, 1) for each in zip(*found, strict=True))
        best = levels.argmin(1, keepdim=True)
        return levels.gather(1, best)[:, 0], places.gather(1, best)[:, 0]

    def parts(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values (..., C) case by case."""
        return torch.split(values, [case.forms for case in self.each], -1)


@dataclass(frozen=True, eq=False)
class Margins:
    """The forms rows . z + constants of the outputs z of B inputs, C for each, that fail where they are negative.

    Attributes:
        rows: (B, C, K); constants: (B, C), both exact.
        ties: (B, C) bool, whether a form that is zero holds all the same.
        cases: how many must fail for the event to occur.
    """

    rows: Tensor
    constants: Tensor
    ties: Tensor
    cases: Cases

    @property
    def negated(self) -> Margins:
        """The forms with the opposite sign, zero holding where it did not."""
        return Margins(-self.rows, -self.constants, ~self.ties, self.cases)

    def lowered(self, constants: Tensor) -> Margins:
        """The same with other constants (B, C)."""
        return Margins(self.rows, constants, self.ties, self.cases)

    def __getitem__(self, rows: slice) -> Margins:
        return Margins(self.rows[rows], self.constants[rows], self.ties[rows], self.cases)

    @cached_property
    def terms(self) -> int:
        """Numbers that are added up in a form, at most; at least 2."""
        most = int((self.rows != 0).sum(-1).max()) if self.rows.numel() else 0
        return max(2, most + int((self.constants != 0).any()))

    @cached_property
    def plain(self) -> Tensor:
        """(B, C) the forms that are an output, a difference of two outputs, or minus these."""
        units = ((self.rows == 0) | (self.rows.abs() == 1)).all(-1)
        return units & ((self.rows != 0).sum(-1) <= 2) & (self.constants == 0)

    @cached_property
    def differences(self) -> tuple[Tensor, Tensor] | None:
        """The outputs (C,) that the forms of a single input are the differences of; None where they are others."""
        if len(self.rows) != 1 or not bool(self.plain.all()):
            return None
        first, second = self.rows[0].max(1), self.rows[0].min(1)
        every = bool(((first.values == 1) & (second.values == -1)).all())
        return (first.indices, second.indices) if every else None

    def to(self, dtype: torch.dtype) -> Margins:
        """The same in another arithmetic, for searches."""
        return Margins(self.rows.to(dtype), self.constants.to(dtype), self.ties, self.cases)

    def of(self, z: Tensor) -> Tensor:
        """The forms (n, C) at outputs (n, K): of one input, n = B, or of many points of a single one."""
        if self.differences is not None:  # K forms of K outputs cost K numbers in this way, not K^2
            first, second = self.differences
            return z[:, first] - z[:, second] + self.constants
        if len(self.rows) == 1:
            return z @ self.rows[0].t() + self.constants
        return (self.rows @ z[:, :, None])[:, :, 0] + self.constants

    def errors(self, z: Tensor, error: Tensor) -> Tensor:
        """Bounds (n, C) on the errors of forms at outputs z (n, K) with `error` (n, K)."""
        size = self.weighed(error + dot_error(z.abs(), self.terms)) + dot_error(self.constants.abs(), self.terms)
        size = raised(size, self.terms + 6)
        if bool(self.plain.all()):
            return size
        return torch.where(size == 0, 0.0, size + VALUE_SLACK)  # products may underflow

    def weighed(self, sizes: Tensor) -> Tensor:
        """Sums (n, C) of sizes (n, K) >= 0 by the absolute values of the rows."""
        if self.differences is not None:
            first, second = self.differences
            return sizes[:, first] + sizes[:, second]
        if len(self.rows) == 1:
            return sizes @ self.rows[0].abs().t()
        return (self.rows.abs() @ sizes[:, :, None])[:, :, 0]

    def normal_errors(self, errors: Tensor) -> Tensor:
        """Bounds (n, C) on the errors of the forms' normals, where those of outputs have `errors` (n, K).

        These hold the rounding of one difference of two outputs already, which is all there is in a plain form.
        """
        total = raised(self.weighed(errors * (gamma(self.terms) / gamma(2))), self.terms + 6)
        if bool(self.plain.all()):
            return total
        reached = Margins((self.rows != 0).double(), self.constants, self.ties, self.cases).weighed(
            (errors > 0).double()
        )
        return torch.where(reached > 0, total.clamp_min(NORM_SLACK), total)

    def occurs(self, z: Tensor) -> Tensor:
        """Where the event occurs at outputs z (n, K), taken at their word: bool (n,); where one is no number too."""
        forms = self.of(z)
        return self.cases.occurring((forms < 0) | ((forms == 0) & ~self.ties)) | ~z.isfinite().all(1)

    def certainly_occurs(self, z: Tensor, error: Tensor) -> Tensor:
        """Where it certainly occurs at outputs z (n, K) with `error` (n, K), all finite: bool (n,)."""
        known = z.isfinite().all(1) & error.isfinite().all(1)
        forms, errors = self.of(z), self.errors(z, error)
        zero = (forms == 0) & (errors == 0) & ~self.ties
        return self.cases.occurring((forms + errors < 0) | zero) & known

    def certainly_holds(self, z: Tensor, error: Tensor) -> Tensor:
        """Where it certainly does not occur at outputs z (n, K) with `error` (n, K), all finite: bool (n,)."""
        known = z.isfinite().all(1) & error.isfinite().all(1)
        forms, errors = self.of(z), self.errors(z, error)
        positive = (forms - errors > 0) | ((forms == 0) & (errors == 0) & self.ties)
        return ~self.cases.occurring(~positive) & known
