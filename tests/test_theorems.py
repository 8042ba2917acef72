"""The paper's statements against 50-digit arithmetic and samples, their inverses to the last float."""

import doctest
import math
import sys
from collections.abc import Callable
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from calotte import theorems
from calotte.errors import InvalidInput
from calotte.theorems import (
    MOST_UNITS,
    RobustnessBound,
    corollary_3_2,
    equation_5,
    largest_eps,
    largest_unit_count,
    log_target,
    perceptron_robustness,
    sufficient_dimension,
    sufficient_distance,
    theorem_3_1,
    theorem_4_2,
)

LARGEST_FLOAT = sys.float_info.max

lengths = st.floats(min_value=0.0, exclude_min=True, allow_infinity=False)  # subnormals included
ordinary_lengths = st.floats(1e-3, 1e3)
ratios = st.floats(1e-6, 1.0, exclude_max=True)
dimensions = st.integers(2, 10**6)
counts = st.integers(1, 10**6) | st.integers(1, 10**40)
log_deltas = st.floats(max_value=-5e-324, allow_infinity=False) | st.floats(-1e3, -1e-3)


def mp(value: float | Fraction) -> mpmath.mpf:
    exact = Fraction(value)
    return mpmath.mpf(exact.numerator) / exact.denominator


def exact_log_bound(rho: float, eps: float, d: int, N: int) -> mpmath.mpf:
    """Theorem 4.2's right-hand side, from the formula as printed, in 50 digits beyond any cancellation."""
    with mpmath.workdps(100):
        return min(mpmath.mpf(0), mpmath.log(N) - d * mp(rho) ** 2 / (2 * mp(eps) ** 2))


def exact_log_cap(s: Fraction, d: int) -> mpmath.mpf:
    """log T(s) for s >= 0: an incomplete beta function by mpmath, in 50 digits."""
    with mpmath.workdps(50):
        return mpmath.log(mpmath.betainc(mpmath.mpf(d - 1) / 2, 0.5, 0, 1 - mp(s) ** 2, regularized=True) / 2)


def assert_tightly_above(value: float, exact: mpmath.mpf) -> None:
    with mpmath.workdps(100):
        assert mpmath.mpf(value) >= exact
        assert mpmath.mpf(value) - exact <= 1e-12 * abs(exact) + mpmath.mpf("1e-25")


def proves(rho: float, eps: float, d: int, N: int, log_delta: float) -> bool:
    return theorem_4_2(rho, eps, d, N).log_misclassification <= log_delta


