"""Boxes: regions of the noise that bound its components along a few orthonormal directions.

Given the components t of u along K directions, what is left of u is, for a sphere in R^m, uniform on a sphere of
radius sqrt(eps^2 - |t|^2) in R^(m-K); for a ball, in a ball of that radius; for a Gaussian it does not depend on t. A
ball is the projection of a sphere in R^(m+2), so that the law of t follows from caps in either case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.noise import Noise, quotient_down
from calotte.proofs.union import log_difference_down, log_sum_up
from calotte.rounding import dot_error, gamma, lowered, raised
from calotte.sphere import Rounding

__all__ = ["Boxes", "log_tail_down", "log_tail_up"]


@dataclass(frozen=True)
class Boxes:
    """L boxes in the space of K orthonormal directions, in units of the noise's size.

    Attributes:
        low, high: (L, K) ends of the components; a component without finite ends is not conditioned on.
    """

    low: Tensor
    high: Tensor

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, rows: Tensor) -> Boxes:
        return Boxes(self.low[rows], self.high[rows])

    @staticmethod
    def whole(directions: int) -> Boxes:
        """The whole space, as one box."""
        end = torch.full((1, directions), torch.inf, dtype=torch.float64)
        return Boxes(-end, end)

    @staticmethod
    def none(directions: int) -> Boxes:
        """No box at all."""
        return Boxes(*torch.zeros(2, 0, directions, dtype=torch.float64))

    @staticmethod
    def joined(parts: Sequence[Boxes]) -> Boxes:
        """Boxes one after the other."""
        return Boxes(torch.cat([part.low for part in parts]), torch.cat([part.high for part in parts]))

    @property
    def split(self) -> Tensor:
        """(L, K) the components that are conditioned on."""
        return self.low.isfinite() | self.high.isfinite()

    def fill(self, region: Boxes) -> bool:
        """Whether these fill one box: seen by cutting it, again and again, where none of these is cut.

        True is certain; false where there are gaps, or no such cuts.
        """
        if self.low.isnan().any() or self.high.isnan().any():
            return False
        open_ = [(region.low[0], region.high[0], torch.arange(len(self)))]
        while open_:
            low, high, some = open_.pop()
            a, b = self.low[some], self.high[some]
            if ((a <= low) & (b >= high)).all(1).any():
                continue
            for axis in range(len(low)):
                ends = torch.cat([a[:, axis], b[:, axis]]).sort().values
                ends = ends[(ends > low[axis]) & (ends < high[axis])]
                whole = ~((a[:, axis] < ends[:, None]) & (b[:, axis] > ends[:, None])).any(1)
                if whole.any():
                    break
            else:
                return False
            at = ends[whole][int(whole.sum()) // 2]
            end, begin = high.clone(), low.clone()
            end[axis] = begin[axis] = at
            open_ += [(low, end, some[a[:, axis] < at]), (begin, high, some[b[:, axis] > at])]
        return True

    def repeated(self, times: int) -> Boxes:
        """Every box `times` times in a row."""
        return Boxes(self.low.repeat_interleave(times, 0), self.high.repeat_interleave(times, 0))

    def log_measure(self, noise: Noise, m: int) -> Tensor:
        """Upper bounds (L,) on log P(u / size in the box), u in R^m.

        One component after the other; what the earlier ones leave of the radius lies in an interval.
        """
        total = torch.zeros(len(self), dtype=torch.float64)
        for k, (a, b, (smallest, largest), left) in enumerate(self._slabs(noise, m)):
            from_a = log_tail_up(noise, a, smallest, largest, left)
            from_b = log_tail_down(noise, b, smallest, left)
            beyond = -torch.expm1((from_b - from_a).clamp_max(0.0)) + dot_error(1.0 + from_a.abs() + from_b.abs(), 4)
            one_side = torch.where(from_a.isinf() | from_b.isinf(), from_a, from_a + beyond.clamp_max(1.0).log())
            below_a = log_tail_down(noise, -a, smallest, left)
            middle = (1.0 - lowered(below_a.exp() + from_b.exp(), 8) + gamma(8)).clamp_max(1.0).log()
            part = torch.where(a > 0, one_side, middle)
            total = total + torch.where(self.split[:, k], part, 0.0)
        return -lowered(-total, self.low.shape[1] + 8).clamp_min(0.0)

    def log_measure_down(self, noise: Noise, m: int) -> Tensor:
        """Lower bounds (L,) on log P(u / size in the box), as `log_measure`; -inf for points of a line."""
        total = torch.zeros(len(self), dtype=torch.float64)
        for k, (a, b, (smallest, largest), left) in enumerate(self._slabs(noise, m)):
            beyond = log_tail_up(noise, b, smallest, largest, left)
            one_side = log_difference_down(log_tail_down(noise, a, smallest, left), beyond)
            outside = log_sum_up(torch.stack([log_tail_up(noise, -a, smallest, largest, left), beyond], 1))
            middle = log_difference_down(torch.zeros_like(outside), outside)
            part = torch.where(a > 0, one_side, middle)
            part = torch.where(left > (1 if noise.bounded else 0), part, -torch.inf)  # in one dimension faces count
            total = total + torch.where(self.split[:, k], part, 0.0)
        return raised(total, self.low.shape[1] + 8)

    def _slabs(self, noise: Noise, m: int) -> Iterator[tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor]]:
        """For each component its ends (L,), mirrored where both are below 0; radii and dimensions that earlier ones
        leave."""
        for k in range(self.low.shape[1]):
            earlier, low, high = Boxes(self.low[:, :k], self.high[:, :k]), self.low[:, k], self.high[:, k]
            below = high < 0
            yield (
                torch.where(below, -high, low),
                torch.where(below, -low, high),
                earlier.radii(noise),
                earlier.left(m),
            )

    def apart(self) -> Tensor:
        """bool (L,) boxes that share no inner point with earlier ones that are apart."""
        apart = torch.ones(len(self), dtype=torch.bool)
        for i in range(1, len(self)):
            meet = ((self.low[:i] < self.high[i]) & (self.low[i] < self.high[:i])).all(1)
            apart[i] = not (meet & apart[:i]).any()
        return apart

    def radii(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """Bounds (L,) on the radius of the rest of the noise, in units of its size; 1 and 1 for the Gaussian."""
        one = torch.ones(len(self), dtype=torch.float64)
        if not noise.bounded:
            return one, one
        split = self.split
        far = torch.where(split, torch.maximum(self.low.abs(), self.high.abs()).clamp_max(1.0), 0.0)
        near = torch.where(
            split & ((self.low > 0) | (self.high < 0)), torch.minimum(self.low.abs(), self.high.abs()), 0.0
        )
        slack = gamma(2 * self.low.shape[1] + 8)
        smallest = lowered(((1.0 - (far * far).sum(1)) - slack).clamp_min(0.0).sqrt(), 4)
        largest = raised(((1.0 - (near * near).sum(1)) + slack).clamp_min(0.0).sqrt(), 4)
        return smallest, largest.clamp_max(1.0)

    def left(self, m: int) -> Tensor:
        """Dimensions (L,) of the rest of the noise."""
        return m - self.split.sum(1)


def log_tail_up(noise: Noise, s: Tensor, smallest: Tensor, largest: Tensor, left: Tensor) -> Tensor:
    """Upper bounds on log P(e.v >= s), v the rest of the noise in R^left, its radius between two bounds.

    Args:
        noise: the law; s: (L, ...) heights in units of the noise's size.
        smallest, largest: (L,) bounds on the radius; left: (L,) dimensions; 0 where nothing is left.

    Returns:
        As s; the supremum is at the largest radius where s > 0, at the smallest where s < 0.
    """
    shape = (-1, *[1] * (s.ndim - 1))
    radius = torch.where(s > 0, largest.reshape(shape), smallest.reshape(shape))
    height = quotient_down(s, radius)
    return _grouped(noise, torch.where(s == 0, 0.0, torch.where(height.isnan(), -torch.inf, height)), left, "up")


def log_tail_down(noise: Noise, s: Tensor, smallest: Tensor, left: Tensor) -> Tensor:
    """Lower bounds on log P(e.v > s) for s >= 0 (and 0, no bound, for the rest): at the smallest radius."""
    height = s / smallest
    height = torch.nextafter(height, torch.full_like(height, torch.inf))
    height = torch.where(height.isnan() | (s < 0), torch.inf, height)
    return _grouped(noise, height, left, "down")


def _grouped(noise: Noise, heights: Tensor, left: Tensor, rounding: Rounding) -> Tensor:
    """`standard_log_tail` where the dimension differs along the first axis."""
    logs = torch.where(heights > 0, -torch.inf, 0.0).to(torch.float64)  # nothing is left: v = 0
    for d in sorted(set(left.tolist())):
        if d > 0:
            rows = left == d
            logs[rows] = noise.standard_log_tail(heights[rows], int(d), rounding=rounding)
    return logs
