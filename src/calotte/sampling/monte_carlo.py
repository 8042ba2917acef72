"""Monte Carlo: the misclassification probability by sampling, with a one-sided confidence bound."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from scipy import special

from calotte.assumptions import BETA_QUANTILE_ERROR
from calotte.bound import Bound, Rung
from calotte.deadline import OutOfTime
from calotte.query import Query
from calotte.sampling.draws import Draws
from calotte.sampling.sequential import decide, upper_limit
from calotte.streams import Stream

__all__ = ["SAMPLING", "bound_of_draws", "clopper_pearson", "count_misclassified", "out_of_time", "running_counts"]

_COMPLETE = 0.9  # of the error probability that goes to runs that the clock does not stop


def running_counts(query: Query, i: int, samples: int) -> Iterator[tuple[int, int]]:
    """Draws so far, and how many of them change the answer of input i, after each chunk until there are `samples`.

    Where the deadline of the query comes first, the last pair counts all passes that were finished.
    """
    draws = Draws(query, i, Stream.DRAWS)
    drawn = count = 0
    for noise in draws.noise(samples):
        try:
            for wrong in draws.wrong(noise):
                drawn, count = drawn + len(wrong), count + int(wrong.sum())
        except OutOfTime:
            yield drawn, count
            return
        yield drawn, count


def count_misclassified(query: Query, i: int, samples: int) -> int | None:
    """How many of the first `samples` draws change the answer of input i; None past the query's deadline."""
    drawn = count = 0
    for drawn, count in running_counts(query, i, samples):  # noqa: B007
        pass
    return count if drawn >= samples else None


def clopper_pearson(misclassified: int, samples: int, confidence: float) -> float:
    """One-sided Clopper-Pearson upper bound on a probability, at level `confidence`, as a logarithm.

    The p with P[Binomial(samples, p) <= misclassified] = 1 - confidence (Clopper and Pearson, Biometrika 1934),
    rounded up; 0.0 where all samples were misclassified.
    """
    if misclassified >= samples:
        return 0.0
    if misclassified == 0:
        log_p = math.log(-math.expm1(math.log1p(-confidence) / samples))
    else:
        log_p = math.log(special.betaincinv(misclassified + 1, samples - misclassified, confidence))
    return min(0.0, log_p + BETA_QUANTILE_ERROR * max(1.0, samples / 1e7))


def bound_of_draws(misclassified: int, drawn: int, samples: int, confidence: float, limited: bool) -> float:
    """Logarithm of an upper bound on a probability after `drawn` of `samples` draws, rounded up.

    Clopper and Pearson's where all were made. Where the clock stopped them it is the lower of the upper ends of two
    confidence sequences, one meant for rare errors and one for all others: it holds whenever sampling stops, even if
    the time that a draw takes depends on what it shows. So may then whether all are made: where time is `limited`,
    Clopper and Pearson get nine tenths of the error probability, and the sequences share the rest.
    """
    alpha = 1.0 - confidence
    if drawn == samples:
        return clopper_pearson(misclassified, samples, 1.0 - _COMPLETE * alpha if limited else confidence)
    rare, each = math.exp(clopper_pearson(0, samples, confidence)), 1.0 - (1.0 - _COMPLETE) * alpha / 2
    return min(upper_limit(misclassified, drawn, meant_for, each) for meant_for in (rare, 0.5))


def out_of_time(query: Query, drawn: int) -> str:
    """Why there are no more draws."""
    return f"time limit of {query.deadline.limit:g} s reached after {drawn} of {query.settings.samples} samples"


@dataclass(frozen=True)
class MonteCarlo(Rung):
    """Rung `sampling`: counts misclassified draws and bounds p with confidence.

    With a delta in the settings it stops once it can say whether p <= delta (`calotte.sampling.sequential`).
    """

    def bound(self, query: Query) -> list[Bound]:
        return [self.bound_one(query, i) for i in range(len(query.x))]

    def bound_one(self, query: Query, i: int) -> Bound:
        """The bound for input i of the query."""
        settings, start = query.settings, time.perf_counter()
        counts, decision = running_counts(query, i, settings.samples), None
        if settings.delta is not None:
            found = decide(counts, settings.delta, settings.confidence)
            drawn, wrong, log_p, decision = found.samples, found.misclassified, found.log_upper, found.decision
        else:
            drawn, wrong = list(counts)[-1]
            limited = math.isfinite(query.deadline.limit)
            log_p = bound_of_draws(wrong, drawn, settings.samples, settings.confidence, limited)
        reason = None
        if drawn < settings.samples and decision in (None, "undecided"):
            reason = out_of_time(query, drawn)
        if drawn == 0:
            return Bound(self.name, "confidence", 0.0, skipped=reason)
        return Bound(
            self.name,
            "confidence",
            log_p,
            time.perf_counter() - start,
            settings.confidence,
            drawn,
            wrong,
            settings.delta,
            decision,
            cut_short=reason,
        )


SAMPLING = MonteCarlo(
    "sampling",
    "p is below the one-sided Clopper-Pearson bound with probability at least the stated confidence, per input",
    "Clopper and Pearson, Biometrika 26 (1934)",
)
