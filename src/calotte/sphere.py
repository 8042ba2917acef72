"""Geometry of the unit sphere of R^d: the measure of a cap as a logarithm, its inverse, and Ball's bound."""

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch

from calotte.assumptions import CAP_ERROR, LARGEST_DIMENSION, UNDERFLOW

__all__ = [
    "Rounding",
    "cap_angle",
    "cap_height",
    "log_ball_bound",
    "log_cap",
    "log_cap_angle",
]

Rounding = Literal["nearest", "up", "down"]
Array = npt.NDArray[np.float64]
Value = TypeVar("Value", float, Array, torch.Tensor)

_LOG_HALF = math.log(0.5)  # the float64 just above log(1/2)
_DEPTH = 60  # levels of the continued fraction, _TERMS of the central series: both reach float64 precision
_TERMS = 28
_NEWTON_STEPS = 6
_BLOCK = 8192  # elements handled at a time: the temporaries stay in cache


def log_cap(s: Value, d: int, *, rounding: Rounding = "nearest") -> Value:
    """Logarithm of the measure of the cap of height s: log T(s), T(s) = P(u.e >= s), u uniform on the sphere.

    For d >= 2, T(s) = 1/2 I_{1-s^2}((d-1)/2, 1/2) on [0, 1], I the regularised incomplete beta function;
    T(s) = 1 - T(-s) for s < 0, T(s) = 1 for s <= -1 and 0 for s >= 1. For d = 1 the sphere is two points:
    T(s) is 1 for s <= -1, 1/2 on (-1, 1] and 0 for s > 1.

    Args:
        s: heights, any shape; any real number or infinity, exact as given (no gradient flows back).
        d: dimension of the space, 1 <= d <= LARGEST_DIMENSION.
        rounding: "nearest" is within CAP_ERROR |log T| + UNDERFLOW of the true logarithm, "up" is
            never below and "down" never above it.

    Returns:
        log T(s), float64, of the kind and shape of s: 0.0 where T = 1 and -inf where T = 0.

    Raises:
        ValueError: s holds NaN, d is no integer in its range, or rounding is unknown.
    """
    d = _checked(d, rounding)
    return _elementwise(lambda x: _log_cap(x, d, rounding), s, "s", "[-inf, inf]", -math.inf, math.inf)


def log_cap_angle(alpha: Value, d: int, *, rounding: Rounding = "nearest") -> Value:
    """Logarithm of the measure of the cap of angular radius alpha: log mu(C(e, alpha)) = log T(cos alpha).

    Keeps its relative accuracy for small angles, where cos(alpha) rounds to 1.

    Args:
        alpha: angles in radians, any shape, in [0, pi]; math.pi stands for pi itself, the whole sphere.
        d: dimension of the space, 1 <= d <= LARGEST_DIMENSION.
        rounding: as in `log_cap`.

    Returns:
        The logarithm, float64, of the kind and shape of alpha: 0.0 at pi, -inf at 0 (for d = 1, log 1/2).

    Raises:
        ValueError: alpha holds NaN or lies outside [0, pi]; d and rounding as in `log_cap`.
    """
    d = _checked(d, rounding)
    return _elementwise(lambda x: _log_cap_angle(x, d, rounding), alpha, "alpha", "[0, pi]", 0.0, math.pi)


def cap_height(log_measure: Value, d: int, *, rounding: Rounding = "nearest") -> Value:
    """Height of the cap of a given measure, the inverse of `log_cap`: inf {s >= -1 : log T(s) <= log_measure}.

    For d >= 2 it falls from 1 at -inf to -1 at 0. For d = 1, where T jumps, the infimum is -1 for measures of
    1/2 and more and 1 for smaller ones, and is attained at measure 1 only.

    Args:
        log_measure: natural logarithms of measures, any shape, in [-inf, 0].
        d: dimension of the space, 1 <= d <= LARGEST_DIMENSION.
        rounding: "up" gives an s with T(s) <= exp(log_measure) for certain, "down" one with T(s) >=
            exp(log_measure) for certain. Where d = 1 does not attain the infimum, "up" is the float64 above it.

    Returns:
        Heights, float64, of the kind and shape of log_measure, in [-1, 1] (one float64 above 1: d = 1, "up").

    Raises:
        ValueError: log_measure holds NaN or a positive number; d and rounding as in `log_cap`.
    """
    d = _checked(d, rounding)
    function = _two_point_height if d == 1 else _cap_height
    return _elementwise(lambda x: function(x, d, rounding), log_measure, "log_measure", "[-inf, 0]", -math.inf, 0.0)


