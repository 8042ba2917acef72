"""Noise with independent coordinates on a cube: uniform, or Gaussian and cut off.

No half-space has its measure in closed form here, so that tails are bounded. For every rate k > 0 and vector a,

    P(a.u >= t) <= exp(sum_i psi(k a_i) - k t),    psi the logarithm of the moment generating function of a coordinate

(Chernoff). Both laws have psi(x) <= v x^2 / 2: v = 1/3 for the uniform law on [-1, 1] (sinh x / x <= exp(x^2 / 6),
term by term), v = 1 for the normal one that is cut off (its psi is x^2 / 2 + log P(|g + x| <= c) / P(|g| <= c), and
the second part is not positive: Anderson 1955). So P(a.u >= t) <= exp(-t^2 / (2 v ||a||^2)), which hangs on the norm
alone. Under a map r = S u coordinates are scaled, or mixed.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import special
from torch import Tensor

from calotte.assumptions import ELEMENTARY_ERROR, NORMAL_ERROR
from calotte.checks import number
from calotte.errors import InvalidInput
from calotte.noise import Kind, Noise
from calotte.normal import log_normal_between
from calotte.rounding import UNIT_ROUNDOFF, VALUE_SLACK, dot_error, gamma, lowered, raised
from calotte.sphere import Rounding

__all__ = ["Box", "Independent", "Truncated"]

_MOMENT_ERROR = 1e-12  # relative error of `log_moment`: of sums of a few logarithms, with room; mpmath holds it
_SERIES = 0.5  # below it psi of the uniform law is bounded by its series
_WIDEST, _STEPS = 12.0, 40  # of the search for a rate: logarithms above the Gaussian one, and golden sections


@dataclass(frozen=True, eq=False, repr=False)
class Independent(Noise):
    """Noise u = size * w, the coordinates of w independent, alike, symmetric and in [-cut, cut]."""

    isotropic: ClassVar[bool] = False
    bounded: ClassVar[bool] = True

    @property
    @abstractmethod
    def variance(self) -> float:
        """v, a bound on psi(x) / (x^2 / 2)."""

    @property
    @abstractmethod
    def reach(self) -> float:
        """Half-width of the cube of w."""

    @abstractmethod
    def log_moment(self, x: Tensor) -> Tensor:
        """Upper bounds on psi(x), any shape."""

    @abstractmethod
    def log_between(self, low: Tensor, high: Tensor, *, rounding: Rounding) -> Tensor:
        """log P(low <= w_i <= high) of a coordinate, low <= high of any shape, rounded "up" or "down"."""

    @abstractmethod
    def from_normals(self, g: Tensor) -> Tensor:
        """w as a function of independent standard normals, coordinate by coordinate."""

    @property
    def inner_radius(self) -> float:
        return math.nextafter(self.reach * self.size, 0.0)

    def standard_radius(self, m: int) -> float:
        return raised(self.reach * math.sqrt(m), 4)

    def standard_log_tail(self, s: Tensor, m: int, *, rounding: Rounding = "nearest") -> Tensor:
        """Upper bounds on log P(u.e >= s size) for every unit vector e, with rounding "up": no others are known."""
        if rounding != "up":
            raise InvalidInput(f"half-spaces under {self.kind} noise are bounded from above only: rounding='up'")
        return self.standard_exponential_tail(s, m)

    def standard_exponential_tail(self, s: Tensor, m: int) -> Tensor:
        bound = -(s.clamp_min(0.0) ** 2) / (2.0 * self.variance) * (1.0 - 16 * UNIT_ROUNDOFF)
        bound = torch.where(s > self.standard_radius(m), -torch.inf, bound.clamp_min(-1e300))
        return torch.where(s.isnan(), 0.0, bound)

    def standard_quantile(self, log_p: Tensor, m: int, *, rounding: Rounding = "nearest") -> Tensor:
        """The least s at which the bound of `standard_log_tail` is log_p, rounded up."""
        s = (-2.0 * self.variance * log_p.clamp_max(0.0)).sqrt() * (1.0 + 16 * UNIT_ROUNDOFF)
        return s.clamp_max(raised(self.standard_radius(m), 4))

    def log_half_space(self, t: float, normal: ArrayLike | Tensor, *, rounding: Rounding = "nearest") -> float:
        """As of any noise, with rounding "up"; no map that mixes coordinates."""
        n = torch.as_tensor(normal, dtype=torch.float64)
        m = self.dimension(len(n))
        if rounding != "up" or (self.map is not None and self.map.ndim == 2):
            raise InvalidInput(f"half-spaces under {self.kind} noise are bounded from above only, without a matrix")
        scaled = n if self.map is None else (n * self.map)[self.map != 0]
        height = torch.tensor([[t]], dtype=torch.float64)
        size = torch.tensor([self.size], dtype=torch.float64)
        error = (dot_error(scaled.norm(), 4) * math.sqrt(m) + 1e-300)[None, None]
        return self.log_tails(scaled[None, None], error, height, size).item()

    def log_tails(self, normals: Tensor, errors: Tensor, t: Tensor, sizes: Tensor) -> Tensor:
        """Upper bounds (B, R) on log P(a.u >= t) for noise of sizes (B,), whatever the rates: the best of some.

        Args:
            normals: (B, R, m) vectors in u-space, a within `errors` (B, R) of them in the sum of absolute values.
            t: (B, R); 0 is all that is said where it is not positive.
        """
        size = sizes[:, None]
        far = raised(self.reach * size, 4)
        lower = t - raised(errors * far, 4)
        lower = (lower - dot_error(t.abs() + lower.abs(), 4))[..., None]
        largest = raised(normals.abs().sum(-1, keepdim=True), normals.shape[-1] + 4) * far[..., None]
        scaled = normals * size[..., None]
        squares = (scaled * scaled).sum(-1, keepdim=True)
        first = lower / (self.variance * squares)
        usable = (lower > 0) & first.isfinite() & (first > 0)
        start = torch.where(usable, first, 1.0)

        def bound(log_factor: Tensor) -> Tensor:
            rate = start * log_factor.exp()
            moments = self.log_moment(rate * scaled)
            # products are rounded, and psi grows by at most v |x| for 1
            moved = 16 * UNIT_ROUNDOFF * self.variance * (rate * scaled).square()
            total = raised((moments + moved).sum(-1, keepdim=True), normals.shape[-1] + 16)
            return total - lowered(rate * lower, 4)

        golden = (math.sqrt(5.0) - 1.0) / 2.0
        low, high = torch.zeros_like(start), torch.full_like(start, _WIDEST)
        best = bound(low)
        for _ in range(_STEPS):
            a, b = high - golden * (high - low), low + golden * (high - low)
            at_a, at_b = bound(a), bound(b)
            best = torch.fmin(best, torch.fmin(at_a, at_b))
            left = at_a <= at_b
            low, high = torch.where(left, low, a), torch.where(left, b, high)
        known = usable & best.isfinite()
        best = torch.where(known, best + dot_error(best.abs(), 8) + 1e-300, 0.0).clamp_max(0.0)
        return torch.where(lower > largest, -torch.inf, best)[..., 0]  # beyond the cube


@dataclass(frozen=True, eq=False, repr=False)
class Box(Independent):
    """Uniform in the cube of half-width `size`: every coordinate is uniform between -size and size.

    Examples:
        >>> import calotte
        >>> round(calotte.Box(0.3).sigma(784) ** 2, 9)  # the variance of each coordinate, a third of the square
        0.03
    """

    variance: ClassVar[float] = 1.0 / 3.0 * (1.0 + 2 * UNIT_ROUNDOFF)
    reach: ClassVar[float] = 1.0

    @property
    def kind(self) -> Kind:
        return "box"

    def eps(self, m: int) -> float:
        """The half-width."""
        return self.size

    def sigma(self, m: int) -> float:
        return self.size / math.sqrt(3.0)

    def log_moment(self, x: Tensor) -> Tensor:
        """Upper bounds on log(sinh(x) / x)."""
        x = x.abs()
        # an alternating series of falling terms below pi: it ends at a positive one
        series = x * x / 6.0 * (1.0 - x * x / 30.0 * (1.0 - x * x * (2.0 / 31.5)))
        far = x.clamp_min(_SERIES)
        closed = far - (2.0 * far).log() + torch.log1p(-(-2.0 * far).exp())
        return torch.where(x < _SERIES, series, closed) * (1.0 + _MOMENT_ERROR) + VALUE_SLACK  # squares underflow

    def log_between(self, low: Tensor, high: Tensor, *, rounding: Rounding) -> Tensor:
        outwards = 1.0 if rounding == "up" else -1.0
        share = (high.clamp(-1.0, 1.0) - low.clamp(-1.0, 1.0)) / 2.0
        log_p = share.log()
        moved = log_p + outwards * (gamma(3) + 2 * ELEMENTARY_ERROR * log_p.abs())
        return torch.where(log_p.isinf(), log_p, moved.clamp_max(0.0))

    def from_normals(self, g: Tensor) -> Tensor:
        return torch.erf(g / math.sqrt(2.0))

    def project(self, n: int, r: int, m: int, generator: torch.Generator) -> Tensor:
        return self.size * (2.0 * torch.rand(n, r, dtype=torch.float64, generator=generator) - 1.0)


@dataclass(frozen=True, eq=False, repr=False)
class Truncated(Independent):
    """Independent normal coordinates of standard deviation `size`, each given that it lies within `cut` of these.

    Attributes:
        cut: c, in standard deviations of the normal law that is cut off.

    Examples:
        >>> import calotte
        >>> calotte.Truncated(0.1, cut=3.0).sigma(784)
        0.1
    """

    cut: float = 3.0
    variance: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.01 <= number("cut", self.cut) <= 100.0:
            raise InvalidInput(f"cut must lie between 0.01 and 100 standard deviations, came {self.cut!r}")

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, cut={self.cut!r})"

    @property
    def kind(self) -> Kind:
        return "truncated"

    @property
    def reach(self) -> float:
        return float(self.cut)

    def eps(self, m: int) -> float:
        """sigma sqrt(m), as of the Gaussian."""
        return self.size * math.sqrt(m)

    def sigma(self, m: int) -> float:
        """The standard deviation of the normal law that is cut off."""
        return self.size

    def log_moment(self, x: Tensor) -> Tensor:
        """Upper bounds on x^2 / 2 + log P(|g + x| <= c) / P(|g| <= c)."""
        x, c = x.abs(), self.reach
        above, below = (torch.from_numpy(np.asarray(special.log_ndtr(t.numpy()))) for t in (c - x, -c - x))
        ratio = (below - above).exp()
        inside = above + torch.log1p(-ratio)
        whole = math.log1p(-2.0 * float(special.ndtr(-c)))
        share = abs(whole) / -math.expm1(whole) if whole < 0 else 1.0  # far out nothing is cut off
        spread = (above.abs() + below.abs()) * ratio / (1.0 - ratio)  # what errors of the ratio become
        error = 4.0 * NORMAL_ERROR * (above.abs() + spread + share + 1e-3)
        half = x * x / 2.0
        closed = half + inside - whole + error
        closed = torch.where(closed.isnan(), torch.inf, closed)
        # never more than over the whole line, nor than at the end of the cube
        return torch.minimum(torch.minimum(half, c * x), closed.clamp_min(0.0)) * (1.0 + _MOMENT_ERROR) + VALUE_SLACK

    def log_between(self, low: Tensor, high: Tensor, *, rounding: Rounding) -> Tensor:
        c = torch.tensor(self.reach, dtype=torch.float64)
        a, b = low.clamp(-self.reach, self.reach), high.clamp(-self.reach, self.reach)
        log_p = log_normal_between(a, b, rounding=rounding)
        whole = log_normal_between(-c, c, rounding="down" if rounding == "up" else "up")
        outwards = 1.0 if rounding == "up" else -1.0
        ratio = log_p - whole
        return (ratio + outwards * dot_error(log_p.abs() + whole.abs(), 4)).clamp_max(0.0)

    def from_normals(self, g: Tensor) -> Tensor:
        return self._inverse(torch.special.ndtr(g))

    def project(self, n: int, r: int, m: int, generator: torch.Generator) -> Tensor:
        return self.size * self._inverse(torch.rand(n, r, dtype=torch.float64, generator=generator))

    def _inverse(self, uniform: Tensor) -> Tensor:
        """Uniform numbers in [0, 1] as coordinates of w: the inverse of its distribution function."""
        least = float(special.ndtr(-self.reach))
        w: Tensor = torch.special.ndtri(least + (1.0 - 2.0 * least) * uniform)
        return w.clamp(-self.reach, self.reach)
