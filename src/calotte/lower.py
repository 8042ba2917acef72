"""A lower bound on the probability of an event: what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from calotte.assumptions import ELEMENTARY_ERROR
from calotte.lines import Line, check_line, entries, log_of
from calotte.printing import probability_down_text
from calotte.rounding import down

__all__ = ["LowerBound"]


@dataclass(frozen=True)
class LowerBound:
    """A lower bound on p, proved.

    Attributes:
        rung: the method.
        log_misclassification: natural logarithm of the bound, rounded down; -inf where nothing is proved.
        guarantee: always "proved".
    """

    rung: str
    log_misclassification: float
    guarantee: Literal["proved"] = "proved"

    def __post_init__(self) -> None:
        if math.isnan(self.log_misclassification):
            object.__setattr__(self, "log_misclassification", -math.inf)

    @property
    def log_probability(self) -> float:
        """The same as `log_misclassification`."""
        return self.log_misclassification

    @property
    def probability(self) -> float:
        """The bound itself, rounded down."""
        return max(0.0, down(math.exp(self.log_misclassification) * (1.0 - 4.0 * ELEMENTARY_ERROR)))

    def __str__(self) -> str:
        return f"p >= {probability_down_text(self.log_misclassification)} ({self.rung}, {self.guarantee})"

    def to_dict(self) -> dict[str, Any]:
        """The public form: `log_misclassification` null where nothing is proved."""
        known = self.log_misclassification > -math.inf
        return {
            "rung": self.rung,
            "guarantee": self.guarantee,
            "log_misclassification": self.log_misclassification if known else None,
        }

    @classmethod
    def from_dict(cls, entry: Line) -> Self:
        """What `to_dict` wrote.

        Raises:
            InvalidInput: it is no such entry.
        """
        check_line(cls, entry)
        log = log_of(entry, "log_misclassification", most=0.0)
        return cls(**entries(cls, entry) | {"log_misclassification": log})
