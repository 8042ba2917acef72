"""Keys: what a campaign has outcomes of, in the order of its lines: each input at each size of the noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

__all__ = ["Key", "Keys"]

Key = tuple[int, int]
"""What an outcome is of: the number of the input, and the place of the size among those of the campaign."""


@dataclass(frozen=True)
class Keys:
    """All keys, made when they are gone through: there may be millions.

    Attributes:
        index: numbers of the inputs, each once.
        places: for each input, the places of the sizes of the noise that it meets; None for the first alone.
    """

    index: Sequence[int]
    places: Sequence[Sequence[int]] | None = None

    def each(self) -> Iterator[tuple[int, Sequence[int]]]:
        """The inputs' numbers, with the places of their sizes."""
        return zip(self.index, repeat((0,), len(self.index)) if self.places is None else self.places, strict=True)

    def __iter__(self) -> Iterator[Key]:
        return ((number, size) for number, places in self.each() for size in places)

    def __len__(self) -> int:
        return sum(len(places) for _, places in self.each())

    def at(self, size: int) -> Keys:
        """Those of all inputs at one size."""
        return replace(self, places=[(size,)] * len(self.index))

    @property
    def what(self) -> str:
        """What there is one of for each key."""
        return "inputs" if len(self) == len(self.index) else "inputs and sizes"

    def counted(self, some: int) -> str:
        """So many of them, in words."""
        return f"{some} of {len(self)} {self.what}"
