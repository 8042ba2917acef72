"""Exponential moments of sums of first-layer activations: against quadrature, matrices, draws; hostile proposals."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from zoo import convolutional, dense, network, points, random_dense, residual, tensor

from calotte.cells.hyperplanes import Hyperplanes
from calotte.deadline import NEVER, Deadline
from calotte.network.affine import Dense, Reshape
from calotte.network.convolution import Convolution
from calotte.network.graph import Network, Relu
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.proofs.moments import exponents as certificates
from calotte.proofs.moments.exponents import Exponents, dominates, dominates_each, group_of, verified, verified_each
from calotte.proofs.moments.first import FirstLayer, first_layer
from calotte.proofs.moments.gaussian import MEAN_ERROR, GaussianLaw, mean_norm
from calotte.proofs.moments.sums import Sums, Tilt, log_moments
from calotte.proofs.moments.tails import levels
from calotte.query import Query
from calotte.searches.exponents import exponents, exponents_each
from calotte.searches.moments import ExponentialMoments
from calotte.settings import Settings


def two_convolutions(seed: int, lower: float = 0.0) -> tuple[Network, Tensor]:
    """Two convolutions and a dense layer: the second layer's units read a few of the first each, so much lower."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=g)

    steps = {"stride": (2, 2), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    first = Convolution(draw(4, 1, 4, 4) / 3, draw(4) / 3 - lower, (1, 12, 12), **steps)
    second = Convolution(draw(3, 4, 4, 4) / 6, draw(3) / 3, first.output_shape, **steps)
    units = math.prod(second.output_shape)
    net = network(
        (1, 12, 12),
        first,
        Relu(first.output_shape),
        second,
        Relu(second.output_shape),
        Reshape(second.output_shape, (units,)),
        Dense(draw(2, units) / math.sqrt(units), tensor([1.0, -1.0])),
    )
    return net, draw(144)


def layer_of(rows: Tensor) -> FirstLayer:
    """The first layer of a dense network with these normals."""
    found = first_layer(Hyperplanes(dense((rows, None), (torch.ones(2, len(rows)), None))), NEVER)
    assert found is not None
    return found


def sums_of(first: FirstLayer, value: Tensor, constant: float, weight: Tensor) -> Sums:
    """One form."""
    one = torch.ones(1, dtype=torch.float64)
    return Sums(first, value, 0.0 * value, constant * one, weight[None], None, 0.0 * one)


@pytest.mark.parametrize("d", [1, 2, 3, 30, 199, 200, 201, 784, 150_528, 10**9])
def test_the_mean_norm_and_what_a_kink_loses(d: int) -> None:
    with mpmath.workdps(40):
        n = mpmath.mpf(d)
        mean = mpmath.sqrt(2) * mpmath.exp(mpmath.loggamma((n + 1) / 2) - mpmath.loggamma(n / 2))
        assert abs(mpmath.mpf(mean_norm(d)) / mean - 1) <= MEAN_ERROR
    law = GaussianLaw.of(Sphere(2.0), 2.0, d)
    assert law.low < float(2 / mean) < law.high
    if d < 1000:  # E (t - 1)^+ by quadrature of the chi density
        log_c = -(n / 2 - 1) * mpmath.log(2) - mpmath.loggamma(n / 2)
        top = mean + 12
        lost = mpmath.quad(
            lambda r: (r / mean - 1) * mpmath.exp(log_c + (n - 1) * mpmath.log(r) - r * r / 2), [mean, mean + 2, top]
        )
        assert lost <= law.lost <= 1.7 * lost


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (7, 7)])
def test_exponents_are_verified_in_either_dimension_and_not_below(shape: tuple[int, int]) -> None:
    first = layer_of(points(*shape, 1) * torch.logspace(-2, 2, shape[0]).double()[:, None])
    found = exponents(first, torch.ones(shape[0]).double())
    assert found is not None
    rows = first.rows.toarray()
    with mpmath.workdps(60):
        a = mpmath.matrix(rows.tolist())
        least = min(mpmath.eigsy(mpmath.diag(found.power.tolist()) - a * a.T, eigvals_only=True))
    assert 0 < least < 2e-2
    assert not dominates(first, 0.97 * found.power)
    group = group_of(first, torch.arange(shape[0])[None])
    assert dominates_each(first, group.gram, found.power[None, None]).all()
    assert not dominates_each(first, group.gram, 0.97 * found.power[None, None]).any()
    each = exponents_each(first, group, torch.ones(1, shape[0]).double())
    assert torch.allclose(each.power[0], found.power, rtol=1e-2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_exponents_that_are_none_are_refused(bad: float) -> None:
    first = layer_of(points(3, 5, 1))
    power = torch.tensor([5.0, 5.0, bad]).double()
    assert verified(first, power) is None
    assert verified_each(first, group_of(first, torch.arange(3)[None]), power[None]).power.isinf().all()
    assert verified(first, torch.full((4,), 9.0).double()) is None


def exact_moment(rate: float, g: list[float], value: list[float], rows: np.ndarray, sigma: float) -> mpmath.mpf:
    """log E exp(-rate sum_j g_j relu(z_j)) for two units in the plane, by quadrature in polar pieces of the plane."""
    n, reach = 400, 9.0
    x = np.polynomial.legendre.leggauss(n)
    nodes, weights = reach * x[0], reach * x[1]
    u = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1)
    density = np.exp(-0.5 * (u * u).sum(-1)) / (2 * math.pi)
    z = np.array(value) + sigma * u @ rows.T
    total = (np.exp(-rate * (np.clip(z, 0, None) @ np.array(g))) * density * weights[:, None] * weights).sum()
    return math.log(total)


