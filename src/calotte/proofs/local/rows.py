"""Rows: linear functions of the noise below units and margins of a local network, for many boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["LocalRows", "lowest"]


@dataclass(frozen=True)
class LocalRows:
    """Linear functions w.(a_i) . u + constant below R values, for L boxes.

    Attributes:
        middle: (L, R) the constant as computed; doubt: (L, R) bound on its error and that of the coefficients.
        linear: (L, R, N) coefficients w of the units' a_i; own: (R,) the form that each row starts from, sign (R,).
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


def lowest(least: Tensor, norm: Tensor, height: Tensor) -> Tensor:
    """least - height norm, rounded down; -inf where that is undefined."""
    value = least - raised(height * norm, 8)
    value = value - dot_error(least.abs() + value.abs(), 8) - VALUE_SLACK
    return torch.where(value.isnan(), -torch.inf, value)
