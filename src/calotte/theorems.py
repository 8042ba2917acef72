"""The paper: one function per numbered statement on local robustness, and the inverse questions.

Source: V. Kůrková, *Robustness of Deep ReLU Networks to Misclassification of High-Dimensional Data*,
arXiv:2602.18674 (2026). A perturbation r is uniform on the sphere of radius eps in R^d, and
`p = P[f(x + r) != f(x)] = 1 - rob_f(x, eps)`. Symbols, in all functions (lengths in the units of the input):

* `rho`: distance of x to the nearest hyperplane; any lower bound on it will do, `math.inf` if there is none;
* `eps > 0`: the length of the perturbation; what is proved for it is proved for every smaller one too;
* `d >= 2`: dimension of the input; `N` (or `n`) `>= 1`: number of units, the output unit included;
* `log_delta < 0`: natural logarithm of the wanted p, so that p <= exp(-1e6) can be asked for. It is passed by
  name, lest a probability be taken for its logarithm; `log_target(1e-3)` makes it from a probability.

Rounding: the arguments are taken for the real numbers that the floats are. `d rho^2 / (2 eps^2)` is computed
in rational arithmetic, ln N by `decimal` (its `ln` is correctly rounded, by its documentation) and moved up,
and each result is rounded to float64 once, to the safe side. So nothing overflows, and the answer of an
inverse question, put back into `theorem_4_2`, gives log p <= log_delta for every float: no nudging is needed.

Bad arguments (NaN, d < 2, eps = 0, a bool for an integer, ...) raise `InvalidInput`, a ValueError.
"""

import math
import numbers
import sys
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction

from calotte.errors import InvalidInput
from calotte.rounding import down
from calotte.sphere import log_cap

__all__ = [
    "MOST_UNITS",
    "RobustnessBound",
    "corollary_3_2",
    "equation_5",
    "largest_eps",
    "largest_unit_count",
    "log_target",
    "perceptron_robustness",
    "sufficient_dimension",
    "sufficient_distance",
    "theorem_3_1",
    "theorem_4_2",
]

MOST_UNITS = 10**300
"""The largest count that `largest_unit_count` tells apart: beyond it, this count is returned."""


@dataclass(frozen=True)
class RobustnessBound:
    """A proved upper bound on the misclassification probability p of one input.

    Attributes:
        log_misclassification: natural logarithm of the bound, rounded up; at most 0.0 (nothing is
            proved), and -inf only where p = 0 is proved.
        statement: the statement of the paper that proves it.
        exact: True where the statement gives p itself (then the only excess is that of rounding).
    """

    log_misclassification: float
    statement: str
    exact: bool

    @property
    def certain(self) -> bool:
        """True where p = 0, that is rob = 1, is proved."""
        return self.log_misclassification == -math.inf

    @property
    def local_robustness(self) -> float:
        """A lower bound on rob = 1 - p, rounded down; it stays below 1.0 unless `certain`."""
        if self.certain:
            return 1.0
        # two steps: the error of expm1 (`assumptions.ELEMENTARY_ERROR`), and one to go down
        return max(0.0, down(down(-math.expm1(self.log_misclassification))))


def equation_5(rho: float, eps: float, d: int) -> RobustnessBound:
    """Equation (5): `p <= exp(-d rho^2 / (2 eps^2))` for one Heaviside perceptron, d >= 2, 0 <= rho < eps."""
    rho, eps, d = _distance(rho), _size(eps), _dimension(d)
    if rho >= eps:
        raise InvalidInput(f"equation (5) needs rho < eps, got {rho=}, {eps=}; use theorem_3_1, where p = 0")
    return _union_bound("equation (5)", rho, eps, d, 1)


def theorem_3_1(rho: float, eps: float, d: int) -> RobustnessBound:
    """Theorem 3.1: one Heaviside perceptron, d >= 2, at distance rho >= 0 from x.

    (i) rho < eps: `p <= exp(-d rho^2 / (2 eps^2))`; (ii) rho > eps: p = 0; (iii) rho = eps: p = 0 (the sphere
    only touches the hyperplane, in one point, which has probability 0 for d >= 2).

    >>> theorem_3_1(rho=1.0, eps=2.0, d=784)
    RobustnessBound(log_misclassification=-98.0, statement='Theorem 3.1 (i)', exact=False)
    """
    rho, eps, d = _distance(rho), _size(eps), _dimension(d)
    case = "(i)" if rho < eps else "(ii)" if rho > eps else "(iii)"
    return _union_bound(f"Theorem 3.1 {case}", rho, eps, d, 1)