@pytest.mark.parametrize("g", [[0.8, 1.3], [-0.8, -1.1], [0.9, -1.2]])
@pytest.mark.parametrize("angle", [0.05, 1.0, math.pi / 2])
def test_two_units_against_quadrature(g: list[float], angle: float) -> None:
    """Above the truth for all slopes and rates; where the units are independent and the slopes good, close to it."""
    rows = np.array([[1.0, 0.0], [math.cos(angle), math.sin(angle)]]) * 1.5
    first, value = layer_of(torch.from_numpy(rows)), tensor([0.4, -0.3])
    sums, law = sums_of(first, value, 0.0, tensor(g)), GaussianLaw.of(Gaussian(0.7), 0.7, 2)
    power = exponents(first, torch.ones(2).double())
    assert power is not None
    least = math.inf
    for rate in (0.3, 1.0):
        truth = exact_moment(rate, g, value.tolist(), rows, 0.7)
        for slope in torch.cartesian_prod(*[torch.linspace(0, 1, 5).double()] * 2):
            found = log_moments(sums, law, Tilt(slope[None], tensor([rate]), power)).item()
            assert found >= truth - 1e-4 * (1 + abs(truth))  # of the quadrature, across kinks
            least = min(least, found - truth)
    assert least <= (0.02 if angle > 1.5 else 0.5)


@pytest.mark.parametrize("law", [Sphere, Ball])
@pytest.mark.parametrize("d", [2, 5])
def test_spheres_and_balls_are_met_by_a_gaussian(law: type[Noise], d: int) -> None:
    """E exp(-rate F) by draws, for convex and concave F, where the kinks are what matters; and without `lost` it is
    wrong."""
    rows, rng = points(3 * d, d, 3), np.random.default_rng(0)
    rows = rows / rows.norm(dim=1, keepdim=True)
    first = layer_of(rows)
    value = -0.9 * torch.ones(3 * d).double()
    power = exponents(first, torch.ones(3 * d).double())
    assert power is not None
    u = rng.normal(size=(200_000, d))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    if law is Ball:
        u *= rng.random((len(u), 1)) ** (1 / d)
    z = value.numpy() + u @ rows.numpy().T
    gaussian = GaussianLaw.of(law(1.0), 1.0, d)
    for sign in (1.0, -1.0):
        sums = sums_of(first, value, 0.0, sign * torch.ones(3 * d).double())
        for rate in (0.3, 2.0):
            w = np.exp(-rate * sign * np.clip(z, 0, None).sum(1))
            low = math.log(w.mean() - 4 * w.std() / math.sqrt(len(w)))
            for slope in (0.0, 0.15, 0.5):
                slopes = torch.full((1, 3 * d), slope).double()
                found = log_moments(sums, gaussian, Tilt(slopes, tensor([rate]), power)).item()
                assert found >= low


