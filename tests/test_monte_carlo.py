"""Monte Carlo: Clopper and Pearson's bound against exact binomial sums, draws against each other and the truth."""

import itertools
import math
from fractions import Fraction
from itertools import pairwise

import mpmath
import pytest
import torch
from zoo import dense, points, random_dense, residual

from calotte.assess import assess
from calotte.bounds import Problem
from calotte.cells.geometry import Geometry
from calotte.errors import InvalidInput
from calotte.network.graph import Network
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.sampling import monte_carlo
from calotte.sampling.monte_carlo import CHUNK, clopper_pearson, count_misclassified, misclassified, sampled_outputs
from calotte.settings import Settings

NOISES = [Sphere(1.5), Ball(2.0), Gaussian(0.5)]


def binomial_cdf(k: int, n: int, p: mpmath.mpf) -> mpmath.mpf:
    """P[Binomial(n, p) <= k] by summing its terms."""
    total = term = (1 - p) ** n
    for j in range(k):
        term = term * (n - j) / (j + 1) * p / (1 - p)
        total += term
    return total


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.999, 1 - 1e-9, 1e-6])
@pytest.mark.parametrize("n", [1, 2, 17, 1000, 10_000, 10**7])
def test_clopper_pearson_against_binomial_sums(n: int, confidence: float) -> None:
    """At the bound the count is as unlikely as stated, or more so; a hair below the bound it is not."""
    with mpmath.workdps(50):
        level = 1 - mpmath.mpf(confidence)
        for k in sorted({0, 1, 2, 10, n // 3, n - 1} & set(range(min(n, 5000)))):
            log_p = clopper_pearson(k, n, confidence)
            assert log_p <= 0
            p = mpmath.exp(log_p)
            assert p == 1 or binomial_cdf(k, n, p) <= level
            assert binomial_cdf(k, n, p * (1 - mpmath.mpf("1e-8"))) > level


def test_clopper_pearson_in_fractions() -> None:
    """One of three at 95 %, in rational arithmetic: (1-p)^3 + 3 p (1-p)^2 = 5 %."""
    p = Fraction(math.exp(clopper_pearson(1, 3, 0.95)))
    assert (1 - p) ** 3 + 3 * p * (1 - p) ** 2 == pytest.approx(0.05, rel=1e-7)
    assert p == pytest.approx(0.8646, abs=1e-4)


def test_ends_of_clopper_pearson() -> None:
    assert clopper_pearson(7, 7, 0.999) == 0.0
    assert clopper_pearson(0, 10**9, 0.999) == pytest.approx(math.log(-math.log(0.001) / 1e9), abs=1e-6)
    found = [clopper_pearson(k, 50, 0.99) for k in range(51)]
    assert found == sorted(found)


def problem(net: Network, x: torch.Tensor, noise: Noise, settings: Settings | None = None) -> Problem:
    return Problem(Geometry(net, noise.map), x, list(range(len(x))), noise, settings or Settings())


@pytest.mark.parametrize("noise", NOISES)
def test_one_perceptron(noise: Noise) -> None:
    """x_1 >= 0.6 is a half-space: its measure is known, and 400 bounds cover it as often as they promise."""
    for d in (2, 9):
        net = dense(([[-2.0, *[0.0] * (d - 1)]], [1.2]))
        p = math.exp(noise.log_tail(torch.tensor([0.6], dtype=torch.float64), d).item())
        n = 40_000
        count = count_misclassified(problem(net, torch.zeros(1, d).double(), noise), 0, n)
        assert abs(count / n - p) <= 4 * math.sqrt(p * (1 - p) / n)
        x, settings = torch.zeros(400, d).double(), Settings(samples=200, confidence=0.9, search=False)
        bounds = [a.bounds[0] for a in assess(net, x, noise, rungs=["sampling"], settings=settings)]
        covered = sum(math.log(p) <= bound.log_misclassification for bound in bounds)
        assert 400 * 0.9 - 4 * math.sqrt(400 * 0.09) <= covered < 400
        assert len({bound.misclassified for bound in bounds}) > 10, "every input has draws of its own"


NETWORKS = {
    "d > n": random_dense((30, 5, 4, 3), 1),
    "d <= n": random_dense((3, 8, 2), 2),
    "linear": random_dense((6, 3), 3),
    "residual": residual(4, 3, 4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_numbers_depend_on_the_seed_and_the_index_alone(name: str) -> None:
    net = NETWORKS[name]
    x, settings = points(9, net.d, 5), Settings(samples=1500, seed=3, search=False)

    def counts(rows: list[int], seed: int = 3, memory_limit: float = 2e9) -> dict[int, tuple]:
        chosen = Settings(samples=1500, seed=seed, memory_limit=memory_limit, search=False)
        found = assess(net, x[rows], Sphere(2.0), index=rows, rungs=["sampling"], settings=chosen)
        return {a.index: (a.bounds[0].misclassified, a.bounds[0].log_misclassification) for a in found}

    whole = counts(list(range(9)))
    assert len({count for count, _ in whole.values()}) > 3
    assert counts([7, 2, 4]) == {i: whole[i] for i in (7, 2, 4)}
    assert counts(list(range(9))[::-1]) == whole
    assert counts(list(range(9)), memory_limit=1.0) == whole
    for i in range(9):
        assert counts([i]) == {i: whole[i]}
    assert counts(list(range(9)), seed=4) != whole
    alone = assess(net, x[:3], Sphere(2.0), rungs=["cell", "sampling"], settings=settings)
    assert [a.bounds[-1].misclassified for a in alone] == [whole[i][0] for i in range(3)]


def test_more_samples_go_on_where_fewer_stopped() -> None:
    net = NETWORKS["d > n"]
    case = problem(net, points(1, 30, 6), Sphere(3.0))
    counts = [count_misclassified(case, 0, n) for n in range(CHUNK - 3, CHUNK + 400)]
    steps = {after - before for before, after in pairwise(counts)}
    assert steps == {0, 1}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("name", ["d > n", "d <= n", "linear"])
def test_draws_in_the_row_space_are_draws_in_the_whole_space(noise: Noise, name: str) -> None:
    net, n = NETWORKS[name], 30_000
    scale = torch.linspace(0.0, 2.0, net.d, dtype=torch.float64)
    compared = 0
    for chosen in (noise, type(noise)(noise.size, scale), type(noise)(noise.size, points(net.d, net.d + 3, 7))):
        for x in points(2, net.d, 8):
            near = problem(net, x[None], chosen)
            count = count_misclassified(near, 0, n)
            draws = chosen.sample(n, net.d, torch.Generator().manual_seed(9))
            other = int((net.predict(x + draws) != net.predict(x[None])).sum())
            p = (count + other) / (2 * n)
            assert abs(count - other) <= 4 * math.sqrt(2 * n * p * (1 - p))
            compared += 0.001 < p < 0.999
            streamed = problem(net, x[None], chosen)
            streamed.geometry.chain = None
            again = count_misclassified(streamed, 0, n)
            assert abs(again - other) <= 4 * math.sqrt(2 * n * p * (1 - p)) + 1
    assert compared >= 3


def hostile() -> Network:
    """c x_1 + x_2 - c x_1 with c = 3e3: float32 loses digits of it, and is wrong near the boundary."""
    weight = [[3e3, 1.0], [3e3, 0.0], [-3e3, -1.0], [-3e3, 0.0]]
    return dense((weight, [1.0, 0.0, -1.0, 0.0]), ([[1.0, -1.0, -1.0, 1.0]], None))


@pytest.mark.parametrize("name", [*NETWORKS, "hostile"])
def test_float32_gives_the_answers_of_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw for draw, also where float32 alone gives others; and it does most of the work where it can."""
    net = hostile() if name == "hostile" else NETWORKS[name]
    rechecked = asked = naive = 0
    real = monte_carlo.Draws.outputs

    def counted(self, noise):
        nonlocal rechecked
        rechecked += len(noise)
        return real(self, noise)

    monkeypatch.setattr(monte_carlo.Draws, "outputs", counted)
    for noise in (Sphere(2.0), Gaussian(0.7)):
        for index in range(2):
            case = Problem(Geometry(net), points(1, net.d, index), [index], noise, Settings())
            found = torch.cat(list(itertools.islice(misclassified(case, 0), 12)))
            asked += len(found)
            draws = monte_carlo.Draws(case, 0)
            chunks = list(itertools.islice(draws.chunks(), 12))
            exact = torch.cat([net.decision.decide(real(draws, c)) for c in chunks])
            assert torch.equal(found, exact != case.predicted[0])
            single = torch.cat([net.decision.decide(draws.outputs_in_single(c)) for c in chunks])
            naive += int((single != exact).sum())
    assert rechecked < 0.2 * asked
    assert (naive > 0) == (name == "hostile")


def test_less_memory_takes_smaller_steps_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net, sizes = residual(12, 3, 4), []
    real = Network.forward

    def watched(self: Network, x: torch.Tensor, start: int = 0) -> torch.Tensor:
        sizes.append(len(x))
        return real(self, x, start)

    monkeypatch.setattr(Network, "forward", watched)
    counts = []
    for memory in (2e9, 40_000.0):
        case = Problem(Geometry(net), points(1, net.d, 3), [0], Sphere(2.0), Settings(memory_limit=memory))
        counts.append(count_misclassified(case, 0, 3000))
        sizes.append(0)
    assert counts[0] == counts[1] > 0
    end = sizes.index(0)
    assert max(sizes[:end]) == CHUNK
    assert 1 < max(sizes[end:]) < 100


def test_devices_that_are_not_there_are_refused() -> None:
    net = NETWORKS["d > n"]
    for device in ("tpu", *(() if torch.cuda.is_available() else ("cuda",))):
        with pytest.raises(InvalidInput, match=device):
            assess(net, points(1, 30, 10), Sphere(1.0), rungs=["sampling"], settings=Settings(device=device))


def test_where_float32_says_nothing_everything_is_float64() -> None:
    net = dense(([[1e30, 0.0], [0.0, 1e30]], [0.0, 0.0]), ([[1e30, -1e30]], [1.0]))
    case = Problem(Geometry(net), points(1, 2, 3), [0], Sphere(2.0), Settings())
    found = torch.cat(list(itertools.islice(misclassified(case, 0), 3)))
    exact = torch.cat([net.decision.decide(z) for z in itertools.islice(sampled_outputs(case, 0), 3)])
    assert torch.equal(found, exact != case.predicted[0])


def test_a_time_limit_skips_the_rung() -> None:
    net = NETWORKS["d > n"]
    settings = Settings(samples=10**7, time_limit=1e-9)
    (bound,) = assess(net, points(1, 30, 10), Sphere(1.0), rungs=["sampling"], settings=settings)[0].bounds
    assert "time limit" in bound.skipped
    assert bound.log_misclassification == 0.0
    assert bound.to_dict() == {"rung": "sampling", "skipped": bound.skipped}


def test_what_a_sampled_bound_says() -> None:
    net = NETWORKS["d <= n"]
    (bound,) = assess(net, points(1, 3, 11), Sphere(1.0), rungs=["sampling"])[0].bounds
    assert bound.guarantee == "confidence"
    assert (bound.confidence, bound.samples) == (0.999, 10_000)
    assert bound.log_misclassification == clopper_pearson(bound.misclassified, 10_000, 0.999)
    entry = bound.to_dict()
    assert entry["log_misclassification"] == bound.log_misclassification
    assert entry["misclassified"] == bound.misclassified
