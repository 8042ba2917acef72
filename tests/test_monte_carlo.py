"""Monte Carlo: Clopper and Pearson's bound against exact binomial sums, draws against each other and the truth."""

import math
import time
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from zoo import dense, points, random_dense, residual

from calotte.assess import assess
from calotte.cells.hyperplanes import Hyperplanes
from calotte.errors import InvalidInput
from calotte.network.graph import Network
from calotte.network.single import converted
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.query import Query
from calotte.sampling.draws import Draws, Noisy, chunk_size
from calotte.sampling.monte_carlo import SAMPLING, bound_of_draws, clopper_pearson, count_misclassified
from calotte.settings import Settings
from calotte.streams import Stream, generator

CHUNK = 1024  # draws that share a generator in small dimensions

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


def query(net: Network, x: torch.Tensor, noise: Noise, settings: Settings | None = None) -> Query:
    return Query(Hyperplanes(net, noise.map), x, list(range(len(x))), noise, settings or Settings())


@pytest.mark.parametrize("noise", NOISES)
def test_one_perceptron(noise: Noise) -> None:
    """x_1 >= 0.6 is a half-space: its measure is known, and 400 bounds cover it as often as they promise."""
    for d in (2, 9):
        net = dense(([[-2.0, *[0.0] * (d - 1)]], [1.2]))
        p = math.exp(noise.log_tail(torch.tensor([0.6], dtype=torch.float64), d).item())
        n = 40_000
        count = count_misclassified(query(net, torch.zeros(1, d).double(), noise), 0, n)
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
    case = query(net, points(1, 30, 6), Sphere(3.0))
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
            near = query(net, x[None], chosen)
            count = count_misclassified(near, 0, n)
            draws = chosen.sample(n, net.d, torch.Generator().manual_seed(9))
            other = int((net.predict(x + draws) != net.predict(x[None])).sum())
            p = (count + other) / (2 * n)
            assert abs(count - other) <= 4 * math.sqrt(2 * n * p * (1 - p))
            compared += 0.001 < p < 0.999
            streamed = query(net, x[None], chosen)
            streamed.hyperplanes.chain = None
            again = count_misclassified(streamed, 0, n)
            assert abs(again - other) <= 4 * math.sqrt(2 * n * p * (1 - p)) + 1
    assert compared >= 3


def cancelling(s: float) -> Network:
    """1 - K (B + 1) relu(u - s) + K B relu(u - s): in float32 1 wherever the unit is on."""
    large, k = 2.0**40, 1e3
    return dense(([[1.0, 0.0], [1.0, 0.0]], [-s, -s]), ([[-k * (large + 1), k * large]], [1.0]))


def test_the_level_holds_on_networks_built_against_float32() -> None:
    """150 seeds at 0.999: no bound is below the true p (67 were while float32 settled draws)."""
    noise, log_p = Gaussian(1.0), math.log(1e-3)
    s = noise.tail_quantile(torch.tensor([log_p]).double(), 2).item() - 1e-3
    hyperplanes = Hyperplanes(cancelling(s))
    for seed in range(150):
        settings = Settings(samples=20_000, seed=seed)
        (bound,) = SAMPLING.bound(Query(hyperplanes, torch.zeros(1, 2).double(), [0], noise, settings))
        assert bound.log_misclassification >= log_p
    single = converted(hyperplanes.network, torch.float32)
    beyond = torch.tensor([[s + 0.01, 0.0]]).double()
    assert hyperplanes.network.predict(beyond) != single.predict(beyond.float()), "the network is hostile"


@pytest.mark.parametrize("chain", [True, False])
@pytest.mark.parametrize("scale", [1e200, 1e307])
def test_outputs_that_are_not_finite_count_as_wrong(scale: float, chain: bool) -> None:
    """Weights 1e200: beyond x_1 = 0 both outputs overflow to inf or NaN, which is half of all noise."""
    net = dense(([[scale, 0.0]], None), ([[scale], [-scale]], [1.0, 0.0]))
    case = query(net, torch.tensor([[-1e-300, 0.0]]).double(), Sphere(1.0), Settings(samples=4000))
    assert case.predicted.tolist() == [0]
    if not chain:
        case.hyperplanes.chain = None
    (bound,) = SAMPLING.bound(case)
    assert abs(bound.misclassified - 2000) < 4 * math.sqrt(1000)
    assert bound.log_misclassification > math.log(0.5)


