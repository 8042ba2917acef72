"""Proof: the decisions that make a bound, for one input, noise and event. What they are worth `prove` finds out.

A Proof holds no number that has to be believed: whatever it says, `prove` gives a true bound or refuses it.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.network.graph import Network
from calotte.proofs.price import BOTH, FREE

__all__ = ["GoodHalfSpaces", "OverCell", "Proof"]


@dataclass(frozen=True, eq=False)
class Proof(ABC):
    """Decisions only; the same decisions give the same bits. Equal where all of them are."""

    @staticmethod
    def from_json(text: str) -> Proof:
        """The Proof that `to_json` wrote.

        Raises:
            InvalidInput: no Proof, or decisions that are none.
        """
        try:
            written = json.loads(text)
            return _KINDS[written["proof"]](written)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InvalidInput(f"proof: not what Proof.to_json writes ({error})") from None

    def to_json(self) -> str:
        """All decisions, floats in hexadecimal: nothing is lost."""
        return json.dumps(self._written(), separators=(",", ":"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proof) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    @abstractmethod
    def _written(self) -> dict[str, Any]:
        """What `to_json` writes."""


@dataclass(frozen=True, eq=False)
class OverCell(Proof):
    """The union bound over the hyperplanes of the cell of x.

    Attributes:
        exact: whether each counts by its own cap, as in rung `cell`, or all by the nearest, as in rung `theorem`.
    """

    exact: bool

    def _written(self) -> dict[str, Any]:
        return {"proof": "cell", "exact": self.exact}

    @classmethod
    def _read(cls, written: Mapping[str, Any]) -> OverCell:
        return cls(bool(written["exact"]))


@dataclass(frozen=True, eq=False)
class GoodHalfSpaces(Proof):
    """Linear bounds on the margins over the whole support, on a good event that is paid for.

    Attributes:
        tail: under a Gaussian all noise of norm sigma (sqrt(m) + tail) is considered; of no account else.
        height: of the half-spaces that bound units, in units of the noise's size.
        choices: ReLU node -> (units,) int8, what is paid for each unit (`proofs.price`); empty: nothing for any.
    """

    tail: float
    height: float = math.inf
    choices: Mapping[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tail", "height"):
            value = getattr(self, name)
            if not (isinstance(value, float) and value >= 0):
                raise InvalidInput(f"proof: {name} must be a number, 0 or more, came {value!r}")
        if math.isinf(self.tail):
            raise InvalidInput("proof: tail must be finite")
        for node, choice in self.choices.items():
            known = isinstance(choice, Tensor) and choice.dtype == torch.int8 and choice.ndim == 1
            if not known or bool(((choice < FREE) | (choice > BOTH)).any()):
                raise InvalidInput(f"proof: choices of node {node} must be a vector of int8 from {FREE} to {BOTH}")

    def fits(self, network: Network) -> None:
        """Whether every unit of a network has its choice, or none has.

        Raises:
            InvalidInput: this is a Proof for another network.
        """
        if not self.choices:
            return
        expected = {i: math.prod(network.shape(network.feeders[i])) for i in network.relus}
        came = {i: len(choice) for i, choice in self.choices.items()}
        if came != expected:
            raise InvalidInput(
                f"proof: made for another network: choices for ReLU nodes (node: units) {came}, it has {expected}"
            )

    def _written(self) -> dict[str, Any]:
        choices = {str(i): "".join(map(str, choice.tolist())) for i, choice in sorted(self.choices.items())}
        return {"proof": "half-spaces", "tail": self.tail.hex(), "height": self.height.hex(), "choices": choices}

    @classmethod
    def _read(cls, written: Mapping[str, Any]) -> GoodHalfSpaces:
        tail, height = (float.fromhex(written[name]) for name in ("tail", "height"))
        choices = {int(i): digits(text) for i, text in written["choices"].items()}
        return cls(tail, height, choices)


_KINDS: dict[str, Callable[[Mapping[str, Any]], Proof]] = {
    "cell": OverCell._read,
    "half-spaces": GoodHalfSpaces._read,
}


def digits(text: str) -> Tensor:
    """(n,) int8, one for each decimal digit."""
    return torch.tensor([int(c) for c in text], dtype=torch.int8)
