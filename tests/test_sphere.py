"""The sphere: caps against high-precision quadrature and closed forms, inverses, Ball's bound."""

import math
from functools import lru_cache

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from calotte.assumptions import CAP_ERROR, LARGEST_DIMENSION, UNDERFLOW
from calotte.sphere import (
    cap_angle,
    cap_height,
    log_ball_bound,
    log_cap,
    log_cap_angle,
)

DIMENSIONS = (2, 3, 4, 5, 7, 10, 17, 30, 59, 60, 61, 100, 784, 3072, 10_000, 150_528, 10**6, LARGEST_DIMENSION)
DIGITS = 50
TINY = 5e-324


@lru_cache
def gauss_legendre(n: int) -> list[tuple[mpf, mpf]]:
    """Nodes and weights on [0, 1]."""
    rule = []
    for k in range(n):
        x = mp.cos(mp.pi * (k + mpf(3) / 4) / (n + mpf(1) / 2))
        for _ in range(8):  # Newton on the Legendre polynomial
            before, p = mpf(1), x
            for j in range(2, n + 1):
                before, p = p, ((2 * j - 1) * x * p - (j - 1) * before) / j
            slope = n * (x * p - before) / (x * x - 1)
            x -= p / slope
        rule.append(((1 + x) / 2, 1 / ((1 - x * x) * slope**2)))
    return rule


@lru_cache
def log_density(d: int) -> mpf:
    return mp.loggamma(mpf(d) / 2) - mp.loggamma(mpf(d - 1) / 2) - mp.log(mp.pi) / 2


def reference(alpha: mpf, sin: mpf, d: int, nodes: int = 64) -> mpf:
    """log of the measure of a cap of angle 0 < alpha <= pi/2: the integral of density sin(t)^(d-2) from 0 to alpha.

    The integrand is entire and largest at alpha; the part below 1e-39 of that is left out, the rest is at most
    e^90 in range, which 64 nodes integrate to over 30 digits.
    """
    low = mp.asin(sin * mp.exp(-mpf(90) / (d - 2))) if d > 2 else mpf(0)
    log_sin = mp.log(sin)
    total = mpf(0)
    for x, weight in gauss_legendre(nodes):
        total += weight * mp.exp((d - 2) * (mp.log(mp.sin(low + (alpha - low) * x)) - log_sin))
    return log_density(d) + (d - 2) * log_sin + mp.log((alpha - low) * total)


def reference_height(s: float, d: int, nodes: int = 64) -> mpf:
    """log T(s), 0 <= s < 1."""
    sin = mp.sqrt((1 - mpf(s)) * (1 + mpf(s)))
    return reference(mp.atan2(sin, mpf(s)), sin, d, nodes)


def log_complement(log_t: mpf) -> mpf:
    """log(1 - T), also for T far below the working precision."""
    return mp.log1p(-mp.exp(log_t))


def heights(d: int) -> list[float]:
    """Heights in (0, 1): all scales, the bulk and the tail for this d, both sides of every change of formula."""
    rng = np.random.default_rng(d)
    bulk = np.concatenate([rng.uniform(0, 5, 30), rng.uniform(0, 40, 30)]) / math.sqrt(d)
    switch = math.sqrt(5 / (d + 30))
    edges = [x for at in (switch, 0.7) for x in (np.nextafter(at, 0), at, np.nextafter(at, 1), 0.999 * at)]
    ends = [TINY, 1e-310, 1e-160, math.nextafter(1, 0), 1 - 1e-15, 1 - 1e-9, 0.93]
    spread = np.concatenate([10 ** rng.uniform(-17, 0, 25), rng.uniform(0, 1, 25), 1 - 10 ** rng.uniform(-15, 0, 15)])
    return sorted(float(s) for s in np.concatenate([bulk, edges, ends, spread]) if 0 < s < 1)