def watched_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the forward passes to come."""
    sizes: list[int] = []
    real = Network.forward

    def watched(self: Network, x: torch.Tensor, start: int = 0) -> torch.Tensor:
        sizes.append(len(x))
        return real(self, x, start)

    monkeypatch.setattr(Network, "forward", watched)
    return sizes


def test_less_memory_takes_smaller_steps_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net, sizes, counts = residual(12, 3, 4), [], []
    for memory in (2e9, 40_000.0):
        case = query(net, points(1, net.d, 3), Sphere(2.0), Settings(memory_limit=memory))
        assert len(case.predicted) == 1  # a forward pass of its own
        sizes.append(watched_passes(monkeypatch))
        counts.append(count_misclassified(case, 0, 3000))
    assert counts[0] == counts[1] > 0
    assert max(sizes[0]) == CHUNK
    assert 1 < max(sizes[1]) < 100


@pytest.mark.parametrize("samples", [1, 100, 1024, 1500])
def test_no_more_passes_than_samples(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = query(NETWORKS["residual"], points(1, 4, 3), Sphere(2.0), Settings(samples=samples))
    assert len(case.predicted) == 1  # a forward pass of its own
    sizes = watched_passes(monkeypatch)
    assert SAMPLING.bound(case)[0].samples == samples == sum(sizes)


def test_chunks_of_large_inputs_are_small() -> None:
    assert [chunk_size(d) for d in (1, 784, 3072, 150_528, 10**8)] == [1024, 1024, 1024, 16, 1]
    net = random_dense((5000, 3, 2), 0)
    case = query(net, points(1, 5000, 1), Sphere(1.0))
    assert Draws(case, 0, Stream.DRAWS).chunk == 1024, "in a chain three coordinates are drawn"
    case.hyperplanes.chain = None
    draws = Draws(case, 0, Stream.DRAWS)
    assert [len(noise) for noise in draws.noise(1000)] == [512, 488]
    first, again = (torch.cat(list(draws.noise(n))) for n in (1000, 513))
    assert torch.equal(first[:513], again)


def test_draws_are_answered_as_the_network_answers() -> None:
    """Draw for draw in the row space of a chain: the points are found by least squares on its first layer."""
    net = NETWORKS["d > n"]
    case = query(net, points(1, 30, 6), Sphere(3.0))
    draws = Draws(case, 0, Stream.DRAWS)
    (noise,) = draws.noise(500)
    weight = net.nodes[1].op.weight
    shift = torch.linalg.lstsq(weight, (noise @ draws.noisy.rows).t()).solution.t()
    answers = net.predict(case.x + shift)
    assert torch.equal(torch.cat(list(draws.wrong(noise))), answers != case.predicted[0])
    assert 0 < int((answers != case.predicted[0]).sum()) < 500


def test_streams_share_no_numbers() -> None:
    keys = [(stream, seed, index, chunk) for stream in Stream for seed in (0, 1, 2**32, 2**32 + 1)
            for index in (0, 1) for chunk in (0, 1)]  # fmt: skip
    firsts = {torch.rand(1, dtype=torch.float64, generator=generator(*key)).item() for key in keys}
    assert len(firsts) == len(keys)
    again = [torch.rand(1, generator=generator(Stream.DRAWS, 3, 4, 5)) for _ in range(2)]
    assert again[0] == again[1]
    assert len({int(stream) for stream in Stream}) == len(Stream.__members__), "no number is given twice"


def test_devices_that_are_not_there_are_refused() -> None:
    net = NETWORKS["d > n"]
    for device in ("tpu", *(() if torch.cuda.is_available() else ("cuda",))):
        with pytest.raises(InvalidInput, match=device):
            assess(net, points(1, 30, 10), Sphere(1.0), rungs=["sampling"], settings=Settings(device=device))


def test_a_time_limit_that_leaves_no_draw_skips_the_rung() -> None:
    net = NETWORKS["d > n"]
    settings = Settings(samples=10**7, time_limit=1e-9)
    (bound,) = assess(net, points(1, 30, 10), Sphere(1.0), rungs=["sampling"], settings=settings)[0].bounds
    assert "time limit" in bound.skipped
    assert bound.log_misclassification == 0.0
    assert bound.to_dict() == {"rung": "sampling", "skipped": bound.skipped}


@pytest.mark.parametrize("asked", [False, True])
def test_a_time_limit_keeps_the_draws_made_so_far(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock strikes in the third pass of the second chunk: what was finished counts, at the same level."""
    net = NETWORKS["residual"]
    x, noise = points(1, 4, 3), Sphere(2.0)
    delta = count_misclassified(query(net, x, noise), 0, 2000) / 2000 if asked else None
    settings = Settings(samples=10**6, time_limit=1e6, memory_limit=200_000.0, delta=delta)
    case = query(net, x, noise, settings)
    assert len(case.predicted) == 1  # a forward pass of its own
    at_once, real, made = Noisy(case, 0).at_once, Network.forward, []

    def late(self: Network, x: torch.Tensor, start: int = 0) -> torch.Tensor:
        made.append(len(x))
        if sum(made) >= CHUNK + 3 * at_once:
            monkeypatch.setattr(time, "perf_counter", lambda: 1e12)
        return real(self, x, start)

    monkeypatch.setattr(Network, "forward", late)
    (bound,) = SAMPLING.bound(case)
    assert bound.samples == sum(made) == CHUNK + 3 * at_once < 2 * CHUNK
    assert bound.skipped is None
    assert bound.cut_short == f"time limit of 1e+06 s reached after {bound.samples} of 1000000 samples"
    assert bound.to_dict()["cut_short"] == bound.cut_short
    fixed = clopper_pearson(bound.misclassified, bound.samples, 0.999)
    assert fixed < bound.log_misclassification < fixed + 1.0
    assert bound.decision == ("undecided" if asked else None)


