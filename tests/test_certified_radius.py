"""Certified radii: nothing within them is answered otherwise, and p = 0 certifies no more than was proved."""

import dataclasses
import math

import pytest
import torch
from test_assess import BOUNDS, FAST, NETWORKS, surroundings
from zoo import dense, points, residual, tensor

from calotte.assess import RUNGS, assess
from calotte.bound import Bound, Rung
from calotte.network.clip import clipped
from calotte.noise import Ball, Gaussian, Sphere, noise_map
from calotte.settings import Settings


@pytest.mark.parametrize("name", NETWORKS)
def test_certified_radii_hold(name: str) -> None:
    """Of three inputs with all rungs, of more with those that take no time."""
    net = NETWORKS[name]
    x = points(15, net.d, 20, 0.4)
    found = assess(net, x[:3], Sphere(1.0), settings=FAST)
    quick = ["theorem", "cell", "relaxation", "concentration"]
    found += assess(net, x[3:], Sphere(1.0), rungs=quick, settings=BOUNDS)
    for result, row in zip(found, x, strict=True):
        y = row.clone().requires_grad_()
        z = net.forward(y[None])[0]
        margin = z[0].abs() if len(z) == 1 else (z[result.predicted] - z).abs().sum()
        (slope,) = torch.autograd.grad(margin, y)
        steepest = torch.stack([slope, -slope]) / slope.norm().clamp_min(1e-9)
        near = surroundings(result, row, steepest.detach(), 21)
        assert (net.predict(near) == result.predicted).all()
        assert result.certified_radius >= result.distance > 0


def test_the_certified_radius_of_a_perceptron_is_the_distance() -> None:
    net = dense(([[3.0, 4.0]], [5.0]))
    (result,) = assess(net, [[1.0, 2.0]], Sphere(1.0), settings=FAST)
    assert result.certified_radius == result.distance == pytest.approx(16 / 5, rel=1e-14)
    assert result.distance <= 16 / 5
    assert result.nearest_unit == "output[0]"
    assert int(net.predict(tensor([[1.0, 2.0]]) - 3.2000001 * tensor([0.6, 0.8]))[0]) != result.predicted


def test_distance_and_radius_live_in_input_space() -> None:
    net, x = NETWORKS["d > n"], points(3, 20, 30)
    plain = assess(net, x, Sphere(1.0), settings=FAST)
    for s in (torch.full((20,), 5.0).double(), points(20, 4, 31)):
        for before, after in zip(plain, assess(net, x, Sphere(0.1, s), settings=FAST), strict=True):
            assert (before.distance, before.certified_radius) == (after.distance, after.certified_radius)
            assert before.nearest_unit == after.nearest_unit


@pytest.mark.parametrize("noise", [Sphere, Ball], ids=["sphere", "ball"])
def test_the_radius_is_at_least_every_eps_with_p_zero_proved(noise) -> None:
    """Also on graphs that are no chain, and on clipped networks; and nothing within it is answered otherwise."""
    nets = {**NETWORKS, "residual": residual(4, 3, 6), "clipped": clipped(residual(4, 3, 6), -3.0, 3.0)}
    reached = 0
    for name, net in nets.items():
        for x in points(2, net.d, 9):
            (plain,) = assess(net, x, noise(1.0), rungs=["cell"], settings=Settings(search=False))
            if not plain.distance:
                continue
            for factor in (1.0, 1.5, 4.0):
                eps = factor * plain.distance
                (one,) = assess(net, x, noise(eps), settings=dataclasses.replace(FAST, search=False))
                if any(bound.certain for bound in one.bounds):
                    assert one.certified_radius is None or one.certified_radius >= eps, name
                    reached += factor > 1.0 and net.hidden_units > 0
                if one.certified_radius is not None:
                    near = surroundings(one, x, torch.zeros(1, net.d), 71)
                    assert (net.predict(near) == one.predicted).all()
    assert reached > 5  # the rungs did reach beyond the cell


def test_what_samples_say_is_no_radius(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampled bound may be 0, with confidence: it certifies nothing."""

    class Lucky(Rung):
        def bound(self, query) -> list[Bound]:
            return [Bound(self.name, "confidence", -math.inf, confidence=0.999)]

    monkeypatch.setitem(RUNGS, "isoperimetry", Lucky("isoperimetry", "", ""))
    net, x = NETWORKS["d > n"], points(1, 20, 5)
    (one,) = assess(net, x, Sphere(50.0), rungs=["cell", "isoperimetry"], settings=Settings(search=False))
    assert one.bounds[1].certain
    assert one.certified_radius == one.distance < 50.0


def test_a_radius_belongs_to_the_input_space_not_to_mapped_noise() -> None:
    net = dense(([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), ([[1.0, 1.0]], [0.0]))
    noise = Sphere(50.0, noise_map([0.0, 1e-3]))
    (one,) = assess(net, [[0.1, 0.1]], noise, settings=FAST)
    assert one.best.certain
    assert one.certified_radius < 2.0


def test_the_search_ends_where_nothing_ever_changes() -> None:
    """relu(x + 1/2) + 1 is above 0 everywhere: every radius that is tried holds."""
    net = dense(([[1.0]], [0.5]), ([[1.0], [0.0]], [1.0, 0.0]))
    (one,) = assess(net, torch.zeros(1, 1).double(), Gaussian(1.0), rungs=["theorem", "relaxation"])
    assert one.distance == pytest.approx(0.5)
    assert one.certified_radius is None or one.certified_radius > 1e10
