"""The search for misclassified points at its limits: time, numbers that are not finite, weights beyond float32."""

from __future__ import annotations

import math
import time

import pytest
import torch
from test_adversary import NETWORKS, generator, linear, normal, one_thread, residual  # noqa: F401

from calotte.adversary import Adversary, nearest_misclassified
from calotte.deadline import Deadline
from calotte.errors import InvalidInput
from calotte.network.affine import Dense
from calotte.network.decision import Decision
from calotte.network.event import over_rivals
from calotte.network.graph import Network, Node, Relu


def test_a_time_limit_ends_the_search() -> None:
    network = NETWORKS["argmax, deep"]
    assert nearest_misclassified(network, normal(3, network.d, seed=1), time_limit=1e-9) == [None] * 3


def test_polishing_and_certifying_look_at_the_deadline(monkeypatch) -> None:
    """The clock strikes after so many passes: no more than one of each kind follows."""
    network, x = NETWORKS["argmax, deep"], normal(1, 30, seed=1)
    answer, real, passes = int(network.predict(x)), Network.values, []

    def counted(self, x, start=0):
        passes.append(len(x))
        if len(passes) == limit:
            monkeypatch.setattr(time, "perf_counter", lambda: 1e12)
        return real(self, x, start)

    adversary = Adversary(network)
    monkeypatch.setattr(Network, "values", counted)
    limit = 10**9
    assert adversary.nearest(x[0], answer) is not None
    total = len(passes)
    clock = time.perf_counter
    for limit in (30, 150, total - 60, total - 40):
        passes.clear()
        monkeypatch.setattr(time, "perf_counter", clock)
        assert adversary.nearest(x[0], answer, deadline=Deadline.after(1e6)) is None
        assert limit <= len(passes) <= limit + 6


def test_outputs_that_are_not_finite_make_no_witness() -> None:
    """Beyond x_1 = 1e-92 the outputs overflow: that is no answer, so no witness, and no traceback."""
    network = Network(
        (
            Node("input", None),
            Node("a", Dense(1e200 * torch.tensor([[1.0, 0.0]]).double()), (0,)),
            Node("r", Relu((1,)), (1,)),
            Node(
                "out", Dense(1e200 * torch.tensor([[1.0], [-1.0]]).double(), torch.tensor([1.0, 0.0]).double()), (2,)
            ),
        ),
        (2,),
        Decision("argmin", 2),
    )
    x = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).double()
    assert network.predict(x).tolist() == [1, -1]
    (found,) = nearest_misclassified(network, x[:1])
    assert found is None
    with pytest.raises(InvalidInput, match="input 7: the network's outputs there are not finite"):
        nearest_misclassified(network, x[1:], index=[7])


@pytest.mark.parametrize("rule", ["argmax", "argmin", "sign"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_predicates_on_numbers_that_are_not_finite(rule: str, bad: float) -> None:
    """No answer; no witness, whether a value or its error is bad, and margins never pretend to be finite."""
    decision = Decision(rule, 1 if rule == "sign" else 3)
    y = torch.tensor([0])
    for place in range(decision.outputs):
        z = torch.tensor([[5.0, 9.0, 1.0][: decision.outputs]]).double()
        margins = over_rivals(decision, y, 1)
        assert bool(margins.certainly_occurs(z, torch.zeros_like(z)))
        broken = z.clone()
        broken[0, place] = bad
        assert decision.decide(broken).tolist() == [-1]
        assert not margins.certainly_occurs(broken, torch.zeros_like(z))
        assert not margins.certainly_occurs(z, broken.abs() - z)
        assert not margins.of(broken).isfinite().all()
        assert bool(margins.occurs(broken)), "no number counts as wrong"


@pytest.mark.parametrize("scale", [1e30, 1e150, 1e-150])
def test_weights_beyond_float32(scale: float) -> None:
    """Distances do not depend on the scale of the first layer, though float32 cannot hold it."""
    plain, scaled = (
        Network(
            (
                Node("input", None),
                Node("a", Dense(c * normal(6, 3, seed=1), c * normal(6, seed=2)), (0,)),
                Node("r", Relu((6,)), (1,)),
                Node("out", Dense(normal(2, 6, seed=3)), (2,)),
            ),
            (3,),
            Decision("argmax", 2),
        )
        for c in (1.0, scale)
    )
    x = normal(10, 3, seed=4)
    pairs = list(zip(nearest_misclassified(plain, x), nearest_misclassified(scaled, x), strict=True))
    assert all((a is None) == (b is None) for a, b in pairs)
    ratios = [b.distance / a.distance for a, b in pairs if a is not None and b is not None]
    assert sum(abs(ratio - 1) < 1e-6 for ratio in ratios) >= 0.7 * len(ratios) > 0  # chance may part the others
    assert all(0.7 < ratio < 1.4 for ratio in ratios)


def test_bad_arguments_are_refused():
    network = NETWORKS["sign, deep"]
    with pytest.raises(InvalidInput, match="2 indices for 1 inputs"):
        nearest_misclassified(network, torch.zeros(1, 5), index=[0, 1])
    with pytest.raises(InvalidInput, match="NaN"):
        nearest_misclassified(network, torch.full((1, 5), math.nan))
    with pytest.raises(InvalidInput, match="low < high"):
        nearest_misclassified(network, torch.zeros(1, 5), low=1.0, high=1.0)
    with pytest.raises(InvalidInput, match="restarts"):
        nearest_misclassified(network, torch.zeros(1, 5), restarts=-1)
