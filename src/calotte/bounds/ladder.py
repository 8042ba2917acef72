"""The ladder: what a bound on the misclassification probability says, and what it is computed from."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from calotte.deadline import Deadline
from calotte.geometry import Distances, Geometry
from calotte.network.graph import Network
from calotte.noise import Noise

__all__ = ["Bound", "Decided", "Guarantee", "Problem", "ProvedRung", "Rung", "Settings"]

Guarantee = Literal["proved", "confidence"]
Decided = Literal["yes", "no", "undecided"]


@dataclass(frozen=True)
class Bound:
    """An upper bound on p = P[the answer at x + r differs from the one predicted at x].

    Attributes:
        rung: the method.
        guarantee: "proved", or "confidence" at level `confidence` for this one input.
        log_misclassification: natural logarithm of the bound, rounded up, at most 0; -inf where p = 0 is proved.
        seconds: what it took.
        confidence, samples, misclassified: of a sampled bound; delta, decision: of one that decides p <= delta.
        skipped: why the rung says nothing (then the bound is the trivial one).
        cut_short: why the search for a smaller bound ended early; the bound stands all the same.
    """

    rung: str
    guarantee: Guarantee
    log_misclassification: float
    seconds: float = 0.0
    confidence: float | None = None
    samples: int | None = None
    misclassified: int | None = None
    delta: float | None = None
    decision: Decided | None = None
    skipped: str | None = None
    cut_short: str | None = None

    @property
    def certain(self) -> bool:
        """Whether p = 0 is proved."""
        return self.log_misclassification == -math.inf

    def to_dict(self) -> dict[str, Any]:
        """The public form: `log_misclassification` null where certain."""
        if self.skipped is not None:
            return {"rung": self.rung, "skipped": self.skipped}
        entry: dict[str, Any] = {"rung": self.rung, "guarantee": self.guarantee}
        if self.confidence is not None:
            entry["confidence"] = self.confidence
        entry["log_misclassification"] = None if self.certain else self.log_misclassification
        entry["certain"] = self.certain
        if self.samples is not None:
            entry["samples"] = self.samples
        if self.misclassified is not None:
            entry["misclassified"] = self.misclassified
        if self.decision is not None:
            entry["delta"], entry["decision"] = self.delta, self.decision
        if self.cut_short is not None:
            entry["cut_short"] = self.cut_short
        return entry | {"seconds": round(self.seconds, 6)}


@dataclass(frozen=True)
class Settings:
    """What the rungs may spend and promise.

    Attributes:
        samples: Monte Carlo draws for each input, at most.
        confidence: one-sided level of sampled bounds, for each input separately.
        seed: of all draws; the same seed gives the same numbers whatever the batch size or order.
        time_limit: seconds for each input; a rung that would go on beyond it is skipped.
        memory_limit: bytes for blocks of intermediate results.
        boxes: of noise that rung `branching` may bound for each input.
        delta: sampling stops as soon as it can say whether p <= delta; None: it draws all samples.
        search: whether the nearest misclassified point is searched for.
        device: cpu or cuda: where Monte Carlo evaluates draws, in float64; proofs are computed on the cpu.
    """

    samples: int = 10_000
    confidence: float = 0.999
    seed: int = 0
    time_limit: float = math.inf
    memory_limit: float = 2e9
    boxes: int = 300
    delta: float | None = None
    search: bool = True
    device: str = "cpu"


class Problem:
    """A batch of inputs and a noise, with the geometry that several rungs share, computed once.

    Args:
        geometry: of the network, in the space of the noise (its map).
        x: (B, d) inputs; index: the number of each in the user's file.
        noise: the noise.
        settings: budgets and levels.
        target: a bound on log p below which no more work is worth while.
        deadline: of all work on it; by default the time limit of the settings, from now.
    """

    def __init__(
        self,
        geometry: Geometry,
        x: Tensor,
        index: list[int],
        noise: Noise,
        settings: Settings,
        target: float = -math.inf,
        deadline: Deadline | None = None,
    ) -> None:
        self.geometry, self.x, self.index = geometry, x, index
        self.noise, self.settings, self.target = noise, settings, target
        self.deadline = Deadline.after(settings.time_limit) if deadline is None else deadline

    def alone(self, i: int) -> Problem:
        """The problem of the i-th input of the batch."""
        one = slice(i, i + 1)
        return Problem(
            self.geometry, self.x[one], self.index[one], self.noise, self.settings, self.target, self.deadline
        )

    @property
    def network(self) -> Network:
        """The network."""
        return self.geometry.network

    @property
    def m(self) -> int:
        """Dimension of u, the noise before its map."""
        return self.geometry.m

    @cached_property
    def predicted(self) -> Tensor:
        """The answers (B,) that all rungs speak about."""
        return self.distances.predicted

    @cached_property
    def distances(self) -> Distances:
        """Distances to the hyperplanes of the cells, in u-space."""
        return self.geometry.distances(self.x)

    @cached_property
    def sizes(self) -> Tensor:
        """The noise's eps or sigma for each input, (B,)."""
        return torch.full((len(self.x),), self.noise.size, dtype=torch.float64)


@dataclass(frozen=True)
class Rung(ABC):
    """One way to bound p."""

    name: str
    proves: str
    source: str

    @abstractmethod
    def bound(self, problem: Problem) -> list[Bound]:
        """A Bound for each input of the problem."""


@dataclass(frozen=True)
class ProvedRung(Rung):
    """A rung whose bound is a theorem.

    Attributes:
        log_bound: (problem, sizes) -> (B,) upper bounds on log p where input i meets the problem's noise at
            eps (sigma) `sizes[i]`.
        monotone: whether a larger eps never gives a smaller bound.
        needs_plane: whether the bound holds from dimension 2 on only (sphere and ball).
        most_units: hidden units behind the first layer up to which it is tried on graphs that are no chain of dense
            layers.
        one_by_one: whether it takes the inputs of a batch one after the other.
    """

    log_bound: Callable[[Problem, Tensor], Tensor]
    monotone: bool = False
    needs_plane: bool = False
    most_units: float = math.inf
    one_by_one: bool = False

    def refuses(self, problem: Problem) -> str | None:
        """Why the rung does not apply, or None."""
        if self.needs_plane and problem.m < 2 and problem.noise.kind != "gaussian":
            return f"needs dimension d >= 2, the noise has {problem.m}"
        units = problem.geometry.deep_units
        if problem.geometry.chain is None and units > self.most_units:
            return f"too slow so far on a graph of {units} hidden units behind the first layer"
        return None

    def bound(self, problem: Problem) -> list[Bound]:
        reason = self.refuses(problem)
        if reason is not None:
            return [Bound(self.name, "proved", 0.0, skipped=reason)] * len(problem.x)
        start = time.perf_counter()
        logs = self.log_bound(problem, problem.sizes).tolist()
        each = (time.perf_counter() - start) / len(logs)
        return [Bound(self.name, "proved", log, each) for log in logs]
