"""Search: downhill to the decision boundary, then along it towards the input, from many starts at once.

The search goes downhill, so its distances are upper bounds on the distance to the nearest misclassified point;
rho_x (Kůrková, arXiv:2602.18674, Theorem 4.2) and every certified radius are lower bounds on it. Direction and norm
of the perturbation move separately, as in DDN (Rony et al., arXiv:1811.09600), by shares of the norm that fall
geometrically; the last digits come from projections on the decision hyperplane of the current cell, as in DeepFool
(Moosavi-Dezfooli et al., arXiv:1511.04599).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.adversary.reduced import Reduced, reduced
from calotte.adversary.slopes import Slopes
from calotte.adversary.witness import Witness, distances_up, nearest_witnesses
from calotte.errors import InvalidInput
from calotte.network.graph import Network
from calotte.network.single import in_single

__all__ = ["RESTARTS", "nearest_misclassified"]

RESTARTS = 36
"""Random starts for each input: four rounds over nine rivals, from different distances."""

_RIVALS = 9  # classes walked to from the input itself, smallest margin first
_KEPT, _POLISHED = 6, 2  # finds of each input that are followed along the boundary, and polished in float64
_SAME = 0.05  # finds that are nearer to each other, as shares of their distance, are one
_POLISH, _HALVINGS = 12, 50  # steps
_ENTRIES = 2**24  # numbers that a batch may hold for a value of each unit


@dataclass(frozen=True)
class Schedule:
    """A descent: its steps, and by which shares of its norm the perturbation turns, and grows or shrinks.

    Both shares fall geometrically from the first number to the second.
    """

    steps: int
    turn: tuple[float, float]
    growth: tuple[float, float]

    def shares(self, step: int) -> tuple[float, float]:
        """Both shares at a step."""
        done = step / max(self.steps - 1, 1)
        turn, growth = (first * (last / first) ** done for first, last in (self.turn, self.growth))
        return turn, growth


_FROM_INPUT = Schedule(60, (1.0, 0.02), (0.15, 0.01))
_FROM_AFAR = Schedule(45, (2.0, 0.1), (0.2, 0.02))
_MULTIPLES = (1.0, 2.0, 3.0, 1.5)  # of the best distance so far: where rounds of random starts begin
_FOLLOW = Schedule(100, (0.3, 0.001), (0.03, 0.0003))


def nearest_misclassified(
    network: Network,
    x: ArrayLike | Tensor,
    *,
    restarts: int = RESTARTS,
    seed: int = 0,
    index: Sequence[int] | None = None,
    low: float | None = None,
    high: float | None = None,
    answers: Tensor | None = None,
    time_limit: float = math.inf,
) -> list[Witness | None]:
    """Search for the nearest point (L2) that is answered differently from each input.

    From each input one descent goes to each rival class, and `restarts` more begin at random points as far away as
    the best find, or up to three times as far. The nearest finds are followed along the boundary, polished in
    float64 and certified.

    Args:
        network: the network.
        x: (B, d) inputs, or one.
        restarts: random starts for each input.
        seed, index: of the random starts; index numbers the inputs (default 0, 1, ...), so that a find does not
            depend on the batch it was made in.
        low, high: the range that all coordinates of a witness stay in; None for no limit. A network that clips its
            input is searched within that range without being asked.
        answers: (B,) answers that a witness must not get; default: the network's own.
        time_limit: seconds for each input, after which the best finds so far are polished and certified.

    Returns:
        A Witness for each input, or None where none was found (there may be one all the same).

    Raises:
        InvalidInput: inputs that do not fit, another number of indices, a range without room, negative restarts.
    """
    rows = network.inputs(x)
    numbers = list(range(len(rows))) if index is None else list(index)
    if len(numbers) != len(rows):
        raise InvalidInput(f"{len(numbers)} indices for {len(rows)} inputs: one for each row is needed")
    if restarts < 0:
        raise InvalidInput(f"restarts must not be negative, came {restarts}")
    least, most = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    if not least < most:
        raise InvalidInput(f"a valid range needs low < high, came {low} and {high}")
    y = network.predict(rows) if answers is None else answers
    search = _Search(network, restarts, least, most)
    found: list[Witness | None] = []
    for begin in range(0, len(rows), search.batch):
        part = slice(begin, begin + search.batch)
        starts = [(seed, i) for i in numbers[part]]
        deadline = time.perf_counter() + time_limit * len(starts)
        found += search.witnesses(rows[part], y[part], starts, deadline)
    return found


class _Search:
    """The search on one network, behind its clipping if it has one: there it is a search within the range."""

    def __init__(self, network: Network, restarts: int, low: float, high: float) -> None:
        self.network, self.restarts, self.low, self.high = network, restarts, low, high
        inner, self.least, self.most = network, low, high
        if network.clipping is not None:
            inner = network.clipping.network
            self.least, self.most = max(low, network.clipping.low), min(high, network.clipping.high)
        unlimited = math.isinf(self.least) and math.isinf(self.most)
        self.space = reduced(inner) if unlimited else Reduced(inner, None)
        self.fine, exact = Slopes(inner), Slopes(self.space.network)
        self.rough = Slopes(in_single(self.space.network))
        if not self.rough.near(exact):
            self.rough = exact
        self.rivals = min(network.decision.comparisons, _RIVALS)
        widest = max(math.prod(network.shape(i)) for i in range(len(network.nodes)))
        self.batch = max(1, int(_ENTRIES / (max(self.rivals, _KEPT) * (network.units + 2 * widest))))

    def witnesses(
        self, x: Tensor, y: Tensor, starts: Sequence[tuple[int, int]], deadline: float
    ) -> list[Witness | None]:
        """Witnesses for a batch x (B, d), answered y (B,)."""
        centre = x.clamp(self.least, self.most)
        aims = self.fine.margins(centre, y).argsort(1)[:, : self.rivals]
        inside = self.space.down(centre)
        points = self._explored(inside, y, aims, starts, deadline)
        points = self.space.up(centre[:, None], self._followed(inside, y, points, deadline))
        points = self._polished(centre, y, points)
        if self.network.clipping is not None:  # where x is out of the range and the point at its end, x will do
            out = (x != centre)[:, None] & (points == centre[:, None])
            points = torch.where(out, x[:, None], points)
        return nearest_witnesses(self.network, x, y, points, self.low, self.high)

    def _explored(
        self, x: Tensor, y: Tensor, aims: Tensor, starts: Sequence[tuple[int, int]], deadline: float
    ) -> Tensor:
        """Points (B, rivals + restarts, d) answered otherwise than y, NaN where a start led nowhere.

        aims: (B, rivals) the margins to go for, smallest first.
        """
        d, n, r = x.shape[1], self.rivals, self.restarts
        found = self._descend(x, y, x[:, None].expand(-1, n, -1), aims, _FROM_INPUT, deadline)
        rounds = torch.arange(r).chunk(len(_MULTIPLES)) if r else ()
        directions = torch.stack([_directions(*start, r, d) for start in starts])
        for multiple, these in zip(_MULTIPLES, rounds, strict=False):
            nearest = distances_up(found, x[:, None]).amin(1)
            radius = multiple * torch.where(nearest.isfinite(), nearest, x.norm(dim=1).clamp_min(1.0))
            points = x[:, None] + radius[:, None, None] * directions[:, these]
            points = points.clamp(self.least, self.most)
            more = self._descend(x, y, points, aims[:, these % n], _FROM_AFAR, deadline)
            found = torch.cat([found, more], 1)
        return found

    def _followed(self, x: Tensor, y: Tensor, points: Tensor, deadline: float) -> Tensor:
        """The nearest of points (B, k, d), each followed along the boundary as far as that leads nearer to x."""
        points = _nearest(x, points, _KEPT)
        found = self._descend(x, y, points, None, _FOLLOW, deadline)
        nearer = distances_up(found, x[:, None]) < distances_up(points, x[:, None])
        return _nearest(x, torch.where(nearer[:, :, None], found, points), _POLISHED)

    def _descend(
        self, x: Tensor, y: Tensor, start: Tensor, aims: Tensor | None, schedule: Schedule, deadline: float
    ) -> Tensor:
        """The nearest points (B, k, d) answered otherwise than y that descents from `start` (B, k, d) meet.

        The norm grows while the answer is y and shrinks while it is not; the direction turns down the slope of the
        margin over the aims (B, k), or over the best rival. NaN where every point on the way is answered y.
        """
        batch, k, d = start.shape
        kind = self.rough.dtype
        centre, origin = x.repeat_interleave(k, 0).to(kind), start.reshape(-1, d).to(kind)
        answers, aim = y.repeat_interleave(k), None if aims is None else aims.flatten()
        delta = (origin - centre).nan_to_num(0.0)
        norm = delta.norm(dim=1, keepdim=True)
        best, found = torch.full_like(norm, torch.inf), torch.full_like(delta, torch.nan)
        for step in range(schedule.steps):
            if time.perf_counter() > deadline:
                break
            gaps, gap, uphill, steepness = self.rough.at(centre + delta, answers, aim)
            wrong = gaps.amin(1, keepdim=True) < 0
            here = delta.norm(dim=1, keepdim=True)
            nearer = wrong & (here < best)
            best, found = torch.where(nearer, here, best), torch.where(nearer, delta, found)
            turn, growth = schedule.shares(step)
            # from x itself the first step goes to where the margin would vanish if it were linear
            first = torch.where(steepness > 0, gap.abs() / steepness, 0.0)
            norm = torch.where(norm > 0, norm * torch.where(wrong, 1 - growth, 1 + growth), first)
            delta = delta - turn * norm * uphill
            delta = delta * (norm / delta.norm(dim=1, keepdim=True).clamp_min(1e-30))
            if math.isfinite(self.least) or math.isfinite(self.most):
                delta = (centre + delta).clamp(self.least, self.most) - centre
        return (x[:, None] + found.to(torch.float64).reshape(batch, k, d)).clamp(self.least, self.most)

    def _polished(self, x: Tensor, y: Tensor, points: Tensor) -> Tensor:
        """Points (B, k, d) slid along their decision hyperplanes towards the foot of the perpendicular from x."""
        batch, k, d = points.shape
        centre, answers, points = x.repeat_interleave(k, 0), y.repeat_interleave(k), points.reshape(-1, d)
        points = self._drawn_back(centre, answers, torch.where(points.isnan(), centre, points))
        # what is wrong in float32 may not quite be wrong in float64: anything wrong is nearer than that
        away = torch.where(self._wrong(points, answers), distances_up(points, centre), torch.inf)
        stride = torch.ones(len(points), 1, dtype=torch.float64)
        for _ in range(_POLISH):
            _, gap, uphill, steepness = self.fine.at(points, answers, None)
            steepness = steepness.clamp_min(1e-300)
            foot = self._foot(centre, points, uphill, gap / steepness)
            tried = points + stride * (foot - points)
            rest = self.fine.margins(tried, answers).amin(1, keepdim=True) / steepness
            # back to the boundary, and a little beyond it
            beyond = 1e-9 * ((centre - tried) * uphill).sum(1, keepdim=True).abs()
            tried = (tried - uphill * (rest + beyond)).clamp(self.least, self.most)
            reached = distances_up(tried, centre)
            better = self._wrong(tried, answers) & (reached < away)
            away, points = torch.where(better, reached, away), torch.where(better[:, None], tried, points)
            stride = torch.where(better[:, None], (2.0 * stride).clamp_max(1.0), stride / 4.0)
        return self._drawn_back(centre, answers, points).reshape(batch, k, d)

    def _foot(self, x: Tensor, points: Tensor, uphill: Tensor, height: Tensor) -> Tensor:
        """The nearest points (T, d) to x, within the range, on the hyperplanes `height` (T, 1) below the points."""
        level = height + ((x - points) * uphill).sum(1, keepdim=True)
        if math.isinf(self.least) and math.isinf(self.most):
            return x - level * uphill
        # within the range it is clamp(x - t uphill), the height falling with t: bisection on t
        low, high = torch.zeros_like(level), level.clamp_min(0.0)
        for _ in range(20):
            moved = (x - high * uphill).clamp(self.least, self.most)
            short = level + ((moved - x) * uphill).sum(1, keepdim=True) > 0
            high = torch.where(short, 2 * high + 1e-30, high)
        for _ in range(40):
            middle = (low + high) / 2
            moved = (x - middle * uphill).clamp(self.least, self.most)
            short = level + ((moved - x) * uphill).sum(1, keepdim=True) > 0
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return (x - high * uphill).clamp(self.least, self.most)

    def _wrong(self, points: Tensor, y: Tensor) -> Tensor:
        """Where points (T, d) are answered otherwise than y (T,): bool (T,)."""
        return self.fine.margins(points, y).amin(1) < 0

    def _drawn_back(self, x: Tensor, y: Tensor, points: Tensor, halvings: int = _HALVINGS) -> Tensor:
        """Wrongly answered points (T, d) drawn back towards x, as near to the boundary as bisection gets."""
        low, high = torch.zeros(len(x), 1, dtype=torch.float64), torch.ones(len(x), 1, dtype=torch.float64)
        for _ in range(halvings):
            middle = (low + high) / 2
            wrong = self._wrong(x + middle * (points - x), y)[:, None]
            low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
        return torch.where(high < 1.0, x + high * (points - x), points)


def _directions(seed: int, index: int, n: int, d: int) -> Tensor:
    """n random unit vectors (n, d) of one input."""
    g = torch.from_numpy(np.random.default_rng([seed, index]).standard_normal((n, d)))
    directions: Tensor = g / g.norm(dim=1, keepdim=True)
    return directions


def _nearest(x: Tensor, points: Tensor, count: int) -> Tensor:
    """The `count` nearest to x (B, d) of points (B, k, d) that are not almost the same; NaN where fewer."""
    away = distances_up(points, x[:, None])
    chosen = []
    for _ in range(min(count, points.shape[1])):
        nearest, which = away.min(1)
        here = points.gather(1, which[:, None, None].expand(-1, -1, points.shape[2]))
        chosen.append(torch.where(nearest.isfinite()[:, None, None], here, torch.nan))
        same = distances_up(points, here) < _SAME * nearest[:, None]
        away = torch.where(same, torch.inf, away)
    return torch.cat(chosen, 1)
