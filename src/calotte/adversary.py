"""Adversary: the nearest point that a search finds to be answered differently, every find re-checked.

The search goes downhill, so its distances are upper bounds on the distance to the nearest misclassified point;
rho_x (Kůrková, arXiv:2602.18674, Theorem 4.2) and every certified radius are lower bounds on it. The steps onto
the decision hyperplane of the current cell are those of DeepFool (Moosavi-Dezfooli et al., arXiv:1511.04599).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.network.decision import Decision
from calotte.network.enclosure import outputs
from calotte.network.graph import Network
from calotte.normals import pull_back
from calotte.rounding import NORM_SLACK, UNIT_ROUNDOFF, gamma

__all__ = ["Witness", "nearest_misclassified"]

_BATCH = 64  # inputs searched at a time
_RIVALS, _KEPT = 10, 3  # rival classes walked to, smallest margin first; walks of each input that are polished
_WALK, _POLISH = 30, 40  # steps
_OVERSHOOT = 1.02
_PUSHES = (0.0, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-6, 1e-4, 1e-2)


@dataclass(frozen=True, eq=False)
class Witness:
    """A point that is certainly not answered like the input.

    Attributes:
        point: (d,) float64, exact as given.
        distance: from the input, L2, rounded up.
        answer: at the point, as evaluated; for certain it is not the input's.
    """

    point: Tensor
    distance: float
    answer: int


def nearest_misclassified(
    network: Network,
    x: ArrayLike | Tensor,
    *,
    restarts: int = 16,
    seed: int = 0,
    index: Sequence[int] | None = None,
) -> list[Witness | None]:
    """Search for the nearest point (L2) that is answered differently from each input.

    From each input one walk goes to each rival class, and `restarts` more begin at random points as far away as
    the best find. A walk projects on the decision hyperplane of the cell that it is in until the answer changes,
    comes back by bisection, and slides along the boundary towards the foot of the perpendicular from the input.

    Args:
        network: the network.
        x: (B, d) inputs, or one.
        restarts: random starts for each input.
        seed, index: of the random starts; index numbers the inputs (default 0, 1, ...), so that a find does not
            depend on the batch it was made in.

    Returns:
        A Witness for each input, or None where none was found (there may be one all the same).

    Raises:
        InvalidInput: inputs that do not fit, or another number of indices.
    """
    rows = network.inputs(x)
    numbers = list(range(len(rows))) if index is None else list(index)
    if len(numbers) != len(rows):
        raise InvalidInput(f"{len(numbers)} indices for {len(rows)} inputs: one for each row is needed")
    found: list[Witness | None] = []
    for begin in range(0, len(rows), _BATCH):
        part = slice(begin, begin + _BATCH)
        directions = torch.stack([_directions(seed, i, restarts, network.d) for i in numbers[part]])
        found += _search(network, rows[part], directions)
    return found


def _directions(seed: int, index: int, n: int, d: int) -> Tensor:
    """n random unit vectors (n, d) of one input."""
    g = torch.from_numpy(np.random.default_rng([seed, index]).standard_normal((n, d)))
    directions: Tensor = g / g.norm(dim=1, keepdim=True)
    return directions


def _search(network: Network, x: Tensor, directions: Tensor) -> list[Witness | None]:
    """Witnesses for a batch x (B, d), random starts in the given directions (B, restarts, d)."""
    d, y = network.d, network.predict(x)
    rivals = margins(network.decision, network.forward(x), y).argsort(1)[:, :_RIVALS]
    centre, answers = (t.repeat_interleave(rivals.shape[1], 0) for t in (x, y))
    points = _reached(network, centre, answers, centre, rivals.flatten()).reshape(len(x), -1, d)
    for some in torch.split(directions, 4, dim=1) if directions.shape[1] else ():  # nearer from four to four
        nearest = _distances(points, x[:, None]).amin(1)
        radius = torch.where(nearest.isfinite(), nearest, x.norm(dim=1).clamp_min(1.0))
        starts = (x[:, None] + radius[:, None, None] * some).reshape(-1, d)
        centre, answers = (t.repeat_interleave(some.shape[1], 0) for t in (x, y))
        closest = margins(network.decision, network.forward(starts), answers).argmin(1)
        more = _reached(network, centre, answers, starts, closest).reshape(len(x), -1, d)
        points = torch.cat([points, more], 1)
    kept = _distances(points, x[:, None]).argsort(1)[:, :_KEPT]
    points = points.gather(1, kept[:, :, None].expand(-1, -1, d)).reshape(-1, d)
    centre, answers = (t.repeat_interleave(kept.shape[1], 0) for t in (x, y))
    points = _polish(network, centre, answers, torch.where(points.isnan(), centre, points))
    return _certified(network, x, y, _bisect(network, centre, answers, points, 50).reshape(len(x), -1, d))


def _reached(network: Network, x: Tensor, y: Tensor, start: Tensor, rival: Tensor) -> Tensor:
    """Boundary points (T, d) that walks from `start` lead to, drawn back towards x; NaN where they lead nowhere."""
    return _bisect(network, x, y, _walk(network, start, y, rival), 20)


def margins(decision: Decision, z: Tensor, y: Tensor) -> Tensor:
    """Margins (B, comparisons) by which outputs z (B, K) give the answers y (B,): negative where another wins."""
    if decision.rule == "sign":
        return torch.where(y == 1, 1.0, -1.0)[:, None] * z
    gaps = z.gather(1, y[:, None]) - z.gather(1, decision.rivals(y))
    return gaps if decision.rule == "argmax" else -gaps


def _wrong(network: Network, points: Tensor, y: Tensor) -> Tensor:
    """Where points (T, d) are answered otherwise than y (T,): bool (T,)."""
    return margins(network.decision, network.forward(points), y).amin(1) < 0


def _slopes(network: Network, points: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """Gradients (T, d) of one margin for each point, on the cell that the point lies in."""
    decision = network.decision
    cotangents = torch.zeros(len(points), decision.outputs, dtype=torch.float64)
    if decision.rule == "sign":
        cotangents[:, 0] = torch.where(y == 1, 1.0, -1.0)
    else:
        sign = 1.0 if decision.rule == "argmax" else -1.0
        cotangents.scatter_(1, y[:, None], sign)
        cotangents.scatter_(1, decision.rivals(y).gather(1, rival[:, None]), -sign)
    last = len(network.nodes) - 1
    masks = network.masks(network.pattern(points))
    return pull_back(network, masks, last, cotangents.reshape(-1, *network.shape(last)))


def _walk(network: Network, start: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """Walk from points (T, d) towards one rival each until the answer is not y; NaN where that fails."""
    points, going = start.clone(), torch.arange(len(start))
    for _ in range(_WALK):
        values = margins(network.decision, network.forward(points[going]), y[going])
        left = values.amin(1) >= 0
        going, values = going[left], values[left]
        if not len(going):
            return points
        slope = _slopes(network, points[going], y[going], rival[going])
        step = values.gather(1, rival[going][:, None]) / (slope * slope).sum(1, keepdim=True)
        points[going] -= _OVERSHOOT * torch.where(step.isfinite(), step, 0.0) * slope
    return torch.where(_wrong(network, points, y)[:, None], points, torch.nan)


def _bisect(network: Network, x: Tensor, y: Tensor, points: Tensor, halvings: int) -> Tensor:
    """Draw wrongly answered points (T, d) back towards x, as near to the boundary as bisection gets."""
    low, high = torch.zeros(len(x), 1, dtype=torch.float64), torch.ones(len(x), 1, dtype=torch.float64)
    for _ in range(halvings):
        middle = (low + high) / 2
        wrong = _wrong(network, x + middle * (points - x), y)[:, None]
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return torch.where(high < 1.0, x + high * (points - x), points)


def _polish(network: Network, x: Tensor, y: Tensor, points: Tensor) -> Tensor:
    """Slide boundary points (T, d) along their decision hyperplanes towards the foot of the perpendicular from x."""
    stride = torch.ones(len(x), 1, dtype=torch.float64)
    for _ in range(_POLISH):
        rival = margins(network.decision, network.forward(points), y).argmin(1)
        slope = _slopes(network, points, y, rival)
        square = (slope * slope).sum(1, keepdim=True).clamp_min(NORM_SLACK)
        foot = x - slope * (((x - points) * slope).sum(1, keepdim=True) / square)
        tried = points + stride * (foot - points)
        gap = margins(network.decision, network.forward(tried), y).gather(1, rival[:, None])
        tried = tried - _OVERSHOOT * slope * (gap.clamp_min(0.0) / square)
        back = _bisect(network, x, y, tried, 8)
        better = _wrong(network, back, y) & (_distances(back, x) < _distances(points, x))
        points = torch.where(better[:, None], back, points)
        stride = torch.where(better[:, None], (2.0 * stride).clamp_max(1.0), stride / 4.0)
    return points


def _distances(points: Tensor, x: Tensor) -> Tensor:
    """Distances (T,) of points to x, rounded up; inf for NaN."""
    gap = points - x
    # d + 2 roundings in the norm, one in each difference; squares may underflow
    norm = gap.norm(dim=-1) * (1.0 + 2.0 * gamma(gap.shape[-1] + 4)) + NORM_SLACK
    return torch.where(norm.isnan(), torch.inf, norm)


def _certified(network: Network, x: Tensor, y: Tensor, points: Tensor) -> list[Witness | None]:
    """The nearest certain witness for each input (B, d) among points (B, k, d), pushed out a little if need be."""
    batch, k, d = points.shape
    pushes = 1.0 + torch.tensor(_PUSHES, dtype=torch.float64)[:, None]
    pushed = (x[:, None, None] + pushes * (points - x[:, None])[:, :, None]).reshape(-1, d)
    each = k * len(_PUSHES)
    answers = y.repeat_interleave(each)
    z = outputs(network, pushed)
    if network.decision.rule == "sign":
        error = z.error
    else:
        error = z.error.gather(1, answers[:, None]) + z.error.gather(1, network.decision.rivals(answers))
    gaps = margins(network.decision, z.value, answers)
    certain = (gaps + (error + 4 * UNIT_ROUNDOFF * gaps.abs()) * (1.0 + gamma(4)) < 0).any(1)
    away = _distances(pushed, x.repeat_interleave(each, 0))
    away = torch.where(certain, away, torch.inf).reshape(batch, each)
    replies = network.decision.decide(z.value).reshape(batch, each)
    pushed = pushed.reshape(batch, each, d)
    return [
        Witness(pushed[b, j].clone(), away[b, j].item(), int(replies[b, j])) if away[b, j] < torch.inf else None
        for b, j in enumerate(away.argmin(1).tolist())
    ]