def perceptron_robustness(rho: float, eps: float, d: int) -> RobustnessBound:
    """What Theorem 3.1 bounds, exactly: one Heaviside perceptron is flipped on a cap, so `p = T(rho / eps)`.

    T is the cap measure of `calotte.sphere` (d up to `assumptions.LARGEST_DIMENSION`); d >= 2, rho >= 0. Not in the
    paper: ours, from its proof.
    """
    rho, eps, d = _distance(rho), _size(eps), _dimension(d)
    log_p = -math.inf
    if rho < eps:
        # T decreases: the ratio is rounded down so that the bound is rounded up.
        log_p = log_cap(_round_down(Fraction(rho) / Fraction(eps)), d, rounding="up")
    return RobustnessBound(min(0.0, log_p), "Theorem 3.1, exact value", exact=True)


def corollary_3_2(rho: float, eps: float, d: int, n: int) -> RobustnessBound:
    """Corollary 3.2: any function of n Heaviside perceptrons, d >= 2: `p <= n exp(-d rho^2 / (2 eps^2))`.

    `rho >= 0` is the least of the n distances; p = 0 where rho >= eps, by Theorem 3.1 (ii) and (iii).
    """
    return _union_bound("Corollary 3.2", _distance(rho), _size(eps), _dimension(d), _count("n", n))


def theorem_4_2(rho: float, eps: float, d: int, N: int) -> RobustnessBound:
    """Theorem 4.2: a deep ReLU network of N units, d >= 2, x not in H: `p <= N exp(-d rho^2 / (2 eps^2))`.

    `rho > 0` is the distance of x to the boundary of its cell; p = 0 where rho >= eps. How the N units are
    arranged in layers does not matter.

    >>> theorem_4_2(rho=0.5, eps=2.0, d=784, N=521).log_misclassification
    -18.24424995824663
    """
    return _union_bound("Theorem 4.2", _off_H(rho), _size(eps), _dimension(d), _count("N", N))


def sufficient_distance(eps: float, d: int, N: int, *, log_delta: float) -> float:
    """The smallest float64 rho for which Theorem 4.2 proves p <= delta.

    `rho = eps min(1, sqrt(2 ln(N/delta) / d))`, rounded up.
    """
    eps, d, gap = _size(eps), _dimension(d), _gap(N, log_delta)
    return min(eps, _sqrt(2 * gap * Fraction(eps) ** 2 / d, up=True))


def largest_eps(rho: float, d: int, N: int, *, log_delta: float) -> float:
    """The largest float64 eps for which Theorem 4.2 proves p <= delta, as it then does for all smaller eps.

    `eps = rho max(1, sqrt(d / (2 ln(N/delta))))`, rounded down; `math.inf` where rho is (no hyperplane).
    """
    rho, d, gap = _off_H(rho), _dimension(d), _gap(N, log_delta)
    if rho == math.inf:
        return math.inf
    return max(rho, _sqrt(d * Fraction(rho) ** 2 / (2 * gap), up=False))


def sufficient_dimension(rho: float, eps: float, N: int, *, log_delta: float) -> int:
    """The smallest d >= 2 for which Theorem 4.2 proves p <= delta, rho and eps being those in R^d.

    `d = 2 eps^2 ln(N/delta) / rho^2`, rounded up; 2 where rho >= eps.
    """
    rho, eps, gap = _off_H(rho), _size(eps), _gap(N, log_delta)
    return 2 if rho >= eps else max(2, math.ceil(gap / _exponent(rho, eps, 1)))


def largest_unit_count(rho: float, eps: float, d: int, *, log_delta: float) -> int | float:
    """The largest N for which Theorem 4.2 proves p <= delta.

    `N = delta exp(d rho^2 / (2 eps^2))`, rounded down; 0 where not even one unit is allowed; `math.inf` where
    rho >= eps. Exact up to `MOST_UNITS` = 10**300, which is returned for every greater count (the true one
    may have more digits than memory holds).
    """
    rho, eps, d, log_delta = _off_H(rho), _size(eps), _dimension(d), _log_delta(log_delta)
    if rho >= eps:
        return math.inf
    log_N = Fraction(log_delta) + _exponent(rho, eps, d)
    if log_N < 0:
        return 0
    if _log_up(MOST_UNITS) <= log_N:
        return MOST_UNITS
    context = _decimal_context(digits=330)
    exp = context.exp(context.divide(Decimal(log_N.numerator), Decimal(log_N.denominator)))
    N = math.floor(exp)
    # exp errs by less than 1e-25: N is right, or one off where exp is that close to an integer.
    return next(n for n in (N + 1, N, N - 1) if _log_up(n) <= log_N)


def log_target(delta: float) -> float:
    """The natural logarithm of a wanted probability 0 < delta < 1, rounded down, to be passed as `log_delta`.

    >>> log_target(1e-300)
    -690.7755278982138
    """
    delta = _float64("delta", delta)
    if not 0.0 < delta < 1.0:
        raise InvalidInput(
            f"delta: expected a probability, 0 < delta < 1, got {delta!r}; at 1 or more, so at N or "
            "more, nothing is asked, and p = 0 is proved only where rho >= eps"
        )
    context = _decimal_context(digits=50)
    return _round_down(Fraction(context.next_minus(context.ln(Decimal(delta)))))


