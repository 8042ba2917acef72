"""Noise: the random perturbations r whose effect is bounded, and the tails of half-spaces under them.

Those here draw an isotropic u in R^m, on the sphere of radius eps, in the ball of radius eps or Gaussian
with standard deviation sigma per coordinate (`independent` has others), and perturb the input by r = u, or r = S u
for a linear map S.
A half-space n.r >= t is (S'n).u >= t: all distances then live in u-space.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import special
from torch import Tensor

from calotte.assumptions import NORMAL_QUANTILE_ERROR
from calotte.checks import array, number
from calotte.errors import InvalidInput
from calotte.normal import log_normal_tail
from calotte.rounding import NORM_SLACK, UNIT_ROUNDOFF, dot_error
from calotte.sphere import Rounding, cap_height, log_cap

__all__ = ["EPS", "Ball", "Bounded", "Gaussian", "Kind", "Noise", "Sphere", "noise_map", "quotient_down"]

Kind = Literal["sphere", "ball", "gaussian", "box", "truncated"]
Dimension = TypeVar("Dimension", int, Tensor)
EPS: dict[Kind, str] = {
    "sphere": "norm of the noise",
    "ball": "radius of the ball",
    "gaussian": "sigma √d",
    "box": "half-width of the box",
    "truncated": "sigma √d before the cut",
}
"""What the eps of each noise is, for reports."""


@dataclass(frozen=True, eq=False, repr=False)
class Noise(ABC):
    """Noise u in R^m, optionally mapped to r = S u.

    Attributes:
        isotropic: whether u is alike in all directions; bounded: whether it has a bounded support.
        size: eps (sphere, ball, box) or sigma (Gaussian, cut off or not), in the units of the input.
        map: None, a scale for each feature (d,), whose zeros are left out of u, or a matrix (d, m).
    """

    isotropic: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    size: float
    map: Tensor | None = field(default=None)

    def __post_init__(self) -> None:
        check_size(self)
        if self.map is not None:
            object.__setattr__(self, "map", noise_map(self.map))

    def __repr__(self) -> str:
        scale = "" if self.map is None else f", map={tuple(self.map.shape)}"
        return f"{type(self).__name__}({self.size!r}{scale})"

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """Name of the distribution."""

    @abstractmethod
    def eps(self, m: int) -> float:
        """Norm of the noise: eps, or sigma sqrt(m) for the Gaussian."""

    @abstractmethod
    def sigma(self, m: int) -> float:
        """Standard deviation per coordinate: sigma, or eps / sqrt(m) for sphere and ball."""

    @property
    def in_input_space(self) -> bool:
        """Whether distances in its space are those of the input space: no map, and no coordinates that matter."""
        return self.map is None and self.isotropic

    @property
    def inner_radius(self) -> float:
        """Radius of a ball of u-space in whose interior nothing occurs where p = 0 is proved: eps, or 0 for none."""
        return self.size if self.bounded else 0.0

    def standard_radius(self, m: int) -> float:
        """Supremum of ||u|| / size, rounded up: 1, or inf."""
        return 1.0 if self.bounded else math.inf

    @abstractmethod
    def standard_log_tail(self, s: Tensor, m: int, *, rounding: Rounding = "nearest") -> Tensor:
        """log P(u.e >= s size) for a unit vector e in R^m and every real s, any shape."""

    @abstractmethod
    def standard_quantile(self, log_p: Tensor, m: int, *, rounding: Rounding = "nearest") -> Tensor:
        """Generalised inverse of `standard_log_tail`: the least s with log P(u.e >= s size) <= log_p, log_p <= 0."""

    @abstractmethod
    def standard_exponential_tail(self, s: Tensor, m: int) -> Tensor:
        """Upper bound on `standard_log_tail` for s >= 0, rounded up: Ball's bound (3), or exp(-s^2 / 2)."""

    def log_tail(self, t: Tensor, m: int, *, rounding: Rounding = "nearest") -> Tensor:
        """log P(u.e >= t) for a unit vector e in R^m and every real t, any shape; t in u-space units."""
        s = t / self.size
        if rounding != "nearest":
            s = quotient_down(t, self.size) if rounding == "up" else -quotient_down(-t, self.size)
        return self.standard_log_tail(s, m, rounding=rounding)

    def tail_quantile(self, log_p: Tensor, m: int, *, rounding: Rounding = "nearest") -> Tensor:
        """Generalised inverse of `log_tail`: the least t with log P(u.e >= t) <= log_p, log_p <= 0."""
        t = self.standard_quantile(log_p, m, rounding=rounding) * self.size
        if rounding == "nearest":
            return t
        return torch.nextafter(t, torch.full_like(t, torch.inf if rounding == "up" else -torch.inf))

    @abstractmethod
    def project(self, n: int, r: int, m: int, generator: torch.Generator) -> Tensor:
        """n draws of the first r of the m coordinates of u, (n, r), at the cost of r + 2 variables a draw."""

    def sample(self, n: int, d: int, generator: torch.Generator) -> Tensor:
        """n draws (n, d) of the perturbation r of inputs in R^d."""
        m = self.dimension(d)
        return self.apply_map(self.project(n, m, m, generator), d)

    def apply_map(self, u: Tensor, d: int) -> Tensor:
        """r = S u for rows u (n, m): (n, d)."""
        if self.map is None:
            return u
        if self.map.ndim == 2:
            return u @ self.map.t()
        r = torch.zeros(len(u), d, dtype=torch.float64)
        kept = self.map != 0
        r[:, kept] = u * self.map[kept]
        return r

    def dimension(self, d: int) -> int:
        """m, the dimension of u, for inputs in R^d.

        Raises:
            InvalidInput: the map is for inputs of another size.
        """
        if self.map is None:
            return d
        if self.map.shape[0] != d:
            raise InvalidInput(f"the noise map is for {self.map.shape[0]} features, the network takes {d}")
        return int((self.map != 0).sum()) if self.map.ndim == 1 else self.map.shape[1]

    def resized(self, size: float) -> Self:
        """The same noise with another eps or sigma."""
        other = copy(self)
        object.__setattr__(other, "size", size)
        check_size(other)
        return other

    def log_half_space(self, t: float, normal: ArrayLike | Tensor, *, rounding: Rounding = "nearest") -> float:
        """log P(normal.r >= t) for a normal (d,) in input space; a zero normal gives 1 if t <= 0, else 0."""
        n = torch.as_tensor(normal, dtype=torch.float64)
        m, reached = self.dimension(len(n)), n != 0
        exponent = math.frexp(n.abs().max().item())[1]
        n = torch.from_numpy(np.ldexp(n.numpy(), -exponent))  # exact; squares neither overflow nor underflow now
        norm, most = n, n.abs()
        if self.map is not None and self.map.ndim == 2:
            norm, most, reached = n @ self.map, most @ self.map.abs(), reached.double() @ (self.map != 0).double()
        elif self.map is not None:
            norm, most, reached = n * self.map, most * self.map.abs(), reached & (self.map != 0)
        if not reached.any():
            return 0.0 if t <= 0 else -math.inf
        # the error of the norm is relative to the sums of absolute values, which may cancel: to the safe side
        error = dot_error(most.norm().item(), 2 * (len(n) + m) + 16) + NORM_SLACK
        side = {"nearest": 0.0, "up": 1.0, "down": -1.0}[rounding]
        length = max(norm.norm().item() + side * math.copysign(error, t), 0.0)
        with np.errstate(over="ignore", under="ignore"):
            height = float(np.ldexp(t, -exponent)) / length if length > 0 else math.copysign(math.inf, t)
        if t == 0 or side != 0:
            height = 0.0 if t == 0 else math.nextafter(height, -side * math.inf)
        return self.log_tail(torch.tensor([height], dtype=torch.float64), m, rounding=rounding).item()


