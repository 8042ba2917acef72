"""Rungs relaxation and concentration: bounds on units and margins contain the truth, every event is paid for."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor
from zoo import dense, gaussian_layers, points, random_dense
from zoo import network as layers

from calotte.adversary import nearest_misclassified
from calotte.cells.hyperplanes import Hyperplanes
from calotte.ladder import PROVED_RUNGS
from calotte.network.affine import Dense
from calotte.network.graph import Network, Relu
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.proofs import event
from calotte.proofs.event import GoodEvent, relaxed_margins
from calotte.proofs.forms import Forms
from calotte.proofs.relaxation.backward import Relaxation
from calotte.proofs.support import Support
from calotte.query import Query
from calotte.searches.concentration import Concentration
from calotte.searches.radius import Bracket, relaxed_radius
from calotte.searches.worst_case import WorstCase
from calotte.settings import Settings
from calotte.sphere import log_cap

NETWORKS = {
    "wide": random_dense((30, 20, 20, 4), 1),
    "narrow": random_dense((3, 40, 40, 40, 3), 2),
    "deep": random_dense((16, 12, 12, 12, 12, 12, 5), 3, bias=0.3),
    "final relu": random_dense((10, 20, 4), 4, final_relu=True),
    "sign": random_dense((12, 15, 1), 5),
    "smallest": random_dense((12, 15, 15, 3), 6, rule="argmin"),
    "scales": dense(
        *[(w * s, b * s) for (w, b), s in zip(gaussian_layers((8, 9, 9, 3), 7), (1e60, 1e-90, 1e40), strict=True)]
    ),
}


def query(network: Network, x: Tensor, noise: Noise) -> Query:
    return Query(Hyperplanes(network, noise.map), x, list(range(len(x))), noise, Settings())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("eps", [0.01, 0.1, 0.5])
def test_bounds_on_the_support_contain_all_samples(name: str, eps: float) -> None:
    network = NETWORKS[name]
    x = points(4, network.d, 8)
    law = Ball(eps)
    case = query(network, x, law)
    radius = torch.full((4,), eps, dtype=torch.float64)
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    settle = Relaxation.settle

    def watched(self: Relaxation, relu: int, *bounds: Tensor) -> None:
        seen[network.nodes[relu].inputs[0]] = bounds[2], bounds[3]
        settle(self, relu, *bounds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Relaxation, "settle", watched)
        margins, good = relaxed_margins(case, Support.ball(case, radius))
    assert (good.log_price == -torch.inf).all()
    lowest = margins.lowest(radius[:, None])
    generator = torch.Generator().manual_seed(9)
    for i in range(4):
        y = x[i] + torch.cat([law.sample(500, network.d, generator), Sphere(eps).sample(1500, network.d, generator)])
        for node, value in network.values(y):
            if node in seen:
                low, high = seen[node]
                assert (value >= low[i]).all()
                assert (value <= high[i]).all()
        z = network.forward(y)
        comparison = network.decision.comparison(case.predicted[i : i + 1])[0]
        assert (z @ comparison.t() >= lowest[i]).all()


def test_a_linear_network_has_the_exact_half_space_tail() -> None:
    network = random_dense((20, 1), 11)
    x = points(6, 20, 12)
    distance = Hyperplanes(network).distances(x).nearest[:, 0]
    for eps in (0.3, 1.0, 4.0):
        exact = log_cap(distance / eps, 20)
        for bound in (WorstCase().log_bound, Concentration().log_bound):
            case = query(network, x, Sphere(eps))
            torch.testing.assert_close(bound(case, case.sizes), exact, rtol=1e-9, atol=1e-12)
    radius = relaxed_radius(query(network, x, Sphere(1.0)), torch.ones(len(x)).double(), steps=40)
    torch.testing.assert_close(radius, distance, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_misclassified_point_lies_within_the_radius(name: str) -> None:
    network = NETWORKS[name]
    x = points(30, network.d, 13)
    radius = relaxed_radius(query(network, x, Sphere(1.0)), torch.ones(len(x)).double())
    found = nearest_misclassified(network, x)
    close = 0
    for i, witness in enumerate(found):
        if witness is not None:
            assert witness.distance >= radius[i]
            close += bool(radius[i] > 0.2 * witness.distance)
    assert close >= 3 or name == "scales", "the radii are far below every point found: the test has no teeth"


def doubled_and_halved(case: Query, start: float, steps: int) -> float:
    """The largest radius at which the margins of one input hold, by a pass at each."""

    def holds(radius: float) -> bool:
        margins, _ = relaxed_margins(case, Support.ball(case, torch.tensor([radius], dtype=torch.float64)))
        return bool((case.margins.cases.kept(margins.distances()) >= radius).all())

    low, high = 0.0, start
    while holds(high):
        low, high = high, 2 * high
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@pytest.mark.parametrize("edge", [0.0, 1e-4, 0.37, 0.74, 5.0, 1e4, math.inf])
@pytest.mark.parametrize("gained", [0.0, 1e-9, 1.0, math.inf])
@pytest.mark.parametrize("lost", [1e-9, 1.0, 1e30, math.inf, math.nan])
def test_a_bracket_ends_soon_whatever_margins_do(edge: float, gained: float, lost: float) -> None:
    """Also where they never fail, or jump from one infinity to the other."""
    bracket, asked = Bracket(0.01, 12), 0
    while bracket.next is not None:
        asked += 1
        assert asked <= 72
        bracket.learn(bracket.next + (gained if bracket.next <= edge else -lost))
    low, high = 0.0, 0.01
    for _ in range(40):
        if high > edge:
            break
        low, high = high, 2 * high
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if middle <= edge else (low, middle)
    assert bracket.found == low


@pytest.mark.parametrize("name", ["wide", "narrow", "deep", "sign", "smallest"])
def test_the_radius_is_that_of_doubling_and_bisection_in_half_of_the_passes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []

    def counted(*arguments: Any) -> Any:
        passes.append(1)
        return relaxed_margins(*arguments)

    monkeypatch.setattr("calotte.searches.radius.relaxed_margins", counted)
    network = NETWORKS[name]
    x, starts = points(5, network.d, 15), (0.001, 0.01, 0.3, 3.0, 1.0)
    together = relaxed_radius(query(network, x, Sphere(1.0)), torch.tensor(starts).double())
    passes.clear()
    for i, start in enumerate(torch.tensor(starts).double().tolist()):
        case = query(network, x[i : i + 1], Sphere(1.0))
        radius = relaxed_radius(case, torch.tensor([start]).double()).item()
        assert radius == doubled_and_halved(case, start, 12) == together[i]
    assert len(passes) <= 5 * 12


@pytest.mark.parametrize("law", [Sphere(0.4), Ball(0.4), Gaussian(0.1)])
def test_concentration_is_never_above_relaxation(law: Noise) -> None:
    gained = 0
    for network in NETWORKS.values():
        x = points(5, network.d, 14)
        case = query(network, x, law)
        relaxed, concentrated = WorstCase().log_bound(case, case.sizes), Concentration().log_bound(case, case.sizes)
        assert (concentrated <= relaxed).all()
        gained += int((concentrated < relaxed - 0.1).sum())
    assert gained > 5


def bump(d: int, height: float, slope: float) -> Network:
    """Class 1 where slope relu(x_1 - height) > 1: one unit, off at 0, that must come on for an error."""
    first = torch.zeros(1, d, dtype=torch.float64)
    first[0, 0] = 1.0
    return dense((first, [-height]), ([[-slope]], [1.0]))


@pytest.mark.parametrize("law", [Sphere(1.0), Ball(1.0), Gaussian(0.05)])
@pytest.mark.parametrize("height", [0.1, 0.2])
def test_a_unit_kept_off_by_the_good_event_is_paid_for(
    law: Noise, height: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a steep unit the error is the cap behind it: the whole bound is the price of the event."""
    d = 100
    network, x = bump(d, height, 1e6), torch.zeros(1, d, dtype=torch.float64)
    case = query(network, x, law)
    exact = law.log_tail(torch.tensor([height + 1e-6], dtype=torch.float64), d)
    bound = Concentration().log_bound(case, case.sizes)
    assert exact[0] <= bound[0] <= exact[0] + 1.5, "sound, and within a factor of the truth"

    right = event.relaxed_units

    def unpaid(*arguments: object) -> GoodEvent:
        found = right(*arguments)  # type: ignore[arg-type]
        return replace(found, log_price=torch.full_like(found.log_price, -torch.inf))

    monkeypatch.setattr(event, "relaxed_units", unpaid)
    case = query(network, x, law)
    assert Concentration().log_bound(case, case.sizes)[0] < exact[0], "a bound that does not pay is not noticed"


