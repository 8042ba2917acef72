"""Lines: between which linear functions a ReLU lies while what it takes stays in an interval."""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.rounding import UNIT_ROUNDOFF, VALUE_SLACK

__all__ = ["relaxed_lines"]


def relaxed_lines(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes alpha, s and the constant t with alpha z <= relu(z) <= s z + t on [lower, upper], entrywise.

    The chord is rounded up; alpha is 0 or 1, whichever leaves the smaller triangle.
    """
    active, inactive = lower >= 0, upper <= 0
    width = upper - lower
    slope = (upper / width * (1.0 + 4 * UNIT_ROUNDOFF) + VALUE_SLACK).clamp(0.0, 1.0)
    slope = torch.where(width.isfinite(), slope, 1.0)  # relu(z) <= z - lower wherever lower <= z
    intercept = -slope * lower * (1.0 + 4 * UNIT_ROUNDOFF) + VALUE_SLACK
    above = torch.where(active, 1.0, torch.where(inactive, 0.0, slope))
    constant = torch.where(active | inactive, 0.0, intercept)
    below = torch.where(active, 1.0, torch.where(inactive, 0.0, (upper > -lower).to(torch.float64)))
    return below, above, constant