class TestTheorems:
    @given(ordinary_lengths, ratios, dimensions, counts)
    @example(eps=1.0, ratio=0.1, d=784, N=521)
    @example(eps=1.0, ratio=1.0 - 2**-53, d=2, N=1)
    def test_rounded_up_and_tight(self, eps: float, ratio: float, d: int, N: int) -> None:
        rho = ratio * eps
        assume(0.0 < rho < eps)
        assert_tightly_above(theorem_4_2(rho, eps, d, N).log_misclassification, exact_log_bound(rho, eps, d, N))
        assert_tightly_above(equation_5(rho, eps, d).log_misclassification, exact_log_bound(rho, eps, d, 1))

    @given(lengths, lengths, st.integers(2, 10**400), counts)
    @example(rho=1e-200, eps=1e200, d=10**6, N=1)
    @example(rho=1e-200, eps=2e-200, d=10**6, N=1)
    @example(rho=5e-324, eps=LARGEST_FLOAT, d=2, N=1)
    @example(rho=1e300, eps=LARGEST_FLOAT, d=10**400, N=1)
    @example(rho=5e-324, eps=1e-323, d=784, N=521)
    def test_extreme_values_stay_sound(self, rho: float, eps: float, d: int, N: int) -> None:
        assume(rho < eps)
        bound = theorem_4_2(rho, eps, d, N)
        assert mpmath.mpf(bound.log_misclassification) >= exact_log_bound(rho, eps, d, N)
        assert bound.log_misclassification <= 0.0
        assert not bound.certain

    @given(counts)
    @example(N=MOST_UNITS)
    def test_logarithm_of_the_count_is_rounded_up(self, N: int) -> None:
        """Private, but soundness rests on it and float64 results are too coarse to show it."""
        with mpmath.workdps(400):
            log_N = mp(theorems._log_up(N))
            assert mpmath.log(N) <= log_N < mpmath.log(N + 1)

    def test_known_values(self) -> None:
        # d rho^2 / (2 eps^2) = 784 / 8 = 98: nothing to round.
        assert theorem_3_1(1.0, 2.0, 784).log_misclassification == -98.0
        assert equation_5(0.0, 2.0, 784).log_misclassification == 0.0
        assert theorem_4_2(1.0, 2.0, 784, 521).log_misclassification == pytest.approx(math.log(521) - 98, rel=1e-15)
        assert corollary_3_2(0.01, 2.0, 784, 521).log_misclassification == 0.0  # 521 exp(-0.0098) > 1

    @pytest.mark.parametrize(
        ("rho", "statement", "certain"),
        [
            (math.nextafter(2.0, 0.0), "Theorem 3.1 (i)", False),
            (math.nextafter(2.0, 3.0), "Theorem 3.1 (ii)", True),
            (math.inf, "Theorem 3.1 (ii)", True),
            (2.0, "Theorem 3.1 (iii)", True),
        ],
    )
    def test_the_three_cases(self, rho: float, statement: str, certain: bool) -> None:
        bound = theorem_3_1(rho, 2.0, 784)
        assert (bound.statement, bound.certain, bound.exact) == (statement, certain, certain)
        for other in (
            corollary_3_2(rho, 2.0, 784, 9),
            theorem_4_2(rho, 2.0, 784, 9),
            perceptron_robustness(rho, 2.0, 784),
        ):
            assert other.certain is certain
            assert (other.local_robustness == 1.0) is certain

    @given(st.floats(0.0, 1e3), ordinary_lengths, dimensions, st.integers(1, 10**9))
    def test_the_statements_agree_with_each_other(self, rho: float, eps: float, d: int, n: int) -> None:
        perceptron = theorem_3_1(rho, eps, d)
        assert corollary_3_2(rho, eps, d, 1).log_misclassification == perceptron.log_misclassification
        shallow = corollary_3_2(rho, eps, d, n)
        assert shallow.log_misclassification >= perceptron.log_misclassification
        if rho > 0.0:
            assert theorem_4_2(rho, eps, d, n).log_misclassification == shallow.log_misclassification
        if rho < eps:
            assert equation_5(rho, eps, d).log_misclassification == perceptron.log_misclassification

    @given(ordinary_lengths, st.floats(0.0, 1.0), dimensions)
    def test_the_bound_covers_the_exact_value(self, eps: float, ratio: float, d: int) -> None:
        rho = ratio * eps
        assert (
            theorem_3_1(rho, eps, d).log_misclassification >= perceptron_robustness(rho, eps, d).log_misclassification
        )