def test_a_flipped_slope_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = bump(3, 0.2, 1.0)
    x = torch.zeros(4, 3, dtype=torch.float64)
    case = query(network, x, Sphere(1.0))
    radius = torch.ones(4, dtype=torch.float64)
    settle = Relaxation.settle

    def flipped(self: Relaxation, relu: int, *bounds: Tensor) -> None:
        settle(self, relu, *bounds)
        below, above, intercept = self.lines[relu]
        self.lines[relu] = (above, below, torch.zeros_like(intercept))

    monkeypatch.setattr(Relaxation, "settle", flipped)
    lowest = relaxed_margins(case, Support.ball(case, radius))[0].lowest(radius[:, None])
    y = x[:, None] + Sphere(1.0).sample(5000, network.d, torch.Generator().manual_seed(1))
    comparison = network.decision.comparison(case.predicted)
    margins = torch.stack([network.forward(y[i]) @ comparison[i].t() for i in range(4)])
    assert (margins.amin(1) < lowest).any()


EXTREMES = (5e-324, 1.5e-323, 1e-320, 3e-310, 1e-301, 1e-200, 1e-17, 0.1, 1.0, 3.0, 1e9, 1e160, 1e308, 1.7e308)


def test_lines_hold_in_rational_arithmetic_at_every_scale() -> None:
    """alpha z <= relu(z) <= s z + t at both ends of [l, u], also where u - l overflows or u / (u - l) underflows."""
    ends = [(-low, high) for low in EXTREMES for high in EXTREMES]
    network = dense(([[1.0]] * len(ends), None), ([[1.0] * len(ends)], None))
    x = torch.zeros(1, 1, dtype=torch.float64)
    relaxation = Relaxation(Hyperplanes(network), x, torch.ones(1, dtype=torch.float64))
    relaxation.reach.magnitude[1] = torch.full((1, len(ends)), math.inf, dtype=torch.float64)
    lower, upper = torch.tensor(ends, dtype=torch.float64).t()[:, None]
    relaxation.settle(2, lower, upper, lower, upper)
    lines = torch.stack(relaxation.lines[2])[:, 0].t().tolist()
    for (low, high), (below, above, intercept) in zip(ends, lines, strict=True):
        for z in (Fraction(low), Fraction(high)):
            relu = max(z, Fraction(0))
            assert Fraction(below) * z <= relu <= Fraction(above) * z + Fraction(intercept), (low, high)


