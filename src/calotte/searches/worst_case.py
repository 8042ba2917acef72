"""Rung `relaxation`: half-space tails of linear lower bounds on the margins, valid over the whole support."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.bound import ProvedRung
from calotte.problem import Problem
from calotte.proofs.event import paid_for, relaxed_margins
from calotte.proofs.support import Support

__all__ = ["MOST_UNITS", "WorstCase"]

MOST_UNITS = 6000  # behind the first layer of a graph: `resnet_2b` has 6,244 in all, and a pass takes seconds


@dataclass(frozen=True)
class WorstCase(ProvedRung):
    """Rung `relaxation`.

    Attributes:
        tails: under a Gaussian all noise of norm sigma (sqrt(m) + t) is considered, for these t: what is left out
            is 1.5e-8 and 5e-32 at most, below the bounds that are aimed at and far below them.
    """

    name: str = "relaxation"
    proves: str = (
        "p ≤ the half-space tails of linear lower bounds on the margins, valid over the whole support of the noise; "
        "where it proves p = 0 it gives the certified radius"
    )
    source: str = "as PROVEN (arXiv:1812.08329), with exact tails"
    most_units: float = MOST_UNITS
    tails: tuple[float, ...] = (6.0, 12.0)

    def log_bound(self, problem: Problem, sizes: Tensor) -> Tensor:
        return problem.once((self, *sizes.tolist()), lambda: self._log_bound(problem, sizes))

    def _log_bound(self, problem: Problem, sizes: Tensor) -> Tensor:
        best = torch.zeros(len(problem.x), dtype=torch.float64)
        for t in self.tails if math.isinf(problem.noise.radius) else (0.0,):
            around = Support.of(problem, sizes, t)
            margins, _ = relaxed_margins(problem, around)
            best = torch.minimum(best, paid_for(problem, margins, sizes, [torch.full_like(best, around.log_missed)]))
        return best