class TestPerceptron:
    @given(st.floats(0.0, 1.0, exclude_max=True), ordinary_lengths)
    def test_closed_form_in_three_dimensions(self, ratio: float, eps: float) -> None:
        # Archimedes: T(s) = (1 - s) / 2 on the sphere of R^3.
        rho = ratio * eps
        assume(rho < eps)
        with mpmath.workdps(50):
            exact = mpmath.log((1 - mp(rho) / mp(eps)) / 2)
            value = mpmath.mpf(perceptron_robustness(rho, eps, 3).log_misclassification)
            assert value >= exact
            # log_cap promises 4e-12 and is moved by as much; rounding rho / eps weighs most on small caps.
            assert value - exact <= 8e-12 * abs(exact) + 2**-52 / (1 - mp(rho) / mp(eps))

    @given(st.floats(1e-3, 0.999), ordinary_lengths, st.integers(2, 1000))
    def test_against_the_incomplete_beta_function(self, ratio: float, eps: float, d: int) -> None:
        rho = ratio * eps
        exact = exact_log_cap(Fraction(rho) / Fraction(eps), d)
        value = perceptron_robustness(rho, eps, d).log_misclassification
        assert mpmath.mpf(value) >= exact
        assert value == pytest.approx(float(exact), rel=1e-10)

    def test_on_the_hyperplane_half_of_the_sphere_is_flipped(self) -> None:
        bound = perceptron_robustness(0.0, 1.0, 784)
        assert bound.log_misclassification == pytest.approx(-math.log(2), rel=8e-12)
        assert bound.exact
        assert not bound.certain

    @pytest.mark.parametrize("d", [3, 20, 784])
    def test_sampled_perceptron(self, d: int) -> None:
        rng = np.random.default_rng(d)
        samples = 40_000
        w, x, b = rng.normal(size=d), rng.normal(size=d), float(rng.normal())
        rho = abs(w @ x + b) / float(np.linalg.norm(w))
        eps = rho * math.sqrt(d) / 1.5  # s = 1.5 / sqrt(d): p near 0.07
        flips = np.mean([(w @ (x + r) + b > 0) != (w @ x + b > 0) for r in sphere(rng, samples, d, eps)])
        p = math.exp(perceptron_robustness(rho, eps, d).log_misclassification)
        assert abs(flips - p) <= 4 * math.sqrt(p * (1 - p) / samples)
        assert flips <= math.exp(theorem_3_1(rho, eps, d).log_misclassification)
        assert p > 0.05

    @pytest.mark.parametrize("d", [20, 784])
    def test_sampled_shallow_network(self, d: int) -> None:
        """Corollary 3.2 where it says something (below 1/e) and where the network does err (p above 1e-4)."""
        rng = np.random.default_rng(d)
        n, samples = 2, 40_000
        w, x = rng.normal(size=(n, d)), rng.normal(size=d)
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        rho = 1.0
        b = rho * np.array([1.0, -1.0]) - w @ x  # x lies at distance rho from both hyperplanes
        eps = rho * math.sqrt(d / (2 * math.log(3.0 * n)))  # n exp(-d rho^2 / (2 eps^2)) = 1/3
        units = (x + sphere(rng, samples, d, eps)) @ w.T + b > 0
        flips = np.mean(units.sum(axis=1) != 1)  # at x one unit is active: the network counts them
        bound = math.exp(corollary_3_2(rho, eps, d, n).log_misclassification)
        assert bound < 1 / math.e
        assert 1e-4 < flips <= bound


def sphere(rng: np.random.Generator, samples: int, d: int, eps: float) -> np.ndarray:
    r = rng.normal(size=(samples, d))
    return eps * r / np.linalg.norm(r, axis=1, keepdims=True)


