"""Forms: values as affine functions of the noise, and of activations that are kept, with the errors of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from calotte.cells.distances import signed_distances
from calotte.cells.products import row_norms
from calotte.rounding import NORM_SLACK, UNIT_ROUNDOFF, VALUE_SLACK, dot_error, raised

__all__ = ["Forms"]


@dataclass(frozen=True)
class Forms:
    """R functions a.u + b.h + c of the noise u and of activations h, below or equal to values, for a batch of B.

    Attributes:
        constant, error: (B, R) c as computed, and a bound on the error of the whole.
        normal_error, accuracy: the exact S'a is within `normal_error` (B, R) and relative `accuracy`.
        vectors: (B, R, n) S'a as computed, in an orthonormal system of u-space; None where only its norm is known.
        length: (B, R) that norm as computed; None: the norm of the vectors.
        activations: ReLU node -> (B, R, number kept) coefficients b, exact; the bounds below are for none.
        ties: (B, R) whether a value is known never to be negative, and does no harm where it is zero; None: nowhere.
    """

    constant: Tensor
    error: Tensor
    normal_error: Tensor
    accuracy: float
    vectors: Tensor | None = None
    length: Tensor | None = None
    activations: Mapping[int, Tensor] = field(default_factory=dict)
    ties: Tensor | None = None

    @staticmethod
    def joined(batch: Sequence[Forms]) -> Forms:
        """Forms with their normals, one input after the other."""
        first = batch[0]
        parts = zip(*((f.constant, f.error, f.normal_error, f.normal) for f in batch), strict=True)
        constant, error, normal_error, normal = map(torch.cat, parts)
        activations = {i: torch.cat([f.activations[i] for f in batch]) for i in first.activations}
        return Forms(constant, error, normal_error, first.accuracy, normal, activations=activations)

    @property
    def normal(self) -> Tensor:
        """(B, R, n) the vectors, where they are known."""
        assert self.vectors is not None
        return self.vectors

    @cached_property
    def norm(self) -> Tensor:
        """(B, R) ||S'a|| as computed."""
        if self.length is not None:
            return self.length
        return row_norms(self.normal.flatten(0, 1)).reshape(self.constant.shape)

    @cached_property
    def lower(self) -> Tensor:
        """(B, R) the constant, rounded down; -inf where something has overflowed, and nothing is known."""
        lower = self.constant - self.error
        lower = torch.where(self.error > 0, lower - 2 * UNIT_ROUNDOFF * lower.abs(), lower)
        known = lower.isfinite() & self.norm.isfinite() & self.normal_error.isfinite()
        return torch.where(known, lower, -torch.inf)

    @property
    def norm_up(self) -> Tensor:
        """(B, R) upper bounds on the exact ||S'a||."""
        return raised(self.norm * (1.0 + self.accuracy) + self.normal_error, 4)

    def lowest(self, reach: Tensor) -> Tensor:
        """Lower bounds (B, R) on a.u + c in the half-space a.u >= -reach ||a||, reach (B, 1) > 0; rounded down."""
        return self._below(raised(reach * self.norm_up, 4))

    def lowest_in(self, cube: Tensor) -> Tensor:
        """Lower bounds (B, R) on a.u + c for |u_i| <= cube, (B, 1), in every coordinate; rounded down."""
        span = raised(self.normal.abs().sum(2), self.normal.shape[2] + 4) + self.normal_errors
        return self._below(raised(cube * span, 4))

    def _below(self, fall: Tensor) -> Tensor:
        """The constant less so much, rounded down."""
        lowest = self.lower - fall
        lowest = lowest - dot_error(self.lower.abs() + lowest.abs(), 4) - VALUE_SLACK
        return torch.where(lowest.isnan(), -torch.inf, lowest)

    @property
    def normal_errors(self) -> Tensor:
        """Bounds (B, R) on the sum of the absolute errors of a normal's coordinates."""
        m = self.normal.shape[2]
        error = self.normal_error + raised(self.accuracy * self.norm, m + 4)
        return raised(error * math.sqrt(m), 8) + NORM_SLACK

    def lowered(self, by: Tensor) -> Forms:
        """Functions below the values less `by` (B, R) >= 0."""
        return replace(self, error=raised(self.error + by, 4))

    def distances(self) -> Tensor:
        """Lower ends (B, R) of the signed distances c / ||a|| of u = 0 to a.u + c = 0; inf where there is none."""
        parts = self.lower, torch.zeros_like(self.lower), self.norm, self.normal_error, self.accuracy
        found = signed_distances(*parts, zero_holds=self.ties is None)[1]
        return found if self.ties is None else torch.where(self.ties, torch.inf, found)
