"""Geometry of the unit sphere of R^d: the measure of a cap as a logarithm, its inverse, and Ball's bound."""

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch

__all__ = [
    "ABSOLUTE_ERROR",
    "MAX_DIMENSION",
    "RELATIVE_ERROR",
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

RELATIVE_ERROR = 4e-12
"""Bound on the relative error of the logarithms of measures below; "up" and "down" move them by that much."""
ABSOLUTE_ERROR = 1e-300
"""Added to the relative error: covers measures so close to 1 that their logarithm underflows."""
MAX_DIMENSION = 10**9
"""Largest d accepted; the errors above hold up to here."""

_LOG_HALF = math.log(0.5)  # rounds up: exp(_LOG_HALF) > 1/2, so it is an upper bound of log(1/2)
_DEPTH = 60  # levels of the continued fraction: truncation below 1e-16 where it is used
_TERMS = 32  # terms of the central series: the same
_NEWTON_STEPS = 10
_BLOCK = 8192  # elements handled at a time, so that the temporaries stay in cache


def log_cap(s: Value, d: int, *, rounding: Rounding = "nearest") -> Value:
    """Logarithm of the measure of the cap of height s: log T(s), T(s) = P(u.e >= s), u uniform on the sphere.

    For d >= 2 and 0 <= s <= 1, T(s) = 1/2 I_{1-s^2}((d-1)/2, 1/2); T(s) = 1 - T(-s) for s < 0; T is 1 for
    s <= -1 and 0 for s >= 1. For d = 1 the sphere is two points: T is 1 for s <= -1, 1/2 on (-1, 1], else 0.

    Args:
        s: heights, any shape, any real number or infinity, taken as exact float64 (no gradient flows back).
        d: dimension of the space, 1 <= d <= MAX_DIMENSION.
        rounding: "nearest" has an error of at most RELATIVE_ERROR |log T(s)| + ABSOLUTE_ERROR; "up" is never
            below the true logarithm and "down" never above it.

    Returns:
        log T(s), same kind and shape as s: -inf where T = 0, 0.0 where T = 1.

    Raises:
        ValueError: s holds NaN; d is no integer in range; rounding is none of the three.
    """
    d = _checked(d, rounding)
    return _elementwise(lambda block: _log_cap(block, d, rounding), s, "s")


def log_cap_angle(alpha: Value, d: int, *, rounding: Rounding = "nearest") -> Value:
    """Logarithm of the measure mu(C(e, alpha)) of the cap of angular radius alpha: log T(cos alpha).

    Accurate in relative terms for small angles too, where cos(alpha) rounds to 1.

    Args:
        alpha: angles in radians, any shape, in [0, pi]; math.pi stands for pi itself (the whole sphere).
        d: dimension of the space, 1 <= d <= MAX_DIMENSION.
        rounding: as in `log_cap`.

    Returns:
        log mu(C(e, alpha)), same kind and shape as alpha: 0.0 at pi, and -inf at 0 (log 1/2 there for d = 1).

    Raises:
        ValueError: alpha holds NaN or a value outside [0, pi]; d or rounding as in `log_cap`.
    """
    d = _checked(d, rounding)
    return _elementwise(lambda block: _log_cap_angle(block, d, rounding), alpha, "alpha", 0.0, math.pi)


def cap_height(log_measure: Value, d: int, *, rounding: Rounding = "nearest") -> Value:
    """Height of the cap of a given measure: inf {s >= -1 : log T(s) <= log_measure}, inverse of `log_cap`.

    For d >= 2 it falls from 1 (log_measure = -inf) to -1 (log_measure = 0). For d = 1, T jumps and the infimum
    is not attained: it is -1 for a measure of 1/2 or more and 1 below.

    Args:
        log_measure: natural logarithms of measures, any shape, in [-inf, 0].
        d: dimension of the space, 1 <= d <= MAX_DIMENSION.
        rounding: "up" gives a height s with T(s) <= measure for certain, "down" one with T(s) >= measure for
            certain. For d = 1 "up" is the float64 next above the infimum where the measure is less than 1.

    Returns:
        Heights in [-1, 1] (d = 1, "up": also the float64 next above 1), same kind and shape as log_measure.

    Raises:
        ValueError: log_measure holds NaN or a positive value; d or rounding as in `log_cap`.
    """
    d = _checked(d, rounding)
    return _elementwise(
        lambda block: _cap_height(block, d, rounding), log_measure, "log_measure", -math.inf, 0.0
    )


def cap_angle(log_measure: Value, d: int, *, rounding: Rounding = "nearest") -> Value:
    """Angular radius of the cap of a given measure: sup {alpha : log mu(C(e, alpha)) <= log_measure}.

    The inverse of `log_cap_angle`, accurate in relative terms also for caps whose height rounds to 1.

    Args:
        log_measure: natural logarithms of measures, any shape, in [-inf, 0].
        d: dimension of the space, 1 <= d <= MAX_DIMENSION.
        rounding: of the measure: "down" gives a cap whose measure is certainly at most exp(log_measure) (the
            smaller angle), "up" one whose measure is certainly at least that (the larger angle).

    Returns:
        Angles in [0, math.pi], same kind and shape as log_measure; 0 also where the angle underflows. For
        d = 1 the supremum is math.pi for a measure of 1/2 or more, and 0 below, where no cap is that small.

    Raises:
        ValueError: as in `cap_height`; also for d = 1, rounding "down" and a measure below 1/2 (no such cap).
    """
    d = _checked(d, rounding)
    return _elementwise(
        lambda block: _cap_angle(block, d, rounding), log_measure, "log_measure", -math.inf, 0.0
    )


def log_ball_bound(s: Value, d: int, *, rounding: Rounding = "nearest") -> Value:
    """Logarithm of Ball's bound on the measure of a cap: T(s) <= exp(-d s^2 / 2) for 0 <= s < 1.

    Equation (3) of Kůrková, arXiv:2602.18674; K. Ball, An elementary introduction to modern convex geometry
    (1997), Lemma 2.2. It does not hold for s < 0 and is refused there.

    Args:
        s: heights (cosines of angular radii), any shape, in [0, 1).
        d: dimension of the space, 1 <= d <= MAX_DIMENSION.
        rounding: as in `log_cap`.

    Returns:
        -d s^2 / 2, same kind and shape as s.

    Raises:
        ValueError: s holds NaN or a value outside [0, 1); d or rounding as in `log_cap`.
    """
    d = _checked(d, rounding)

    def bound(block: Array) -> Array:
        return np.where(block == 0, 0.0, _directed(-0.5 * d * block * block, rounding))

    return _elementwise(bound, s, "s", 0.0, math.nextafter(1.0, 0.0))


class _Constants(NamedTuple):
    """What the two expansions of T need for one d."""

    log_tail: float  # log of Gamma(d/2) / (2 sqrt(pi) Gamma((d+1)/2))
    log_density: float  # log of Gamma(d/2) / (sqrt(pi) Gamma((d-1)/2)), the density of u.e at 0
    switch: float  # height at which the central series hands over to the continued fraction
    series: tuple[float, ...]  # coefficients of the central series in powers of d s^2 / 2
    fraction: tuple[float, ...]  # partial denominators of the continued fraction
    last: float  # its last partial numerator, for the estimate of the rest


@lru_cache(maxsize=256)
def _constants(d: int) -> _Constants:
    # Gamma(d/2) / Gamma((d+1)/2): a difference of two log-gammas would cancel. Asymptotic series in 1/w^2,
    # error below 1e-17 for n >= 60; smaller d climb there by Gamma(x + 1) = x Gamma(x), two dimensions a step.
    n, climb = d, 1.0
    while n < 60:
        climb *= (n + 1) / n
        n += 2
    w = (2 * n - 1) / 4
    v = 1 / (w * w)
    series = v * (-1 / 64 + v * (5 / 2048 + v * (-61 / 49152 + v * 1385 / 1048576)))
    log_tail = math.log(climb / (2 * math.sqrt(math.pi * w))) + series

    # Numerators of Gauss's continued fraction of 2F1(1/2, 1; c; -z) = 1/(1 + e_1 z/(1 + e_2 z/(1 + ...))),
    # brought to 1/(b_1 + z/(b_2 + z/(b_3 + ...))) by b_1 = 1, b_k b_{k+1} = 1/e_k: one division a level.
    c = (d + 1) / 2
    e = [0.5 / c]
    for k in range(1, _DEPTH // 2 + 1):
        e.append(k * (c + k - 1.5) / ((c + 2 * k - 2) * (c + 2 * k - 1)))
        e.append((k + 0.5) * (c + k - 1) / ((c + 2 * k - 1) * (c + 2 * k)))
    fraction = [1.0]
    for numerator in e[: _DEPTH - 1]:
        fraction.append(1 / (numerator * fraction[-1]))

    terms = [1.0]
    for k in range(_TERMS):
        terms.append(terms[-1] * (1 + 2 * k / d) / (k + 1.5))
    return _Constants(
        log_tail=log_tail,
        log_density=log_tail + math.log(max(d - 1, 1)),
        switch=math.sqrt(5 / (d + 30)),
        series=tuple(terms),
        fraction=tuple(fraction),
        last=e[_DEPTH - 1],
    )


def _log_upper(s: Array, q: Array, log_q: Array, d: int, sign: Array) -> Array:
    """log T(sign s) for 0 <= s <= 1, q = 1 - s^2 and log q (given, so that neither is rounded away).

    With a = (d-1)/2 and z = q/s^2 (DLMF 8.17.8 and 15.8.1, 15.7.1):
      centre, s < switch:  T(s) = 1/2 - density s q^a 2F1(1, d/2; 3/2; s^2), a series of positive terms;
      tail:  T(s) = tail q^a / s 2F1(1/2, 1; a+1; -z), by Gauss's continued fraction.
    In the centre nothing is small, so the difference from 1/2 keeps its digits for both signs of s; in the
    tail s < 0 goes through log(1 - T(|s|)).
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
    rest = constants.fraction[-1] * 0.5 * (1 + np.sqrt(1 + 4 * constants.last * z))
    for denominator in constants.fraction[-2::-1]:
        np.divide(z, rest, out=rest)
        rest += denominator
    log_t = a * log_q[tail] + (constants.log_tail - np.log(x * rest))
    result[tail] = np.where(sign[tail] > 0, log_t, np.log1p(-np.exp(log_t)))
    return result


def _directed(value: Array, rounding: Rounding) -> Array:
    """The logarithm of a measure moved up or down by the documented error, never above 0."""
    if rounding == "nearest":
        return value + 0.0  # -0.0 becomes 0.0
    margin = RELATIVE_ERROR * np.abs(value) + ABSOLUTE_ERROR
    return np.minimum(value + margin, 0.0) if rounding == "up" else value - margin


def _log_cap(s: Array, d: int, rounding: Rounding) -> Array:
    inside = (np.abs(s) < 1) | (s == 1) if d == 1 else np.abs(s) < 1
    result = np.where(s < 0, 0.0, -np.inf)
    x = np.abs(s[inside])
    if d == 1:
        log_t = np.full_like(x, _LOG_HALF)
    else:
        q = (1 - x) * (1 + x)
        log_q = np.where(x < 0.7, np.log1p(-x * x), np.log(q))
        log_t = _log_upper(x, q, log_q, d, np.copysign(1.0, s[inside]))
    result[inside] = _directed(log_t, rounding)
    return result


def _log_cap_angle(alpha: Array, d: int, rounding: Rounding) -> Array:
    result = np.where(alpha == math.pi, 0.0, -np.inf)
    inside = (alpha < math.pi) & ((alpha > 0) | (d == 1))
    x = alpha[inside]
    if d == 1:
        log_t = np.full_like(x, _LOG_HALF)
    else:
        cos, sin = np.cos(x), np.sin(x)
        log_q = np.where(np.abs(cos) < 0.7, np.log1p(-cos * cos), 2 * np.log(sin))
        log_t = _log_upper(np.abs(cos), sin * sin, log_q, d, np.copysign(1.0, cos))
    result[inside] = _directed(log_t, rounding)
    return result


def _solve(log_measure: Array, d: int) -> tuple[Array, Array]:
    """y >= 0 and sign with log T(sign s) = log_measure, where 1 - s^2 = exp(-y^2); d >= 2.

    Newton's method on y -> log T, which is close to linear at y = 0 and to a parabola far out. It starts at
    T <= (1-s^2)^((d-1)/2) / 2 (a cap lies in a half-sphere of radius sin alpha), to the right of the root,
    and log T is concave: the steps go left without passing it. Measures above 1/2 are reflected.
    """
    other = np.log(-np.expm1(log_measure))
    sign = np.where(log_measure > _LOG_HALF, -1.0, 1.0)
    target = np.where(sign > 0, log_measure, other)
    target = np.clip(target, -1000.0 * d, _LOG_HALF)  # beyond that sin(alpha) underflows to 0
    y = np.sqrt((_LOG_HALF - target) / ((d - 1) / 2))
    for _ in range(_NEWTON_STEPS):
        log_q = -y * y
        s = np.sqrt(-np.expm1(log_q))
        log_t = _log_upper(s, np.exp(log_q), log_q, d, np.ones_like(s))
        slope = np.exp(_constants(d).log_density + (d - 1) / 2 * log_q - log_t)
        slope *= np.divide(y, s, out=np.ones_like(s), where=s > 0)
        y = np.maximum(y + (log_t - target) / slope, 0.0)
    return y, sign


def _aim(log_measure: Array, smaller: bool) -> Array:
    """A target for `_solve` a little to the safe side, so that `_settle` rarely has to move."""
    margin = np.where(np.isinf(log_measure), 0.0, 3 * (RELATIVE_ERROR * np.abs(log_measure) + ABSOLUTE_ERROR))
    return log_measure - margin if smaller else np.minimum(log_measure + margin, 0.0)


def _settle(x: Array, holds: Callable[[Array], npt.NDArray[np.bool_]], end: float) -> Array:
    """Move every x that does not hold towards `end`, which does, by doubling steps until all hold."""
    step = 4 * np.spacing(np.abs(x))
    while not (good := holds(x)).all():
        moved = np.minimum(x + step, end) if end > 0 else np.maximum(x - step, end)
        x = np.where(good, x, moved)
        step *= 2
    return x


def _cap_height(log_measure: Array, d: int, rounding: Rounding) -> Array:
    if d == 1:
        infimum = np.where(log_measure >= _LOG_HALF, -1.0, 1.0)
        return np.where((log_measure < 0) & (rounding == "up"), np.nextafter(infimum, 2.0), infimum)
    if rounding == "nearest":
        return _height(log_measure, d)
    if rounding == "up":
        s = _height(_aim(log_measure, smaller=True), d)
        return _settle(s, lambda x: _log_cap(x, d, "up") <= log_measure, 1.0)
    s = _height(_aim(log_measure, smaller=False), d)
    return _settle(s, lambda x: _log_cap(x, d, "down") >= log_measure, -1.0)


def _height(log_measure: Array, d: int) -> Array:
    y, sign = _solve(log_measure, d)
    return sign * np.sqrt(-np.expm1(-y * y))


def _cap_angle(log_measure: Array, d: int, rounding: Rounding) -> Array:
    if d == 1:
        whole = log_measure >= _LOG_HALF
        if rounding != "down":
            return np.where(whole, math.pi, 0.0)
        if not whole.all():
            raise ValueError(f"for d = 1 no cap is as small as log_measure = {log_measure[~whole][0]}")
        return np.where(log_measure < 0, math.nextafter(math.pi, 0.0), math.pi)
    if rounding == "nearest":
        return _angle(log_measure, d)
    if rounding == "up":
        alpha = _angle(_aim(log_measure, smaller=False), d)
        return _settle(alpha, lambda x: _log_cap_angle(x, d, "down") >= log_measure, math.pi)
    alpha = _angle(_aim(log_measure, smaller=True), d)
    return _settle(alpha, lambda x: _log_cap_angle(x, d, "up") <= log_measure, 0.0)


def _angle(log_measure: Array, d: int) -> Array:
    y, sign = _solve(log_measure, d)
    alpha = np.arctan2(np.exp(-0.5 * y * y), np.sqrt(-np.expm1(-y * y)))
    return np.where(sign > 0, alpha, math.pi - alpha)


def _checked(d: int, rounding: Rounding) -> int:
    try:
        dimension = operator.index(d)
    except TypeError:
        raise ValueError(f"d must be an integer from 1 to {MAX_DIMENSION}, got {d!r}") from None
    if not 1 <= dimension <= MAX_DIMENSION:
        raise ValueError(f"d must be an integer from 1 to {MAX_DIMENSION}, got {d!r}")
    if rounding not in get_args(Rounding):
        raise ValueError(f"rounding must be one of {get_args(Rounding)}, got {rounding!r}")
    return dimension


def _elementwise(
    function: Callable[[Array], Array],
    value: Value,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
) -> Value:
    """Apply a function of flat float64 arrays, in blocks, to a checked value; return the value's own kind."""
    if isinstance(value, torch.Tensor):
        tensor = torch.from_numpy(_elementwise(function, value.detach().cpu().numpy(), name, low, high))
        return tensor.to(value.device)
    if not isinstance(value, np.ndarray):
        return float(_elementwise(function, np.array(float(value)), name, low, high))
    flat = value.astype(np.float64, casting="same_kind").ravel()
    outside = flat[~((flat >= low) & (flat <= high))]
    if outside.size:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {outside[0]}")
    result = np.empty_like(flat)
    with np.errstate(all="ignore"):  # both branches of every np.where are computed; log(0) = -inf is meant
        for start in range(0, flat.size, _BLOCK):
            result[start : start + _BLOCK] = function(flat[start : start + _BLOCK])
    return result.reshape(value.shape)
