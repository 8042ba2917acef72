"""Positive definiteness of symmetric matrices, verified in floating point."""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.rounding import dot_error, raised

__all__ = ["positive"]


def positive(matrix: Tensor, off: Tensor | float) -> Tensor:
    """Whether symmetric matrices (..., n, n) known up to `off` (...) in the spectral norm are positive semidefinite.

    By a Cholesky decomposition with a shift (S. M. Rump, "Verification of positive definiteness", BIT 46, 2006).
    """
    n = matrix.shape[-1]
    trace = matrix.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sum(-1)
    shift = raised(torch.as_tensor(off, dtype=torch.float64) + dot_error(2.0, n + 2) * trace, 8)
    shifted = matrix - shift[..., None, None] * torch.eye(n, dtype=torch.float64)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    sound: Tensor = (failed == 0) & torch.isfinite(factor.flatten(-2).sum(-1))
    return sound
