"""Normal: measures of half-lines and intervals under the standard normal law, as logarithms, rounded."""

from __future__ import annotations

import numpy as np
import torch
from scipy import special
from torch import Tensor

from calotte.assumptions import NORMAL_ERROR, UNDERFLOW
from calotte.rounding import dot_error, lowered, raised
from calotte.sphere import Rounding

__all__ = ["log_normal_between", "log_normal_tail"]


def log_normal_between(low: Tensor, high: Tensor, *, rounding: Rounding) -> Tensor:
    """log P(low <= g <= high) for a standard normal g, low <= high of any shape, rounded "up" or "down".

    By tails on the side of zero where the interval lies: T(low) - T(high), or 1 - T(-low) - T(high) around zero.
    """
    outwards = 1.0 if rounding == "up" else -1.0
    left = high < 0  # mirrored
    a, b = torch.where(left, -high, low), torch.where(left, -low, high)
    inwards: Rounding = "down" if rounding == "up" else "up"
    near, far = log_normal_tail(a, rounding=rounding), log_normal_tail(b, rounding=inwards)
    error = dot_error(1.0 + near.abs() + torch.where(far.isinf(), 0.0, far.abs()), 8)
    share = -torch.expm1((far - near).clamp_max(0.0)) + outwards * error
    one_side = near + share.clamp(0.0, 1.0).log()
    both = log_normal_tail(-a, rounding=inwards).exp() + far.exp()
    middle = 1.0 - (lowered(both, 8) if rounding == "up" else raised(both, 8)) + outwards * dot_error(1.0, 8)
    found = torch.where(a > 0, one_side, middle.clamp(0.0, 1.0).log())
    found = found + outwards * dot_error(1.0 + found.abs(), 8)
    nothing = -torch.inf if rounding == "down" else 0.0
    return torch.where(found.isnan(), nothing, found.clamp_max(0.0))


def log_normal_tail(s: Tensor, *, rounding: Rounding = "nearest") -> Tensor:
    """log P(g >= s) for a standard normal g, s of any shape, to the nearest or rounded "up" or "down"."""
    log_p = torch.from_numpy(np.asarray(special.log_ndtr(-s.numpy())))
    if rounding == "nearest":
        return log_p
    # a normal tail is never zero: where its logarithm overflows, a huge negative number is an upper bound
    log_p = log_p.clamp_min(-1e300) if rounding == "up" else log_p
    margin = NORMAL_ERROR * log_p.abs() + UNDERFLOW
    moved = (log_p + margin).clamp_max(0.0) if rounding == "up" else log_p - margin
    return torch.where(torch.isinf(s), torch.where(s > 0, -torch.inf, 0.0), moved)
