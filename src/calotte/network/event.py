"""Events on the outputs: what p is the probability of, and its margins at an input."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.network.decision import Decision
from calotte.network.graph import Network
from calotte.network.margins import Case, Cases, Margins

__all__ = [
    "CHANGE",
    "Becomes",
    "Change",
    "Event",
    "LeavesTop",
    "Moves",
    "OutputEvent",
    "as_event",
    "event_of",
    "over_rivals",
]

NAMES = "change, class:K, top:K, moves:TOL or FILE.vnnlib"


class OutputEvent(ABC):
    """Something that may happen to the outputs of a network under noise."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in reports and on the command line."""

    @property
    def of_answers(self) -> bool:
        """Whether the answer at a point, beside that at the input, says if it occurs there."""
        return False

    @property
    def of_values(self) -> bool:
        """Whether it hangs on the values of the outputs, and not on their order only."""
        return False

    def check(self, network: Network) -> None:
        """Refuse a network whose outputs it does not speak about.

        Raises:
            InvalidInput: with what does not fit.
        """
        self._check(network.decision)
        if self.of_values and network.left_off is not None:
            raise InvalidInput(
                f"event {self.name} is about the values of the outputs, and the model's last {network.left_off} is "
                f"left off, which keeps their order only: judge the values before it with --output {network.judged}"
            )

    @abstractmethod
    def _check(self, decision: Decision) -> None:
        """The same, by the decision."""

    @abstractmethod
    def margins(self, network: Network, x: Tensor, answers: Tensor) -> Margins:
        """Its margins at inputs x (B, d) with `answers` (B,)."""

    def occurs(self, answer: int, other: int) -> bool:
        """Whether it occurs where the answer is `other`, at an input with `answer`; of events of answers only."""
        raise NotImplementedError


@dataclass(frozen=True)
class Change(OutputEvent):
    """The answer is no longer the one at the input."""

    @property
    def name(self) -> str:
        return "change"

    @property
    def of_answers(self) -> bool:
        return True

    def _check(self, decision: Decision) -> None:
        return

    def margins(self, network: Network, x: Tensor, answers: Tensor) -> Margins:
        return over_rivals(network.decision, answers, 1)

    def occurs(self, answer: int, other: int) -> bool:
        return other != answer


@dataclass(frozen=True)
class LeavesTop(OutputEvent):
    """The answer at the input is no longer among the `count` first: as many other classes come before it."""

    count: int

    @property
    def name(self) -> str:
        return f"top:{self.count}"

    def _check(self, decision: Decision) -> None:
        if decision.rule == "sign" or not 1 <= self.count < decision.outputs:
            raise InvalidInput(f"event {self.name}: a network of {decision.outputs} outputs has no such top")

    def margins(self, network: Network, x: Tensor, answers: Tensor) -> Margins:
        return over_rivals(network.decision, answers, self.count)


@dataclass(frozen=True)
class Becomes(OutputEvent):
    """The answer is a given class, be it the one at the input or not."""

    label: int

    @property
    def name(self) -> str:
        return f"class:{self.label}"

    @property
    def of_answers(self) -> bool:
        return True

    def _check(self, decision: Decision) -> None:
        if not 0 <= self.label < decision.classes:
            raise InvalidInput(f"event {self.name}: the network has classes 0 to {decision.classes - 1}")

    def margins(self, network: Network, x: Tensor, answers: Tensor) -> Margins:
        decision = network.decision
        held = over_rivals(decision, torch.full_like(answers, self.label), 1)
        forms = decision.comparisons
        return Margins(-held.rows, -held.constants, ~held.ties, Cases((Case(forms, forms),)))

    def occurs(self, answer: int, other: int) -> bool:
        return other == self.label


@dataclass(frozen=True)
class Moves(OutputEvent):
    """Some output leaves the interval of half-width `tolerance` around what float64 says it is at the input.

    The ends of the intervals are float64 numbers, each rounded once.
    """

    tolerance: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise InvalidInput(f"event moves: the tolerance must be positive and finite, came {self.tolerance}")

    @property
    def name(self) -> str:
        return f"moves:{self.tolerance!r}"

    @property
    def of_values(self) -> bool:
        return True

    def _check(self, decision: Decision) -> None:
        return

    def margins(self, network: Network, x: Tensor, answers: Tensor) -> Margins:
        z = network.forward(x)
        eye = torch.eye(z.shape[1], dtype=torch.float64).expand(len(z), -1, -1)
        constants = torch.cat([z + self.tolerance, self.tolerance - z], 1)
        ties = torch.ones_like(constants, dtype=torch.bool)
        return Margins(torch.cat([-eye, eye], 1), constants, ties, Cases((Case(2 * z.shape[1], 1),)))


