"""Keys: what a campaign has outcomes of, in the order of its lines: each input at each size of the noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

__all__ = ["Key", "Keys"]

Key = tuple[int, int]
"""What an outcome is of: the number of the input, and the place of the size among those of the campaign."""


@dataclass(frozen=True)
class Keys:
    """All keys, made when they are gone through: there may be millions.

    Attributes:
        index: numbers of the inputs, each once.
        sizes: places of the sizes of the noise.
    """

    index: Sequence[int]
    sizes: range = range(1)

    def __iter__(self) -> Iterator[Key]:
        return ((number, size) for number in self.index for size in self.sizes)

    def __len__(self) -> int:
        return len(self.index) * len(self.sizes)

    def at(self, size: int) -> Keys:
        """Those at one size."""
        return replace(self, sizes=range(size, size + 1))

    @property
    def what(self) -> str:
        """What there is one of for each key."""
        return "inputs" if len(self.sizes) == 1 else "inputs and sizes"

    def counted(self, some: int) -> str:
        """So many of them, in words."""
        return f"{some} of {len(self)} {self.what}"
