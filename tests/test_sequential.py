"""Sampling that stops: its martingale in exact arithmetic, its level under optional stopping, its answers."""

from __future__ import annotations

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from zoo import dense, points, random_dense

from calotte.assess import assess
from calotte.cells.hyperplanes import Hyperplanes
from calotte.errors import InvalidInput
from calotte.network.graph import Network
from calotte.noise import Sphere
from calotte.query import Query
from calotte.sampling.monte_carlo import running_counts
from calotte.sampling.sequential import decide, least_samples, log_martingale, upper_limit
from calotte.settings import Settings

CHUNK = 1024


def exact_martingale(k: int, n: int, p: mpmath.mpf, delta: float) -> mpmath.mpf:
    """The mixture likelihood ratio by its definition, the integral over q."""
    a = mpmath.mpf(1) / 2
    b = a * (1 - mpmath.mpf(delta)) / mpmath.mpf(delta)
    whole = mpmath.quad(lambda q: q ** (k + a - 1) * (1 - q) ** (n - k + b - 1), [0, mpmath.mpf(k + 1) / (n + 2), 1])
    return whole / mpmath.beta(a, b) / (p**k * (1 - p) ** (n - k))


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 40), (3, 40), (40, 40), (2, 300)])
@pytest.mark.parametrize("delta", [0.01, 0.3])
def test_the_martingale_against_its_integral(k: int, n: int, delta: float) -> None:
    with mpmath.workdps(30):
        for p in (0.002, delta, 0.7):
            value, error = log_martingale(k, n, p, delta)
            assert 0 < error < 1e-9
            assert value == pytest.approx(float(mpmath.log(exact_martingale(k, n, mpmath.mpf(p), delta))), abs=1e-9)


@pytest.mark.parametrize("n", [10**4, 10**6, 10**9])
@pytest.mark.parametrize("delta", [1e-9, 1e-3, 0.4])
def test_the_stated_error_of_the_martingale_holds(n: int, delta: float) -> None:
    with mpmath.workdps(60):
        a = mpmath.mpf(1) / 2
        b = mpmath.mpf(0.5 * (1.0 - delta) / delta)
        for k in (0, 1, 7, int(delta * n), n // 3, n):
            for p in (delta, min(1 - 1e-9, (k + 1) / n), 0.9):
                q = mpmath.mpf(p)
                exact = mpmath.loggamma(a + k) + mpmath.loggamma(b + n - k) - mpmath.loggamma(a + b + n)
                exact -= mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)
                exact -= k * mpmath.log(q) + (n - k) * mpmath.log1p(-q)
                value, error = log_martingale(k, n, p, delta)
                assert abs(mpmath.mpf(value) - exact) <= error


def test_it_is_a_martingale() -> None:
    """Under p, the mean of the next value is the value now: p M(k + 1, n + 1) + (1 - p) M(k, n + 1) = M(k, n)."""
    for delta, p in ((0.1, 0.1), (0.01, 0.2), (0.5, 0.03)):
        for k, n in ((0, 0), (0, 5), (2, 7), (30, 100)):
            after = [math.exp(log_martingale(k + hit, n + 1, p, delta)[0]) for hit in (1, 0)]
            assert p * after[0] + (1 - p) * after[1] == pytest.approx(math.exp(log_martingale(k, n, p, delta)[0]))
    assert log_martingale(0, 0, 0.1, 0.1)[0] == 0.0


def walks(p: float, n: int, count: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((count, n)) < p).cumsum(1)


@pytest.mark.parametrize("share", [1.0, 1.05, 1.3])
@pytest.mark.parametrize("delta", [0.02, 0.3])
def test_wrong_answers_are_as_rare_as_promised_though_it_looks_after_every_draw(share: float, delta: float) -> None:
    """p slightly above delta: "yes" is wrong; and as far below it "no" is.

    200 runs at confidence 0.8, which the test below shows to be enough.
    """
    confidence, runs, n = 0.8, 200, 450
    for p, wrong in ((delta * share, "yes"), (delta / share, "no")):
        if share == 1.0 and wrong == "yes":
            continue  # p = delta: "yes" is right
        found = [decide(enumerate(row, 1), delta, confidence) for row in walks(p, n, runs, 1)]
        errors = sum(one.decision == wrong for one in found)
        assert errors <= runs * (1 - confidence) + 4 * math.sqrt(runs * 0.16)
        above = sum(one.log_upper < math.log(p) for one in found)  # whenever it stopped
        assert above <= runs * (1 - confidence) + 4 * math.sqrt(runs * 0.16)


def test_a_fixed_number_bound_would_not_survive_the_stopping() -> None:
    """The test above has teeth: stopping at the first good look breaks Clopper and Pearson's bound."""
    from calotte.sampling.monte_carlo import clopper_pearson

    p, confidence, runs = 0.3, 0.8, 200
    broken = sum(
        any(clopper_pearson(int(k), n, confidence) < math.log(p) for n, k in enumerate(row, 1) if n % 5 == 0)
        for row in walks(p, 450, runs, 2)
    )
    assert broken > runs * (1 - confidence) + 4 * math.sqrt(runs * 0.16)