@dataclass(frozen=True, eq=False)
class Event(OutputEvent):
    """A disjunction of conjunctions of linear inequalities on the outputs z, built from rows and constants.

    It occurs where for one of the cases all of its inequalities row . z + constant <= 0 hold.

    Args:
        cases: for each case its inequalities, pairs of a row (K,) and a constant.
        name: what it is called in reports.

    Raises:
        InvalidInput: no case, an empty case, rows of different lengths, or numbers that are not finite.

    Examples:
        >>> import torch, calotte
        >>> network = calotte.random_network((20, 30, 2), torch.Generator().manual_seed(0))
        >>> low = network.forward(torch.ones(1, 20).double()).sum().item() - 1.0
        >>> event = calotte.Event([[([1.0, 1.0], -low)]], name="outputs whose sum has fallen by 1")
        >>> (one,) = calotte.assess(network, torch.ones(1, 20), calotte.Sphere(0.1), event=event, rungs="relaxation")
        >>> one.event
        'outputs whose sum has fallen by 1'
    """

    cases: Sequence[Sequence[tuple[ArrayLike, float]]]
    name: str = "custom"
    rows: Tensor = field(init=False, repr=False)
    constants: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.cases or not all(len(case) for case in self.cases):
            raise InvalidInput(f"event {self.name}: at least one inequality in each of at least one case is needed")
        try:
            pairs = [(np.asarray(row, dtype=np.float64), float(c)) for case in self.cases for row, c in case]
        except (TypeError, ValueError):
            raise InvalidInput(f"event {self.name}: a case is a list of pairs (row, constant) of numbers") from None
        if len({row.shape for row, _ in pairs}) > 1 or pairs[0][0].ndim != 1 or not pairs[0][0].size:
            raise InvalidInput(f"event {self.name}: all rows need as many numbers as the network has outputs")
        rows, constants = np.stack([row for row, _ in pairs]), np.array([c for _, c in pairs])
        if not (np.isfinite(rows).all() and np.isfinite(constants).all()):
            raise InvalidInput(f"event {self.name}: rows or constants hold NaN or infinite numbers")
        object.__setattr__(self, "rows", torch.from_numpy(rows))
        object.__setattr__(self, "constants", torch.from_numpy(constants))

    @property
    def of_values(self) -> bool:
        largest = self.rows.abs().amax(1)
        differences = (
            (self.rows.sum(1) == 0) & ((self.rows != 0).sum(1) == 2) & (self.rows.abs().sum(1) == 2 * largest)
        )
        return not bool((differences & (self.constants == 0)).all())

    def _check(self, decision: Decision) -> None:
        if self.rows.shape[1] != decision.outputs:
            raise InvalidInput(
                f"event {self.name} speaks of {self.rows.shape[1]} outputs, the network has {decision.outputs}"
            )

    def margins(self, network: Network, x: Tensor, answers: Tensor) -> Margins:
        single: list[Tensor] = []  # single inequalities are one case, of which one is needed
        several: list[Tensor] = []
        begin = 0
        for case in self.cases:
            (several if len(case) > 1 else single).append(torch.arange(begin, begin + len(case)))
            begin += len(case)
        order = torch.cat([*single, *several])
        cases = Cases(
            (*([Case(len(single), 1)] if single else []), *(Case(len(part), len(part)) for part in several))
        )
        count = len(answers)
        return Margins(
            self.rows[order].expand(count, -1, -1),
            self.constants[order].expand(count, -1),
            torch.zeros(count, begin, dtype=torch.bool),
            cases,
        )


CHANGE = Change()


def over_rivals(decision: Decision, answers: Tensor, needed: int) -> Margins:
    """The margins of answers (B,) over each rival, `needed` of which must fail."""
    rows = decision.comparison(answers)
    constants = torch.zeros(rows.shape[:2], dtype=torch.float64)
    return Margins(rows, constants, decision.keeps_ties(answers), Cases((Case(decision.comparisons, needed),)))


def event_of(text: str) -> OutputEvent:
    """The event of a name: change, class:K, top:K or moves:TOL.

    Raises:
        InvalidInput: it is none of these.
    """
    kind, colon, number = text.partition(":")
    try:
        if text == "change":
            return CHANGE
        if kind == "class" and colon:
            return Becomes(int(number))
        if kind == "top" and colon:
            return LeavesTop(int(number))
        if kind == "moves" and colon:
            return Moves(float(number))
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
    raise InvalidInput(f"event '{text}': expected {NAMES}")


def as_event(event: OutputEvent | str, network: Network) -> OutputEvent:
    """An event, or that of a name, checked against the network.

    Raises:
        InvalidInput: it does not fit the network, or is no event.
    """
    found = event_of(event) if isinstance(event, str) else event
    if not isinstance(found, OutputEvent):
        raise InvalidInput(f"event: expected {NAMES}, or calotte.Event(...), came {type(event).__name__}")
    found.check(network)
    return found
