"""A query: a batch of inputs and a noise, with what several rungs share."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from calotte.cells.distances import Distances
from calotte.cells.hyperplanes import Hyperplanes
from calotte.deadline import Deadline, OutOfTime
from calotte.network.arithmetic import Arithmetic
from calotte.network.combination import with_combinations
from calotte.network.event import CHANGE, OutputEvent
from calotte.network.graph import Network
from calotte.network.margins import Margins
from calotte.noise import Noise
from calotte.settings import Settings

__all__ = ["Query"]

S = TypeVar("S")
_LONGEST = 4 * 3600.0  # seconds that distances may take, as estimated, where there is no time limit
_PATIENCE = 10.0  # estimates of what distances take are seldom more than so many times too high


class Query:
    """A batch of inputs and a noise, with what several rungs share, computed once and when it is needed.

    Args:
        hyperplanes: of the network, in the space of the noise (its map).
        x: (B, d) inputs; index: the number of each in the user's file.
        noise: the noise.
        settings: budgets and levels.
        target: a bound on log p to aim at; -inf for none.
        deadline: of all work on it; by default the time limit of the settings, from now.
        event: what p is the probability of; arithmetic: in which the network is evaluated then.
    """

    def __init__(
        self,
        hyperplanes: Hyperplanes,
        x: Tensor,
        index: list[int],
        noise: Noise,
        settings: Settings,
        target: float = -math.inf,
        deadline: Deadline | None = None,
        event: OutputEvent = CHANGE,
        arithmetic: Arithmetic = "real",
    ) -> None:
        if hyperplanes.isotropic and not noise.isotropic:
            raise ValueError("noise that is not alike in all directions needs hyperplanes in its coordinates")
        self.hyperplanes, self.x, self.index, self.event = hyperplanes, x, index, event
        self.noise, self.settings, self.target = noise, settings, target
        self.deadline = Deadline.after(settings.time_limit) if deadline is None else deadline
        self.enough, self.arithmetic = target, arithmetic
        self.known: dict[Hashable, Any] = {}

    def alone(self, i: int) -> Query:
        """The query of the i-th input of the batch."""
        if len(self.x) == 1:
            return self
        one = slice(i, i + 1)
        return Query(
            self.hyperplanes,
            self.x[one],
            self.index[one],
            self.noise,
            self.settings,
            self.target,
            self.deadline,
            self.event,
            self.arithmetic,
        )

    def aimed(self, target: float, enough: float) -> Query:
        """The same query with a bound on log p to aim at, and one below which nothing more is tried."""
        other = copy.copy(self)
        other.target, other.enough = target, enough
        return other

    def within(self, deadline: Deadline) -> Query:
        """The same query with another deadline."""
        other = copy.copy(self)
        other.deadline = deadline
        return other

    def seen_by(self, hyperplanes: Hyperplanes, deadline: Deadline) -> Query:
        """The same margins among hyperplanes without the map, or behind a clipping; another deadline."""
        other = copy.copy(self)
        other.hyperplanes, other.deadline = hyperplanes, deadline
        other.known = {"predicted": self.predicted, "event margins": self.event_margins, "margins": self.margins}
        return other

    def by_margins(self, margins: Margins) -> Query:
        """The same query about margins that hold more seldom, with distances of its own."""
        if margins is self.margins:
            return self
        other = copy.copy(self)
        other.known = self.once(("by", margins), lambda: {"predicted": self.predicted, "margins": margins})
        return other

    def once(self, key: Hashable, compute: Callable[[], S]) -> S:
        """What `compute` gives, computed once for all queries made from this one by `aimed` and `within`."""
        if key not in self.known:
            self.known[key] = compute()
        found: S = self.known[key]
        return found

    @property
    def network(self) -> Network:
        """The network."""
        return self.hyperplanes.network

    @property
    def m(self) -> int:
        """Dimension of u, the noise before its map."""
        return self.hyperplanes.m

    @property
    def predicted(self) -> Tensor:
        """The answers (B,) that all rungs speak about."""
        return self.once("predicted", lambda: self.network.predict(self.x))

    @property
    def event_margins(self) -> Margins:
        """The margins of the event at the inputs."""
        return self.once("event margins", lambda: self.event.margins(self.network, self.x, self.predicted))

    @property
    def margins(self) -> Margins:
        """The margins of the event at the inputs, and combinations of those of conjunctions."""
        return self.once("margins", lambda: with_combinations(self.network, self.x, self.event_margins))

    @property
    def units(self) -> int:
        """N: hidden units, and as many hyperplanes as keep the event away where none of them is crossed."""
        return self.network.hidden_units + self.margins.cases.counted

    def unit_name(self, unit: int) -> str:
        """The name of a hyperplane of the first input's cell: of a hidden unit, or of the event."""
        hidden = self.network.hidden_units
        if unit < hidden or self.event == CHANGE:
            return self.network.unit_name(unit, int(self.predicted[0]))
        return f"{self.event.name}[{unit - hidden}]"

    @property
    def distances(self) -> Distances:
        """Distances to the hyperplanes of the cells, in u-space; inf for those that a bound need not count.

        Raises:
            OutOfTime: the deadline passed.
        """
        found = self.once("distances", self._distances)
        if isinstance(found, OutOfTime):  # half of what is left will not do either
            raise found
        return found

    def _distances(self) -> Distances | OutOfTime:
        cost = self.hyperplanes.cost()
        if math.isinf(self.deadline.limit) and cost.seconds > _LONGEST:
            return OutOfTime(f"the distances would take {cost}; to have them tried, set a time limit")
        if cost.seconds > _PATIENCE * self.deadline.left:
            return OutOfTime(f"time limit of {self.deadline.limit:g} s too short: the distances would take {cost}")
        try:
            found = self.hyperplanes.distances(self.x, self.deadline, self.margins)
        except OutOfTime as late:
            return late
        hidden, cases = self.network.hidden_units, self.margins.cases
        lower = torch.cat([found.lower[:, :hidden], cases.kept(found.lower[:, hidden:])], 1)
        nearest = torch.where(lower == torch.inf, torch.inf, found.nearest)
        return replace(found, predicted=self.predicted, nearest=nearest, lower=lower)

    @property
    def sizes(self) -> Tensor:
        """The noise's eps or sigma for each input, (B,)."""
        return torch.full((len(self.x),), self.noise.size, dtype=torch.float64)
