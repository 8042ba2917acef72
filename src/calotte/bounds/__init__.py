"""The proved rungs of the ladder, weakest first."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from calotte.bounds.ladder import Bound, Guarantee, Problem, Rung, Settings
from calotte.bounds.union import cell_bound, theorem_bound

__all__ = ["PROVED_RUNGS", "Bound", "Guarantee", "Problem", "Rung", "Settings"]


def _proved(rung: str, logs: Tensor, seconds: float) -> list[Bound]:
    each = seconds / len(logs)
    return [Bound(rung, "proved", log, each) for log in logs.tolist()]


def _theorem(problem: Problem) -> list[Bound]:
    start = time.perf_counter()
    if problem.m < 2 and problem.noise.kind != "gaussian":
        reason = f"Theorem 4.2 needs dimension d >= 2, the noise has {problem.m}"
        return [Bound("theorem", "proved", 0.0, skipped=reason)] * len(problem.x)
    logs = theorem_bound(problem.noise, problem.distances.rho, problem.m, problem.network.units)
    return _proved("theorem", logs, time.perf_counter() - start)


def _cell(problem: Problem) -> list[Bound]:
    start = time.perf_counter()
    distances = problem.distances
    logs = cell_bound(problem.noise, distances.lower, problem.m)
    if problem.m >= 2 or problem.noise.kind == "gaussian":
        # below rung `theorem` in real arithmetic: rounding must not turn that round
        units = problem.network.units
        logs = torch.minimum(logs, theorem_bound(problem.noise, distances.rho, problem.m, units))
    return _proved("cell", logs, time.perf_counter() - start)


PROVED_RUNGS = {
    rung.name: rung
    for rung in (
        Rung(
            "theorem",
            "proved",
            "p <= N exp(-d rho^2 / (2 eps^2)), rho the distance to the nearest of the cell's N hyperplanes",
            "Kůrková, arXiv:2602.18674, Theorem 4.2",
            _theorem,
        ),
        Rung(
            "cell",
            "proved",
            "p <= sum over the cell's hyperplanes of the exact measure of the cap that each cuts off",
            "Theorem 4.1 with exact caps in place of Ball's bound (3)",
            _cell,
        ),
    )
}
