"""The inverse question: the largest noise with p <= delta proved."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from zoo import dense

from calotte.assess import assess
from calotte.errors import InvalidInput
from calotte.ladder import PROVED_RUNGS
from calotte.laws import make_noise
from calotte.network.affine import Dense
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node, Relu
from calotte.network.random import random_network
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.plan import plan
from calotte.searches.sizes import bisected, closed_in
from calotte.settings import Settings
from calotte.theorems import largest_eps, perceptron_robustness

GENERATOR = torch.Generator().manual_seed(3)
NETWORK = random_network((20, 15, 15, 4), GENERATOR)
X = torch.randn(9, 20, dtype=torch.float64, generator=GENERATOR).numpy()


class Ticking:
    """A clock on which each look at it takes a hundredth of a second."""

    def __init__(self) -> None:
        self.looks = 0

    def perf_counter(self) -> float:
        self.looks += 1
        return 0.01 * self.looks


@pytest.mark.parametrize("noise", [Sphere(1.0), Gaussian(1.0)])
def test_whenever_the_time_ends_what_was_found_is_proved(noise: Noise, monkeypatch) -> None:
    """A search that the clock ended had its last find thrown away where there was no time to prove it again."""
    delta, rungs, seen = 1e-2, ["cell", "relaxation", "concentration"], set()
    (whole,) = plan(NETWORK, X[:1], noise, delta, rungs=rungs)
    for limit in (0.05, 0.3, 0.9, 2.0, 5.0):
        with monkeypatch.context() as patch:
            patch.setattr("calotte.deadline.time", Ticking())
            (one,) = plan(NETWORK, X[:1], noise, delta, rungs=rungs, settings=Settings(time_limit=limit))
        for rung in rungs:
            if rung in one.skipped:
                assert "time limit" in one.skipped[rung]
                assert rung not in one.largest_eps
                continue
            eps = one.largest_eps[rung]
            assert 0 < eps <= whole.largest_eps[rung] * 1.05
            assert rung in one.cut_short or eps >= whole.largest_eps[rung] * 0.95
            at = make_noise(noise.kind, 20, eps=eps)
            (found,) = assess(NETWORK, X[:1], at, rungs=[rung], settings=Settings(search=False))
            assert found.best.log_misclassification <= math.log(delta)
        seen |= {(len(one.skipped), len(one.cut_short))}
    assert {skipped for skipped, _ in seen} >= {0, 3}
    assert len(seen) >= 4


@pytest.mark.parametrize("delta", [0.5, 1e-3, 1e-12, 1e-300])
def test_theorem_rung_agrees_with_the_papers_inverse(delta: float) -> None:
    for one in plan(NETWORK, X, Sphere(1.0), delta, rungs=["theorem"]):
        assert one.distance is not None
        closed = largest_eps(one.distance, 20, NETWORK.units, log_delta=math.log(delta))
        assert one.largest_eps["theorem"] == pytest.approx(closed, rel=1e-12)
        assert one.largest_eps["theorem"] <= closed * (1 + 1e-15)


def test_one_perceptron_has_the_exact_answer() -> None:
    network = random_network((30, 1), torch.Generator().manual_seed(0))
    (one,) = plan(network, X[0].tolist() + [0.3] * 10, Sphere(1.0), 1e-5)
    eps, rho = one.largest_eps["cell"], one.distance
    assert eps is not None
    assert rho is not None
    assert perceptron_robustness(rho, eps, 30).log_misclassification <= math.log(1e-5) + 1e-9
    assert perceptron_robustness(rho, eps * (1 + 1e-8), 30).log_misclassification > math.log(1e-5)


@pytest.mark.parametrize("tiny", [1e-3, 1e-20, 1e-70])
def test_a_hyperplane_near_by_does_not_make_every_eps_do(tiny: float) -> None:
    """A harmless unit switches at u_1 = tiny, the answer at u_1 = 2: p <= 0.05 on circles up to 2 / cos(0.05 pi)."""
    net = dense(([[1.0, 0.0], [1.0, 0.0]], [-tiny, -1.0]), ([[0.0, -1.0]], [1.0]))
    for noise, most in ((Sphere(1.0), 2 / math.cos(0.05 * math.pi)), (Gaussian(1.0), math.sqrt(2) * 2 / 1.6448536)):
        (one,) = plan(net, torch.zeros(1, 2, dtype=torch.float64), noise, 0.05, settings=Settings(boxes=30))
        for rung, eps in one.largest_eps.items():
            assert eps is not None
            assert 0 <= eps <= most * (1 + 1e-6), rung
        assert one.largest_eps["branching"] >= 0.6 * most


@pytest.mark.parametrize("noise", [Sphere(1.0), Gaussian(1.0)])
def test_a_constant_network_has_no_largest_size(noise: Noise) -> None:
    (deaf,) = plan(dense(([[0.0, 0.0]], [1.0]), ([[1.0]], [1.0])), [[0.0, 0.0]], noise, 0.05)
    assert set(deaf.largest_eps.values()) == {None}


@pytest.mark.parametrize("search", [closed_in, bisected])
def test_a_bound_that_is_not_a_number_proves_no_size(search) -> None:
    assert max(search(lambda size: math.nan if size > 1.2 else -1.0, 1.0, 12)) <= 1.2


@pytest.mark.parametrize("search", [closed_in, bisected])
def test_sizes_that_overflow_end_the_search(search) -> None:
    def proved(size: float) -> float:
        assert math.isfinite(size)
        return -1.0

    assert max(search(proved, 1e290, 12)) < math.inf


@pytest.mark.parametrize("search", [closed_in, bisected])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_the_searches_find_where_a_bound_crosses(search, scale: float) -> None:
    """On logarithms: sizes whose squares overflow or underflow are sizes like others."""
    crossing = 3.7 * scale
    found = max(search(lambda size: 20 * math.log(size / crossing), scale, 50))
    assert 0.98 * crossing <= found <= crossing


@pytest.mark.parametrize("start", [0.3, 0.65, 0.9, 1.2, 9.0])
def test_where_a_rung_goes_farther_its_start_is_not_tried_first(start: float) -> None:
    """It is not tried at all where the step beyond it hits, and what is found is the same."""
    tried: list[float] = []

    def excess(size: float) -> float:
        tried.append(size)
        return 20.0 * math.log(size)

    found = list(closed_in(excess, start, 12, farther=True))
    assert len(tried) == len(set(tried))
    assert (start in tried) == (tried[0] > 1.0)
    assert found == [size for size in tried if size <= 1.0]
    assert found[-1] == max(closed_in(excess, start, 12)) >= 0.98


@pytest.mark.parametrize("search", [closed_in, bisected])
@pytest.mark.parametrize("steepness", [3.0, 20.0, 200.0])
@pytest.mark.parametrize("start", [1.01, 1.6, 30.0, 3e5, 1e9])
def test_searches_that_begin_too_high_come_down_and_never_try_what_failed(search, steepness, start: float) -> None:
    """Also where a bound says nothing above its reach, as rungs do."""
    tried: list[float] = []

    def excess(size: float) -> float:
        assert size < min([t for t in tried if t > 1.0], default=math.inf)
        tried.append(size)
        return min(steepness * math.log(size), 7.0)

    found = list(search(excess, start, 12))
    if start > 2.0**20:
        assert found == []
    else:
        assert 0.98 <= max(found) <= 1.0
        assert found == sorted(found)
    assert len(tried) <= 1 + 20 + 12


@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-9, 1e-20])
def test_concentration_is_searched_as_far_as_it_proves(delta: float) -> None:
    """From an input next to a hyperplane too, where good events cost next to nothing at first."""
    net = random_network((30, 60, 40, 3), torch.Generator().manual_seed(2))
    x = torch.randn(30, generator=torch.Generator().manual_seed(4)).double()
    weight, bias = net.nodes[1].op.weight[0], net.nodes[1].op.offset[0]
    x = x - weight * (weight @ x + bias - 1e-4) / (weight @ weight)
    (one,) = plan(net, x, Sphere(1.0), delta, rungs=["concentration"])
    eps = one.largest_eps["concentration"]
    (there,) = assess(net, x, Sphere(1.15 * eps), rungs=["concentration"], settings=Settings(search=False))
    assert there.bounds[0].log_misclassification > math.log(delta)


@pytest.mark.parametrize("delta", [0.6, 0.3, 1e-2, 2e-3, 1e-5])
@pytest.mark.parametrize("kind", ["sphere", "ball", "gaussian"])
def test_assess_proves_what_plan_says(kind, delta: float) -> None:
    """At the numbers printed, without being told what to aim at; also where delta is no power of ten."""
    nets = [random_network(w, torch.Generator().manual_seed(s)) for w, s in (((5, 12, 8, 3), 3), ((8, 10, 2), 1))]
    told = 0
    for net in nets:
        x, settings = torch.randn(1, net.d, generator=torch.Generator().manual_seed(3)).double(), Settings(boxes=15)
        for i, one in enumerate(plan(net, x, make_noise(kind, net.d, eps=1.0), delta, settings=settings)):
            for rung, eps in one.largest_eps.items():
                if not eps:
                    continue
                noises = [make_noise(kind, net.d, eps=eps)]
                if kind == "gaussian":
                    noises.append(make_noise(kind, net.d, sigma=one.largest_sigma[rung]))
                for noise in noises:
                    (there,) = assess(net, x[i], noise, rungs=[rung], settings=replace(settings, search=False))
                    assert there.bounds[0].log_misclassification <= math.log(delta), (rung, eps)
                told += rung == "branching"
    assert told >= 1


def test_scope_is_all_only_where_the_signs_at_x_are_certain() -> None:
    """x lies on a hyperplane up to rounding: the tail beyond it is above 1/2, and falls as the noise grows."""
    net = dense(([[1.0, 1e-17], [0.0, 1.0]], [-0.1 - 0.2, 1.0]), ([[1.0, 1.0]], [0.5]))
    (one,) = plan(net, [[0.30000000000000004, 0.0]], Sphere(1.0), 0.6, rungs=["theorem", "cell"])
    assert one.scope == {}
    (other,) = plan(net, [[3.0, 0.0]], Sphere(1.0), 0.6, rungs=["theorem", "cell"])
    assert other.scope == {"theorem": "all", "cell": "all"}


def test_no_time_is_said_and_not_taken_for_no_noise() -> None:
    (one,) = plan(NETWORK, X[0], Sphere(1.0), 1e-3, settings=Settings(time_limit=1e-9))
    assert one.largest_eps == {}
    assert set(one.skipped) == set(PROVED_RUNGS)
    assert all("time limit of 1e-09 s" in reason for reason in one.skipped.values())
    line = one.to_dict()
    assert (line["largest_eps"], line["scope"]) == ({}, {})


def test_rungs_that_do_not_apply_are_in_skipped_only() -> None:
    net = random_network((1, 4, 2), torch.Generator().manual_seed(0))
    (one,) = plan(net, [[0.3]], Sphere(1.0), 0.1)
    assert "theorem" in one.skipped
    assert "theorem" not in one.largest_eps
    assert "theorem" not in one.largest_sigma


@pytest.mark.parametrize("noise", [Sphere(7.0), Ball(0.1), Gaussian(2.0)])
def test_size_of_the_noise_given_does_not_matter_and_cell_reaches_farther(noise: Noise) -> None:
    ours = plan(NETWORK, X[:2], noise, 1e-4, settings=Settings(boxes=10))
    other = plan(NETWORK, X[:2], noise.resized(1.0), 1e-4, settings=Settings(boxes=10))
    for a, b in zip(ours, other, strict=True):
        assert a.largest_eps == b.largest_eps
        theorem, cell = a.largest_eps["theorem"], a.largest_eps["cell"]
        assert theorem is not None
        assert cell is not None
        assert 0 < theorem <= cell
        sigma = a.largest_sigma["cell"]
        assert sigma is not None
        assert sigma * math.sqrt(20) == pytest.approx(cell)


def test_an_input_on_a_hyperplane_allows_nothing() -> None:
    first = Dense(torch.eye(3, dtype=torch.float64))
    last = Dense(torch.ones(2, 3, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64))
    nodes = (Node("x", None), Node("a", first, (0,)), Node("h", Relu((3,)), (1,)), Node("z", last, (2,)))
    (one,) = plan(
        Network(nodes, (3,), Decision("argmax", 2)),
        np.array([1.0, 0.0, 2.0]),
        Sphere(1.0),
        0.01,
        rungs=["theorem", "cell"],
    )
    assert one.distance == 0.0
    assert one.largest_eps == {"theorem": 0.0, "cell": 0.0}


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, math.nan])
def test_bad_delta(delta: float) -> None:
    with pytest.raises(InvalidInput, match="delta"):
        plan(NETWORK, X, Sphere(1.0), delta)
