"""A bound on the misclassification probability: what it says, and the rungs that give one."""

from __future__ import annotations

import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from calotte.assumptions import ELEMENTARY_ERROR
from calotte.deadline import OutOfTime
from calotte.lines import Line, check_line, entries, log_of
from calotte.lower import LowerBound
from calotte.printing import probability_text
from calotte.proofs.proof import Proof
from calotte.query import Query
from calotte.rounding import up

__all__ = ["Bound", "Decided", "Guarantee", "ProvedRung", "Rung"]

Guarantee = Literal["proved", "confidence"]
Decided = Literal["yes", "no", "undecided"]
_SAMPLED = ("isoperimetry", "sampling")  # rungs that promise a confidence: a rung that is skipped does not say so


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

    @property
    def log_probability(self) -> float:
        """The same as `log_misclassification`."""
        return self.log_misclassification

    @property
    def probability(self) -> float:
        """The bound itself, rounded up: 5e-324 where it is smaller than that, 0 only where p = 0 is proved."""
        if self.certain:
            return 0.0
        return min(up(math.exp(self.log_misclassification) * (1.0 + 4.0 * ELEMENTARY_ERROR)), 1.0)

    def __str__(self) -> str:
        if self.skipped is not None:
            return f"{self.rung}: skipped, {self.skipped}"
        level = self.guarantee if self.confidence is None else f"at confidence {self.confidence:g}"
        return f"p <= {probability_text(self.log_misclassification)} ({self.rung}, {level})"

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

    @classmethod
    def from_dict(cls, entry: Line) -> Self:
        """What `to_dict` wrote.

        Raises:
            InvalidInput: it is no such entry.
        """
        check_line(cls, entry)
        if "skipped" in entry and "rung" in entry:
            guarantee: Guarantee = "confidence" if entry["rung"] in _SAMPLED else "proved"
            return cls(entry["rung"], guarantee, 0.0, skipped=entry["skipped"])
        log = log_of(entry, "log_misclassification", most=0.0)
        return cls(**entries(cls, entry) | {"log_misclassification": log})


@dataclass(frozen=True)
class Rung(ABC):
    """One way to bound p.

    Attributes:
        name: of the rung; proves: what it says of p; source: where that comes from.
    """

    name: str
    proves: str
    source: str

    @abstractmethod
    def bound(self, query: Query) -> list[Bound]:
        """A Bound for each input of the query."""

    def lower(self, query: Query, upper: Sequence[Bound], unseen: bool = False) -> list[LowerBound]:
        """A LowerBound for each input of the query, whose bounds from above are known; none of most rungs.

        Args:
            unseen: whether samples have not seen the event: passes for its sake are left out then.
        """
        return []


@dataclass(frozen=True)
class ProvedRung(Rung):
    """A rung whose bound is a theorem. What it may choose are fields of its class, with defaults.

    Attributes:
        any_noise: whether it holds for noise that is not alike in all directions too.
        monotone: whether a larger eps never gives a smaller bound.
        needs_plane: whether the bound holds from dimension 2 on only (sphere and ball).
        one_by_one: whether it takes the inputs of a batch one after the other.
        searches: whether it tries for smaller bounds until the time is up.
        from_below: whether it bounds p from below too.
        farther: whether it bears larger noise than the rungs before it.
    """

    any_noise: ClassVar[bool] = False
    monotone: ClassVar[bool] = False
    needs_plane: ClassVar[bool] = False
    one_by_one: ClassVar[bool] = False
    searches: ClassVar[bool] = False
    from_below: ClassVar[bool] = False
    farther: ClassVar[bool] = False

    @abstractmethod
    def log_bound(self, query: Query, sizes: Tensor) -> Tensor:
        """Upper bounds (B,) on log p where input i meets the query's noise at eps (sigma) `sizes[i]`, rounded up.

        At most 0; -inf where p = 0 is proved.

        Raises:
            OutOfTime: the query's deadline passed before anything was found.
        """

    def log_lower(self, query: Query, sizes: Tensor) -> Tensor:
        """Lower bounds (B,) on log p, as `log_bound`, rounded down; -inf where nothing is proved."""
        return torch.full_like(sizes, -torch.inf)

    def passes_below(self, query: Query) -> bool:
        """Whether lower bounds take passes of their own."""
        return True

    def propose(self, query: Query) -> Proof | None:
        """The Proof of the bound for a query of one input: `prove` makes the same bits of it.

        None where nothing was found that could be proved.

        Raises:
            OutOfTime: as `log_bound`.
        """
        return None

    def refuses(self, query: Query) -> str | None:
        """Why the rung does not apply, or None."""
        if not (self.any_noise or query.noise.isotropic):
            return f"needs noise that is alike in all directions, which {query.noise.kind} noise is not"
        if self.needs_plane and query.m < 2 and query.noise.kind in ("sphere", "ball"):
            return f"needs dimension d >= 2, the noise has {query.m}"
        return None

    def cut_short(self, query: Query) -> str | None:
        """Why the search for smaller bounds ended before it was done, or None."""
        late = query.deadline.passed and self.searches
        return f"time limit of {query.deadline.limit:g} s reached" if late else None

    def bound(self, query: Query) -> list[Bound]:
        reason = self.refuses(query)
        start = time.perf_counter()
        if reason is None:
            try:
                logs = self.log_bound(query, query.sizes).tolist()
            except OutOfTime as late:
                reason = str(late)
        if reason is not None:
            return [Bound(self.name, "proved", 0.0, skipped=reason)] * len(query.x)
        each = (time.perf_counter() - start) / len(logs)
        return [Bound(self.name, "proved", log, each, cut_short=self.cut_short(query)) for log in logs]

    def lower(self, query: Query, upper: Sequence[Bound], unseen: bool = False) -> list[LowerBound]:
        if not self.from_below or any(bound.skipped is not None for bound in upper):
            return []
        logs = [-math.inf] * len(query.x)
        if not all(bound.certain for bound in upper) and not (unseen and self.passes_below(query)):
            with contextlib.suppress(OutOfTime):
                logs = self.log_lower(query, query.sizes).tolist()
        return [LowerBound(self.name, log) for log in logs]
