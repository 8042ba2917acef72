"""Rare events: splitting, importance sampling and ALORE against closed forms, quadrature, moments and counts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor
from zoo import dense, points, random_dense, residual

from calotte.assess import assess
from calotte.cells.hyperplanes import Hyperplanes
from calotte.errors import InvalidInput
from calotte.network.affine import Dense
from calotte.network.graph import Network
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.query import Query
from calotte.sampling.alore import ALORE, relative_variance_bound
from calotte.sampling.estimate import Estimate, Estimator
from calotte.sampling.importance import IMPORTANCE
from calotte.sampling.latent import Latent
from calotte.sampling.monte_carlo import count_misclassified
from calotte.sampling.proposal import caps, least_variance
from calotte.sampling.splitting import SPLITTING
from calotte.settings import Settings
from calotte.sphere import log_cap

NOISES: list[Noise] = [Sphere(1.5), Ball(2.0), Gaussian(0.5)]
METHODS: list[Estimator] = [SPLITTING, IMPORTANCE]


def query(net: Network, x: Tensor, noise: Noise, **settings) -> Query:
    return Query(Hyperplanes(net, noise.map), x, list(range(len(x))), noise, Settings(**settings))


def half_space(d: int, t: float) -> Network:
    """Another answer for x_1 >= t."""
    return dense(([[-1.0, *[0.0] * (d - 1)]], [t]))


def two_half_spaces(d: int, t: float, cosine: float) -> Network:
    """Another answer for v.x >= t or w.x >= t, v.w = cosine: the sign of t - max(v.x, w.x)."""
    v, w = torch.zeros(2, d, dtype=torch.float64)
    v[0], w[0], w[1] = 1.0, cosine, math.sqrt(1.0 - cosine**2)
    return dense((torch.stack([v - w, w, -w]), None), ([[-1.0, -1.0, 1.0]], [t]))


def log_two_half_spaces(d: int, s: float, cosine: float) -> float:
    """log P(v.u >= s or w.u >= s) on the unit sphere: given v.u = x, w.u is a coordinate of a smaller sphere."""

    def both(x: float) -> float:
        height = (s - cosine * x) / math.sqrt((1.0 - cosine**2) * (1.0 - x * x))
        return (1.0 - x * x) ** ((d - 3) / 2) * math.exp(log_cap(height, d - 1))

    def density(x: float) -> float:
        return (1.0 - x * x) ** ((d - 3) / 2)

    share = integrate.quad(both, s, 1.0, epsabs=0)[0] / integrate.quad(density, s, 1.0, epsabs=0)[0]
    return log_cap(s, d) + math.log(2.0 - share)


def far(one: Estimate, log_p: float) -> float:
    """How many standard errors an estimate is away from the truth."""
    assert one.log_probability is not None
    assert one.relative_error is not None
    return abs(math.expm1(one.log_probability - log_p)) / one.relative_error


@pytest.mark.parametrize("noise", [*NOISES, Sphere(1.5, torch.linspace(0.0, 2.0, 60, dtype=torch.float64))])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_a_half_space(method: Estimator, noise: Noise) -> None:
    """Known down to 1e-12, in the span of the first layer and in the whole space."""
    d = 60
    scale = 1.0 if noise.map is None else noise.map[1].item()
    for log10, whole in ((-3, False), (-6, True), (-12, False)):
        m = noise.dimension(d)
        t = scale * noise.tail_quantile(torch.tensor([log10 * math.log(10)], dtype=torch.float64), m).item()
        weight = torch.zeros(1, d, dtype=torch.float64)
        weight[0, 1] = -1.0
        case = query(dense((weight, [t])), torch.zeros(1, d).double(), noise)
        if whole:
            case.hyperplanes.chain = None
        one = method.estimate(case, 0)
        assert far(one, log10 * math.log(10)) < 5.0  # the standard error is itself estimated
        assert one.relative_error < 0.6
        assert one.interval[0] < one.log_probability < one.interval[1]


@pytest.mark.parametrize("noise", NOISES)
def test_importance_sampling_reaches_1e_300(noise: Noise) -> None:
    d, log_p = 784, -300 * math.log(10)
    t = noise.tail_quantile(torch.tensor([log_p], dtype=torch.float64), d).item()
    one = IMPORTANCE.estimate(query(half_space(d, t), torch.zeros(1, d).double(), noise), 0)
    assert far(one, log_p) < 5.0
    assert one.relative_error < 0.1


@pytest.mark.parametrize("cosine", [-1.0, 0.0, 0.5, 0.9])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_two_half_spaces(method: Estimator, cosine: float) -> None:
    """Neither of them is missed: the truth is by quadrature, and half of it would be many errors away."""
    d, s = 100, 0.5
    truth = log_two_half_spaces(d, s, cosine) if abs(cosine) < 1 else log_cap(s, d) + math.log(2.0)
    assert -18 < truth < -14
    case = query(two_half_spaces(d, s * 2.0, cosine), torch.zeros(1, d).double(), Sphere(2.0))
    one = method.estimate(case, 0)
    assert far(one, truth) < 5.0
    assert one.relative_error < 0.4


def test_the_quadrature_by_samples() -> None:
    d, s, n = 20, 0.35, 200_000
    u = Sphere(1.0).sample(n, d, torch.Generator().manual_seed(0))
    for cosine in (0.0, 0.5, 0.9):
        w = cosine * u[:, 0] + math.sqrt(1 - cosine**2) * u[:, 1]
        share = ((u[:, 0] >= s) | (w >= s)).double().mean().item()
        p = math.exp(log_two_half_spaces(d, s, cosine))
        assert abs(share - p) < 4 * math.sqrt(p / n)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_intervals_hold_the_truth(method: Estimator) -> None:
    """80 repetitions: the mean is unbiased, and no fewer intervals hold p than 90 % coverage would make likely."""
    d, log_p, n = 30, math.log(1e-5), 80
    noise = Sphere(1.0)
    net = half_space(d, noise.tail_quantile(torch.tensor([log_p], dtype=torch.float64), d).item())
    small = SPLITTING if method is SPLITTING else replace(IMPORTANCE, searches=1, draws=1_500)
    case = query(net, torch.zeros(n, d).double(), noise)
    found = [small.estimate(case, i) for i in range(n)]
    assert all(one.log_probability is not None for one in found)
    covered = sum(one.interval[0] <= log_p <= one.interval[1] for one in found)
    assert stats.binom.cdf(covered, n, 0.9) > 1e-4
    ratios = torch.tensor([math.exp(one.log_probability - log_p) for one in found], dtype=torch.float64)
    assert abs(ratios.mean() - 1.0) < 4 * ratios.std() / math.sqrt(n)
    assert ratios.std() > 0
    # the stated errors are of the size of the real ones
    stated = torch.tensor([one.relative_error for one in found]).square().mean().sqrt()
    assert 0.6 < ratios.std() / stated < 1.7


NETWORKS = {
    "d > n": random_dense((30, 8, 6, 4), 1),
    "d <= n": random_dense((3, 8, 2), 2),
    "residual": residual(5, 3, 4),
    "linear": random_dense((6, 3), 3),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("name", ["d > n", "residual", "linear"])
def test_networks_against_plain_samples(name: str, noise: Noise) -> None:
    net, n, compared = NETWORKS[name], 40_000, 0
    scale = points(1, net.d, 3).abs()[0]
    for k, x in enumerate(points(3, net.d, 5, 2.0)):
        chosen = noise if k else type(noise)(noise.size, scale)
        case = query(net, x[None], chosen)
        count = count_misclassified(case, 0, n)
        for method in METHODS:
            one = method.estimate(case, 0)
            if count < 20:
                continue
            error = math.hypot(one.relative_error, math.sqrt((1 - count / n) / count))
            assert far(replace(one, relative_error=error), math.log(count / n)) < 4.5, (method.method, count)
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize("method", [*METHODS, ALORE], ids=lambda method: method.method)
def test_estimates_depend_on_the_seed_and_the_index_alone(method: Estimator) -> None:
    net, x = NETWORKS["d > n"], points(3, 30, 5)
    both = Query(Hyperplanes(net), x, [4, 7, 9], Sphere(4.0), Settings(seed=3))
    alone = Query(Hyperplanes(net), x[1:2], [7], Sphere(4.0), Settings(seed=3, memory_limit=1e8))
    other = Query(Hyperplanes(net), x[1:2], [7], Sphere(4.0), Settings(seed=4))
    one, same, different = method.estimate(both, 1), method.estimate(alone, 0), method.estimate(other, 0)
    assert one.log_probability == pytest.approx(same.log_probability, abs=1e-9)
    assert one.calls == same.calls
    assert different.log_probability != one.log_probability


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_where_there_is_nothing_to_estimate(method: Estimator) -> None:
    """No error within reach, a constant network, overflow, no time: a reason, and no number."""
    flat = dense((torch.zeros(2, 9), [1.0, 0.0]))
    beyond = half_space(9, 1.6)
    huge = dense((1e200 * torch.ones(5, 9), None), (1e200 * torch.ones(2, 5), [1.0, 0.0]))
    origin = torch.zeros(1, 9).double()
    cases = [
        ("no error", query(flat, origin, Sphere(1.5))),
        ("no error", query(beyond, origin, Sphere(1.5))),
        ("no error", query(half_space(1, 2.0), torch.zeros(1, 1).double(), Sphere(1.5))),
        ("overflow", query(huge, origin, Gaussian(1e3))),
        ("time limit", query(half_space(9, 1.0), origin, Sphere(1.5), time_limit=1e-9)),
        ("memory limit", query(half_space(9, 1.0), origin, Sphere(1.5), memory_limit=1e3)),
    ]
    for why, case in cases:
        one = method.estimate(case, 0)
        assert why in one.reason, one.reason
        assert one.log_probability is None
        assert one.to_dict()["skipped"] == one.reason
        assert one.calls < 100_000


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_probabilities_that_are_not_small(method: Estimator) -> None:
    """Nearly all noise changes the answer; and two points, one of which does."""
    noise = Gaussian(1.0)
    near = query(half_space(20, -2.0), torch.full((1, 20), 0.0).double(), noise)
    near.predicted[:] = 1  # the answer on the other side of x_1 = -2
    one = method.estimate(near, 0)
    truth = noise.log_tail(torch.tensor([-2.0], dtype=torch.float64), 20).item()
    assert far(one, truth) < 5.0
    assert one.interval[0] <= truth <= one.interval[1] <= 0.0
    line = query(half_space(1, 1.0), torch.zeros(1, 1).double(), Sphere(1.5))
    assert far(method.estimate(line, 0), math.log(0.5)) < 5.0


def test_moves_keep_the_noise() -> None:
    """Turned states have the moments of normals, and the correlation of the step; so have norms of the rest."""
    net = random_dense((30, 4, 2), 0)
    latent = Latent(query(net, torch.zeros(1, 30).double(), Ball(2.0)), 0)
    assert (latent.seen, latent.dimension) == (4, 32)
    n, step, generator = 100_000, 0.6, torch.Generator().manual_seed(1)
    z = latent.normals(n, generator)
    turned = latent.turned(z, step, generator)
    for state in (z, turned):
        assert (state[:, :4].mean(0).abs() < 4 / math.sqrt(n)).all()
        assert ((state[:, :4] ** 2).mean(0) - 1).abs().max() < 4 * math.sqrt(2 / n)
        assert stats.kstest(state[:2000, 4].numpy() ** 2, stats.chi2(28).cdf).pvalue > 1e-5
    product = (z[:, :4] * turned[:, :4]).mean(0)
    assert ((product - 0.8).abs() < 4 * math.sqrt((1 + 0.64) / n)).all()
    squares = torch.stack([z[:, 4], turned[:, 4]]) ** 2
    assert torch.corrcoef(squares)[0, 1] == pytest.approx(0.64, abs=4 / math.sqrt(n))
    y = latent.on_support(z)
    u = 2.0 * y[:, :4]
    assert (u**2).sum(1).mean() == pytest.approx(4 * 4 / 32, rel=0.02)  # E u_i^2 = size^2 / (m + 2)


@pytest.mark.parametrize("noise", NOISES)
def test_the_density_of_a_proposal(noise: Noise) -> None:
    """Its mean over noise is 1; the mean of its reciprocal over its draws is 1; draws lie in their caps."""
    d = 12
    latent = Latent(query(half_space(d, 1.0), torch.zeros(1, d).double(), noise), 0)
    latent.seen, latent._rows, latent._start = d, None, 0
    directions = torch.zeros(2, d + 1, dtype=torch.float64)
    directions[0, 0], directions[1, :2] = 1.0, torch.tensor([0.6, 0.8])
    ladder = torch.tensor([-6.0, -3.0, -1.0], dtype=torch.float64)
    proposal = caps(noise, d, directions, [ladder, ladder[:2]])
    generator, n = torch.Generator().manual_seed(2), 60_000
    plain = latent.on_support(latent.normals(n, generator)) @ directions.t()
    ratio = proposal.log_density(plain).exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(n)
    y, over = proposal.draw(n, latent, generator)
    assert torch.allclose(y @ directions.t(), over, atol=1e-12)
    back = (-proposal.log_density(over)).exp()
    assert abs(back.mean() - 1) < 4 * back.std() / math.sqrt(n)
    if noise.kind != "gaussian":
        assert torch.allclose(y.norm(dim=1), torch.ones(n, dtype=torch.float64))
    # the weights that are chosen have no more variance than even ones
    wrong = over[:, 0] >= 0.5
    better = least_variance(proposal, y[wrong], proposal.log_density(over[wrong]))
    assert better.weights.sum() == pytest.approx(1.0)
    assert better.weights.min() > 0

    def second_moment(p) -> float:
        ratios = torch.where(plain[:, 0] >= 0.5, -p.log_density(plain), -torch.inf).exp()
        return ratios.mean().item()

    assert second_moment(better) < second_moment(proposal)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("name", ["d > n", "residual", "d <= n"])
def test_alore_against_counting(name: str, noise: Noise) -> None:
    net, n, compared = NETWORKS[name], 40_000, 0
    for k, x in enumerate(points(3, net.d, 8)):
        chosen = noise.resized(0.3 * noise.size)
        if k == 2:
            chosen = type(noise)(0.3 * noise.size, points(net.d, net.d + 2, 7))
        case = query(net, x[None], chosen)
        one = ALORE.estimate(case, 0)
        y = x + chosen.sample(n, net.d, torch.Generator().manual_seed(1))
        left = (net.pattern(y) != net.pattern(x[None])).any(1) | (net.predict(y) != net.predict(x[None]))
        p = left.double().mean().item()
        union = chosen.standard_log_tail(case.distances.nearest[0] / chosen.size, case.m).logsumexp(0).item()
        assert one.event == "leaving the cell"
        assert one.log_probability <= min(union, 0.0) + 1e-12
        estimate = math.exp(one.log_probability)
        assert abs(estimate - p) < 4 * (math.sqrt(p * (1 - p) / n) + estimate * one.relative_error) + 1 / n
        assert one.interval[0] <= one.log_probability <= one.interval[1]
        compared += p > 0.01 and estimate < 0.97 * math.exp(union)
    assert compared, "the union bound loses something here"


def test_alore_where_the_union_is_known() -> None:
    """A corner of four orthants: P = 1 - 2^-k through the origin; one half-space: exact."""
    for k in (1, 2, 4):
        weight = torch.eye(k, 9, dtype=torch.float64)
        net = dense((weight, [0.0] * k), (torch.zeros(2, k), [1.0, 0.0]))
        one = ALORE.estimate(query(net, torch.zeros(1, 9).double(), Sphere(1.0)), 0)
        truth = math.log1p(-(2.0**-k))
        if k == 1:
            assert one.log_probability == pytest.approx(truth, abs=1e-12)
            assert one.relative_error == 0.0
        else:
            assert far(one, truth) < 4.5
            assert one.interval[0] < truth < one.interval[1]
            assert one.relative_error <= math.sqrt(relative_variance_bound(k) / 8192)
    unreached = ALORE.estimate(query(half_space(9, 2.0), torch.zeros(1, 9).double(), Sphere(1.0)), 0)
    assert "cannot reach" in unreached.reason
    assert unreached.calls == 0


def test_the_bound_on_the_relative_variance_is_the_largest() -> None:
    """Over all laws of S on 1..J: two-point laws on the ends are worst, and reach the bound."""
    for half_spaces in (2, 3, 50):
        bound = relative_variance_bound(half_spaces)
        assert bound == pytest.approx((half_spaces + 1 / half_spaces - 2) / 4)
        worst = 0.0
        for q in torch.linspace(0, 1, 2001).tolist():
            mean, square = (1 - q) + q / half_spaces, (1 - q) + q / half_spaces**2
            assert relative_variance_bound(half_spaces, mean) == pytest.approx(square / mean**2 - 1, abs=1e-9)
            worst = max(worst, square / mean**2 - 1)
        assert worst == pytest.approx(bound, rel=1e-3)
        law = torch.rand(2000, half_spaces, generator=torch.Generator().manual_seed(0)).double()
        law = law / law.sum(1, keepdim=True)
        inverse = 1.0 / torch.arange(1, half_spaces + 1).double()
        assert ((law @ inverse**2) / (law @ inverse) ** 2 - 1).max() <= bound
    assert relative_variance_bound(1) == 0.0


def test_what_an_estimate_says() -> None:
    one = SPLITTING.estimate(query(half_space(9, 1.0), torch.zeros(1, 9).double(), Sphere(1.5)), 0)
    entry = one.to_dict()
    assert {"method", "event", "log_probability", "interval", "relative_error", "calls", "seconds"} == set(entry)
    assert entry["interval"] == list(one.interval)
    assert "proved" not in str(entry)


def test_assess_carries_estimates_beside_the_bounds() -> None:
    net, x = NETWORKS["d > n"], points(2, 30, 5)
    plain = assess(net, x, Sphere(4.0), rungs=["sampling"], settings=Settings(search=False))
    assert [one.estimates for one in plain] == [(), ()]
    for one in assess(net, x, Sphere(4.0), rungs=["sampling"], estimates=["all"], settings=Settings(search=False)):
        entry = one.to_dict()
        assert [e["method"] for e in entry["estimates"]] == ["splitting", "importance", "alore"]
        assert [e["event"] for e in entry["estimates"]] == ["misclassification"] * 2 + ["leaving the cell"]
        assert one.best is None, "an estimate is no bound"
        alone = IMPORTANCE.estimate(Query(Hyperplanes(net), x, [0, 1], Sphere(4.0), Settings()), one.index)
        assert one.estimates[1].log_probability == pytest.approx(alone.log_probability, abs=1e-9)
    (one,) = assess(net, x[0], Sphere(4.0), estimates=["alore", "splitting"], settings=Settings(search=False))
    assert [e.method for e in one.estimates] == ["splitting", "alore"]
    with pytest.raises(InvalidInput, match="estimate 'guess': choose from splitting, importance, alore, all or none"):
        assess(net, x, Sphere(4.0), estimates=["guess"])


def test_calls_are_counted() -> None:
    """Every row that a network's first layer sees is a call; gradients count twice."""
    weight = torch.zeros(1, 9, dtype=torch.float64)
    weight[0, 0] = -1.0

    class Counting(Dense):
        seen = 0

        def __call__(self, *values: Tensor) -> Tensor:
            Counting.seen += len(values[0])
            return super().__call__(*values)

    net = dense((weight, [1.0]))
    op = Counting(weight, torch.tensor([1.0], dtype=torch.float64))
    net = Network((net.nodes[0], replace(net.nodes[1], op=op)), net.input_shape, net.decision)
    case = query(net, torch.zeros(1, 9).double(), Sphere(1.5))
    case.hyperplanes.chain = None
    assert case.predicted[0] == 1
    Counting.seen = 0
    one = SPLITTING.estimate(case, 0)
    assert one.calls == Counting.seen > 10_000