def test_a_kink_on_the_circle_needs_what_it_loses() -> None:
    """relu(z) with its kink just inside the circle: under the Gaussian it is larger in the mean. A mutant."""
    first, value = layer_of(tensor([[1.0, 0.0]])), tensor([-0.9])
    sums, law = sums_of(first, value, 0.0, tensor([1.0])), GaussianLaw.of(Sphere(1.0), 1.0, 2)
    power = verified(first, tensor([1.0 + 1e-6]))
    assert power is not None
    angles = np.linspace(0, 2 * math.pi, 200_001)[:-1]
    tilt = Tilt(tensor([[0.0]]), tensor([1.0]), power)
    truth = math.log(np.exp(-np.clip(np.cos(angles) - 0.9, 0, None)).mean())
    assert log_moments(sums, law, tilt).item() >= truth
    assert log_moments(sums, replace(law, lost=0.0), tilt).item() < truth - 0.02


def uncovered(law: GaussianLaw, dimension: int) -> float:
    """By how much at most what is taken from a ReLU near its kink is in the mean less than it is larger, in units of
    |zeta|: over the places s = -zeta / k of a.u, the law of t being that of a chi variable over its mean."""
    k = np.concatenate([np.linspace(0.02, 3.0, 3000), np.linspace(0.95, 1.05, 2001)])
    mean, chi, more = mean_norm(dimension), stats.chi(dimension), stats.chi(dimension + 1)
    excess = more.sf(k * mean) - k * chi.sf(k * mean)  # E (t - k)^+
    excess = np.where(k < 1, excess - (1.0 - k), excess) / k
    near = chi.cdf(k * (1.0 + law.width) * mean) - chi.cdf(k * max(1.0 - law.width, 0.0) * mean)
    return float((excess - law.bump * near - law.rest).max())


@pytest.mark.parametrize("dimension", [10, 49, 51, 60, 200, 784, 3072])
def test_kinks_are_smoothed_by_enough(dimension: int) -> None:
    """Against the law of norms, exactly; and mutants."""
    law = GaussianLaw.of(Sphere(1.0), 1.0, dimension)
    assert uncovered(law, dimension) <= 0.0
    assert math.isinf(law.width) == (dimension < 50)
    assert uncovered(replace(law, bump=0.75 * law.bump), dimension) > 1e-4
    if dimension >= 50:
        assert uncovered(replace(law, width=0.02 * law.width), dimension) > 1e-4
        assert law.width < 13.0 / math.sqrt(dimension)


def test_smoothed_kinks_cost_less_and_are_above_draws() -> None:
    """Units whose kinks are one to two deviations away, on a sphere in 100 dimensions."""
    rows, value = points(40, 100, 1), torch.linspace(-0.2, 0.2, 40).double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    first = layer_of(rows)
    power = exponents(first, torch.ones(40).double())
    assert power is not None
    sums, law = sums_of(first, value, 0.0, torch.ones(40).double()), GaussianLaw.of(Sphere(1.0), 1.0, 100)
    plain = replace(law, width=math.inf, bump=law.lost, rest=0.0)
    u = Sphere(1.0).sample(100_000, 100, torch.Generator().manual_seed(2))
    for rate in (0.5, 3.0):
        tilt = Tilt(torch.special.ndtr(10.0 * value)[None], tensor([rate]), power)
        w = torch.exp(-rate * (value + u @ rows.t()).clamp_min(0.0).sum(1))
        found = log_moments(sums, law, tilt).item()
        assert math.log((w.mean() - 4 * w.std() / math.sqrt(len(w))).item()) <= found
        assert found < log_moments(sums, plain, tilt).item() - 0.004