def cap_angle(log_measure: Value, d: int, *, rounding: Rounding = "nearest") -> Value:
    """Angular radius of the cap of a given measure: sup {alpha : log mu(C(e, alpha)) <= log_measure}.

    The inverse of `log_cap_angle`; it keeps its relative accuracy where the height rounds to 1.

    Args:
        log_measure: natural logarithms of measures, any shape, in [-inf, 0].
        d: dimension of the space, 1 <= d <= LARGEST_DIMENSION.
        rounding: of the measure. "down" gives a cap of measure at most exp(log_measure) for certain (the
            smaller angle), "up" one of at least that measure for certain (the larger angle).

    Returns:
        Angles in [0, math.pi], float64, of the kind and shape of log_measure; 0 also where they underflow. For
        d = 1: math.pi for measures of 1/2 and more (one float64 less for "down", short of measure 1), else 0.

    Raises:
        ValueError: as in `cap_height`; and for d = 1, "down" and a measure below 1/2: no cap is that small.
    """
    d = _checked(d, rounding)
    function = _two_point_angle if d == 1 else _cap_angle
    return _elementwise(lambda x: function(x, d, rounding), log_measure, "log_measure", "[-inf, 0]", -math.inf, 0.0)


def log_ball_bound(s: Value, d: int, *, rounding: Rounding = "nearest") -> Value:
    """Logarithm of Ball's bound on the measure of a cap: T(s) <= exp(-d s^2 / 2) for 0 <= s < 1.

    Equation (3) of Kůrková, arXiv:2602.18674, from K. Ball, "An elementary introduction to modern convex
    geometry" (1997), Lemma 2.2. Nothing of the kind holds for s < 0.

    Args:
        s: heights (cosines of angular radii), any shape, in [0, 1).
        d: dimension of the space, 1 <= d <= LARGEST_DIMENSION.
        rounding: as in `log_cap`.

    Returns:
        -d s^2 / 2, float64, of the kind and shape of s; 0.0 at s = 0 however rounded.

    Raises:
        ValueError: s holds NaN or lies outside [0, 1); d and rounding as in `log_cap`.
    """
    d = _checked(d, rounding)

    def bound(x: Array) -> Array:
        return np.where(x == 0, 0.0, _directed(-0.5 * d * x * x, rounding))

    return _elementwise(bound, s, "s", "[0, 1)", 0.0, math.nextafter(1.0, 0.0))


class _Constants(NamedTuple):
    """What the two expansions in `_log_measure` need for one d."""

    log_density: float  # log of Gamma(d/2) / (sqrt(pi) Gamma((d-1)/2)), the density of u.e at 0
    log_tail: float  # log of the density / (d-1)
    switch: float  # height at which the series hands over to the continued fraction
    series: tuple[float, ...]  # coefficients of the series in powers of d s^2 / 2
    fraction: tuple[float, ...]  # partial denominators of the continued fraction
    rest: float  # its first partial numerator left out


