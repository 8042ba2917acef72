"""The ladder: what a bound on the misclassification probability says, and what it is computed from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from calotte.geometry import Distances, Geometry
from calotte.network.graph import Network
from calotte.noise import Noise

__all__ = ["Bound", "Guarantee", "Problem", "Rung", "Settings"]

Guarantee = Literal["proved", "confidence"]


@dataclass(frozen=True)
class Bound:
    """An upper bound on p = P[the answer at x + r differs from the one predicted at x].

    Attributes:
        rung: the method.
        guarantee: "proved", or "confidence" at level `confidence` for this one input.
        log_misclassification: natural logarithm of the bound, rounded up, at most 0; -inf where p = 0 is proved.
        seconds: what it took.
        confidence, samples, misclassified: of a sampled bound.
        skipped: why the rung says nothing (then the bound is the trivial one).
    """

    rung: str
    guarantee: Guarantee
    log_misclassification: float
    seconds: float = 0.0
    confidence: float | None = None
    samples: int | None = None
    misclassified: int | None = None
    skipped: str | None = None

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
            entry["samples"], entry["misclassified"] = self.samples, self.misclassified
        return entry | {"seconds": round(self.seconds, 6)}


@dataclass(frozen=True)
class Settings:
    """What the rungs may spend and promise.

    Attributes:
        samples: Monte Carlo draws for each input.
        confidence: one-sided level of sampled bounds, for each input separately.
        seed: of all draws; the same seed gives the same numbers whatever the batch size or order.
        time_limit: seconds for each input; a rung that would go on beyond it is skipped.
        memory_limit: bytes for blocks of intermediate results.
    """

    samples: int = 10_000
    confidence: float = 0.999
    seed: int = 0
    time_limit: float = math.inf
    memory_limit: float = 2e9


class Problem:
    """A batch of inputs and a noise, with the geometry that several rungs share, computed once.

    Args:
        geometry: of the network, in the space of the noise (its map).
        x: (B, d) inputs; index: the number of each in the user's file.
        noise: the noise.
        settings: budgets and levels.
    """

    def __init__(self, geometry: Geometry, x: Tensor, index: list[int], noise: Noise, settings: Settings) -> None:
        self.geometry, self.x, self.index = geometry, x, index
        self.noise, self.settings = noise, settings

    @property
    def network(self) -> Network:
        """The network."""
        return self.geometry.network

    @property
    def m(self) -> int:
        """Dimension of u, the noise before its map."""
        return self.geometry.m

    @cached_property
    def distances(self) -> Distances:
        """Distances to the hyperplanes of the cells, in u-space."""
        return self.geometry.distances(self.x)


@dataclass(frozen=True)
class Rung:
    """One way to bound p: `bound` takes a problem and gives a Bound for each input."""

    name: str
    guarantee: Guarantee
    proves: str
    source: str
    bound: Callable[[Problem], list[Bound]]