def test_exponents_that_are_too_small_are_wrong() -> None:
    """Six units that are nearly the same, taken for independent ones: below the truth. A mutant."""
    rows = tensor([[1.0, 0.0]]) + 0.01 * points(6, 2, 1)
    first, value = layer_of(rows), torch.zeros(6).double()
    sums, law = sums_of(first, value, 0.0, -torch.ones(6).double()), GaussianLaw.of(Gaussian(1.0), 1.0, 2)
    u = torch.from_numpy(np.random.default_rng(3).normal(size=(400_000, 2)))
    w = (0.4 * (u @ rows.t()).clamp_min(0.0).sum(1)).exp()
    low = (w.mean() - 4 * w.std() / math.sqrt(len(w))).log().item()
    power = exponents(first, torch.ones(6).double())
    assert power is not None
    tilt = Tilt(torch.full((1, 6), 0.5).double(), tensor([0.4]), power)
    assert log_moments(sums, law, tilt).item() >= low
    wrong = Exponents(first, None, torch.ones(6).double(), torch.ones(6).double())
    assert log_moments(sums, law, replace(tilt, exponents=wrong)).item() < low - 0.2


def test_hostile_proposals_prove_nothing_false() -> None:
    """Whatever the slopes and rates: above the truth, or inf."""
    rows, value = points(6, 3, 5), points(1, 6, 6)[0]
    first, other = layer_of(rows), layer_of(rows)
    sums, law = sums_of(first, value, 0.2, points(1, 6, 7)[0]), GaussianLaw.of(Gaussian(0.5), 0.5, 3)
    power = exponents(first, torch.ones(6).double())
    foreign = exponents(other, torch.ones(6).double())
    assert power is not None
    assert foreign is not None
    u = np.random.default_rng(1).normal(size=(100_000, 3)) * 0.5
    form = 0.2 + np.clip(value.numpy() + u @ rows.numpy().T, 0, None) @ sums.weight[0].numpy()
    rng = np.random.default_rng(2)
    for _ in range(50):
        slope, rate = torch.from_numpy(rng.random((1, 6))), float(np.exp(rng.normal()))
        w = np.exp(-rate * form)
        low = w.mean() - 4 * w.std() / math.sqrt(len(w))
        assert low <= 0 or log_moments(sums, law, Tilt(slope, tensor([rate]), power)).item() >= math.log(low)
    half = torch.full((1, 6), 0.5).double()
    for bad in (math.nan, -0.01, 1.01, math.inf):
        wrong = half.clone()
        wrong[0, 2] = bad
        assert log_moments(sums, law, Tilt(wrong, tensor([1.0]), power)).isinf().all()
    for rate in (math.nan, 0.0, -1.0, math.inf):
        assert log_moments(sums, law, Tilt(half, tensor([rate]), power)).isinf().all()
    assert log_moments(sums, law, Tilt(half, tensor([1.0]), foreign)).isinf().all()
    unknown = Exponents(first, None, torch.full((6,), torch.inf).double(), torch.ones(6).double())
    assert log_moments(sums, law, Tilt(half, tensor([1.0]), unknown)).isinf().all()
    assert not (log_moments(sums, law, Tilt(half, tensor([1e300]), power)) < 0).any()
    lost = replace(sums, constant=tensor([math.nan]))
    assert log_moments(lost, law, Tilt(half, tensor([1.0]), power)).isinf().all()
    assert (levels(tensor([math.inf]), tensor([1.0]), tensor([-3.0])) == -math.inf).all()


