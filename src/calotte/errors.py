"""What calotte says when it cannot answer: every error names what was expected, what came and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "CalotteError",
    "CannotWrite",
    "Contradiction",
    "Failed",
    "Interrupted",
    "InvalidInput",
    "InvalidModel",
    "NotMet",
    "SourceMismatch",
    "UnsupportedOperator",
]


class CalotteError(ValueError):
    """Base of the errors that the user can mend; the command line prints it as one line, exit status 2."""


class InvalidInput(CalotteError):
    """The inputs, the noise or an option do not make sense (NaN, wrong size, eps <= 0, no rows, ...)."""


class InvalidModel(CalotteError):
    """The model file is missing, damaged or contradicts itself."""


class UnsupportedOperator(InvalidModel):
    """A node of the model is not piecewise linear, or calotte does not know it."""


class SourceMismatch(InvalidModel):
    """The loaded network and its source disagree: it is not handed out."""


class CannotWrite(CalotteError):
    """The place for results is missing, read-only or full."""


class Interrupted(RuntimeError):
    """The user stopped a run; the message says what is kept and how to go on. Exit status 130."""


class Failed(RuntimeError):
    """Inputs of a campaign have no result; the message says which and why, and the exit status how bad it is."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotMet(RuntimeError):
    """What was required of the inputs does not hold; the message says the share that was reached. Exit status 3."""


class Contradiction(RuntimeError):
    """Two results that cannot both be true: a defect of calotte. The command line ends with exit status 1 for it.

    Attributes:
        index: number of the input.
        evidence: what is needed to see it again, by name: arrays, numbers and texts.
    """

    def __init__(self, message: str, index: int, evidence: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.index, self.evidence = index, dict(evidence)
