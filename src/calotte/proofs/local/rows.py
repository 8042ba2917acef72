"""Rows: linear functions of the noise below units and margins of a local network, for many boxes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["LocalRows", "Products"]


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
