"""Heights: of half-spaces of good events that may cost so much; and the network near an input on such an event."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from calotte.proofs.chooser import Chooser
from calotte.proofs.local.localise import Localised, localise
from calotte.query import Query

__all__ = ["Near", "heights", "near"]


class Near(NamedTuple):
    """The network near an input, None where it has too many units; its half-spaces' height, its support's tail."""

    found: Localised | None
    height: float
    tail: float


def heights(query: Query, log_budget: Tensor) -> Tensor:
    """Heights (B,) at which half-spaces on both sides of all units cost no more than exp(log_budget) (B,)."""
    log_each = log_budget - math.log(2.0 * max(1, query.network.hidden_units))
    return query.noise.standard_quantile(log_each, query.m, rounding="up").clamp_min(0.0)


def near(query: Query, size: Tensor, log_missed: float, chooser: Chooser, most: int) -> Near:
    """The network near one input on an event that fails with a probability of about exp(log_missed).

    Args:
        size: (1,) of the noise; most: unstable units that the network may have.

    Raises:
        OutOfTime: the query's deadline passed.
    """
    height = heights(query, torch.tensor([log_missed], dtype=torch.float64)).item()
    tail = math.sqrt(-2.0 * log_missed)
    return Near(localise(query, size, height, tail, chooser, most), height, tail)
