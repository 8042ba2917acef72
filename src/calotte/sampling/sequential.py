"""Sequential: is p <= delta? Sampling that stops as soon as it knows, at a level that survives the stopping.

Let k of the first n draws be misclassified. Under the true p the likelihood ratio against a mixture over q,

    M_n(p) = integral of q^k (1 - q)^(n - k) dB(q) / (p^k (1 - p)^(n - k)),   B = Beta(a, b),

is a non-negative martingale that starts at 1, so with probability at least `confidence` it never reaches
1 / (1 - confidence), at no n (Ville 1939). The p with M_n(p) < 1 / (1 - confidence) form an interval around k / n,
and all these intervals together hold the true p with that probability: a confidence sequence (Robbins, Ann. Math.
Statist. 41, 1970). "Yes" is said once it lies below delta, "no" once it lies above. a = 1/2, and b puts the mean of
the mixture on delta, where the question is decided. See docs/sampling.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy import special

from calotte.assumptions import LOG_BETA_ERROR
from calotte.bound import Decided
from calotte.errors import InvalidInput
from calotte.settings import check_delta

__all__ = ["Outcome", "decide", "least_samples", "log_martingale", "upper_limit"]

_A = 0.5


@dataclass(frozen=True)
class Outcome:
    """What sampling found out about p <= delta.

    Attributes:
        decision: "yes" (p <= delta) or "no" (p > delta), each wrong with probability at most 1 - confidence, or
            "undecided" where the draws ran out.
        samples, misclassified: draws looked at, and how many of them count.
        log_upper: logarithm of the upper end of the confidence sequence, rounded up: an upper bound on log p at the
            same confidence, at whatever time sampling stopped.
    """

    decision: Decided
    samples: int
    misclassified: int
    log_upper: float


def decide(counts: Iterable[tuple[int, int]], delta: float, confidence: float) -> Outcome:
    """Decide p <= delta from running counts, looking at each of them.

    Args:
        counts: (draws so far, misclassified so far), both never falling: as a rule after every chunk of draws.
        delta: the probability asked about, strictly between 0 and 1.
        confidence: of the answer.

    Raises:
        InvalidInput: delta or confidence that make no sense, or counts that do not.
    """
    check_delta(delta)
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence must lie strictly between 0 and 1, came {confidence}")
    n = k = 0
    decision: Decided = "undecided"
    for n_next, k_next in counts:
        if not (n <= n_next and 0 <= k_next - k <= n_next - n):
            raise InvalidInput(f"{k_next} of {n_next} draws cannot follow {k} of {n}")
        n, k = n_next, k_next
        if rejected(k, n, delta, delta, confidence):
            decision = "yes" if k < delta * n else "no"
            break
    return Outcome(decision, n, k, upper_limit(k, n, delta, confidence))


def log_martingale(k: int, n: int, p: float, delta: float) -> tuple[float, float]:
    """log M_n(p) with the mixture that is meant for delta, and a bound on its rounding error."""
    b = _A * (1.0 - delta) / delta
    mixed, prior = special.betaln(_A + k, b + n - k), special.betaln(_A, b)
    likelihood = special.xlogy(k, p) + special.xlog1py(n - k, -p)
    # betaln is a difference of three log gammas as large as that of all their arguments together
    error = LOG_BETA_ERROR * (special.gammaln(_A + b + n) + abs(mixed) + abs(prior) + abs(likelihood)) + 1e-12
    return float(mixed - prior - likelihood), float(error)


def rejected(k: int, n: int, p: float, delta: float, confidence: float) -> bool:
    """Whether p is outside of the confidence sequence for certain."""
    value, error = log_martingale(k, n, p, delta)
    return value - error >= -math.log1p(-confidence)


def upper_limit(k: int, n: int, delta: float, confidence: float) -> float:
    """Logarithm of the upper end of the confidence sequence after k of n draws, rounded up; 0 where that is 1."""
    if n == 0 or k >= n:
        return 0.0
    # rejection goes on from its first p above k / n: log M is convex in p with its minimum there
    low, high = math.log(max(k / n, 1e-300)), 0.0
    for _ in range(100):
        middle = (low + high) / 2
        if rejected(k, n, math.exp(middle), delta, confidence):
            high = middle
        else:
            low = middle
    return min(0.0, high + 1e-12 * abs(high) + 1e-15) if high < 0 else 0.0


def least_samples(delta: float, confidence: float) -> float:
    """The least number of draws after which "yes" can be said: with none of them misclassified; inf beyond 2^62."""
    low, high = 0, 1
    while not rejected(0, high, delta, delta, confidence):
        low, high = high, 2 * high
        if high > 2**62:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rejected(0, middle, delta, delta, confidence) else (middle, high)
    return high