def angles(d: int) -> list[float]:
    """Angles in (0, pi/2]: all scales, and the neighbourhood of the hemisphere for this d."""
    rng = np.random.default_rng(d)
    spread = np.concatenate(
        [10 ** rng.uniform(-307, 0, 10), 10 ** rng.uniform(-9, 0.19, 10), rng.uniform(0, 1.57, 10)]
    )
    bulk = np.arccos(np.minimum(rng.uniform(0, 10, 20) / math.sqrt(d), 1))
    ends = [TINY, 1e-310, math.pi / 2, math.nextafter(math.pi / 2, 0), math.pi / 4]
    return sorted(float(a) for a in np.concatenate([spread, bulk, ends]) if 0 < a <= math.pi / 2)


def assert_encloses(nearest: float, down: float, up: float, truth: mpf, relative: float) -> None:
    assert abs(nearest - truth) <= relative * abs(truth) + UNDERFLOW
    assert down <= truth <= up <= 0
    assert up - down <= 5 * (CAP_ERROR * abs(truth) + UNDERFLOW)


@pytest.fixture(autouse=True)
def _digits():
    with mpmath.workdps(DIGITS):
        yield


@pytest.mark.parametrize("d", [2, 3, 6, 61, 784, 10**6])
@pytest.mark.parametrize("s", [1e-9, 0.02, 0.3, 0.9])
def test_reference_does_not_depend_on_its_nodes(d, s):
    assert abs(reference_height(s, d, 64) / reference_height(s, d, 96) - 1) < 1e-30


@pytest.mark.parametrize(("d", "s"), [(2, 0.3), (5, 0.9), (6, 1e-3), (30, 0.4), (301, 0.1), (784, 0.06)])
def test_reference_agrees_with_the_incomplete_beta_function(d, s):
    beta = mp.betainc(mpf(1) / 2, mpf(d - 1) / 2, mpf(s) ** 2, 1, regularized=True) / 2
    assert abs(reference_height(s, d) / mp.log(beta) - 1) < 1e-25


def test_grid_is_large_enough():
    assert sum(2 * len(heights(d)) for d in DIMENSIONS) >= 4000


@pytest.mark.parametrize("d", DIMENSIONS)
def test_log_cap_against_quadrature(d):
    s = np.array(heights(d))
    positive = [log_cap(s, d, rounding=r) for r in ("nearest", "down", "up")]
    negative = [log_cap(-s, d, rounding=r) for r in ("nearest", "down", "up")]
    for i, height in enumerate(s):
        truth = reference_height(float(height), d)
        assert_encloses(*(float(v[i]) for v in positive), truth, 4e-14)
        assert_encloses(*(float(v[i]) for v in negative), log_complement(truth), 5e-13)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_log_cap_angle_against_quadrature(d):
    alpha = np.array(angles(d))
    small = [log_cap_angle(alpha, d, rounding=r) for r in ("nearest", "down", "up")]
    wide = math.pi - alpha
    large = [log_cap_angle(wide, d, rounding=r) for r in ("nearest", "down", "up")]
    for i in range(alpha.size):
        truth = reference(mpf(float(alpha[i])), mp.sin(mpf(float(alpha[i]))), d)
        assert_encloses(*(float(v[i]) for v in small), truth, 4e-14)
        rest = mp.pi - mpf(float(wide[i]))  # what is left after rounding: not quite alpha
        if wide[i] < math.pi and rest <= mp.pi / 2:
            truth = log_complement(reference(rest, mp.sin(rest), d))
            assert_encloses(*(float(v[i]) for v in large), truth, 5e-13)


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize("rounding", ["nearest", "down", "up"])
def test_exact_ends(d, rounding):
    beyond = np.array([1.0, math.nextafter(1, 2), 7.0, 1e300, math.inf])
    assert (log_cap(beyond, d, rounding=rounding) == -math.inf).all()
    full = log_cap(-beyond, d, rounding=rounding)
    assert (full == 0).all()
    assert not np.signbit(full).any()
    assert log_cap_angle(0.0, d, rounding=rounding) == -math.inf
    assert log_cap_angle(math.pi, d, rounding=rounding) == 0


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_half(d, zero):
    assert log_cap(zero, d) == pytest.approx(math.log(0.5), rel=2e-16)
    down, up = log_cap(zero, d, rounding="down"), log_cap(zero, d, rounding="up")
    assert down < -mp.ln2 < up
    assert up - down < 1e-11