@dataclass(frozen=True, eq=False, repr=False)
class Bounded(Noise):
    """Noise on or in a sphere: what Sphere and Ball share.

    The ball is the projection of a sphere with two dimensions more (Archimedes), so that both have the tails of
    spheres.
    """

    more: ClassVar[int]

    def sphere_dimension(self, m: Dimension) -> Dimension:
        """Of the space of the sphere whose uniform points have u / size, u in R^m, for their first m coordinates."""
        return m + self.more

    def standard_log_tail(self, s: Tensor, m: int, *, rounding: Rounding = "nearest") -> Tensor:
        return log_cap(s, self.sphere_dimension(m), rounding=rounding)

    def standard_quantile(self, log_p: Tensor, m: int, *, rounding: Rounding = "nearest") -> Tensor:
        return cap_height(log_p, self.sphere_dimension(m), rounding=rounding)

    def eps(self, m: int) -> float:
        return self.size

    def sigma(self, m: int) -> float:
        return self.size / math.sqrt(m)

    def standard_exponential_tail(self, s: Tensor, m: int) -> Tensor:
        bound = -(0.5 * m) * s.clamp_min(0.0) ** 2 * (1.0 - 8 * UNIT_ROUNDOFF)
        return torch.where(s >= 1, -torch.inf, bound) if m >= 2 else bound


@dataclass(frozen=True, eq=False, repr=False)
class Sphere(Bounded):
    """Uniform on the sphere of radius eps: the perturbed input is exactly eps away (Kůrková's model).

    Examples:
        >>> import torch, calotte
        >>> log_p = calotte.Sphere(1.0).standard_log_tail(torch.tensor([0.5]).double(), 2)
        >>> round(log_p.exp().item(), 9)  # a third of a circle lies beyond half of its radius
        0.333333333
    """

    more: ClassVar[int] = 0

    @property
    def kind(self) -> Kind:
        return "sphere"

    def project(self, n: int, r: int, m: int, generator: torch.Generator) -> Tensor:
        return self.size * _direction(n, r, m, generator)