def test_easy_questions_are_answered_early() -> None:
    delta, confidence = 1e-3, 0.999
    least = least_samples(delta, confidence)
    assert -math.log(1 - confidence) / delta < least < 9.0 / delta  # 6,908 is the least of any test
    assert decide([(least - 1, 0)], delta, confidence).decision == "undecided"
    yes = decide(((n, 0) for n in range(1, 10**6)), delta, confidence)
    assert (yes.decision, yes.samples) == ("yes", least)
    assert math.log(delta) - 1e-3 < yes.log_upper <= math.log(delta)
    no = decide(((n, n) for n in range(1, 10**6)), delta, confidence)
    assert no.decision == "no"
    assert no.samples < 10
    assert no.log_upper == 0.0
    halves = decide([(100, 50), (200, 100)], 0.5, confidence)
    assert halves.decision == "undecided"
    assert math.log(0.5) < halves.log_upper < math.log(0.7)


def test_the_upper_limit_falls_with_draws_and_rises_with_errors() -> None:
    limits = [upper_limit(0, n, 1e-3, 0.999) for n in (1, 10, 100, 1000, 10**4, 10**5, 10**6)]
    assert all(a >= b for a, b in pairwise(limits))
    limits = [upper_limit(k, 1000, 1e-2, 0.99) for k in range(0, 1001, 50)]
    assert all(a <= b for a, b in pairwise(limits))
    assert all(limit > math.log(max(k, 1) / 1000) for k, limit in zip(range(0, 1000, 50), limits, strict=False))
    assert upper_limit(0, 0, 0.1, 0.9) == 0.0


@pytest.mark.parametrize(
    ("delta", "confidence", "counts", "message"),
    [
        (0.0, 0.9, [], "delta"),
        (1.0, 0.9, [], "delta"),
        (math.nan, 0.9, [], "delta"),
        (0.1, 1.0, [], "confidence"),
        (0.1, 0.9, [(5, 6)], "6 of 5 draws cannot follow 0 of 0"),
        (0.1, 0.9, [(5, 1), (4, 1)], "cannot follow"),
        (0.1, 0.9, [(5, 1), (6, 0)], "cannot follow"),
    ],
)
def test_what_makes_no_sense_is_refused(delta: float, confidence: float, counts: list, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        decide(counts, delta, confidence)


def half_space() -> Network:
    """x_1 >= 0.6 is misclassified at 0."""
    return dense(([[-2.0, *[0.0] * 8]], [1.2]))


def test_assess_stops_as_soon_as_it_knows() -> None:
    noise, x = Sphere(1.5), torch.zeros(1, 9).double()
    p = math.exp(noise.log_tail(torch.tensor([0.6], dtype=torch.float64), 9).item())
    answers = {}
    for factor in (0.2, 0.9999, 4.0):
        settings = Settings(samples=20_000, delta=factor * p, seed=3)
        (bound,) = assess(half_space(), x, noise, rungs=["sampling"], settings=settings)[0].bounds
        answers[factor] = bound
        entry = bound.to_dict()
        assert (entry["decision"], entry["delta"]) == (bound.decision, factor * p)
        assert entry["samples"] == bound.samples
        assert bound.samples % CHUNK == 0 or bound.samples == 20_000
        assert math.log(p) < bound.log_misclassification < math.log(2 * p)
    assert [answers[f].decision for f in (0.2, 0.9999, 4.0)] == ["no", "undecided", "yes"]
    assert answers[0.9999].samples == 20_000 > 4 * max(answers[0.2].samples, answers[4.0].samples)
    plain = assess(half_space(), x, noise, rungs=["sampling"], settings=Settings(samples=500))[0].bounds[0].to_dict()
    assert set(plain) == {
        "rung", "guarantee", "confidence", "log_misclassification", "certain", "samples", "misclassified", "seconds",
    }  # fmt: skip


def test_the_same_whatever_the_batch() -> None:
    net = random_dense((30, 5, 4, 3), 1)
    x = points(7, 30, 5)

    def found(rows: list[int], memory: float = 2e9) -> dict:
        settings = Settings(samples=6000, delta=0.05, seed=2, memory_limit=memory, search=False)
        each = assess(net, x[rows], Sphere(2.0), index=rows, rungs=["sampling"], settings=settings)
        return {a.index: (a.bounds[0].decision, a.bounds[0].samples, a.bounds[0].misclassified) for a in each}

    whole = found(list(range(7)))
    assert len({decision for decision, _, _ in whole.values()}) > 1
    assert found([6, 2]) == {i: whole[i] for i in (6, 2)}
    assert found(list(range(7)), 1.0) == whole


def test_a_time_limit_that_leaves_no_draw_decides_nothing() -> None:
    settings = Settings(samples=10**8, delta=1e-7, time_limit=1e-9, search=False)
    (bound,) = assess(half_space(), torch.zeros(1, 9), Sphere(1.5), rungs=["sampling"], settings=settings)[0].bounds
    assert "time limit" in bound.skipped


def test_running_counts_end_at_the_budget() -> None:
    case = Query(Hyperplanes(half_space()), torch.zeros(1, 9).double(), [0], Sphere(1.5), Settings())
    counts = list(running_counts(case, 0, 2 * CHUNK + 5))
    assert [n for n, _ in counts] == [CHUNK, 2 * CHUNK, 2 * CHUNK + 5]
    assert [k for _, k in counts] == sorted(k for _, k in counts)
