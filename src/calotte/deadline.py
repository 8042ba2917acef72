"""Deadline: the moment by which all work on one input is to end, shared by everything that works on it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

__all__ = ["NEVER", "Deadline", "OutOfTime"]


class OutOfTime(Exception):
    """The time limit was reached in the middle of something; the message says in what."""


@dataclass(frozen=True)
class Deadline:
    """A moment of the monotonic clock.

    Attributes:
        limit: seconds that were given, inf for no limit.
        end: the moment, in seconds of `time.perf_counter`.
    """

    limit: float
    end: float

    @staticmethod
    def after(seconds: float) -> Deadline:
        """So many seconds from now."""
        return Deadline(seconds, time.perf_counter() + seconds)

    @property
    def left(self) -> float:
        """Seconds left, at least 0."""
        return max(self.end - time.perf_counter(), 0.0)

    @property
    def passed(self) -> bool:
        """Whether it is too late."""
        return time.perf_counter() > self.end

    def part(self, share: float) -> Deadline:
        """The deadline of something that may take a share of the time left."""
        return Deadline(self.limit, min(self.end, time.perf_counter() + share * self.left))

    def check(self, what: str) -> None:
        """Go on, or stop in the middle of `what`.

        Raises:
            OutOfTime: it is too late.
        """
        if self.passed:
            raise OutOfTime(f"time limit of {self.limit:g} s reached {what}")


NEVER = Deadline(math.inf, math.inf)
