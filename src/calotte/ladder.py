"""The proved rungs of the ladder, weakest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from calotte.bound import ProvedRung
from calotte.noise import quotient_down
from calotte.problem import Problem
from calotte.proofs.union import cell_bound, theorem_bound
from calotte.searches.branching import Branching
from calotte.searches.concentration import Concentration
from calotte.searches.moments import ExponentialMoments
from calotte.searches.worst_case import WorstCase

__all__ = ["PROVED_RUNGS", "CellUnion", "Theorem", "ladder_table"]


@dataclass(frozen=True)
class Theorem(ProvedRung):
    """Rung `theorem`: Kůrková's Theorem 4.2. Nothing is chosen."""

    monotone: ClassVar[bool] = True
    needs_plane: ClassVar[bool] = True
    name: str = "theorem"
    proves: str = (
        "p ≤ N exp(−d ρ² / (2 ε²)), ρ the distance to the nearest of the cell's N hyperplanes; p = 0 for ρ ≥ ε"
    )
    source: str = "Kůrková, arXiv:2602.18674, Theorem 4.2"

    def log_bound(self, problem: Problem, sizes: Tensor) -> Tensor:
        heights = quotient_down(problem.distances.rho, sizes)
        return theorem_bound(problem.noise, heights, problem.m, problem.network.units)


@dataclass(frozen=True)
class CellUnion(ProvedRung):
    """Rung `cell`: the union bound over the cell's hyperplanes. Nothing is chosen."""

    monotone: ClassVar[bool] = True
    name: str = "cell"
    proves: str = "p ≤ the sum over the cell's hyperplanes of the exact measure of the cap that each cuts off"
    source: str = "Theorem 4.1 with exact caps in place of Ball's bound (3)"

    def log_bound(self, problem: Problem, sizes: Tensor) -> Tensor:
        logs = cell_bound(problem.noise, quotient_down(problem.distances.lower, sizes[:, None]), problem.m)
        if problem.m == 1 and problem.noise.kind != "gaussian":
            return logs
        # never above rung `theorem` in real arithmetic: rounding must not turn that round
        return torch.minimum(logs, Theorem().log_bound(problem, sizes))


PROVED_RUNGS: dict[str, ProvedRung] = {
    rung.name: rung
    for rung in (Theorem(), CellUnion(), WorstCase(), Concentration(), ExponentialMoments(), Branching())
}


def ladder_table() -> str:
    """The proved rungs as lines of a table in Markdown, as the README has them."""
    rows = (f"| `{rung.name}` | {rung.proves} | proved | {rung.source} |" for rung in PROVED_RUNGS.values())
    return "\n".join(rows)
