"""Witness: a point where the event certainly occurs, in exact arithmetic and, of answers, by the original model.

A candidate of a search is first rounded to the numbers that the original model computes with (float32, mostly),
so that the network, whose float64 outputs are enclosed, and the original model speak about one and the same point.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from calotte.deadline import Deadline
from calotte.errors import InvalidInput
from calotte.lines import Line, entries
from calotte.network.enclosure import outputs
from calotte.network.event import OutputEvent
from calotte.network.footprint import pass_size
from calotte.network.graph import Network
from calotte.network.margins import Margins
from calotte.rounding import NORM_SLACK, gamma

__all__ = ["Witness", "distances_up", "nearest_witness"]

_PUSHES = (
    0.0, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 3e-8, 1e-7, 2e-7, 4e-7, 1e-6, 2e-6, 4e-6, 1e-5, 3e-5,
    1e-4, 1e-3, 1e-2, 0.1, 1.0,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Witness:
    """A point where the event certainly occurs: one that is not answered like the input, for the event `change`.

    Attributes:
        point: (d,) float64, exact as given; a number of the original model's type in every coordinate.
        distance: from the input, L2, rounded up.
        answer: of the network at the point, as evaluated.
        original: the answer of the original model, by which the event occurs too; None where the network was not
            loaded from one, or the event is not one of answers.
    """

    point: Tensor = field(repr=False)
    distance: float
    answer: int
    original: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As an object of JSON, without loss."""
        return {name: getattr(self, name) for name in ("distance", "answer", "original")} | {
            "point": self.point.tolist()
        }

    @classmethod
    def from_dict(cls, entry: Line) -> Self:
        """What `to_dict` wrote.

        Raises:
            InvalidInput: it is no such entry.
        """
        found = entries(cls, entry)
        try:
            point = torch.tensor(found["point"], dtype=torch.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"point: expected a list of numbers ({error})") from None
        return cls(**found | {"point": point})


def distances_up(points: Tensor, x: Tensor) -> Tensor:
    """Distances (T,) of points to x, rounded up; inf for NaN."""
    gap = points - x
    # d + 2 roundings in the norm, one in each difference; squares may underflow
    norm = gap.norm(dim=-1) * (1.0 + 2.0 * gamma(gap.shape[-1] + 4)) + NORM_SLACK
    return torch.where(norm.isnan(), torch.inf, norm)


def nearest_witness(
    network: Network,
    x: Tensor,
    answer: int,
    event: OutputEvent,
    margins: Margins,
    points: Tensor,
    low: float,
    high: float,
    deadline: Deadline,
    memory_limit: float,
) -> Witness | None:
    """The nearest witness for an input x (d,) among points (k, d), pushed out if need be; None past the deadline.

    answer: at x; margins: of the event there, at this one input.
    low, high: the range that witnesses stay in, -+inf for none.
    """
    pushes = 1.0 + torch.tensor(_PUSHES, dtype=torch.float64)[:, None]
    pushed = representable((x + pushes * (points - x)[:, None]).reshape(-1, len(x)), network, low, high)
    away, order = distances_up(pushed, x).sort(stable=True)
    pushed = pushed[order[away < torch.inf]]
    block = pass_size(network, memory_limit / 16)  # an enclosure takes about four passes' memory
    for begin in range(0, len(pushed), block):
        if deadline.passed:
            return None
        tried, distances = pushed[begin : begin + block], away[begin : begin + block]
        z = outputs(network, tried)
        certain = margins.certainly_occurs(z.value, z.error).nonzero().squeeze(1).tolist()
        replies = network.decision.decide(z.value).tolist()
        for j in certain:
            asked = network.original is not None and event.of_answers
            own = int(network.original.answers(tried[j : j + 1])[0]) if network.original and asked else None
            if own is None or event.occurs(answer, own):
                return Witness(tried[j].clone(), distances[j].item(), replies[j], own)
    return None


def representable(points: Tensor, network: Network, low: float, high: float) -> Tensor:
    """Points rounded to numbers that the original model computes with, and kept within the range."""
    points = points.clamp(low, high)
    if network.original is None or network.original.dtype == torch.float64:
        return points
    kind = np.float32 if network.original.dtype == torch.float32 else np.float16
    with np.errstate(over="ignore"):
        rounded = points.numpy().astype(kind)
    above, below = rounded.astype(np.float64) > high, rounded.astype(np.float64) < low
    rounded = np.where(above, np.nextafter(rounded, kind(-np.inf)), rounded)
    rounded = np.where(below, np.nextafter(rounded, kind(np.inf)), rounded)
    return torch.from_numpy(rounded.astype(np.float64))
