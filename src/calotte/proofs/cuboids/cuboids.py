"""Cuboids: regions of noise with independent coordinates, an interval for each of them, and their measure."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.independent import Independent
from calotte.noise import Gaussian, Noise
from calotte.normal import log_normal_between
from calotte.rounding import dot_error
from calotte.sphere import Rounding

__all__ = ["Cuboids"]


@dataclass(frozen=True)
class Cuboids:
    """L cuboids low <= u / size <= high.

    Attributes:
        low, high: (L, m) finite ends, in units of the noise's size.
    """

    low: Tensor
    high: Tensor

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, rows: Tensor | slice) -> Cuboids:
        return Cuboids(self.low[rows], self.high[rows])

    @staticmethod
    def cube(half_width: float, m: int) -> Cuboids:
        """|u_i| <= half_width size for all i, as one cuboid."""
        end = torch.full((1, m), half_width, dtype=torch.float64)
        return Cuboids(-end, end)

    def __add__(self, other: Cuboids) -> Cuboids:
        return Cuboids(torch.cat([self.low, other.low]), torch.cat([self.high, other.high]))

    def halves(self, axes: Tensor) -> Cuboids:
        """Both halves of each, cut across one axis of its own (L,): the lower ones, then the upper ones."""
        column = axes[:, None]
        middle = ((self.low + self.high) / 2).gather(1, column)
        return Cuboids(self.low, self.high.scatter(1, column, middle)) + Cuboids(
            self.low.scatter(1, column, middle), self.high
        )

    def log_measure(self, noise: Noise, rounding: Rounding) -> Tensor:
        """log P(u in the cuboid) (L,), rounded "up" or "down", for coordinates that are independent."""
        if isinstance(noise, Gaussian):
            each = log_normal_between(self.low, self.high, rounding=rounding)
        else:
            assert isinstance(noise, Independent)
            each = noise.log_between(self.low, self.high, rounding=rounding)
        total = each.sum(1)
        slack = dot_error(total.abs(), each.shape[1] + 4)
        moved = total + slack if rounding == "up" else total - slack
        return torch.where(total.isinf(), total, moved).clamp_max(0.0)
