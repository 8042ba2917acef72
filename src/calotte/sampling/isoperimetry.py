"""Isoperimetry: most noise is far from every error, so errors are far rarer than samples could show.

A is the set of points whose balls of radius t hold no error within the good event G (`calotte.proofs.local.balls`).
Sampling shows P(A) >= q, and errors in G are further than t away from all of A. No set of measure q has a smaller
neighbourhood than a cap on the sphere (Lévy 1922) or a half-space under a Gaussian (Borell; Sudakov and Tsirelson,
1974-75). With alpha the angle of the cap of measure q, theta = 2 arcsin(t / (2 eps)) and T(cos phi) the measure of a
cap of angle phi,

    p <= P(not G) + T(cos(pi - alpha - theta)),    Gaussian:  p <= P(not G) + Phi(-Phi^-1(q) - t / sigma),

with confidence, q being a Clopper-Pearson bound. A ball is the projection of the sphere in two more dimensions, which
moves no two points apart. G and t are chosen on draws of their own. The proof is in docs/ladder.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.bound import Bound, Rung
from calotte.deadline import Deadline, OutOfTime
from calotte.noise import Bounded, Gaussian, Noise
from calotte.proofs.local.balls import free_within
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.union import log_sum_up
from calotte.query import Query
from calotte.rounding import UNIT_ROUNDOFF, dot_error, lowered
from calotte.sampling.draws import Draws
from calotte.sampling.monte_carlo import bound_of_draws, clopper_pearson, out_of_time
from calotte.searches.heights import near
from calotte.searches.thrift import Thrift
from calotte.sphere import cap_angle, log_cap_angle
from calotte.streams import Stream

__all__ = ["ISOPERIMETRY", "log_far"]

_HEIGHTS = 6  # good events tried
_SCOUTS = 96  # draws that each of them is tried on
_PILOTS = 16  # draws that show where distances lie
_HALVINGS = 8  # of the distance of one draw
_MOST_CHOOSING = 512
_MOST_UNITS = 4000  # on graphs that are no chain, as for the proved rungs
_MOST_UNSTABLE = 400  # units beyond which an event is too large to be of use
_BLOCK = 2e6  # entries of a block of coefficients


def log_far(noise: Noise, m: int, log_missed: float, distance: float) -> float:
    """log of the largest measure of points further than `distance` from a set, given its measure; rounded up.

    Args:
        noise: Sphere (m >= 2), Ball or Gaussian in R^m.
        log_missed: log of an upper bound on the probability of not being in the set.
        distance: Euclidean, in the units of the noise, at least 0.
    """
    if isinstance(noise, Gaussian):
        log_p = torch.tensor([log_missed], dtype=torch.float64)
        height = noise.standard_quantile(log_p, m, rounding="down") + lowered(distance / noise.size, 4)
        height = height - dot_error(height.abs().nan_to_num(0.0, 0.0, 0.0), 4)
        return min(0.0, noise.standard_log_tail(height, m, rounding="up").item())
    assert isinstance(noise, Bounded), "of another law nothing is known"
    d = noise.sphere_dimension(m)
    chord = min(1.0, lowered(distance / (2.0 * noise.size), 4))
    turn = lowered(2.0 * math.asin(chord), 8)
    left = cap_angle(log_missed, d, rounding="up") + 4.0 * UNIT_ROUNDOFF * math.pi - turn
    return log_cap_angle(min(left, math.pi), d, rounding="up") if left > 0 else -math.inf


@dataclass(frozen=True)
class Choice:
    """A good event, a distance, and the bound that they promise."""

    local: LocalNetwork
    distance: float
    log_bound: float


class _Search:
    """Good events and distances for one input of a query, tried on draws that are used for nothing else."""

    def __init__(self, query: Query, points: Tensor, estimating: int) -> None:
        self.query, self.points, self.estimating = query, points, estimating

    def event(self, log_budget: float) -> LocalNetwork | None:
        """The network on a good event that fails with a probability of about exp(log_budget)."""
        found = near(self.query, self.query.sizes, log_budget, Thrift(), _MOST_UNSTABLE).found
        return None if found is None else found.network

    def distance(self, local: LocalNetwork, points: Tensor) -> tuple[float, float]:
        """The distance that promises the smallest measure of errors within the good event, and its logarithm."""
        noise, confidence = self.query.noise, self.query.settings.confidence
        longest = 2.0 * noise.eps(self.query.m)
        pilots = self._reached(local, points[:_PILOTS], 0.0, longest)
        low, high = 0.5 * pilots.min().item(), min(longest, 1.5 * pilots.max().item() + longest * 2.0**-_HALVINGS)
        reached: list[float] = self._reached(local, points, low, high).sort().values.tolist()
        best = (0.0, 0.0)
        # the luckiest of many is no better than others: each counts one standard deviation worse than it looks
        for k in sorted({int(2.0 ** (i / 2)) - 1 for i in range(2 * (len(points) // 2).bit_length())}):
            share = min(1.0, (k + 1 + math.sqrt(k + 1)) / len(points))
            missed = math.ceil(share * self.estimating)
            log_missed = clopper_pearson(missed, self.estimating, confidence)
            best = min(best, (log_far(noise, self.query.m, log_missed, reached[k]), reached[k]))
        return best[1], best[0]

    def _reached(self, local: LocalNetwork, points: Tensor, low: float, high: float) -> Tensor:
        """Distances between two bounds within which there is no error around points; 0 below the lower one."""
        reached = torch.zeros(len(points), dtype=torch.float64)
        lows, highs = torch.full_like(reached, low), torch.full_like(reached, high)
        for _ in range(_HALVINGS):
            middle = (lows + highs) / 2
            free = free_of_errors(local, points, middle)
            reached = torch.where(free, middle, reached)
            lows, highs = torch.where(free, middle, lows), torch.where(free, highs, middle)
        return reached

    def best(self) -> Choice | None:
        """The best good event and distance found; None where none promises anything."""
        found: Choice | None = None
        low, high = math.log(0.5), math.log(800.0)  # of log(-log budget)
        for _ in range(_HEIGHTS):
            middle = (low + high) / 2
            try:
                local = self.event(-math.exp(middle))
            except OutOfTime:
                break
            wanting = True
            if local is not None:
                distance, log_errors = self.distance(local, self.points[:_SCOUTS])
                log_bound = total(log_errors, local.log_missed)
                if found is None or log_bound < found.log_bound:
                    found = Choice(local, distance, log_bound)
                wanting = log_errors > local.log_missed
            low, high = (low, middle) if wanting else (middle, high)
            if (local is not None and local.log_missed == -math.inf) or self.query.deadline.passed:
                break  # no half-space was used: no event leaves more stable
        if found is None or found.log_bound >= 0.0:
            return None
        distance, log_errors = self.distance(found.local, self.points)
        return Choice(found.local, distance, total(log_errors, found.local.log_missed))


def total(*logs: float) -> float:
    """log of a sum of probabilities given as logarithms, rounded up."""
    return log_sum_up(torch.tensor([logs], dtype=torch.float64)).item()


def free_of_errors(local: LocalNetwork, points: Tensor, distance: Tensor) -> Tensor:
    """`free_within`, block by block."""
    widest = max([len(local.margins), *(2 * (group.stop - group.start) for group in local.groups)])
    block = max(1, int(_BLOCK / (widest * max(1, local.units))))
    parts = zip(torch.split(points, block), torch.split(distance, block), strict=True)
    return torch.cat([free_within(local, *part) for part in parts])


def far_from_errors(choice: Choice, points: Iterator[Tensor], deadline: Deadline) -> tuple[int, int]:
    """How many points (n, k) there were, chunk by chunk, until the deadline, and how many lie too near an error."""
    drawn = missed = 0
    for part in points:
        if deadline.passed:
            break
        distance = torch.full((len(part),), choice.distance, dtype=torch.float64)
        missed += len(part) - int(free_of_errors(choice.local, part, distance).sum())
        drawn += len(part)
    return drawn, missed


@dataclass(frozen=True)
class Isoperimetry(Rung):
    """Rung `isoperimetry`: sampling beyond what samples can see."""

    def bound(self, query: Query) -> list[Bound]:
        return [self.bound_one(query.alone(i)) for i in range(len(query.x))]

    def bound_one(self, query: Query) -> Bound:
        """The bound for a query of one input."""
        settings, start = query.settings, time.perf_counter()
        reason = self.refuses(query)
        if reason is not None:
            return Bound(self.name, "confidence", 0.0, skipped=reason)
        choosing = min(settings.samples // 4, _MOST_CHOOSING)
        estimating = settings.samples - choosing
        points = torch.cat(list(Draws(query, 0, Stream.ISOPERIMETRY_CHOICE).noise(choosing)))
        choice = _Search(query, points, estimating).best()
        log_p, drawn, cut_short = 0.0, 0 if query.deadline.passed else estimating, None
        if choice is not None:
            rest = Draws(query, 0, Stream.ISOPERIMETRY).noise(estimating)
            drawn, missed = far_from_errors(choice, rest, query.deadline)
            limited = math.isfinite(query.deadline.limit)
            log_missed = bound_of_draws(missed, drawn, estimating, settings.confidence, limited)
            errors = log_far(query.noise, query.m, log_missed, choice.distance)
            log_p = total(errors, choice.local.log_missed)
        if drawn < estimating:
            cut_short = out_of_time(query, choosing + drawn)
        if drawn == 0:
            return Bound(self.name, "confidence", 0.0, skipped=cut_short)
        return Bound(
            self.name,
            "confidence",
            log_p,
            time.perf_counter() - start,
            settings.confidence,
            choosing + drawn,
            cut_short=cut_short,
        )

    def refuses(self, query: Query) -> str | None:
        """Why the rung does not apply, or None."""
        if not query.noise.isotropic:
            return f"needs noise that is alike in all directions, which {query.noise.kind} noise is not"
        if query.m < 2 and query.noise.kind == "sphere":
            return f"needs dimension d >= 2, the noise has {query.m}"
        if query.settings.samples < 8:
            return f"needs at least 8 samples, came {query.settings.samples}"
        units = query.network.hidden_units
        if query.hyperplanes.chain is None and units > _MOST_UNITS:
            return f"too slow so far on a graph of {units} hidden units that is no chain of dense layers"
        return None


ISOPERIMETRY = Isoperimetry(
    "isoperimetry",
    "p is below P(not G) plus the largest measure that can lie so far from the noise that samples show to be safe",
    "Lévy 1922; Borell, Invent. Math. 30 (1975); derived in docs/ladder.md",
)
