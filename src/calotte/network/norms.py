"""Norms of matrices, rounded up."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["frobenius_norm", "spectral_norm"]

_SQUARINGS = 6  # ||M||_F of the 64th power is at most rank^(1/128) times too large
_LARGEST = 2048  # the smaller side of a matrix whose powers are formed: beyond, it would take seconds


def frobenius_norm(matrix: Tensor) -> float:
    """The Euclidean norm of all entries, rounded up."""
    entries = matrix.flatten()
    largest: float = entries.abs().max().item() if len(entries) else 0.0
    if largest == 0.0 or largest == torch.inf:
        return largest
    scaled: float = (entries / largest).norm().item()
    return raised(raised(scaled, len(entries) + 8) * largest, 4)


def spectral_norm(matrix: Tensor, squarings: int = _SQUARINGS) -> float:
    """An upper bound on the largest singular value of a matrix (n, k), close to it where sides are not too long.

    ||M||^2 = ||M'M|| or ||MM'||, whichever is smaller, and what rounding does to that is at most dot_error of
    ||M||_F^2 in the Frobenius norm; so squared again and again, and bounded by the Frobenius norm at the end.
    """
    size = frobenius_norm(matrix)
    few = min(matrix.shape)
    if squarings == 0 or size == 0.0 or few > _LARGEST:
        return size
    scaled = matrix / size  # one rounding of each entry: relative to its size
    square = scaled.t() @ scaled if matrix.shape[1] == few else scaled @ scaled.t()
    off = dot_error(1.0, max(matrix.shape) + 8) + few * few * VALUE_SLACK
    return raised(size * math.sqrt(spectral_norm(square, squarings - 1) + 2.0 * off), 16)
