"""The radius: how far around an input the relaxation proves that the answer does not change."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.deadline import OutOfTime
from calotte.proofs.event import relaxed_margins
from calotte.proofs.support import Support
from calotte.query import Query

__all__ = ["relaxed_radius"]

_PATIENCE = 3  # steps of interpolation that may leave more than half of the bracket
_FARTHER = 16.0  # where nothing fails yet; on `mnist-net_256x4` margins reach some 70 times as far as the cell


def relaxed_radius(query: Query, start: Tensor, steps: int = 12) -> Tensor:
    """A radius (B,) around each input within which the answer is proved not to change; 0 where none is found.

    The largest for which `relaxation` proves p = 0 among those that doubling from `start` (B,) and bisection would
    come to, found by fewer passes, as long as the deadline allows: every radius returned was proved, or a larger one
    was. In the space of the query, which should have no noise map.
    """
    brackets = [Bracket(one, steps) for one in start.clamp(1e-6, 1e6).tolist()]
    try:
        while any(bracket.next is not None for bracket in brackets):
            radius = torch.tensor([b.best if b.next is None else b.next for b in brackets], dtype=torch.float64)
            margins, _ = relaxed_margins(query, Support.ball(query, radius))
            kept = query.margins.cases.kept(margins.distances()).amin(1).tolist()
            for bracket, distance in zip(brackets, kept, strict=True):
                bracket.learn(distance)
    except OutOfTime:
        pass  # what was found holds
    return torch.tensor([bracket.found for bracket in brackets], dtype=torch.float64)


@dataclass
class Bracket:
    """Between which radii the largest lies: the margins of one input are known to hold on a ball, or not.

    It is taken that a relaxation which fails on a ball fails on larger ones; a proof holds on smaller balls.

    Attributes:
        start: the first radius; steps: of the bisection.
        best, worst: the largest radius that holds, the smallest that failed.
        gained, lost: how much farther the margins reach than the best radius, and how much less far than the worst;
            halved where only the other one moves, so that both come close (the Illinois method).
        held: whether the last radius did; slow: steps since the bracket was last halved.
    """

    start: float
    steps: int
    best: float = 0.0
    worst: float = math.inf
    gained: float = math.nan
    lost: float = math.nan
    held: bool = False
    slow: int = 0

    def __post_init__(self) -> None:
        self.next: float | None = self._ends(self._guess())[0]

    @property
    def found(self) -> float:
        """The largest radius that doubling and bisection come to."""
        return self._ends(self.best)[0]

    def learn(self, distance: float) -> None:
        """The margins of the `next` radius reach so far; what to try then."""
        if self.next is None:
            return
        holds, width = distance >= self.next, self.worst - self.best
        if holds:
            self.best, self.gained = self.next, distance - self.next
            self.lost *= 0.5 if self.held else 1.0
        else:
            self.worst, self.lost = self.next, self.next - distance
            self.gained *= 1.0 if self.held else 0.5
        self.held = holds
        self.slow = 0 if self.worst - self.best <= 0.5 * width else self.slow + 1
        low, high = self._ends(self._guess())
        self.next = low if low > self.best else high if self.best < high < self.worst else None

    def _ends(self, guess: float) -> tuple[float, float]:
        """What doubling and bisection end between, where a radius that is not known holds up to a guess."""
        low, high = 0.0, self.start
        for _ in range(40):
            if not self._holds(high, guess):
                break
            low, high = high, 2.0 * high
        for _ in range(self.steps):
            middle = (low + high) / 2.0
            low, high = (middle, high) if self._holds(middle, guess) else (low, middle)
        return low, high

    def _holds(self, radius: float, guess: float) -> bool:
        return radius <= self.best or (radius < self.worst and radius <= guess)

    def _guess(self) -> float:
        """Where the margins reach as far as the radius: the octave first, then by interpolation."""
        if math.isinf(self.worst):
            return _FARTHER * max(self.best, self.start)
        if self.worst > max(2.0 * self.best, self.start):
            return math.sqrt(max(self.best, 0.5 * self.start) * self.worst)
        more, less = (math.log1p(reach / self.worst) for reach in (self.gained, self.lost))
        known = self.slow < _PATIENCE and 0.0 < more + less < math.inf  # NaN where nothing holds yet
        share = more / (more + less) if known else 0.5
        return self.best + share * (self.worst - self.best)
