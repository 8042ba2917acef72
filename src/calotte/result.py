"""Result: what every answer about one input says of the network, the input and the noise; and lists of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Self, TypeVar

from calotte.lines import Line
from calotte.noise import Kind

__all__ = ["Result", "Results"]


@dataclass(frozen=True, kw_only=True)
class Result(ABC):
    """What an answer about one input is about.

    Attributes:
        index: number of the input; predicted: the network's answer; label: the true class where known.
        noise: name of its distribution.
        input_dimension: d; units: N, hidden units plus output comparisons.
        distance: rho_x, distance to the nearest hyperplane of the cell in input space, rounded down: 0 where x
            may lie on one, None where there is none or it was not computed.
        event: what p is the probability of: "change" of the answer. arithmetic: "real", or "float32" as executed.
        decision: the rule that answers; clip: the range that noisy inputs are clipped to, None for none.
        measured_in: the unit of inputs, noise, distances and radii: "raw units" where the network normalises them
            itself (`normalised`), else "network units".
        map_sha256, input_sha256: of the noise map and of the input, as float64 numbers; run: of run.json.
        model_sha256: of the network; version: of the calotte that gave the answer.
    """

    index: int
    predicted: int
    label: int | None
    noise: Kind
    input_dimension: int
    units: int
    distance: float | None
    model_sha256: str | None
    event: str = "change"
    arithmetic: str = "real"
    decision: str = "argmax"
    clip: tuple[float, float] | None = None
    measured_in: str = "network units"
    map_sha256: str | None = None
    input_sha256: str | None = None
    run: str | None = None
    version: str = field(default_factory=lambda: version("calotte"))

    @property
    def correct(self) -> bool | None:
        """Whether the answer is the label, where there is one."""
        return None if self.label is None else self.predicted == self.label

    @property
    def unit_said(self) -> str:
        """What reports add to a size or a distance: ", raw units", or nothing where it is in the network's own."""
        return ", raw units" if self.measured_in == "raw units" else ""

    @property
    def arithmetic_said(self) -> str:
        """What claims add of the arithmetic: ", float32 arithmetic", or nothing where it is real."""
        return "" if self.arithmetic == "real" else f", {self.arithmetic} arithmetic"

    @property
    def said(self) -> str:
        """What claims add of both."""
        return self.unit_said + self.arithmetic_said

    @classmethod
    @abstractmethod
    def html(cls, results: Sequence[Self]) -> str:
        """Some of them as a table for a notebook."""

    def _repr_html_(self) -> str:
        return self.html([self])

    def line(self, size: Line, found: Line) -> dict[str, Any]:
        """The public JSON form: what it is about, with the `size` of the noise, around what was `found`."""
        return {
            "index": self.index,
            "predicted": self.predicted,
            "label": self.label,
            "correct": self.correct,
            "noise": self.noise,
            **size,
            "input_dimension": self.input_dimension,
            "units": self.units,
            "event": self.event,
            "arithmetic": self.arithmetic,
            "decision": self.decision,
            "clip": None if self.clip is None else list(self.clip),
            "measured_in": self.measured_in,
            "map_sha256": self.map_sha256,
            "input_sha256": self.input_sha256,
            "run": self.run,
            "distance": self.distance,
            **found,
            "version": self.version,
            "model_sha256": self.model_sha256,
        }


R = TypeVar("R", bound=Result)


class Results(list[R]):
    """A list that notebooks show as a table."""

    def _repr_html_(self) -> str:
        return self[0].html(self) if self else "<p>no results</p>"
