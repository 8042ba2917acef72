"""The union bound over the hyperplanes of a cell: rungs `theorem` and `cell` of the ladder."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotte.noise import Noise
from calotte.rounding import UNIT_ROUNDOFF, dot_error, gamma, lowered, up

__all__ = ["cell_bound", "log_complement_down", "log_difference_down", "log_sum_down", "log_sum_up", "theorem_bound"]


def theorem_bound(noise: Noise, heights: Tensor, m: int, units: int) -> Tensor:
    """Rung `theorem`: p <= N exp(-m rho^2 / (2 eps^2)), and p = 0 for rho >= eps (Kůrková, Theorem 4.2).

    For the Gaussian, N exp(-rho^2 / (2 sigma^2)).

    Args:
        noise: the noise; m the dimension of u, at least 2 for sphere and ball.
        heights: (B,) rho_x in u-space over eps (sigma), rounded down; <= 0 where x may lie on a hyperplane.
        units: N.

    Returns:
        (B,) upper bounds on log p, at most 0; -inf where p = 0 is proved.
    """
    bound = noise.standard_exponential_tail(heights, m) + up(up(math.log(units)))
    bound = torch.where(torch.isinf(bound), bound, bound + 2 * UNIT_ROUNDOFF * bound.abs())
    return torch.where(heights > 0, bound.clamp_max(0.0), 0.0)


def cell_bound(noise: Noise, heights: Tensor, m: int) -> Tensor:
    """Rung `cell`: p <= sum over hyperplanes of the exact measure beyond them.

    Args:
        noise: the noise; m the dimension of u.
        heights: (B, N) lower ends of the signed distances in u-space over eps (sigma), rounded down.

    Returns:
        (B,) upper bounds on log p, at most 0; -inf where p = 0 is proved.
    """
    return log_sum_up(noise.standard_log_tail(heights, m, rounding="up"))


def log_sum_up(log_terms: Tensor) -> Tensor:
    """log of the sum of exp(log_terms) over the last axis, rounded up, at most 0."""
    total = torch.logsumexp(log_terms, -1)
    slack = gamma(log_terms.shape[-1] + 16) + 4 * UNIT_ROUNDOFF * total.abs()
    return torch.where(torch.isinf(total), total, total + slack).clamp_max(0.0)


def log_complement_down(log_p: Tensor) -> Tensor:
    """log(1 - exp(log_p)), rounded down, for log_p <= 0."""
    return log_difference_down(torch.zeros_like(log_p), log_p)


def log_difference_down(log_a: Tensor, log_b: Tensor) -> Tensor:
    """log(exp(log_a) - exp(log_b)), rounded down; -inf where that is not positive, or nothing is known."""
    lower = log_a - dot_error(log_a.abs(), 4)
    share = -torch.expm1(-lowered(lower - log_b, 8))  # relative errors of a negative exponent, moved to zero
    share = lowered(share, 8) - 4 * UNIT_ROUNDOFF
    found = lower + share.clamp_min(0.0).log()
    found = found - dot_error(1.0 + found.abs(), 8)
    known = (log_b < lower) & (share > 0) & found.isfinite()
    return torch.where(known, found, -torch.inf).clamp_max(0.0)


def log_sum_down(log_terms: Tensor) -> Tensor:
    """log of the sum of exp(log_terms) over the last axis, rounded down, at most 0; -inf of NaN."""
    total = torch.logsumexp(log_terms, -1)
    slack = gamma(log_terms.shape[-1] + 16) + dot_error(total.abs(), 4)
    return torch.where(total.isfinite(), total - slack, -torch.inf).clamp_max(0.0)
