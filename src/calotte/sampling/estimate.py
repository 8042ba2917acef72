"""Estimate: what a rare-event method says about a probability. It is never a bound, and enters no certificate."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from calotte.checks import names_of
from calotte.deadline import OutOfTime
from calotte.errors import InvalidInput
from calotte.lines import Line, check_line, entries, log_of
from calotte.query import Query
from calotte.sampling.latent import Latent, NotAvailable

__all__ = ["Estimate", "Estimator", "Event", "Measured", "select_estimators"]

Event = Literal["misclassification", "leaving the cell"]


@dataclass(frozen=True)
class Estimate:
    """An estimate of the probability of an event under noise, or the reason why there is none.

    Attributes:
        method: name of the estimator.
        event: what has the probability: another answer than the one predicted, or leaving the cell of the input.
        log_probability: natural logarithm of the estimate; None where it is not available.
        interval: logarithms of the ends of an interval meant to cover the probability 95 times of 100 (-inf for
            0); docs/sampling.md says what that rests on. None where not available.
        relative_error: standard error over estimate, itself estimated.
        calls: network evaluations of one point, gradients counted as two.
        seconds: what it took.
        reason: why there is no estimate.
    """

    method: str
    event: Event
    log_probability: float | None
    interval: tuple[float, float] | None
    relative_error: float | None
    calls: int
    seconds: float
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The public form; a log of 0 is null."""
        entry: dict[str, Any] = {"method": self.method, "event": self.event}
        if self.reason is not None:
            entry["skipped"] = self.reason
        else:
            assert self.interval is not None
            entry["log_probability"] = self.log_probability
            entry["interval"] = [None if math.isinf(end) else end for end in self.interval]
            entry["relative_error"] = self.relative_error
        return entry | {"calls": self.calls, "seconds": round(self.seconds, 6)}

    @classmethod
    def from_dict(cls, entry: Line) -> Self:
        """What `to_dict` wrote.

        Raises:
            InvalidInput: it is no such entry.
        """
        check_line(cls, entry)
        if "skipped" in entry:
            missing = {"log_probability": None, "interval": None, "relative_error": None}
            return cls(**entries(cls, missing | dict(entry)) | {"reason": entry["skipped"]})
        found = entries(cls, entry)
        if not isinstance(found["interval"], list | tuple) or len(found["interval"]) != 2:
            raise InvalidInput(f"interval: expected the logarithms of its two ends, came {found['interval']!r}")
        low, high = (log_of({"interval": end}, "interval") for end in found["interval"])
        return cls(**found | {"interval": (low, high)})


class Measured(NamedTuple):
    """An available estimate: logarithms of the probability and of the ends of its interval, relative error."""

    log_probability: float
    interval: tuple[float, float]
    relative_error: float


@dataclass(frozen=True)
class Estimator(ABC):
    """A way to estimate a small probability."""

    @property
    @abstractmethod
    def method(self) -> str:
        """Name of the method."""

    @property
    def event(self) -> Event:
        """The event whose probability is estimated."""
        return "misclassification"

    @abstractmethod
    def measure(self, query: Query, latent: Latent) -> Measured:
        """The estimate for the input of `latent`.

        Raises:
            NotAvailable: it would be no honest one.
        """

    def estimate(self, query: Query, i: int) -> Estimate:
        """The estimate for input i of the query. The same seed gives the same one, whatever the batch."""
        start = time.perf_counter()
        latent = Latent(query, i)
        try:
            log_p, interval, error = self.measure(query, latent)
        except (NotAvailable, OutOfTime) as refusal:
            seconds = time.perf_counter() - start
            return Estimate(self.method, self.event, None, None, None, latent.calls, seconds, str(refusal))
        seconds = time.perf_counter() - start
        return Estimate(self.method, self.event, log_p, interval, error, latent.calls, seconds)


def select_estimators(names: Sequence[str], known: Mapping[str, Estimator]) -> list[Estimator]:
    """Rare-event methods by name; "all" for all of them, nothing or "none" for none.

    Raises:
        InvalidInput: a name that is none of them.
    """
    names = names_of("estimates", names)
    if names in ([], ["none"]):
        return []
    if names == ["all"]:
        return list(known.values())
    for name in names:
        if name not in known:
            raise InvalidInput(f"estimate '{name}': choose from {', '.join(known)}, all or none")
    return [estimator for name, estimator in known.items() if name in names]
