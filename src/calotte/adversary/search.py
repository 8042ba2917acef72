"""Search: downhill to the decision boundary, then along it towards the input, from many starts at once.

The search goes downhill, so its distances are upper bounds on the distance to the nearest misclassified point;
rho_x (Kůrková, arXiv:2602.18674, Theorem 4.2) and every certified radius are lower bounds on it. Direction and norm
of the perturbation move separately, as in DDN (Rony et al., arXiv:1811.09600), by shares of the norm that fall
geometrically; the last digits come from projections on the decision hyperplane of the current cell, as in DeepFool
(Moosavi-Dezfooli et al., arXiv:1511.04599).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.adversary.reduced import Reduced, reduced
from calotte.adversary.slopes import Slopes
from calotte.adversary.witness import Witness, distances_up, nearest_witness
from calotte.deadline import NEVER, Deadline
from calotte.errors import InvalidInput
from calotte.network.event import CHANGE, OutputEvent
from calotte.network.graph import Network
from calotte.network.margins import Margins
from calotte.network.single import in_single
from calotte.streams import Stream, generator

__all__ = ["RESTARTS", "Adversary", "nearest_misclassified"]

RESTARTS = 36
"""Random starts for each input: over nine rivals, from four distances."""

_RIVALS = 9  # classes walked to from the input itself, smallest margin first
_KEPT, _POLISHED = 6, 2  # finds of each input that are followed along the boundary, and polished in float64
_SAME = 0.05  # finds that are nearer to each other, as shares of their distance, are one
_POLISH, _COARSE, _HALVINGS = 12, 12, 45  # steps; halvings before them, and after
_SEARCHING, _POLISHING = 0.7, 0.5  # shares of the time left that these may take


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
_MULTIPLES = (1.0, 2.0, 3.0, 1.5)  # of the best distance so far: where random starts begin
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
    memory_limit: float = 2e9,
) -> list[Witness | None]:
    """Search for the nearest point (L2) that is answered differently from each input.

    From each input one descent goes to each rival class, and `restarts` more begin at random points as far away as
    the best find, or up to three times as far. The nearest finds are followed along the boundary, polished in
    float64 and certified. Each input is searched by itself.

    Args:
        network: the network.
        x: (B, d) inputs, or one.
        restarts: random starts for each input.
        seed, index: of the random starts; index numbers the inputs (default 0, 1, ...), so that a find does not
            depend on the batch it was made in.
        low, high: the range that all coordinates of a witness stay in; None for no limit. A network that clips its
            input is searched within that range without being asked.
        answers: (B,) answers that a witness must not get; default: the network's own.
        time_limit: seconds for each input, the time that certifying the best finds takes included.
        memory_limit: bytes for intermediate results.

    Returns:
        A Witness for each input, or None where none was found (there may be one all the same).

    Raises:
        InvalidInput: inputs that do not fit or have no answer, another number of indices, a range without room,
            negative restarts.
    """
    rows = network.inputs(x)
    numbers = list(range(len(rows))) if index is None else list(index)
    if len(numbers) != len(rows):
        raise InvalidInput(f"{len(numbers)} indices for {len(rows)} inputs: one for each row is needed")
    adversary = Adversary(network, restarts=restarts, low=low, high=high, memory_limit=memory_limit)
    found = []
    for i, (row, number) in enumerate(zip(rows, numbers, strict=True)):
        deadline = Deadline.after(time_limit)
        answer = int(network.predict(row[None]) if answers is None else answers[i])
        if answer < 0:
            raise InvalidInput(
                f"input {number}: the network's outputs there are not finite numbers, so that it has no answer"
            )
        found.append(adversary.nearest(row, answer, seed, number, deadline))
    return found


class Adversary:
    """The search on one network, made once for many inputs, each of which it takes by itself.

    Behind a clipping it is a search within the range.
    """

    def __init__(
        self,
        network: Network,
        *,
        restarts: int = RESTARTS,
        low: float | None = None,
        high: float | None = None,
        memory_limit: float = 2e9,
    ) -> None:
        """Arguments and errors are those of `nearest_misclassified`."""
        self.low, self.high = -math.inf if low is None else float(low), math.inf if high is None else float(high)
        if restarts < 0:
            raise InvalidInput(f"restarts must not be negative, came {restarts}")
        if not self.low < self.high:
            raise InvalidInput(f"a valid range needs low < high, came {low} and {high}")
        self.network, self.restarts, self.memory_limit = network, restarts, memory_limit
        inner, self.least, self.most = network, self.low, self.high
        if network.clipping is not None:
            inner = network.clipping.network
            self.least = max(self.low, network.clipping.low)
            self.most = min(self.high, network.clipping.high)
        self.limited = math.isfinite(self.least) or math.isfinite(self.most)
        self.space = Reduced(inner, None) if self.limited else reduced(inner)
        self.fine, exact = Slopes(inner, memory_limit), Slopes(self.space.network, memory_limit)
        self.rough = Slopes(in_single(self.space.network), memory_limit)
        if not self.rough.near(exact):
            self.rough = exact

    def nearest(
        self,
        x: Tensor,
        answer: int,
        seed: int = 0,
        index: int = 0,
        deadline: Deadline = NEVER,
        event: OutputEvent = CHANGE,
    ) -> Witness | None:
        """The nearest witness found for an input x (d,) with an answer: there the event occurs. None: none found."""
        centre = x.clamp(self.least, self.most)
        margins = event.margins(self.network, x[None], torch.tensor([answer]))
        one = _Descent(self, centre, margins, deadline.part(_SEARCHING))
        points = one.followed(one.explored(generator(Stream.ADVERSARY, seed, index)))
        points = one.polished(points, deadline.part(_POLISHING))
        if self.network.clipping is not None:  # where x is out of the range and the point at its end, x will do
            points = torch.where((x != centre) & (points == centre), x, points)
        if bool(margins.occurs(self.network.forward(x[None]))):  # it occurs at the input itself
            points = torch.cat([x[None], points])
        return nearest_witness(
            self.network, x, answer, event, margins, points, self.low, self.high, deadline, self.memory_limit
        )


class _Descent:
    """The search from one input."""

    def __init__(self, adversary: Adversary, x: Tensor, margins: Margins, deadline: Deadline) -> None:
        self.adversary, self.x, self.deadline = adversary, x, deadline
        self.least, self.most = adversary.least, adversary.most
        self.fine, self.rough, self.space = adversary.fine, adversary.rough, adversary.space
        self.margins = margins
        self.inside = self.space.down(x)  # where the descents take place

    def explored(self, numbers: torch.Generator) -> Tensor:
        """Points (starts, .) where the event occurs, NaN where a start led nowhere: one a form, then others."""
        x, r = self.inside, self.adversary.restarts
        aims = self.fine.margins(self.x[None], self.margins)[0].argsort()[:_RIVALS]  # smallest first
        n = len(aims)
        found = self._descend(x.expand(n, -1), aims, _FROM_INPUT)
        if r == 0:
            return found
        nearest = distances_up(found, x).amin()
        radius = nearest if nearest.isfinite() else x.norm().clamp_min(1.0)
        g = torch.randn(r, len(x), dtype=torch.float64, generator=numbers)
        multiples = torch.tensor(_MULTIPLES, dtype=torch.float64)[torch.arange(r) % len(_MULTIPLES)]
        points = x + (radius * multiples / g.norm(dim=1))[:, None] * g
        starts = points.clamp(self.least, self.most)
        more = self._descend(starts, aims[torch.arange(r) // len(_MULTIPLES) % n], _FROM_AFAR)
        return torch.cat([found, more])

    def followed(self, points: Tensor) -> Tensor:
        """The nearest of points (k, .), each followed along the boundary as far as that leads nearer to x: (., d)."""
        points = _nearest(self.inside, points, _KEPT)
        found = self._descend(points, None, _FOLLOW)
        nearer = distances_up(found, self.inside) < distances_up(points, self.inside)
        return self.space.up(self.x, _nearest(self.inside, torch.where(nearer[:, None], found, points), _POLISHED))

    def _descend(self, start: Tensor, aims: Tensor | None, schedule: Schedule) -> Tensor:
        """The nearest points (k, .) answered otherwise that descents from `start` (k, .) meet.

        The norm grows while the answer is the input's and shrinks while it is not; the direction turns down the
        slope of the margin over the aims (k,), or over the best rival. NaN where none is met on the way.
        """
        kind, limited = self.rough.dtype, self.adversary.limited
        centre, margins = self.inside.to(kind), self.margins.to(kind)
        delta = (start - self.inside).to(kind).nan_to_num(0.0)
        norm = delta.norm(dim=1, keepdim=True)
        best, found = torch.full_like(norm, torch.inf), torch.full_like(delta, torch.nan)
        for step in range(schedule.steps):
            if self.deadline.passed:
                break
            smallest, gap, uphill, steepness = self.rough.at(centre + delta, margins, aims)
            wrong = smallest < 0
            here = delta.norm(dim=1, keepdim=True)
            nearer = wrong & (here < best)
            best, found = torch.where(nearer, here, best), torch.where(nearer, delta, found)
            turn, growth = schedule.shares(step)
            # from x itself the first step goes to where the margin would vanish if it were linear
            first = torch.where(steepness > 0, gap.abs() / steepness, 0.0)
            norm = torch.where(norm > 0, norm * torch.where(wrong, 1 - growth, 1 + growth), first)
            delta = delta - turn * norm * uphill
            delta = delta * (norm / delta.norm(dim=1, keepdim=True).clamp_min(1e-30))
            if limited:
                delta = (centre + delta).clamp(self.least, self.most) - centre
        return (self.inside + found.to(torch.float64)).clamp(self.least, self.most)

    def polished(self, points: Tensor, deadline: Deadline) -> Tensor:
        """Points (k, d) slid along their decision hyperplanes towards the foot of the perpendicular from x.

        Those that are NaN are left out; those that the deadline leaves no time for are returned as they are.
        """
        points = points[~points.isnan().any(1)]
        if not len(points):
            return points
        points = self._drawn_back(points, _COARSE, deadline)
        # what is wrong in float32 may not quite be wrong in float64: anything wrong is nearer than that
        away = torch.where(self._wrong(points), distances_up(points, self.x), torch.inf)
        stride = torch.ones(len(points), 1, dtype=torch.float64)
        for _ in range(_POLISH):
            if deadline.passed:
                return points
            _, gap, uphill, steepness = self.fine.at(points, self.margins, None)
            steepness = steepness.clamp_min(1e-300)
            tried = points + stride * (self._foot(points, uphill, gap / steepness) - points)
            rest = self.fine.level(tried, self.margins)[:, None] / steepness
            # back to the boundary, and a little beyond it
            beyond = 1e-9 * ((self.x - tried) * uphill).sum(1, keepdim=True).abs()
            tried = (tried - uphill * (rest + beyond)).clamp(self.least, self.most)
            reached = distances_up(tried, self.x)
            better = self._wrong(tried) & (reached < away)
            away, points = torch.where(better, reached, away), torch.where(better[:, None], tried, points)
            stride = torch.where(better[:, None], (2.0 * stride).clamp_max(1.0), stride / 4.0)
        return self._drawn_back(points, _HALVINGS, deadline)

    def _foot(self, points: Tensor, uphill: Tensor, height: Tensor) -> Tensor:
        """The nearest points (k, d) to x, within the range, on the hyperplanes `height` (k, 1) below the points."""
        x = self.x
        level = height + ((x - points) * uphill).sum(1, keepdim=True)
        if not self.adversary.limited:
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

    def _wrong(self, points: Tensor) -> Tensor:
        """Where the event occurs at points (k, d): bool (k,)."""
        return self.fine.level(points, self.margins) < 0

    def _drawn_back(self, points: Tensor, halvings: int, deadline: Deadline) -> Tensor:
        """Wrongly answered points (k, d) drawn back towards x, as near to the boundary as bisection gets."""
        x, k = self.x, len(points)
        low, high = torch.zeros(k, 1, dtype=torch.float64), torch.ones(k, 1, dtype=torch.float64)
        for _ in range(halvings):
            if deadline.passed:
                break
            middle = (low + high) / 2
            wrong = self._wrong(x + middle * (points - x))[:, None]
            low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
        return torch.where(high < 1.0, x + high * (points - x), points)


def _nearest(x: Tensor, points: Tensor, count: int) -> Tensor:
    """The `count` nearest to x (d,) of points (k, d) that are not almost the same; fewer where there are fewer."""
    away = distances_up(points, x)
    chosen = []
    for _ in range(min(count, len(points))):
        nearest, which = away.min(0)
        if nearest == torch.inf:
            break
        chosen.append(int(which))
        away = torch.where(distances_up(points, points[which]) < _SAME * nearest, torch.inf, away)
    return points[chosen]
