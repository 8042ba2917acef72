"""Certified radii that rest on rung `branching` alone: p = 0 on a sphere counts only where nothing in it is wrong."""

from __future__ import annotations

import math

import pytest
import torch
from zoo import dense

import calotte
from calotte.network.graph import Network

SETTINGS = calotte.Settings(boxes=30, search=False)


def pocket(centre: list[float], radius: float) -> Network:
    """Wrong where |x_1 - c_1| + |x_2 - c_2| < radius, right everywhere else."""
    rows, offsets = [], []
    for i, c in enumerate(centre):
        for sign in (1.0, -1.0):
            rows.append([sign if j == i else 0.0 for j in range(2)])
            offsets.append(-sign * c)
    return dense((rows, offsets), ([[1.0] * 4], [-radius]))


def distance_of(centre: list[float], radius: float) -> float:
    """From the origin to the nearest edge of the square that is wrong."""
    corners = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]).double() * radius + torch.tensor(
        centre
    )
    edges = corners.roll(-1, 0) - corners
    share = (-(corners * edges).sum(1) / (edges * edges).sum(1)).clamp(0.0, 1.0)
    return (corners + share[:, None] * edges).norm(dim=1).min().item()


@pytest.mark.parametrize("centre", [[0.6, 0.3], [-0.5, 0.5]])
def test_what_only_branching_has_proved_counts(centre: list[float]) -> None:
    nearest = distance_of(centre, 0.1)
    eps = 0.97 * nearest
    for noise in (calotte.Sphere(eps), calotte.Ball(eps)):
        (one,) = calotte.assess(pocket(centre, 0.1), [[0.0, 0.0]], noise, rungs="branching", settings=SETTINGS)
        assert one.best.certain
        assert one.distance < one.certified_radius == eps < nearest
    for noise in (calotte.Gaussian(eps), calotte.Sphere(eps, map=[1.0, 1.0])):  # its norm is no norm of the input's
        (one,) = calotte.assess(pocket(centre, 0.1), [[0.0, 0.0]], noise, rungs="branching", settings=SETTINGS)
        assert one.certified_radius == one.distance


@pytest.mark.parametrize(("angle", "away"), [(0.0, 0.8), (1.0, 0.5), (4.0, 0.3)])
def test_a_pocket_of_errors_inside_the_sphere_is_seen(angle: float, away: float) -> None:
    """p = 0 is true on the sphere, and would certify a radius that is wrong."""
    centre = [away * math.cos(angle), away * math.sin(angle)]
    net = pocket(centre, 0.1)
    assert net.predict(torch.tensor([centre]).double()) != net.predict(torch.zeros(1, 2).double())
    for noise in (calotte.Sphere(1.0), calotte.Ball(1.0)):
        (one,) = calotte.assess(net, [[0.0, 0.0]], noise, rungs=["branching"], settings=SETTINGS)
        assert not one.best.certain
        assert one.certified_radius < distance_of(centre, 0.1)
