"""Stored: the results of a campaign, read one by one from its store whenever they are gone through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from calotte.assessment import Assessment
from calotte.campaign.keys import Key
from calotte.campaign.store import Store
from calotte.plan import Plan

__all__ = ["Stored"]

R = TypeVar("R", Assessment, Plan)


@dataclass(frozen=True)
class Stored(Generic[R]):
    """The results among some outcomes; as many as the disk holds, of which memory holds one at a time.

    Attributes:
        store: that they are in.
        kind: of results: Assessment or Plan.
        keys: of the outcomes, in order; None for all, by the numbers of the inputs, then the sizes of the noise.
    """

    store: Store
    kind: type[R]
    keys: Iterable[Key] | None = None

    def __iter__(self) -> Iterator[R]:
        return (self.kind.from_dict(line) for _, line in self.store.results(self.keys))

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None
