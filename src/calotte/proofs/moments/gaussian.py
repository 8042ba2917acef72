"""A Gaussian that stands in for sphere and ball in exponential moments, all coordinates of the noise included."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from calotte.noise import Bounded, Gaussian, Noise
from calotte.rounding import gamma

__all__ = ["MEAN_ERROR", "GaussianLaw", "mean_norm"]

MEAN_ERROR = 1e-13
"""Relative error of `mean_norm`."""
_LARGE = 200  # from here on four terms of the series are exact in float64


@dataclass(frozen=True)
class GaussianLaw:
    """A Gaussian g that stands in for the noise u: E exp(-lambda F(u)) <= E exp(-lambda F~(g)).

    With t = ||g|| / eps independent of u = g / t and E t = 1, Jensen's inequality gives E_t exp(-lambda F~(t u)) >=
    exp(-lambda E_t F~(t u)), so that F~ may be any function with E_t F~(t u) <= F(u). Where g_j <= 0 that is relu
    itself, convex along rays; where g_j > 0 it is relu less |zeta_j| E (t - 1)^+.

    Attributes:
        low, high: bounds on its standard deviation.
        lost: an upper bound on E (t - 1)^+; 0 where the noise is that Gaussian.
    """

    low: float
    high: float
    lost: float

    @classmethod
    def of(cls, noise: Noise, size: float, m: int) -> Self:
        """The Gaussian for a noise of some size in R^m.

        E ||g||^2 = sigma^2 m and (E ||g||)^2 >= sigma^2 (m - 1/2) (G. N. Watson, "A note on gamma functions", 1959),
        so that Var t <= 1 / (2 m - 1), and E (t - 1)^+ = E |t - 1| / 2 is at most half of its root. A ball is the
        projection of a sphere of R^(m+2).
        """
        if isinstance(noise, Gaussian):
            return cls(size, size, 0.0)
        assert isinstance(noise, Bounded), "of another law nothing is known"
        dimension = noise.sphere_dimension(m)
        sigma = size / mean_norm(dimension)
        lost = 0.5 / math.sqrt(2 * dimension - 1) * (1.0 + gamma(8))
        return cls(sigma * (1.0 - 2.0 * MEAN_ERROR), sigma * (1.0 + 2.0 * MEAN_ERROR), lost)


def mean_norm(d: int) -> float:
    """E ||g|| = sqrt(2) Gamma((d+1)/2) / Gamma(d/2) for a standard normal g in R^d, within relative MEAN_ERROR.

    By its asymptotic series, from small d on by E_d = E_(d+2) d / (d + 1).
    """
    ratio = 1.0
    while d < _LARGE:
        ratio *= d / (d + 1)
        d += 2
    return ratio * math.sqrt(d - 0.5 + (0.125 + (0.0625 - (5 / 128 + 23 / 256 / d) / d) / d) / d)
