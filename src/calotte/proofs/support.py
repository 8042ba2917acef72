"""The noise that is considered: all of a bounded one, a ball that a Gaussian hardly leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from calotte.independent import Independent
from calotte.query import Query
from calotte.rounding import raised

__all__ = ["Support"]


@dataclass(frozen=True)
class Support:
    """All noise that is considered: ||u|| <= radius (B,), up to a probability whose logarithm is `log_missed`.

    Attributes:
        cube: (B,) half-widths of a cube that holds it too, for noise on a cube; None for others.
    """

    radius: Tensor
    log_missed: float
    cube: Tensor | None = None

    @staticmethod
    def of(query: Query, sizes: Tensor, t: float) -> Support:
        """The support where it is bounded, or a ball that a Gaussian leaves with probability below exp(-t^2 / 2).

        ||u|| / sigma is 1-Lipschitz in a standard normal vector, with mean at most sqrt(m), so that it exceeds
        sqrt(m) + t with probability at most exp(-t^2 / 2), t >= 0 (Boucheron, Lugosi, Massart, Concentration
        Inequalities, Theorem 5.6).
        """
        noise = query.noise
        if isinstance(noise, Independent):
            radius = raised(sizes * noise.standard_radius(query.m), 4)
            return Support(radius, -math.inf, raised(sizes * noise.reach, 4))
        if not noise.bounded:
            # never zero: where the logarithm overflows, a huge negative number is an upper bound
            return Support(raised(sizes * (math.sqrt(query.m) + t), 8), max(-0.5 * t * t, -1e300))
        return Support(sizes, -math.inf)
