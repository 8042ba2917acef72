"""A Gaussian that stands in for sphere and ball in exponential moments, all coordinates of the noise included."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from calotte.noise import Bounded, Gaussian, Noise
from calotte.rounding import raised

__all__ = ["MEAN_ERROR", "GaussianLaw", "mean_norm"]

MEAN_ERROR = 1e-13
"""Relative error of `mean_norm`."""
_FAR, _NEAR = 3.5, 3.0  # deviations of norms, as bounded, within which kinks are smoothed: any will do
_LARGE = 200  # from here on four terms of the series are exact in float64


@dataclass(frozen=True)
class GaussianLaw:
    """A Gaussian g that stands in for the noise u: E exp(-lambda F(u)) <= E exp(-lambda F~(g)).

    With t = ||g|| / eps independent of u = g / t and E t = 1, Jensen's inequality gives E_t exp(-lambda F~(t u)) >=
    exp(-lambda E_t F~(t u)), so that F~ may be any function with E_t F~(t u) <= F(u). Where g_j <= 0 that is relu
    itself, convex along rays; where g_j > 0 it is relu less |zeta_j| `lost`, or less |zeta_j| (`bump` + `rest`) where
    |z| <= `width` |zeta_j| and |zeta_j| `rest` elsewhere: kinks are smoothed near to them only.

    Attributes:
        low, high: bounds on its standard deviation.
        lost: an upper bound on E (t - 1)^+; 0 where the noise is that Gaussian, and so are the others.
    """

    low: float
    high: float
    lost: float
    width: float
    bump: float
    rest: float

    @classmethod
    def of(cls, noise: Noise, size: float, m: int) -> Self:
        """The Gaussian for a noise of some size in R^m.

        E ||g||^2 = sigma^2 m and (E ||g||)^2 >= sigma^2 (m - 1/2) (G. N. Watson, "A note on gamma functions", 1959),
        so that Var t <= 1 / (2 m - 1), and E (t - 1)^+ = E |t - 1| / 2 is at most half of its root. Norms are
        concentrated: P(t >= 1 + y) and P(t <= 1 - y) are at most exp(-(m - 1/2) y^2 / 2). A ball is the projection of
        a sphere of R^(m+2).
        """
        if isinstance(noise, Gaussian):
            return cls(size, size, 0.0, 0.0, 0.0, 0.0)
        assert isinstance(noise, Bounded), "of another law nothing is known"
        dimension = noise.sphere_dimension(m)
        sigma = size / mean_norm(dimension)
        lost = raised(0.5 / math.sqrt(2 * dimension - 1), 8)
        low, high = sigma * (1.0 - 2.0 * MEAN_ERROR), sigma * (1.0 + 2.0 * MEAN_ERROR)
        root = math.sqrt(dimension - 0.5)
        far, near = _FAR / root, _NEAR / root
        if far > 0.5:
            return cls(low, high, lost, math.inf, lost, 0.0)
        width = raised((far + near) / (1.0 - far), 8)
        bump = raised(lost / (1.0 - 2.0 * math.exp(-0.5 * _NEAR**2)), 16)
        rest = raised(math.exp(-0.5 * _FAR**2) / (_FAR * root * (1.0 - far)), 32)
        return cls(low, high, lost, width, bump, rest)


def mean_norm(d: int) -> float:
    """E ||g|| = sqrt(2) Gamma((d+1)/2) / Gamma(d/2) for a standard normal g in R^d, within relative MEAN_ERROR.

    By its asymptotic series, from small d on by E_d = E_(d+2) d / (d + 1).
    """
    ratio = 1.0
    while d < _LARGE:
        ratio *= d / (d + 1)
        d += 2
    return ratio * math.sqrt(d - 0.5 + (0.125 + (0.0625 - (5 / 128 + 23 / 256 / d) / d) / d) / d)