@pytest.mark.parametrize("label", ["none", "scale", "matrix"])
@pytest.mark.parametrize("make", [convolutional, lambda: residual(5, 3, 1), lambda: random_dense((5, 8, 3), 1)])
def test_the_directions_of_the_first_layer(make: object, label: str) -> None:
    """Against derivatives by differences of the first layer's values, exact for affine functions."""
    net = make()  # type: ignore[operator]
    d = net.d
    scale = torch.linspace(0.0, 2.0, d).double()
    s = {"none": None, "scale": scale, "matrix": points(d, 4, 2)}[label]
    hyperplanes = Hyperplanes(net, s)
    first = first_layer(hyperplanes, NEVER)
    assert first is not None
    columns = torch.eye(d).double() if s is None else s if s.ndim == 2 else torch.diag(s)[:, 1:]
    (relu,) = first.ends.relus
    feeder, start = net.nodes[relu].inputs[0], points(1, d, 9)
    ends = dict(net.values(torch.cat([start, start + columns.t()])))[feeder].flatten(1)
    expected = (ends[1:] - ends[:1]).t()
    norms = expected.norm(dim=1)
    assert (first.shortest <= norms * (1 + 1e-9)).all()
    assert (norms <= first.longest * (1 + 1e-9)).all()
    rows = torch.from_numpy(first.rows.toarray()) * first.longest[:, None]
    assert torch.allclose(rows @ rows.t(), expected @ expected.t(), atol=1e-9)
    if first.plain:
        assert torch.allclose(rows, expected, atol=1e-9)
    assert first.doubt < 1e-12
    weights = points(3, first.units, 4)
    inner, squared = first.products(weights, None)
    unit = torch.from_numpy(first.rows.toarray())
    assert torch.allclose(inner, weights @ unit @ unit.t(), atol=1e-12)
    assert torch.allclose(squared, ((weights @ unit) ** 2).sum(1), atol=1e-12)


def test_a_dead_kernel_reads_no_noise() -> None:
    net = convolutional()
    conv = net.nodes[2].op
    conv.kernel[1] = 0.0
    first = first_layer(Hyperplanes(net), NEVER)
    assert first is not None
    dead = torch.zeros(conv.output_shape, dtype=torch.bool)
    dead[1] = True
    assert ((first.longest == 0) == dead.flatten()).all()
    x = points(1, net.d, 3)
    found = ExponentialMoments().log_bound(query(net, x, Sphere(0.02)), tensor([0.02]))
    assert found.item() < -5
    net = convolutional()
    net.nodes[2].op.kernel[1] = 1e-200  # squares underflow
    assert first_layer(Hyperplanes(net), NEVER) is None


def query(net: Network, x: Tensor, noise: Noise, **settings: float) -> Query:
    deadline = Deadline.after(settings.pop("seconds", math.inf))
    return Query(Hyperplanes(net, noise.map), x, list(range(len(x))), noise, Settings(**settings), deadline=deadline)


@pytest.mark.parametrize("kind", [Sphere, Ball, Gaussian])
@pytest.mark.parametrize("seed", [0, 1])
def test_convolutions_against_draws(kind: type[Noise], seed: int) -> None:
    """The rung is above p and below 1 for some noise at which p is more than 1e-3, one layer and two."""
    told = 0
    two, start = two_convolutions(seed)
    cases = [(convolutional(seed), points(1, 72, seed), (0.6, 1.2, 2.0)), (two, start[None], (2.5, 4.0, 6.0))]
    for net, x, sizes in cases:
        for eps in sizes:
            size = eps / math.sqrt(net.d) if kind is Gaussian else eps
            log_p = ExponentialMoments().log_bound(query(net, x, kind(size)), tensor([size])).item()
            r = kind(size).sample(6_000, net.d, torch.Generator().manual_seed(3))
            share = (net.predict(x + r) != net.predict(x)).double().mean().item()
            low = share - 4 * math.sqrt(share / len(r))
            assert low <= 0 or log_p >= math.log(low)
            told += log_p < -0.5 and share > 1e-3
    assert told >= 1


def test_more_units_than_inputs() -> None:
    """40 units on 8 inputs, all coordinates read."""
    net, x = random_dense((8, 40, 2), 3), points(1, 8, 4)
    sizes = [0.3, 0.6, 1.0, 1.5]
    right = [ExponentialMoments().log_bound(query(net, x, Sphere(s)), tensor([s])).item() for s in sizes]
    assert right == sorted(right)
    assert right[0] < -2


def test_reasons_and_limits() -> None:
    rung, x = ExponentialMoments(), points(1, 72, 0)
    one = query(convolutional(), x, Sphere(1.0), memory_limit=5e4)
    reason = rung.refuses(one)
    assert reason is not None
    assert "--memory-limit" in reason
    (bound,) = rung.bound(query(convolutional(), x, Sphere(1.0), seconds=1e-9))
    assert bound.skipped is not None
    assert "time limit" in bound.skipped
    assert certificates.positive(torch.full((2, 2), math.nan).double(), 0.0).item() is False
