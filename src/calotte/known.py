"""Known: what was found about an input that no size of the noise changes, for all sizes that it meets."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

from calotte.deadline import OutOfTime
from calotte.query import Query

__all__ = ["Known"]

S = TypeVar("S")
_OF_QUERY = ("predicted", "event margins", "margins", "distances")
"""What a Query knows of its input alone; the rest depends on the noise."""


class Known:
    """What was found about the last input; forgotten at the next one.

    Attributes:
        of_query: entries of `Query.known`.
    """

    def __init__(self) -> None:
        self._index, self._x = -1, torch.zeros(0, dtype=torch.float64)
        self._entries: dict[Hashable, Any] = {}
        self.of_query: dict[Hashable, Any] = {}

    def turn_to(self, x: Tensor, index: int) -> None:
        """Speak of the input x (d,) of that number."""
        if index != self._index or not torch.equal(x, self._x):
            self._index, self._x, self._entries, self.of_query = index, x.clone(), {}, {}

    def once(self, key: Hashable, compute: Callable[[], S]) -> S:
        """What `compute` gives, computed once an input; again where it raised."""
        if key not in self._entries:
            self._entries[key] = compute()
        found: S = self._entries[key]
        return found

    def keep(self, query: Query) -> None:
        """Keep what a query knows of the input, but not that time was too short."""
        there = query.known
        self.of_query = {
            name: there[name] for name in _OF_QUERY if name in there and not isinstance(there[name], OutOfTime)
        }