def test_an_interval_wider_than_the_floats_proves_nothing_false() -> None:
    first = ([[1e308, 0.0], [0.0, 1.0]], [0.0, 0.0])
    network = dense(first, ([[-2e-290, 0.0]], [1e18]))  # 1e18 (1 - 2 relu(x_1))
    case = query(network, torch.zeros(1, 2, dtype=torch.float64), Sphere(1.0))
    for bound in (WorstCase().log_bound, Concentration().log_bound):
        assert bound(case, case.sizes)[0] >= math.log(1 / 3)


def test_noise_that_underflows_is_not_taken_for_none() -> None:
    """1 - 2 |u_1| / eps, entries of r = S u being below the smallest float."""
    network = dense(([[1e200, 0.0], [-1e200, 0.0]], [0.0, 0.0]), ([[-2e140, -2e140]], [1.0]))
    law = Sphere(1e-170, torch.full((2,), 1e-170, dtype=torch.float64))
    case = query(network, torch.zeros(1, 2, dtype=torch.float64), law)
    for bound in (WorstCase().log_bound, Concentration().log_bound):
        assert bound(case, case.sizes)[0] >= math.log(2 / 3)


def test_a_norm_that_overflows_gives_no_distance() -> None:
    """-(z_1 + z_2) = -2 - 2e308 x_1."""
    network = dense(([[1e308, 0.0]] * 2, [1.0] * 2))
    relaxation = Relaxation(Hyperplanes(network), torch.zeros(1, 2, dtype=torch.float64), torch.ones(1).double())
    relaxation.reach.bound(1)
    found = relaxation.forms(1, -torch.ones(1, 1, 2, dtype=torch.float64), {})
    assert found.distances()[0, 0] <= -1e-308


