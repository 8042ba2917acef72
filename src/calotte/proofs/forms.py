"""Forms: affine functions of the noise that lie below some values, with the errors of their coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.cells.distances import signed_distances
from calotte.rounding import NORM_SLACK, VALUE_SLACK, gamma

__all__ = ["Form", "LinearBounds"]


class LinearBounds:
    """Functions a.r + c below some values, for a batch: norms of a in u-space, and c rounded down.

    Attributes:
        constant: (B, R) lower ends of c.
        norm: (B, R) ||S' a|| as computed; the exact one is within `norm_error` and relative `accuracy`.
        ties: (B, R) whether a value is known never to be negative, and does no harm where it is zero; None: nowhere.
        normal: (B, R, m) S' a as computed, up to its sign, in the coordinates of u; None where they are not kept.
    """

    def __init__(
        self,
        constant: Tensor,
        norm: Tensor,
        norm_error: Tensor,
        accuracy: float,
        ties: Tensor | None = None,
        normal: Tensor | None = None,
    ) -> None:
        self.constant, self.norm, self.norm_error, self.accuracy = constant, norm, norm_error, accuracy
        self.ties, self.normal = ties, normal

    def lowest(self, reach: Tensor) -> Tensor:
        """Lower bounds (B, R) on a.r + c in the half-space a.r >= -reach ||a||, reach (B, 1) > 0; rounded down."""
        norm = (self.norm * (1.0 + self.accuracy) + self.norm_error) * (1.0 + gamma(4))
        lowest = self.constant - reach * norm * (1.0 + gamma(4))
        lowest = lowest - gamma(4) * (self.constant.abs() + lowest.abs()) - VALUE_SLACK
        return torch.where(lowest.isnan(), -torch.inf, lowest)

    def lowest_in(self, cube: Tensor) -> Tensor:
        """Lower bounds (B, R) on a.r + c for |u_i| <= cube, (B, 1), in every coordinate; rounded down."""
        assert self.normal is not None
        span = self.normal.abs().sum(2) * (1.0 + gamma(self.normal.shape[2] + 4)) + self.normal_errors
        lowest = self.constant - cube * span * (1.0 + gamma(4))
        lowest = lowest - gamma(4) * (self.constant.abs() + lowest.abs()) - VALUE_SLACK
        return torch.where(lowest.isnan(), -torch.inf, lowest)

    @property
    def normal_errors(self) -> Tensor:
        """Bounds (B, R) on the sum of the absolute errors of a normal's coordinates."""
        assert self.normal is not None
        m = self.normal.shape[2]
        error = self.norm_error + self.accuracy * self.norm * (1.0 + gamma(m + 4))
        return error * math.sqrt(m) * (1.0 + gamma(8)) + NORM_SLACK

    def along(self, normal: Tensor) -> LinearBounds:
        """The same with its normals, (B, R, m), or (R, m) for all inputs."""
        normal = normal.expand(*self.norm.shape, -1)
        return LinearBounds(self.constant, self.norm, self.norm_error, self.accuracy, self.ties, normal)

    def holding(self, ties: Tensor) -> LinearBounds:
        """The same, known never to be negative where `ties` (B, R) says so, and a zero does no harm."""
        return LinearBounds(self.constant, self.norm, self.norm_error, self.accuracy, ties, self.normal)

    def lowered(self, by: Tensor) -> LinearBounds:
        """Functions below the values less `by` (B, R) >= 0."""
        constant = self.constant - by - gamma(4) * (self.constant.abs() + by)
        return LinearBounds(constant, self.norm, self.norm_error, self.accuracy, self.ties, self.normal)

    def distances(self) -> Tensor:
        """Lower ends (B, R) of the signed distances c / ||a|| of r = 0 to a.r + c = 0; inf where there is none."""
        error = torch.zeros_like(self.constant)
        parts = self.constant, error, self.norm, self.norm_error, self.accuracy
        found = signed_distances(*parts, zero_holds=self.ties is None)[1]
        return found if self.ties is None else torch.where(self.ties, torch.inf, found)


@dataclass(frozen=True)
class Form:
    """Values as affine functions a.u + b.h + c of the noise u and of activations h, enclosed, for a batch.

    Attributes:
        constant, error: (B, R) c, as computed, and a bound on the error of the whole form.
        normal: (B, R, n) coordinates of S' a in an orthonormal system of u-space.
        normal_error, accuracy: the exact vector is within `normal_error` (B, R) and relative `accuracy`.
        activations: ReLU node -> (B, R, number kept) coefficients b, exact.
    """

    constant: Tensor
    error: Tensor
    normal: Tensor
    normal_error: Tensor
    accuracy: float
    activations: dict[int, Tensor]