@lru_cache(maxsize=256)
def _constants(d: int) -> _Constants:
    # Gamma(d/2) / Gamma((d+1)/2), where a difference of log-gammas would cancel: asymptotic in 1/w^2 with an
    # error below 1e-16 from n = 60 on, where smaller d climb two at a time by Gamma(x + 1) = x Gamma(x).
    n, climb = d, 1.0
    while n < 60:
        climb *= (n + 1) / n
        n += 2
    w = (2 * n - 1) / 4
    v = 1 / (w * w)
    correction = v * (-1 / 64 + v * (5 / 2048 + v * (-61 / 49152 + v * 1385 / 1048576)))
    log_tail = math.log(climb / (2 * math.sqrt(math.pi * w))) + correction

    series = [1.0]
    for k in range(_TERMS):
        series.append(series[-1] * (1 + 2 * k / d) / (k + 1.5))

    # Gauss: 2F1(1/2, 1; c; -z) = 1/(1 + e_1 z/(1 + e_2 z/(1 + ...))). With b_1 = 1 and b_k b_{k+1} = 1/e_k it
    # reads 1/(b_1 + z/(b_2 + z/(b_3 + ...))), one division and one sum a level.
    c = (d + 1) / 2
    e = [0.5 / c]
    for k in range(1, _DEPTH // 2 + 1):
        e.append(k * (c + k - 1.5) / ((c + 2 * k - 2) * (c + 2 * k - 1)))
        e.append((k + 0.5) * (c + k - 1) / ((c + 2 * k - 1) * (c + 2 * k)))
    fraction = [1.0]
    for numerator in e[: _DEPTH - 1]:
        fraction.append(1 / (numerator * fraction[-1]))
    return _Constants(
        log_density=log_tail + math.log(d - 1),
        log_tail=log_tail,
        switch=math.sqrt(5 / (d + 30)),
        series=tuple(series),
        fraction=tuple(fraction),
        rest=e[_DEPTH - 1],
    )


def _log_measure(s: Array, q: Array, log_q: Array, sign: Array, d: int) -> Array:
    """log T(sign s) for 0 <= s <= 1 and d >= 2, given also q = 1 - s^2 and log q as accurate as the caller can.

    Two hypergeometric forms of the incomplete beta function (DLMF 8.17.8, the second after 15.8.1), both of
    positive terms only, with a = (d-1)/2 and z = q/s^2:
      centre: T(s) = 1/2 - density q^a s 2F1(1, d/2; 3/2; s^2), by its series. T >= 0.01, so the difference
        keeps its digits, for either sign; small s never meets 1 - s^2.
      tail: T(s) = density/(d-1) q^a/s 2F1(1/2, 1; a+1; -z), by Gauss's continued fraction (DLMF 15.7), which
        needs s not too small. Taken in logarithms; log(1 - T(s)) for the negative sign.
    """
    constants = _constants(d)
    a = (d - 1) / 2
    result = np.empty_like(s)

    centre = s < constants.switch
    x = s[centre]
    u = 0.5 * d * x * x
    total = np.full_like(x, constants.series[-1])
    for term in constants.series[-2::-1]:
        total *= u
        total += term
    total *= x * np.exp(constants.log_density + a * log_q[centre])
    result[centre] = np.log(0.5 - sign[centre] * total)

    tail = ~centre
    x = s[tail]
    z = q[tail] / (x * x)
    # The levels left out: as if all their numerators were equal.
    fraction = constants.fraction[-1] * 0.5 * (1 + np.sqrt(1 + 4 * constants.rest * z))
    for denominator in constants.fraction[-2::-1]:
        np.divide(z, fraction, out=fraction)
        fraction += denominator
    log_t = a * log_q[tail] + (constants.log_tail - np.log(x * fraction))
    result[tail] = np.where(sign[tail] > 0, log_t, np.log1p(-np.exp(log_t)))
    return result


def _directed(log_t: Array, rounding: Rounding) -> Array:
    """A computed logarithm, moved by the documented error in the direction of rounding, never above 0."""
    if rounding == "nearest":
        return log_t + 0.0  # -0.0 becomes 0.0
    margin = CAP_ERROR * np.abs(log_t) + UNDERFLOW
    return np.minimum(log_t + margin, 0.0) if rounding == "up" else log_t - margin


def _two_point_log(rounding: Rounding) -> float:
    return math.nextafter(_LOG_HALF, -math.inf) if rounding == "down" else _LOG_HALF


def _log_cap(s: Array, d: int, rounding: Rounding) -> Array:
    result = np.where(s < 0, 0.0, -np.inf)
    if d == 1:
        return np.where((s > -1) & (s <= 1), _two_point_log(rounding), result)
    inside = np.abs(s) < 1
    x = np.abs(s[inside])
    q = (1 - x) * (1 + x)
    log_q = np.where(x < 0.7, np.log1p(-x * x), np.log(q))
    result[inside] = _directed(_log_measure(x, q, log_q, np.sign(s[inside]), d), rounding)
    return result


def _log_cap_angle(alpha: Array, d: int, rounding: Rounding) -> Array:
    result = np.where(alpha == math.pi, 0.0, -np.inf)
    if d == 1:
        return np.where(alpha < math.pi, _two_point_log(rounding), result)
    inside = (alpha > 0) & (alpha < math.pi)
    cos, sin = np.cos(alpha[inside]), np.sin(alpha[inside])
    s = np.abs(cos)
    log_q = np.where(s < 0.7, np.log1p(-s * s), 2 * np.log(sin))
    result[inside] = _directed(_log_measure(s, sin * sin, log_q, np.sign(cos), d), rounding)
    return result


def _solve(log_measure: Array, d: int) -> tuple[Array, Array]:
    """y >= 0 and sign such that s = sign sqrt(1 - exp(-y^2)) has log T(s) = log_measure, for d >= 2.

    Measures above 1/2 are reflected. Newton's method on log T as a function of y, nearly linear at 0 and nearly
    quadratic far out, from the right of the root: T(s) <= (1 - s^2)^((d-1)/2) / 2, since a cap within a
    hemisphere has at most the area of the hemisphere of radius sqrt(1 - s^2) over its rim.
    """
    sign = np.where(log_measure > _LOG_HALF, -1.0, 1.0)
    target = np.where(sign > 0, log_measure, np.log(-np.expm1(log_measure)))
    target = np.clip(target, -1000.0 * d, _LOG_HALF)  # further out even the angle underflows
    y = np.sqrt((_LOG_HALF - target) / ((d - 1) / 2))
    for _ in range(_NEWTON_STEPS):
        log_q = -y * y
        s = np.sqrt(-np.expm1(log_q))
        log_t = _log_measure(s, np.exp(log_q), log_q, np.ones_like(s), d)
        slope = np.exp(_constants(d).log_density + (d - 1) / 2 * log_q - log_t)
        slope *= np.divide(y, s, out=np.ones_like(s), where=s > 0)
        y = np.maximum(y + (log_t - target) / slope, 0.0)
    return y, sign


def _height(log_measure: Array, d: int) -> Array:
    y, sign = _solve(log_measure, d)
    return sign * np.sqrt(-np.expm1(-y * y))


def _angle(log_measure: Array, d: int) -> Array:
    y, sign = _solve(log_measure, d)
    alpha = np.arctan2(np.exp(-0.5 * y * y), np.sqrt(-np.expm1(-y * y)))
    return np.where(sign > 0, alpha, math.pi - alpha)


def _certain(
    log_measure: Array,
    d: int,
    smaller: bool,
    inverse: Callable[[Array, int], Array],
    forward: Callable[[Array, int, Rounding], Array],
    end: float,
) -> Array:
    """An inverse whose cap is certainly no larger (`smaller`) or no smaller than asked for.

    Aims beside the target, checks with the rounded `forward`, and moves what fails towards `end`, where the
    measure is exactly 0 or 1, by doubling steps.
    """
    exact = np.isinf(log_measure) | (log_measure == 0)
    margin = np.where(exact, 0.0, 3 * (CAP_ERROR * np.abs(log_measure) + UNDERFLOW))
    x = inverse(log_measure - margin if smaller else np.minimum(log_measure + margin, 0.0), d)
    step = 4 * np.spacing(np.abs(x))
    while True:
        holds = forward(x, d, "up") <= log_measure if smaller else forward(x, d, "down") >= log_measure
        if holds.all():
            return x
        x = np.where(holds, x, np.where(np.abs(end - x) <= step, end, x + np.sign(end - x) * step))
        step *= 2


def _cap_height(log_measure: Array, d: int, rounding: Rounding) -> Array:
    if rounding == "nearest":
        return _height(log_measure, d)
    smaller = rounding == "up"
    return _certain(log_measure, d, smaller, _height, _log_cap, 1.0 if smaller else -1.0)


def _cap_angle(log_measure: Array, d: int, rounding: Rounding) -> Array:
    if rounding == "nearest":
        return _angle(log_measure, d)
    smaller = rounding == "down"
    return _certain(log_measure, d, smaller, _angle, _log_cap_angle, 0.0 if smaller else math.pi)


def _two_point_height(log_measure: Array, d: int, rounding: Rounding) -> Array:
    infimum = np.where(log_measure >= _LOG_HALF, -1.0, 1.0)
    return np.nextafter(infimum, np.where(log_measure < 0, 2.0, infimum)) if rounding == "up" else infimum


def _two_point_angle(log_measure: Array, d: int, rounding: Rounding) -> Array:
    whole = log_measure >= _LOG_HALF
    if rounding != "down":
        return np.where(whole, math.pi, 0.0)
    if not whole.all():
        raise ValueError(f"no cap for d = 1 is as small as log_measure = {log_measure[~whole][0]}")
    return np.where(log_measure < 0, math.nextafter(math.pi, 0.0), math.pi)


def _checked(d: int, rounding: Rounding) -> int:
    try:
        dimension = operator.index(d)
    except TypeError:
        dimension = 0
    if not 1 <= dimension <= LARGEST_DIMENSION:
        raise ValueError(f"d must be an integer from 1 to {LARGEST_DIMENSION}, got {d!r}")
    if rounding not in get_args(Rounding):
        raise ValueError(f"rounding must be one of {get_args(Rounding)}, got {rounding!r}")
    return dimension


def _elementwise(
    function: Callable[[Array], Array], value: Value, name: str, domain: str, low: float, high: float
) -> Value:
    """Check a value, apply a function of flat float64 arrays to it in blocks, return the value's own kind."""
    if isinstance(value, torch.Tensor):
        array = _elementwise(function, value.detach().cpu().numpy(), name, domain, low, high)
        return torch.from_numpy(array).to(value.device)
    if isinstance(value, float | int | np.floating | np.integer):
        return float(_elementwise(function, np.array(float(value)), name, domain, low, high))
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a float, a numpy array or a torch tensor, got {type(value).__name__}")
    flat = value.astype(np.float64, casting="same_kind").ravel()
    outside = flat[~((flat >= low) & (flat <= high))]
    if outside.size:
        raise ValueError(f"{name} must be a number in {domain}, got {outside[0]}")
    result = np.empty_like(flat)
    with np.errstate(all="ignore"):  # np.where computes both of its branches, and log(0) = -inf is meant
        for start in range(0, flat.size, _BLOCK):
            result[start : start + _BLOCK] = function(flat[start : start + _BLOCK])
    return result.reshape(value.shape)
