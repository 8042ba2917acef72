"""Proof: the decisions that make a bound, for one input, noise and event. What they are worth `prove` finds out.

A Proof holds no number that has to be believed: whatever it says, it gives a true bound or is refused.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.query import Query

__all__ = ["Proof", "digits", "floats", "hexadecimal", "integers"]


@dataclass(frozen=True, eq=False)
class Proof(ABC):
    """Decisions only; the same decisions give the same bits. Equal where all of them are.

    Attributes:
        kind: what `to_json` says it is.
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Proof]]] = {}

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind
        Proof._kinds[kind] = cls

    @staticmethod
    def from_json(text: str) -> Proof:
        """The Proof that `to_json` wrote.

        Raises:
            InvalidInput: no Proof, or decisions that are none.
        """
        try:
            written = json.loads(text)
            return Proof._kinds[written["proof"]]._read(written)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            raise InvalidInput(f"proof: not what Proof.to_json writes ({error})") from None

    def to_json(self) -> str:
        """All decisions, floats in hexadecimal: nothing is lost."""
        return json.dumps({"proof": self.kind} | self._written(), separators=(",", ":"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proof) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    @abstractmethod
    def log_bound(self, query: Query) -> float:
        """An upper bound on log p for a query of one input, rounded up; at most 0, -inf where p = 0 is proved.

        Raises:
            InvalidInput: the decisions are for another network.
        """

    @abstractmethod
    def _written(self) -> dict[str, Any]:
        """What `to_json` writes."""

    @classmethod
    @abstractmethod
    def _read(cls, written: Mapping[str, Any]) -> Self:
        """From what was written."""


def hexadecimal(numbers: Tensor) -> dict[str, Any]:
    """A tensor of floats as its shape and the hexadecimal digits of its entries, 16 each: nothing is lost."""
    return {"shape": list(numbers.shape), "float64": numbers.contiguous().numpy().astype(">f8").tobytes().hex()}


def floats(written: Mapping[str, Any]) -> Tensor:
    """The tensor that `hexadecimal` wrote."""
    numbers = np.frombuffer(bytes.fromhex(written["float64"]), ">f8").astype(np.float64)
    return torch.from_numpy(numbers).reshape(_shape(written["shape"]))


def digits(numbers: Tensor) -> dict[str, Any]:
    """A tensor of numbers from 0 to 9 as its shape and one digit for each."""
    return {"shape": list(numbers.shape), "digits": "".join(str(int(k)) for k in numbers.flatten().tolist())}


def integers(written: Mapping[str, Any]) -> Tensor:
    """The tensor that `digits` wrote, int8."""
    numbers = torch.tensor([int(c) for c in written["digits"]], dtype=torch.int8)
    return numbers.reshape(_shape(written["shape"]))


def _shape(written: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(int(n) for n in written)
    if any(n < 0 for n in sizes):
        raise ValueError(f"a shape of sizes 0 or more, came {math.prod(sizes)}")
    return sizes