def test_a_bound_stopped_by_the_clock_holds_though_wrong_draws_take_longer() -> None:
    """Draws that are wrong stop the clock: Clopper and Pearson's bound breaks its level then, ours does not."""
    p, confidence, runs, samples = 0.3, 0.8, 200, 300
    broken = {"ours": 0, "fixed": 0}
    for row in (np.random.default_rng(1).random((runs, samples)) < p).cumsum(1):
        # the time comes where the count looks best
        stops = [(bound_of_draws(int(k), n, samples, confidence, True), clopper_pearson(int(k), n, confidence))
                 for n, k in enumerate(row, 1) if n % 10 == 0]  # fmt: skip
        broken["ours"] += min(ours for ours, _ in stops) < math.log(p)
        broken["fixed"] += min(fixed for _, fixed in stops) < math.log(p)
    assert broken["ours"] <= runs * (1 - confidence) + 4 * math.sqrt(runs * 0.16)
    assert broken["fixed"] > runs * (1 - confidence) + 4 * math.sqrt(runs * 0.16)
    assert bound_of_draws(3, 100, 100, 0.9, False) == clopper_pearson(3, 100, 0.9)
    assert clopper_pearson(3, 100, 0.9) < bound_of_draws(3, 100, 100, 0.9, True) == clopper_pearson(3, 100, 0.91)


def test_what_a_sampled_bound_says() -> None:
    net = NETWORKS["d <= n"]
    (bound,) = assess(net, points(1, 3, 11), Sphere(1.0), rungs=["sampling"])[0].bounds
    assert bound.guarantee == "confidence"
    assert (bound.confidence, bound.samples) == (0.999, 10_000)
    assert bound.log_misclassification == clopper_pearson(bound.misclassified, 10_000, 0.999)
    entry = bound.to_dict()
    assert entry["log_misclassification"] == bound.log_misclassification
    assert entry["misclassified"] == bound.misclassified