class TestInverses:
    """Every answer suffices, and the next float or integer on the greedy side does not."""

    @given(lengths, dimensions, counts, log_deltas)
    @example(eps=LARGEST_FLOAT, d=10**6, N=10**6, log_delta=-1e3)
    @example(eps=1e-320, d=10**6, N=1, log_delta=-1e-3)
    @example(eps=1.0, d=10, N=1, log_delta=-5e-324)
    @example(eps=2.0, d=8, N=1, log_delta=-1.0)  # an exact square: rho = 1
    @example(eps=1.0, d=524, N=1, log_delta=-110.66003462152192)  # 1e-20 above the square of a float64
    def test_sufficient_distance(self, eps: float, d: int, N: int, log_delta: float) -> None:
        rho = sufficient_distance(eps, d, N, log_delta=log_delta)
        assert 0.0 < rho <= eps
        assert proves(rho, eps, d, N, log_delta)
        smaller = math.nextafter(rho, 0.0)
        assert smaller == 0.0 or not proves(smaller, eps, d, N, log_delta)

    @given(lengths, dimensions, counts, log_deltas)
    @example(rho=LARGEST_FLOAT, d=10**6, N=10, log_delta=-1.0)
    @example(rho=5e-324, d=2, N=10, log_delta=-1e3)
    @example(rho=1.0, d=8, N=1, log_delta=-1.0)  # an exact square: eps = 2
    def test_largest_eps(self, rho: float, d: int, N: int, log_delta: float) -> None:
        eps = largest_eps(rho, d, N, log_delta=log_delta)
        assert rho <= eps <= LARGEST_FLOAT
        assert proves(rho, eps, d, N, log_delta)
        assert eps == LARGEST_FLOAT or not proves(rho, math.nextafter(eps, math.inf), d, N, log_delta)

    @given(lengths, lengths, counts, log_deltas)
    @example(rho=1e-200, eps=1e200, N=521, log_delta=-1.0)
    @example(rho=1.0, eps=2.0, N=1, log_delta=-1.0)  # exactly 8
    @example(rho=1.9, eps=2.0, N=1, log_delta=-0.1)  # the formula says 1, the theorem wants 2
    def test_sufficient_dimension(self, rho: float, eps: float, N: int, log_delta: float) -> None:
        d = sufficient_dimension(rho, eps, N, log_delta=log_delta)
        assert d >= 2
        assert proves(rho, eps, d, N, log_delta)
        assert d == 2 or not proves(rho, eps, d - 1, N, log_delta)

    @given(ordinary_lengths, ratios, dimensions, st.floats(-1e3, -1e-3))
    @example(eps=1.0, ratio=0.9, d=10**12, log_delta=-1.0)
    @example(eps=2.0, ratio=0.5, d=8, log_delta=-1.0)  # exactly 1
    @example(eps=1.0, ratio=0.5, d=784, log_delta=-6.9)  # 40 digits
    @example(eps=1.0, ratio=0.5, d=5360, log_delta=-6.9)  # 288 digits
    def test_largest_unit_count(self, eps: float, ratio: float, d: int, log_delta: float) -> None:
        rho = ratio * eps
        assume(0.0 < rho < eps)
        N = largest_unit_count(rho, eps, d, log_delta=log_delta)
        assert isinstance(N, int)
        with mpmath.workdps(400):
            exact = mpmath.exp(mp(log_delta) + d * mp(rho) ** 2 / (2 * mp(eps) ** 2))
            assert int(mpmath.floor(min(MOST_UNITS, exact))) == N
        assert N == 0 or proves(rho, eps, d, N, log_delta)

    @given(st.integers(1, 10**5), st.floats(-50, -1e-3))
    def test_the_next_unit_is_too_many(self, N: int, log_delta: float) -> None:
        """From the distance that suffices for N units, N units are recovered and N + 1 are refused."""
        rho = sufficient_distance(1.0, 10**4, N, log_delta=log_delta)
        assert largest_unit_count(rho, 1.0, 10**4, log_delta=log_delta) == N
        assert not proves(rho, 1.0, 10**4, N + 1, log_delta)

    def test_known_values(self) -> None:
        assert sufficient_distance(2.0, 8, 1, log_delta=-1.0) == 1.0
        assert largest_eps(1.0, 8, 1, log_delta=-1.0) == 2.0
        assert sufficient_dimension(1.0, 2.0, 1, log_delta=-1.0) == 8
        assert largest_unit_count(1.0, 2.0, 8, log_delta=-1.0) == 1
        assert largest_unit_count(1.0, 2.0, 7, log_delta=-1.0) == 0
        # exp(16 / 8 * 5 - 1) = exp(9) = 8103.08
        assert largest_unit_count(1.0, 2.0, 80, log_delta=-1.0) == 8103
        # sqrt(2 ln(521000) / 784)
        distance = sufficient_distance(1.0, 784, 521, log_delta=log_target(1e-3))
        assert distance == pytest.approx(math.sqrt(2 * math.log(521000) / 784), rel=1e-15)

    def test_within_rho_nothing_is_asked(self) -> None:
        assert largest_unit_count(2.0, 2.0, 2, log_delta=-1e6) == math.inf
        assert largest_unit_count(math.inf, 2.0, 2, log_delta=-1e6) == math.inf
        assert sufficient_dimension(2.0, 2.0, 521, log_delta=-1e6) == 2
        assert sufficient_distance(2.0, 784, 521, log_delta=-1e6) == 2.0
        assert largest_eps(2.0, 784, 521, log_delta=-1e6) == 2.0
        assert largest_eps(math.inf, 784, 521, log_delta=-1e6) == math.inf

    @given(st.floats(0.0, 1.0, exclude_min=True, exclude_max=True))
    @example(delta=1e-300)
    @example(delta=5e-324)
    @example(delta=1.0 - 2**-53)
    def test_log_target_is_rounded_down(self, delta: float) -> None:
        with mpmath.workdps(50):
            assert_tightly_above(-log_target(delta), -mpmath.log(mpmath.mpf(delta)))