def test_measure_next_to_one():
    """1 - T < 1e-300: the logarithm loses its digits or underflows, the enclosure must hold."""
    for d, s in ((784, -0.92), (784, -0.93), (10**6, -0.5), (100, -math.nextafter(1, 0))):
        truth = log_complement(reference_height(-s, d))
        assert log_cap(s, d, rounding="down") < truth < 0 == log_cap(s, d, rounding="up")
        assert log_cap(s, d) <= 0
    assert math.copysign(1, log_cap(-0.95, 784)) == 1  # 0.0, never -0.0


@pytest.mark.parametrize("rounding", ["nearest", "down", "up"])
def test_one_dimension_is_two_points(rounding):
    half = log_cap(np.array([1.0, 0.3, 0.0, -TINY, math.nextafter(-1, 0)]), 1, rounding=rounding)
    assert half == pytest.approx(math.log(0.5), rel=2e-16)
    assert (half <= -mp.ln2).all() if rounding == "down" else (half >= -mp.ln2).all()
    assert log_cap(math.nextafter(1, 2), 1, rounding=rounding) == -math.inf
    assert log_cap(-1.0, 1, rounding=rounding) == 0
    assert (log_cap_angle(np.array([0.0, 1.0, 3.0]), 1, rounding=rounding) == half[0]).all()
    assert log_cap_angle(math.pi, 1, rounding=rounding) == 0


def test_two_dimensions_are_arcs():
    for s in (-0.999, -0.5, -0.3, 0.1, 0.35, 0.4, 0.9, 1 - 1e-12):
        assert log_cap(s, 2) == pytest.approx(float(mp.log(mp.acos(mpf(s)) / mp.pi)), rel=2e-15)
    assert log_cap_angle(1e-200, 2) == pytest.approx(math.log(1e-200 / math.pi), rel=1e-15)


def test_three_dimensions_are_linear():
    """Archimedes: T(s) = (1 - s)/2."""
    for s in (-0.999, -0.5, -0.3, 0.1, 0.38, 0.4, 0.9, math.nextafter(1, 0)):
        assert log_cap(s, 3) == pytest.approx(float(mp.log((1 - mpf(s)) / 2)), rel=2e-15)
    assert log_cap_angle(1e-150, 3) == pytest.approx(2 * math.log(0.5e-150), rel=1e-15)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_the_two_caps_of_a_height_fill_the_sphere(d):
    s = np.array(heights(d))
    assert np.exp(log_cap(s, d)) + np.exp(log_cap(-s, d)) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("d", [1, *DIMENSIONS])
def test_log_cap_decreases(d):
    s = np.sort(np.concatenate([heights(d), np.negative(heights(d)), [-1.0, 0.0, 1.0]]))
    assert (np.diff(log_cap(s, d)[np.diff(s, prepend=-2) > 1e-12]) <= 0).all()
    assert (log_cap(s[:-1], d, rounding="up") >= log_cap(s[1:], d, rounding="down")).all()


@pytest.mark.parametrize("d", DIMENSIONS)
def test_ball_bounds_the_cap(d):
    s = np.array([0.0, *heights(d)])
    assert (log_ball_bound(s, d, rounding="down") > log_cap(s, d, rounding="up")).all()
    truth = [-d * mpf(float(x)) ** 2 / 2 for x in s]
    for rounding, holds in (("up", lambda v, t: v >= t), ("down", lambda v, t: v <= t)):
        values = log_ball_bound(s, d, rounding=rounding)
        assert all(holds(v, t) and v <= 0 for v, t in zip(values, truth, strict=True))
        assert values[0] == 0
    assert log_ball_bound(0.5, 8) == -1.0