def test_matrices_applied_to_rows_are_bounded_like_the_block_matrix_they_are() -> None:
    generator = torch.Generator().manual_seed(5)
    w, v = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, 6), (2, 4)))
    x = torch.randn(2, 18, generator=generator, dtype=torch.float64)
    rows = layers((3, 6), Dense(w, leading=(3,)), Relu((3, 4)), Dense(v, leading=(3,)))
    flat = layers((18,), Dense(torch.block_diag(w, w, w)), Relu((12,)), Dense(torch.block_diag(v, v, v)))
    for eps in (0.3, 1.0):
        found, other = (
            Concentration().log_bound(p, p.sizes) for p in (query(net, x, Sphere(eps)) for net in (rows, flat))
        )
        assert torch.allclose(found, other, rtol=1e-6)
        assert (found < 0).any()


TIES = {
    "minus a ReLU": dense(([[1.0, 2.0]], [0.5]), ([[-1.0]], [0.0])),
    "minus a ReLU, negative": dense(([[1.0, 2.0]], [-3.0]), ([[-1.0]], None)),
    "the first class is never smaller": dense(([[1.0, 2.0]], [0.5]), ([[1.0], [0.0]], [0.0, 0.0])),
    "a ReLU behind the scores": dense(([[1.0, 2.0], [0.0, 0.0]], [0.5, -1.0]), final_relu=True),
    "the last class is never larger": dense(([[1.0, 2.0]], [0.5]), ([[0.0], [1.0]], [0.0, 0.0]), rule="argmin"),
}


@pytest.mark.parametrize("net", TIES.values(), ids=TIES)
@pytest.mark.parametrize("noise", [Sphere(3.0), Gaussian(3.0)], ids=["sphere", "gaussian"])
def test_ties_that_the_rule_gives_to_the_answer_are_no_errors(net, noise) -> None:
    """The answer is 0 everywhere, though the margin is exactly 0 on half of all noise."""
    x = torch.zeros(1, 2, dtype=torch.float64)
    assert (net.predict(3.0 * points(1000, 2, 1)) == 0).all()
    query = Query(Hyperplanes(net), x, [0], noise, Settings())
    for name in ("relaxation", "concentration", "branching"):
        (bound,) = PROVED_RUNGS[name].bound(query)
        assert bound.log_misclassification <= -18.0, name  # the Gaussian's support is a ball that it may leave


@pytest.mark.parametrize(
    ("net", "answer"),
    [
        (dense(([[1.0, 2.0]], [0.5]), ([[0.0], [1.0]], [0.0, 0.0])), 1),
        (dense(([[1.0, 2.0]], [0.5]), ([[1.0], [0.0]], [0.0, 0.0]), rule="argmin"), 1),
        (dense(([[1.0, 2.0]], [0.5]), ([[1.0]], [0.0])), 1),
        (dense(([[1.0, 2.0], [0.0, 0.0]], [0.5, 1e-300]), final_relu=True), 0),
        (dense(([[1.0, 2.0]], [0.5]), ([[-1.0]], [1e-300])), 0),
    ],
)
def test_other_ties_are_errors(net, answer: int) -> None:
    """The margin is never negative, but a tie is answered otherwise: p = P(z <= 0), about 0.46 on this sphere."""
    x, noise = torch.zeros(1, 2, dtype=torch.float64), Sphere(2.0)
    if answer != int(net.predict(x)):
        x = torch.tensor([[-1.0, 0.0]], dtype=torch.float64)
    wrong = (
        (net.predict(x + noise.sample(4096, 2, torch.Generator().manual_seed(0))) != net.predict(x)).double().mean()
    )
    query = Query(Hyperplanes(net), x, [0], noise, Settings())
    for name in ("relaxation", "concentration", "branching"):
        (bound,) = PROVED_RUNGS[name].bound(query)
        assert math.exp(bound.log_misclassification) >= wrong - 4 * math.sqrt(0.25 / 4096), name
    assert wrong > 0.2


@pytest.mark.parametrize("constant", [math.nan, -math.inf, math.inf])
@pytest.mark.parametrize("norm", [math.nan, math.inf, 1.0])
def test_bounds_that_are_not_numbers_prove_nothing(constant: float, norm: float) -> None:
    level, length, zero = (torch.full((1, 1), v, dtype=torch.float64) for v in (constant, norm, 0.0))
    form = Forms(level, zero, zero, 0.0, length=length)
    lowest = form.lowest(torch.ones(1, 1, dtype=torch.float64))
    distance = form.distances()
    if not (constant == math.inf and norm == 1.0):
        assert not (lowest >= 0).any()
        assert not (distance > 0).any()