class TestRobustnessBound:
    @given(st.floats(-1e3, 0.0))
    @example(log_p=-1e-300)
    @example(log_p=-60.0)
    @example(log_p=-1e6)
    def test_local_robustness_is_rounded_down(self, log_p: float) -> None:
        bound = RobustnessBound(log_p, "Theorem 4.2", exact=False)
        with mpmath.workdps(800):
            exact = -mpmath.expm1(mpmath.mpf(log_p))
            assert mpmath.mpf(bound.local_robustness) <= exact
        assert 0.0 <= bound.local_robustness < 1.0
        assert bound.local_robustness == pytest.approx(float(exact), rel=1e-15, abs=1e-322)


Call = Callable[..., object]
CALLS: dict[Call, dict[str, object]] = {
    equation_5: {"rho": 1.0, "eps": 2.0, "d": 784},
    theorem_3_1: {"rho": 1.0, "eps": 2.0, "d": 784},
    perceptron_robustness: {"rho": 1.0, "eps": 2.0, "d": 784},
    corollary_3_2: {"rho": 1.0, "eps": 2.0, "d": 784, "n": 521},
    theorem_4_2: {"rho": 1.0, "eps": 2.0, "d": 784, "N": 521},
    sufficient_distance: {"eps": 2.0, "d": 784, "N": 521, "log_delta": -6.9},
    largest_eps: {"rho": 1.0, "d": 784, "N": 521, "log_delta": -6.9},
    sufficient_dimension: {"rho": 1.0, "eps": 2.0, "N": 521, "log_delta": -6.9},
    largest_unit_count: {"rho": 1.0, "eps": 2.0, "d": 784, "log_delta": -6.9},
    log_target: {"delta": 1e-3},
}
NOT_REAL = [math.nan, "1", None, True, 1j, Fraction(1, 3), 2**53 + 1, 10**400, np.array([1.0])]
NOT_INTEGER = [0, -3, 2.0, math.nan, "2", None, True, np.bool_(True)]
BAD = {
    "rho": [*NOT_REAL, -1.0, -math.inf],
    "eps": [*NOT_REAL, 0.0, -1.0, math.inf],
    "d": [*NOT_INTEGER, 1],
    "n": NOT_INTEGER,
    "N": NOT_INTEGER,
    "log_delta": [*NOT_REAL, 0.0, 1e-3, -math.inf],
    "delta": [*NOT_REAL, 0.0, 1.0, 5.0, -0.1, math.inf],
}


class TestErrors:
    @pytest.mark.parametrize(
        ("function", "name", "value"),
        [
            pytest.param(function, name, value, id=f"{function.__name__}-{name}-{value!r:.20}")
            for function, arguments in CALLS.items()
            for name in arguments
            for value in BAD[name]
        ],
    )
    def test_bad_input_never_yields_a_number(self, function: Call, name: str, value: object) -> None:
        function(**CALLS[function])
        with pytest.raises(InvalidInput, match=rf"^{name}: expected .*got .*; "):
            function(**{**CALLS[function], name: value})

    @pytest.mark.parametrize("function", [theorem_4_2, largest_eps, sufficient_dimension, largest_unit_count])
    def test_nothing_is_said_on_the_boundary(self, function: Call) -> None:
        with pytest.raises(InvalidInput, match="x lies on H"):
            function(**{**CALLS[function], "rho": 0.0})

    @pytest.mark.parametrize("rho", [2.0, 3.0, math.inf])
    def test_domain_of_equation_5(self, rho: float) -> None:
        with pytest.raises(InvalidInput, match="needs rho < eps"):
            equation_5(rho, 2.0, 784)

    def test_numpy_scalars_are_numbers(self) -> None:
        ours = theorem_4_2(np.float64(1.0), np.float32(2.0), np.int64(784), np.int32(521))
        assert ours == theorem_4_2(1, 2, 784, 521) == theorem_4_2(1.0, 2.0, 784, 521)


def test_docstring_examples() -> None:
    results = doctest.testmod(theorems)
    assert results.failed == 0
    assert results.attempted >= 3
