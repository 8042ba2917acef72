"""The proved rungs of the ladder, weakest first."""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.bound import ProvedRung
from calotte.noise import quotient_down
from calotte.problem import Problem
from calotte.proofs.union import cell_bound, theorem_bound
from calotte.searches.branching import branching_bound
from calotte.searches.concentration import concentration_bound, relaxation_bound

__all__ = ["PROVED_RUNGS"]

_MOST_UNITS = 6000


def _theorem(problem: Problem, sizes: Tensor) -> Tensor:
    heights = quotient_down(problem.distances.rho, sizes)
    return theorem_bound(problem.noise, heights, problem.m, problem.units)


def _cell(problem: Problem, sizes: Tensor) -> Tensor:
    logs = cell_bound(problem.noise, quotient_down(problem.distances.lower, sizes[:, None]), problem.m)
    if problem.m == 1 and problem.noise.kind != "gaussian":
        return logs
    # never above rung `theorem` in real arithmetic: rounding must not turn that round
    return torch.minimum(logs, _theorem(problem, sizes))


PROVED_RUNGS = {
    rung.name: rung
    for rung in (
        ProvedRung(
            "theorem",
            "p <= N exp(-d rho^2 / (2 eps^2)), rho the distance to the nearest of the cell's N hyperplanes",
            "Kůrková, arXiv:2602.18674, Theorem 4.2",
            _theorem,
            monotone=True,
            needs_plane=True,
        ),
        ProvedRung(
            "cell",
            "p <= sum over the cell's hyperplanes of the exact measure of the cap that each cuts off",
            "Theorem 4.1 with exact caps in place of Ball's bound (3)",
            _cell,
            monotone=True,
        ),
        ProvedRung(
            "relaxation",
            "p <= the half-space tails of linear lower bounds on the margins, valid for all noise of the support",
            "PROVEN, arXiv:1812.08329, with exact tails",
            relaxation_bound,
            most_units=_MOST_UNITS,
        ),
        ProvedRung(
            "concentration",
            "the same with bounds on the units that hold on a good event only, whose failure is paid for",
            "derived in docs/ladder.md",
            concentration_bound,
            most_units=_MOST_UNITS,
            searches=True,
        ),
        ProvedRung(
            "branching",
            "the sum of such bounds over boxes that cut the noise along the directions in which units move together",
            "derived in docs/ladder.md",
            branching_bound,
            most_units=_MOST_UNITS,
            one_by_one=True,
            searches=True,
        ),
    )
}