@dataclass(frozen=True, eq=False, repr=False)
class Ball(Bounded):
    """Uniform in the ball of radius eps: its tails are those of the sphere in R^(m+2).

    Examples:
        >>> import torch, calotte
        >>> log_p = calotte.Ball(1.0).standard_log_tail(torch.tensor([0.5]).double(), 1)
        >>> round(log_p.exp().item(), 9)  # in one dimension: a quarter of [-1, 1]
        0.25
    """

    more: ClassVar[int] = 2

    @property
    def kind(self) -> Kind:
        return "ball"

    def project(self, n: int, r: int, m: int, generator: torch.Generator) -> Tensor:
        direction = _direction(n, r, m, generator)
        uniform = torch.rand(n, 1, dtype=torch.float64, generator=generator)
        return self.size * uniform ** (1.0 / m) * direction


@dataclass(frozen=True, eq=False, repr=False)
class Gaussian(Noise):
    """Independent normal coordinates of standard deviation sigma.

    Examples:
        >>> import calotte
        >>> round(calotte.Gaussian(0.05).eps(784), 9)  # sigma sqrt(d), near which its norm lies
        1.4
    """

    bounded: ClassVar[bool] = False

    @property
    def kind(self) -> Kind:
        return "gaussian"

    def eps(self, m: int) -> float:
        return self.size * math.sqrt(m)

    def sigma(self, m: int) -> float:
        return self.size

    def standard_log_tail(self, s: Tensor, m: int, *, rounding: Rounding = "nearest") -> Tensor:
        return log_normal_tail(s, rounding=rounding)

    def standard_quantile(self, log_p: Tensor, m: int, *, rounding: Rounding = "nearest") -> Tensor:
        s = -torch.from_numpy(np.asarray(special.ndtri_exp(log_p.numpy())))
        margin = {"nearest": 0.0, "up": 1.0, "down": -1.0}[rounding]
        end = torch.where(log_p == 0, -torch.inf, torch.inf)
        error = NORMAL_QUANTILE_ERROR * s.abs() + NORMAL_QUANTILE_ERROR
        return torch.where((log_p == 0) | torch.isinf(log_p), end, s + margin * error)

    def standard_exponential_tail(self, s: Tensor, m: int) -> Tensor:
        bound = -0.5 * s.clamp_min(0.0) ** 2 * (1.0 - 8 * UNIT_ROUNDOFF)
        return torch.where(torch.isinf(s), bound, bound.clamp_min(-1e300))

    def project(self, n: int, r: int, m: int, generator: torch.Generator) -> Tensor:
        return self.size * _normals(n, r, generator)


def check_size(noise: Noise) -> None:
    """Refuse an eps or sigma that is not positive and finite; keep it as a float."""
    name = "sigma" if isinstance(noise, Gaussian) else "eps"
    size = number(name, noise.size)
    if not 0 < size < math.inf:
        raise InvalidInput(f"{name} must be a positive finite number, came {size!r}")
    object.__setattr__(noise, "size", size)


def quotient_down(t: Tensor, size: Tensor | float) -> Tensor:
    """t / size rounded down, for size > 0; exactly 1 or more where t >= size, so that certainty is not lost."""
    s = t / size
    below = torch.nextafter(s, torch.full_like(s, -torch.inf))
    return torch.where(torch.isinf(t), t, torch.where(t >= size, below.clamp_min(1.0), below))


def _normals(n: int, r: int, generator: torch.Generator) -> Tensor:
    """Independent standard normals (n, r) by Box and Muller's transform: a third of the time of torch.randn."""
    half = (r + 1) // 2
    uniform = torch.rand(2, n, half, dtype=torch.float64, generator=generator)
    radius, angle = (-2.0 * torch.log1p(-uniform[0])).sqrt_(), uniform[1].mul_(2.0 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :r]


def _direction(n: int, r: int, m: int, generator: torch.Generator) -> Tensor:
    """First r coordinates (n, r) of a uniform unit vector in R^m: r normals, and the norm of the rest as one."""
    g = _normals(n, r, generator)
    squared = (g * g).sum(1, keepdim=True)
    if m > r:
        shape = torch.full((n, 1), 0.5 * (m - r), dtype=torch.float64)
        squared = squared + 2.0 * torch._standard_gamma(shape, generator=generator)
    return g / squared.sqrt()


def noise_map(values: ArrayLike | Tensor) -> Tensor:
    """Check a noise map S: a scale for each feature (d,) or a matrix (d, m), as float64.

    Raises:
        InvalidInput: other shapes, NaN or infinite entries, nothing but zeros.
    """
    found = array("the noise map", values)
    if found.ndim not in (1, 2) or 0 in found.shape:
        raise InvalidInput(f"the noise map must have shape (d,) or (d, m), came {found.shape}")
    if not np.isfinite(found).all():
        raise InvalidInput("the noise map holds NaN or infinite numbers")
    if not found.any():
        raise InvalidInput("the noise map is zero everywhere: there is no noise")
    return torch.from_numpy(found.copy())