def _union_bound(statement: str, rho: float, eps: float, d: int, N: int) -> RobustnessBound:
    """`min(1, N exp(-d rho^2 / (2 eps^2)))`, and 0 where rho >= eps; arguments already checked."""
    if rho >= eps:
        return RobustnessBound(-math.inf, statement, exact=True)
    return RobustnessBound(min(0.0, _round_up(_log_up(N) - _exponent(rho, eps, d))), statement, exact=False)


def _exponent(rho: float, eps: float, d: int) -> Fraction:
    """`d rho^2 / (2 eps^2)`, exactly."""
    return d * (Fraction(rho) / Fraction(eps)) ** 2 / 2


def _gap(N: int, log_delta: float) -> Fraction:
    """`ln(N / delta)` > 0, rounded up."""
    return _log_up(_count("N", N)) - Fraction(_log_delta(log_delta))


def _log_up(N: int) -> Fraction:
    """ln N, rounded up, with digits enough to tell N from N + 1."""
    if N == 1:
        return Fraction(0)
    context = _decimal_context(digits=30 + N.bit_length() // 3)
    return Fraction(context.next_plus(context.ln(Decimal(N))))


def _decimal_context(digits: int) -> Context:
    return Context(prec=digits, Emin=MIN_EMIN, Emax=MAX_EMAX)


def _round_up(value: Fraction) -> float:
    """The smallest float64 that is not below `value`."""
    try:
        nearest = float(value)
    except OverflowError:
        return math.inf if value > 0 else -sys.float_info.max
    return math.nextafter(nearest, math.inf) if nearest < value else nearest


def _round_down(value: Fraction) -> float:
    """The largest float64 that is not above `value`."""
    return -_round_up(-value)


def _sqrt(value: Fraction, *, up: bool) -> float:
    """The square root of `value` > 0: the smallest float64 not below it (`up`), or the largest not above it.

    All float64 near the root are multiples of 2^-k: none lies strictly between the root and the multiples of
    2^-k on its two sides, so that rounding those rounds the root.
    """
    n, m = value.numerator, value.denominator
    k = max(0, 64 + (m.bit_length() - n.bit_length()) // 2)  # the integer root then has 63 bits or more
    root = math.isqrt((n << 2 * k) // m)
    if up:
        return _round_up(Fraction(root + (root**2 < value * 4**k), 2**k))
    return _round_down(Fraction(root, 2**k))


def _float64(name: str, value: float) -> float:
    """`value` as a float, if it is a real number that float64 holds exactly; NaN is not."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidInput(f"{name}: expected a real number, got {value!r}; pass a float")
    try:
        number = float(value)
    except OverflowError:
        number = math.nan
    if number != value:
        raise InvalidInput(
            f"{name}: expected a number that float64 holds exactly, got {value!r}; round it to the safe side"
        )
    return number


def _distance(rho: float) -> float:
    rho = _float64("rho", rho)
    if rho < 0.0:
        raise InvalidInput(f"rho: expected a distance >= 0, got {rho!r}; pass its absolute value")
    return rho


def _off_H(rho: float) -> float:
    rho = _distance(rho)
    if rho == 0.0:
        raise InvalidInput(
            "rho: expected a distance > 0, got 0.0: x lies on H, the boundary of its cell; Theorem 4.2 says "
            "nothing there, take another x or report p <= 1"
        )
    return rho


def _size(eps: float) -> float:
    eps = _float64("eps", eps)
    if not 0.0 < eps < math.inf:
        raise InvalidInput(f"eps: expected a length, 0 < eps < inf, got {eps!r}; pass the size of the perturbation")
    return eps


def _log_delta(log_delta: float) -> float:
    log_delta = _float64("log_delta", log_delta)
    if not -math.inf < log_delta < 0.0:
        raise InvalidInput(
            "log_delta: expected the natural logarithm of a probability below 1, a finite number < 0, got "
            f"{log_delta!r}; if this is the probability delta itself, pass log_delta=log_target(delta)"
        )
    return log_delta


def _dimension(d: int) -> int:
    return _integer("d", d, least=2, remedy="for d = 1 evaluate the network at both points")


def _count(name: str, value: int) -> int:
    return _integer(name, value, least=1, remedy="the output unit counts")


def _integer(name: str, value: int, least: int, remedy: str) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InvalidInput(f"{name}: expected an integer, got {value!r}; pass an int")
    if value < least:
        raise InvalidInput(f"{name}: expected an integer >= {least}, got {value!r}; {remedy}")
    return int(value)
