"""Linear bounds on a good event as a Proof: what is paid for each unit, and how far its half-space is."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.network.graph import Network
from calotte.proofs.chooser import Recorded
from calotte.proofs.event import on_good_event
from calotte.proofs.price import BOTH, FREE
from calotte.proofs.proof import Proof, digits, integers
from calotte.query import Query

__all__ = ["GoodHalfSpaces", "check_choices", "check_fit", "check_heights"]


@dataclass(frozen=True, eq=False)
class GoodHalfSpaces(Proof, kind="half-spaces"):
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
        check_heights(self.tail, self.height)
        check_choices(self.choices)

    def log_bound(self, query: Query) -> float:
        if self.choices:
            check_fit(self.choices, query.network)
        chooser = Recorded({i: choice[None] for i, choice in self.choices.items()}) if self.choices else None
        heights = torch.full((1,), self.height, dtype=torch.float64)
        return on_good_event(query, query.sizes, self.tail, heights, chooser).log_bound.item()

    def _written(self) -> dict[str, Any]:
        choices = {str(i): digits(choice) for i, choice in sorted(self.choices.items())}
        return {"tail": self.tail.hex(), "height": self.height.hex(), "choices": choices}

    @classmethod
    def _read(cls, written: Mapping[str, Any]) -> Self:
        tail, height = (float.fromhex(written[name]) for name in ("tail", "height"))
        return cls(tail, height, {int(i): integers(choice) for i, choice in written["choices"].items()})


def check_heights(tail: float, height: float) -> None:
    """Refuse what is no number, or below 0.

    Raises:
        InvalidInput: saying which.
    """
    for name, value in (("tail", tail), ("height", height)):
        if not (isinstance(value, float) and value >= 0):
            raise InvalidInput(f"proof: {name} must be a number, 0 or more, came {value!r}")
    if math.isinf(tail):
        raise InvalidInput("proof: tail must be finite")


def check_choices(choices: Mapping[int, Tensor]) -> None:
    """Refuse what are no choices.

    Raises:
        InvalidInput: saying of which node.
    """
    for node, choice in choices.items():
        known = isinstance(choice, Tensor) and choice.dtype == torch.int8 and choice.ndim == 1
        if not known or bool(((choice < FREE) | (choice > BOTH)).any()):
            raise InvalidInput(f"proof: choices of node {node} must be a vector of int8 from {FREE} to {BOTH}")


def check_fit(choices: Mapping[int, Tensor], network: Network, without: Collection[int] = ()) -> None:
    """Refuse choices that are not one for each unit of each ReLU node of a network, some nodes left out.

    Raises:
        InvalidInput: they were made for another network.
    """
    expected = {i: network.size(i) for i in network.relus if i not in without}
    came = {i: choice.numel() for i, choice in choices.items()}
    if came != expected:
        raise InvalidInput(
            f"proof: made for another network: choices for ReLU nodes (node: units) {came}, it has {expected}"
        )
