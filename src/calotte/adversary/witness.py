"""Witness: a point that is certainly not answered like the input, in exact arithmetic and by the original model.

A candidate of a search is first rounded to the numbers that the original model computes with (float32, mostly),
so that the network, whose float64 outputs are enclosed, and the original model speak about one and the same point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calotte.network.decision import Decision
from calotte.network.enclosure import Enclosure, outputs
from calotte.network.graph import Network
from calotte.rounding import NORM_SLACK, UNIT_ROUNDOFF, gamma

__all__ = ["Witness", "certainly_wrong", "distances_up", "margins", "nearest_witnesses"]

_PUSHES = (
    0.0, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 3e-8, 1e-7, 2e-7, 4e-7, 1e-6, 2e-6, 4e-6, 1e-5, 3e-5,
    1e-4, 1e-3, 1e-2, 0.1, 1.0,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Witness:
    """A point that is certainly not answered like the input.

    Attributes:
        point: (d,) float64, exact as given; a number of the original model's type in every coordinate.
        distance: from the input, L2, rounded up.
        answer: of the network at the point, as evaluated; for certain it is not the input's.
        original: the answer of the original model, which is not the input's either; None where the network was not
            loaded from one.
    """

    point: Tensor
    distance: float
    answer: int
    original: int | None = None


def margins(decision: Decision, z: Tensor, y: Tensor) -> Tensor:
    """Margins (B, comparisons) by which outputs z (B, K) give the answers y (B,): negative where another wins."""
    if decision.rule == "sign":
        return torch.where(y == 1, 1.0, -1.0).to(z.dtype)[:, None] * z
    gaps = z.gather(1, y[:, None]) - z.gather(1, decision.rivals(y))
    return gaps if decision.rule == "argmax" else -gaps


def certainly_wrong(decision: Decision, z: Enclosure, y: Tensor) -> Tensor:
    """Where enclosed outputs z (B, K) certainly do not give the answers y (B,): bool (B,)."""
    error = z.error
    if decision.rule != "sign":
        error = error.gather(1, y[:, None]) + error.gather(1, decision.rivals(y))
    gaps = margins(decision, z.value, y)
    return (gaps + (error + 4 * UNIT_ROUNDOFF * gaps.abs()) * (1.0 + gamma(4)) < 0).any(1)


def distances_up(points: Tensor, x: Tensor) -> Tensor:
    """Distances (T,) of points to x, rounded up; inf for NaN."""
    gap = points - x
    # d + 2 roundings in the norm, one in each difference; squares may underflow
    norm = gap.norm(dim=-1) * (1.0 + 2.0 * gamma(gap.shape[-1] + 4)) + NORM_SLACK
    return torch.where(norm.isnan(), torch.inf, norm)


def nearest_witnesses(
    network: Network, x: Tensor, y: Tensor, points: Tensor, low: float, high: float
) -> list[Witness | None]:
    """The nearest witness for each input (B, d), answered y (B,), among points (B, k, d), pushed out if need be.

    low, high: the range that witnesses stay in, -+inf for none.
    """
    batch, k, d = points.shape
    pushes = 1.0 + torch.tensor(_PUSHES, dtype=torch.float64)[:, None]
    pushed = x[:, None, None] + pushes * (points - x[:, None])[:, :, None]
    pushed = representable(pushed, network, low, high).reshape(-1, d)
    each = k * len(_PUSHES)
    answers = y.repeat_interleave(each)
    z = outputs(network, pushed)
    away = distances_up(pushed, x.repeat_interleave(each, 0))
    away = torch.where(certainly_wrong(network.decision, z, answers), away, torch.inf).reshape(batch, each)
    replies = network.decision.decide(z.value).reshape(batch, each)
    pushed = pushed.reshape(batch, each, d)
    order = away.argsort(1)
    found: list[Witness | None] = [None] * batch
    open_rows = list(range(batch))
    for rank in range(each):
        open_rows = [b for b in open_rows if away[b, order[b, rank]] < torch.inf]
        if not open_rows:
            break
        chosen = order[open_rows, rank]
        tried = pushed[open_rows, chosen]
        own = None if network.original is None else network.original.answers(tried)
        for i, (b, j) in enumerate(zip(open_rows, chosen.tolist(), strict=True)):
            if own is None or own[i] != y[b]:
                original = None if own is None else int(own[i])
                found[b] = Witness(tried[i].clone(), away[b, j].item(), int(replies[b, j]), original)
        open_rows = [b for b in open_rows if found[b] is None]
    return found


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
