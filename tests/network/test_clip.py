"""Networks that clip their input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from calotte.assess import assess
from calotte.errors import InvalidInput
from calotte.network.clip import clipped
from calotte.network.random import random_network
from calotte.noise import Sphere
from calotte.settings import Settings

GENERATOR = torch.Generator().manual_seed(2)
NETWORK = random_network((12, 20, 10, 3), GENERATOR)
CLIPPED = clipped(NETWORK, 0.0, 1.0)


def test_it_is_the_network_after_clipping() -> None:
    x = 3 * torch.randn(500, 12, dtype=torch.float64, generator=GENERATOR)
    assert torch.allclose(CLIPPED.forward(x), NETWORK.forward(x.clamp(0.0, 1.0)), rtol=1e-12, atol=1e-12)
    assert CLIPPED.units == NETWORK.units + 2 * 12


def test_bounds_hold_against_samples_of_clipped_noise() -> None:
    x = 0.1 + 0.8 * torch.rand(12, 12, dtype=torch.float64, generator=GENERATOR)
    said = 0
    for eps in (0.05, 0.15, 0.4):
        noise = Sphere(eps)
        for i, one in enumerate(assess(CLIPPED, x, noise, rungs=["theorem", "cell"])):
            y = (x[i] + noise.sample(20_000, 12, GENERATOR)).clamp(0.0, 1.0)
            p = float((NETWORK.predict(y) != one.predicted).double().mean())
            for bound in one.bounds:
                assert math.exp(bound.log_misclassification) >= p - 4 * math.sqrt(p * (1 - p) / 20_000)
                said += -math.inf < bound.log_misclassification < 0
    assert said > 3, "no bound said anything: the test has no teeth"


def test_saturated_inputs_leave_the_face_rungs_vacuous_but_keep_their_radius() -> None:
    x = np.where(np.arange(12) % 3 == 0, 1.0, 0.4)
    (one,) = assess(CLIPPED, x, Sphere(0.01), settings=Settings(samples=100))
    (plain,) = assess(NETWORK, x, Sphere(0.01), rungs=["cell"])
    assert one.distance == 0.0
    assert one.nearest_unit is not None
    assert one.nearest_unit.startswith("clip_")
    assert [bound.log_misclassification for bound in one.bounds[:2]] == [0.0, 0.0]
    assert one.certified_radius is not None
    assert plain.distance is not None
    assert one.certified_radius > plain.distance, "that of the relaxation behind the clipping"


def test_an_input_outside_of_the_range_keeps_no_unclipped_radius() -> None:
    (one,) = assess(CLIPPED, np.full(12, 1.5), Sphere(0.01), rungs=["cell"])
    assert one.certified_radius == one.distance


@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.0, 0.0), (math.nan, 1.0), (0.0, math.inf)])
def test_bad_ranges(ends: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="low < high"):
        clipped(NETWORK, *ends)