dimensions = st.sampled_from([2, 3, 4, 5, 20, 100, 784, 10**5, 10**6]) | st.integers(2, 10**6)
log_measures = st.one_of(
    st.floats(-320, 6.2).map(lambda e: -(10.0**e)),
    st.floats(-5, 0),
    st.floats(-16, 0).map(lambda e: math.log(0.5) * (1 + 10.0**e)),
    st.floats(-16, -1).map(lambda e: math.log(0.5) * (1 - 10.0**e)),
    st.sampled_from([-math.inf, 0.0, math.log(0.5), -TINY, -1e308]),
)


@settings(max_examples=400, deadline=None)
@given(p=log_measures, d=dimensions)
def test_height_inverts_the_cap(p, d):
    down, s, up = (cap_height(p, d, rounding=r) for r in ("down", "nearest", "up"))
    assert -1 <= down <= s <= up <= 1
    assert log_cap(up, d, rounding="up") <= p <= log_cap(down, d, rounding="down")
    below, above = log_cap(math.nextafter(s, -2), d, rounding="up"), log_cap(math.nextafter(s, 2), d, rounding="down")
    assert above <= p <= below  # nearest is as good as its float64 neighbours, up to the error of log_cap


@settings(max_examples=400, deadline=None)
@given(p=log_measures, d=dimensions)
def test_angle_inverts_the_cap(p, d):
    down, alpha, up = (cap_angle(p, d, rounding=r) for r in ("down", "nearest", "up"))
    assert 0 <= down <= alpha <= up <= math.pi
    assert log_cap_angle(down, d, rounding="up") <= p <= log_cap_angle(up, d, rounding="down")
    near = 2 * np.spacing(alpha)  # nearest is good to two float64s, up to the error of log_cap_angle
    less, more = max(alpha - near, 0.0), min(alpha + near, math.pi)
    assert log_cap_angle(less, d, rounding="down") <= p <= log_cap_angle(more, d, rounding="up")
    if alpha > 1e-300 and p < -1e-290:
        assert up - down <= 2e-8 * alpha


@settings(max_examples=200, deadline=None)
@given(s=st.floats(-1, 1), d=dimensions)
def test_cap_inverts_the_height(s, d):
    """The enclosure of log T(s), inverted, encloses s."""
    assert cap_height(log_cap(s, d, rounding="up"), d, rounding="down") <= s
    assert cap_height(log_cap(s, d, rounding="down"), d, rounding="up") >= s


@settings(max_examples=100, deadline=None)
@given(s=st.floats(-0.95, 0.95), d=st.sampled_from([2, 3, 5, 20]))
def test_height_recovers_s(s, d):
    assert cap_height(log_cap(s, d), d) == pytest.approx(s, abs=1e-14)


def test_known_inverses():
    assert cap_height(math.log(0.5), 784) == 0
    assert cap_height(math.log(0.05), 3) == pytest.approx(0.9, rel=1e-15)
    assert cap_height(math.log(0.95), 3) == pytest.approx(-0.9, rel=1e-15)
    assert cap_height(math.log(1 / 3), 2) == pytest.approx(0.5, rel=1e-15)
    assert cap_angle(math.log(1 / 3), 2) == pytest.approx(math.pi / 3, rel=1e-15)
    assert cap_angle(-600.0, 2) == pytest.approx(math.pi * math.exp(-600), rel=1e-13)
    assert cap_angle(-1e6, 2) == 0 < cap_angle(-1e6, 2, rounding="up")
    for d in DIMENSIONS:
        for rounding in ("nearest", "down", "up"):
            assert [cap_height(p, d, rounding=rounding) for p in (-math.inf, 0.0)] == [1, -1]
            assert [cap_angle(p, d, rounding=rounding) for p in (-math.inf, 0.0)] == [0, math.pi]


