"""Places: where noise lies within a cuboid, as a function of coordinates that are uniform and independent.

Given that a coordinate lies between two ends, its place tau in [-1, 1] there is an increasing function of t, uniform
in [-1, 1]: tau = t for uniform noise, and tau = t + shift +- error else, by the law's distance from the uniform one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.assumptions import ELEMENTARY_ERROR
from calotte.independent import Box, Truncated
from calotte.noise import Gaussian, Noise
from calotte.normal import log_normal_between
from calotte.proofs.cuboids.cuboids import Cuboids
from calotte.rounding import dot_error, gamma, lowered, raised

__all__ = ["Places", "places"]


@dataclass(frozen=True)
class Places:
    """|tau - slope t - shift| <= error.

    Attributes:
        slope: (L, m) 0 or 1; shift, error: (L, m).
    """

    slope: Tensor
    shift: Tensor
    error: Tensor

    def of(self, normal: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
        """Functions (L, ..., m) and (L, ...) of t that are below such functions of tau."""
        shape = (len(normal), *[1] * (normal.ndim - 2), -1)
        slope, shift, error = (t.reshape(shape) for t in (self.slope, self.shift, self.error))
        least = constant + (normal * shift).sum(-1) - (normal.abs() * error).sum(-1)
        met = constant.abs() + (normal.abs() * (shift.abs() + error)).sum(-1)
        return normal * slope, least - raised(dot_error(met, normal.shape[-1] + 8), 8)


def places(noise: Noise, cuboids: Cuboids) -> Places:
    """The places of noise in cuboids, of coordinates that are independent."""
    low, high = cuboids.low, cuboids.high
    nothing = torch.zeros_like(low)
    if isinstance(noise, Box):
        return Places(torch.ones_like(low), nothing, nothing)
    distance, shift = torch.full_like(low, torch.inf), nothing
    if isinstance(noise, Truncated | Gaussian):
        left = high <= 0
        a, b = torch.where(left, -high, low), torch.where(left, -low, high)
        distance = torch.where(a >= 0, from_uniform(a.clamp_min(0.0), b), torch.inf)
        shift = torch.where(left, distance, -distance)
    known = distance < 1.0
    return Places(
        known.double(),
        torch.where(known, shift / 2, 0.0),
        torch.where(known, distance / 2, 1.0),
    )


def from_uniform(a: Tensor, b: Tensor) -> Tensor:
    """D with 0 <= t - tau <= D for a normal coordinate between a and b, 0 <= a <= b; else NaN or inf.

    The density falls there, so that t(w) - tau(w) is concave and 0 at both ends: a line that touches it in the middle
    is above it. The middle is off by no more than its rounding.
    """
    middle = (a + b) / 2
    near = log_normal_between(a, middle, rounding="up")
    whole = {side: log_normal_between(a, b, rounding=side) for side in ("up", "down")}
    at_middle = 2.0 * raised((near - whole["down"]).exp(), 8) - 1.0
    height = (-middle * middle / 2).exp() * ((b - a) / math.sqrt(2.0 * math.pi))
    off = 8 * ELEMENTARY_ERROR + gamma(16) + dot_error(middle * middle, 8)
    steep = height * (1.0 + off) * (-whole["down"]).exp(), height * (1.0 - off) * (-whole["up"]).exp()
    slack = dot_error(1.0 + whole["up"].abs() + whole["down"].abs() + near.abs() + b / (b - a), 32)
    slope = torch.maximum(raised(steep[0], 8) - 1.0, 1.0 - lowered(steep[1], 8))
    return raised(at_middle + slope.clamp_min(0.0) + slack, 8)
