"""The noise that is considered: all of a bounded one, a ball that a Gaussian hardly leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.independent import Independent
from calotte.noise import Noise, quotient_down
from calotte.proofs.forms import Forms
from calotte.query import Query
from calotte.rounding import raised

__all__ = ["Support"]


@dataclass(frozen=True)
class Support:
    """All noise u in R^m that is considered for B inputs, a region as in `proofs.local.regions`: ||u|| <= farthest.

    Attributes:
        noise, m: the law of u; sizes: (B,) of it.
        farthest: (B,) radius; log_missed: the logarithm of the probability outside.
        cube: (B,) half-widths of a cube that holds it too, for noise on a cube; None for others.
    """

    noise: Noise
    m: int
    sizes: Tensor
    farthest: Tensor
    log_missed: float
    cube: Tensor | None = None

    @staticmethod
    def of(query: Query, sizes: Tensor, t: float) -> Support:
        """The support where it is bounded, or a ball that a Gaussian leaves with probability below exp(-t^2 / 2).

        ||u|| / sigma is 1-Lipschitz in a standard normal vector, with mean at most sqrt(m), so that it exceeds
        sqrt(m) + t with probability at most exp(-t^2 / 2), t >= 0 (Boucheron, Lugosi, Massart, Concentration
        Inequalities, Theorem 5.6).
        """
        noise, m = query.noise, query.m
        if isinstance(noise, Independent):
            radius = raised(sizes * noise.standard_radius(m), 4)
            return Support(noise, m, sizes, radius, -math.inf, raised(sizes * noise.reach, 4))
        if not noise.bounded:
            # never zero: where the logarithm overflows, a huge negative number is an upper bound
            radius, log_missed = raised(sizes * (math.sqrt(m) + t), 8), max(-0.5 * t * t, -1e300)
            return Support(noise, m, sizes, radius, log_missed)
        return Support(noise, m, sizes, sizes, -math.inf)

    @staticmethod
    def ball(query: Query, radius: Tensor) -> Support:
        """The balls ||u|| <= radius (B,), whatever the noise."""
        return Support(query.noise, query.m, query.sizes, radius, -math.inf)

    def lowest(self, forms: Forms) -> Tensor:
        """Lower bounds (B, R) on forms over all noise that is considered."""
        lowest = forms.lowest(self.farthest[:, None])
        if self.cube is None or forms.vectors is None:  # of graphs a ball around the cube is taken
            return lowest
        return torch.maximum(lowest, forms.lowest_in(self.cube[:, None]))

    def log_tail(self, forms: Forms) -> Tensor:
        """Upper bounds (B, R) on log P(form <= 0)."""
        heights = quotient_down(forms.distances(), self.sizes[:, None])
        return self.noise.standard_log_tail(heights, self.m, rounding="up")

    def log_beyond(self, reach: Tensor) -> Tensor:
        """Upper bounds (B,) on log P(e.u >= reach), e of length 1; -inf where that is not considered."""
        logs = self.noise.standard_log_tail(quotient_down(reach, self.sizes), self.m, rounding="up")
        return torch.where(reach < self.farthest, logs, -torch.inf)