@pytest.mark.parametrize("p", [0.0, -1e-300, -0.3, math.log(0.5), math.nextafter(math.log(0.5), -1), -5.0, -math.inf])
def test_inverses_on_two_points(p):
    at_least_half = p >= math.log(0.5)
    assert cap_height(p, 1) == cap_height(p, 1, rounding="down") == (-1 if at_least_half else 1)
    assert log_cap(cap_height(p, 1, rounding="down"), 1, rounding="down") >= min(p, -float(mp.ln2) - 2e-16)
    assert log_cap(cap_height(p, 1, rounding="up"), 1) <= p
    assert cap_height(p, 1, rounding="up") - cap_height(p, 1) <= 3e-16
    assert log_cap_angle(cap_angle(p, 1, rounding="up"), 1) >= p or p < 0
    assert cap_angle(p, 1) == (math.pi if at_least_half else 0)
    if at_least_half:
        assert log_cap_angle(cap_angle(p, 1, rounding="down"), 1) <= p
    else:
        with pytest.raises(ValueError, match="no cap"):
            cap_angle(p, 1, rounding="down")


FUNCTIONS = [(log_cap, 0.3), (log_cap_angle, 1.2), (cap_height, -3.0), (cap_angle, -3.0), (log_ball_bound, 0.3)]


@pytest.mark.parametrize(("function", "value"), FUNCTIONS)
@pytest.mark.parametrize("d", [1, 2, 50])
def test_kinds(function, value, d):
    expected = function(value, d)
    assert type(expected) is float
    assert type(function(np.float64(value), d)) is float
    block = np.full((3, 1, 7001), value)  # more than one block of elements
    assert function(block, d).shape == block.shape
    assert (function(block, np.int64(d)) == expected).all()
    assert function(block[:, :, ::3].T, d).shape == (2334, 1, 3)
    assert function(np.array(value), d).shape == ()
    assert function(np.zeros((0, 4)), d).shape == (0, 4)
    tensor = function(torch.full((2, 5), value, dtype=torch.float64, requires_grad=True), d)
    assert tensor.dtype == torch.float64
    assert tensor.tolist() == [[expected] * 5] * 2
    single = function(torch.tensor(value, dtype=torch.float32), d)
    assert single.shape == ()
    assert single.dtype == torch.float64


def test_integers_are_numbers():
    assert log_cap(-1, 5) == 0
    assert (log_cap(np.array([-1, 0, 1]), 3) == log_cap(np.array([-1.0, 0.0, 1.0]), 3)).all()


@pytest.mark.parametrize(("function", "value"), FUNCTIONS)
def test_errors(function, value):
    name = {"log_cap": "s", "log_ball_bound": "s", "log_cap_angle": "alpha"}.get(function.__name__, "log_measure")
    for nan in (math.nan, np.array([value, math.nan]), torch.tensor([math.nan])):
        with pytest.raises(ValueError, match=f"^{name} must be a number .* got nan"):
            function(nan, 5)
    for d in (0, -3, 2.5, 784.0, "7", None, LARGEST_DIMENSION + 1):
        with pytest.raises(ValueError, match=f"d must be an integer from 1 to {LARGEST_DIMENSION}, got {d!r}"):
            function(value, d)
    with pytest.raises(ValueError, match=r"rounding must be one of .* got 'floor'"):
        function(value, 5, rounding="floor")
    for other in ("0.3", None, [value]):
        with pytest.raises(TypeError, match=f"{name} must be a float, a numpy array or a torch tensor"):
            function(other, 5)
    with pytest.raises(TypeError):
        function(np.array([value + 0j]), 5)


@pytest.mark.parametrize(
    ("function", "bad", "domain"),
    [
        (log_ball_bound, 1.0, r"\[0, 1\), got 1.0"),
        (log_ball_bound, -1e-300, r"\[0, 1\), got -1e-300"),
        (log_cap_angle, -1e-300, r"\[0, pi\], got -1e-300"),
        (log_cap_angle, 3.2, r"\[0, pi\], got 3.2"),
        (cap_height, 1e-300, r"\[-inf, 0\], got 1e-300"),
        (cap_angle, math.inf, r"\[-inf, 0\], got inf"),
    ],
)
def test_domains(function, bad, domain):
    with pytest.raises(ValueError, match=domain):
        function(bad, 5)
    with pytest.raises(ValueError, match=domain):
        function(np.array([[0.0, bad]]), 5)
