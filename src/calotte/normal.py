"""Normal: the measure of an interval under the standard normal law, as a logarithm, rounded to either side."""

from __future__ import annotations

import numpy as np
import torch
from scipy import special
from torch import Tensor

from calotte.assumptions import NORMAL_ERROR, UNDERFLOW
from calotte.rounding import gamma, lowered, raised
from calotte.sphere import Rounding

__all__ = ["log_normal_between"]


def log_normal_between(low: Tensor, high: Tensor, *, rounding: Rounding) -> Tensor:
    """log P(low <= g <= high) for a standard normal g, low <= high of any shape, rounded "up" or "down".

    By tails on the side of zero where the interval lies: T(low) - T(high), or 1 - T(-low) - T(high) around zero.
    """
    outwards = 1.0 if rounding == "up" else -1.0
    left = high < 0  # mirrored
    a, b = torch.where(left, -high, low), torch.where(left, -low, high)
    near, far = _log_tail(a, outwards), _log_tail(b, -outwards)
    error = gamma(8) * (1.0 + near.abs() + torch.where(far.isinf(), 0.0, far.abs()))
    share = -torch.expm1((far - near).clamp_max(0.0)) + outwards * error
    one_side = near + share.clamp(0.0, 1.0).log()
    both = _log_tail(-a, -outwards).exp() + far.exp()
    middle = 1.0 - (lowered(both, 8) if rounding == "up" else raised(both, 8)) + outwards * gamma(8)
    found = torch.where(a > 0, one_side, middle.clamp(0.0, 1.0).log())
    found = found + outwards * gamma(8) * (1.0 + found.abs())
    nothing = -torch.inf if rounding == "down" else 0.0
    return torch.where(found.isnan(), nothing, found.clamp_max(0.0))


def _log_tail(s: Tensor, outwards: float) -> Tensor:
    """log P(g >= s), moved up where `outwards` is 1 and down where it is -1."""
    log_p = torch.from_numpy(np.asarray(special.log_ndtr(-s.numpy())))
    return torch.minimum(log_p + outwards * (NORMAL_ERROR * log_p.abs() + UNDERFLOW), torch.zeros_like(log_p))
