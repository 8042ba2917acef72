"""Distances of inputs to the hyperplanes of their cells, enclosed.

The cell of x is the convex set of inputs around x on which the network is one affine map (Kůrková, Theorem 4.1).
Its hyperplanes belong to the N units: the ReLUs and the output comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.rounding import UNIT_ROUNDOFF, lowered, raised

__all__ = ["Distances", "signed_distances"]

_TINIEST = 1e-323  # two steps of the subnormal floats


@dataclass(frozen=True)
class Distances:
    """Distances of a batch of inputs to the N hyperplanes of their cells.

    Attributes:
        predicted: (B,) the answers, as evaluated in float64.
        nearest: (B, N) distances as computed; inf where the unit has no hyperplane on the cell.
        lower: (B, N) lower ends of the enclosures of the *signed* distances: how far x lies on the side where
            its cell was computed. Negative where that side is not certain, -inf where nothing is known, inf
            where there is no hyperplane. Leaving the cell of the computed signs means leaving one of these
            half-spaces, whatever the true signs at x are.
    """

    predicted: Tensor
    nearest: Tensor
    lower: Tensor

    @property
    def rho(self) -> Tensor:
        """rho_x (B,), rounded down: 0 where x may lie on a hyperplane, inf where there is none."""
        return self.lower.amin(1).clamp_min(0.0)

    @property
    def unit(self) -> Tensor:
        """Index (B,) of the nearest hyperplane among the N."""
        return self.lower.argmin(1)


def signed_distances(
    value: Tensor,
    value_error: Tensor,
    norm: Tensor,
    norm_error: Tensor,
    norm_accuracy: float,
    zero_holds: Tensor | bool = True,
) -> tuple[Tensor, Tensor]:
    """Distances to hyperplanes and lower ends of their signed enclosures.

    Args:
        value: n.x + b as computed, positive on the side of x; value_error bounds its error.
        norm: ||n|| as computed; the exact one is within relative `norm_accuracy` and absolute `norm_error`.
            A normal with norm and norm_error both zero is exactly zero: no hyperplane, unless the sign of the
            constant that is left is uncertain.
        zero_holds: whether a value that is exactly zero lies on the side of x, as it does for a ReLU; for an event
            that occurs on ties it does not.

    Returns:
        (nearest, lower), shapes of `value`.
    """
    finite = torch.finfo(value.dtype).max
    numerator = value - value_error
    above = raised(norm * (1.0 + norm_accuracy) + norm_error, 4)
    below = lowered(lowered(norm * (1.0 - norm_accuracy), 4) - norm_error, 4)
    # one rounding of the subtraction, one of the quotient: 4 u moves both to the safe side (subnormals: _TINIEST)
    lower = torch.where(
        numerator >= 0,
        (numerator / above * (1.0 - 4 * UNIT_ROUNDOFF) - _TINIEST).clamp_max(finite),
        torch.where(below > 0, numerator / below * (1.0 + 4 * UNIT_ROUNDOFF) - _TINIEST, -torch.inf),
    )
    constant = (norm == 0) & (norm_error == 0)
    settled = (numerator > 0) | ((value == 0) & (value_error == 0) & zero_holds)
    lower = torch.where(constant, torch.where(settled, torch.inf, -torch.inf), lower)
    known = value.isfinite() & norm.isfinite() & norm_error.isfinite() & ~lower.isnan()
    lower = torch.where(known, lower, -torch.inf)  # overflow: nothing is known
    nearest = torch.where(norm == 0, torch.inf, (value.abs() / norm).clamp_max(finite))
    return torch.where(nearest.isnan(), 0.0, nearest), lower
