"""Combinations of the forms of a conjunction: never more than true, and where faces meet much tighter."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from scipy import special
from torch import Tensor

import calotte
from calotte.network import combination
from calotte.network.combination import with_combinations
from calotte.network.event import event_of as named
from calotte.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1]))
from zoo import dense, points, random_dense

RUNGS = ["cell", "relaxation", "concentration"]


def log_bounds(network: calotte.Network, x: Tensor, noise: calotte.Noise, event: object) -> dict[str, float]:
    settings = Settings(search=False)
    (one,) = calotte.assess(network, x[None], noise, event=event, rungs=RUNGS, settings=settings)  # type: ignore[arg-type]
    return {b.rung: b.log_misclassification for b in one.bounds if b.skipped is None}


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (2.0, 0.5), (1.0, 30.0)])
def test_two_half_spaces_at_right_angles(a: float, b: float) -> None:
    """{x1 >= h, x2 >= h} lies beyond the line through the corner: its tail is that of sqrt(2) h, not of h."""
    network, h = dense(([[a, 0.0], [0.0, b]], [0.0, 0.0])), 3.0
    event = calotte.Event([[([-1.0, 0.0], a * h), ([0.0, -1.0], b * h)]])
    found = log_bounds(network, torch.zeros(2, dtype=torch.float64), calotte.Gaussian(1.0), event)
    corner, single = special.log_ndtr(-math.sqrt(2) * h), special.log_ndtr(-h)
    for rung in ("cell", "relaxation"):
        assert 2 * single <= corner <= found[rung] <= corner + 0.02, rung


def test_one_form_alone_where_the_other_says_nothing() -> None:
    network = dense(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]))
    event = calotte.Event([[([-1.0, 0.0], 3.0), ([-1.0, 0.01], 1.0)]])
    found = log_bounds(network, torch.zeros(2, dtype=torch.float64), calotte.Gaussian(1.0), event)
    assert found["relaxation"] == pytest.approx(special.log_ndtr(-3.0), abs=1e-6)


def event_of(seed: int) -> calotte.Event:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-2, 3, (5, 3), generator=generator).double() + torch.eye(5, 3)
    return calotte.Event(
        [[(rows[0], 0.3), (rows[1], 0.1), (rows[2], 0.2)], [(rows[3], 0.4), (rows[4], 0.1)]], name=f"seed {seed}"
    )


@pytest.mark.parametrize("chosen", ["as proposed", "at random", "nonsense"])
def test_bounds_are_above_samples_whatever_the_weights(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(5)

    def weights(normals: Tensor, heights: Tensor) -> Tensor:
        if chosen == "at random":
            return torch.rand(len(heights), dtype=torch.float64, generator=generator)
        return torch.tensor([-1.0, math.nan, 3.0, math.inf, 0.5], dtype=torch.float64)[: len(heights)]

    if chosen != "as proposed":
        monkeypatch.setattr(combination, "weights", weights)
    told = 0
    for seed in range(4):
        network, x, noise = random_dense((4, 7, 3), seed), points(1, 4, seed)[0], calotte.Sphere(0.8)
        event = event_of(seed)
        margins = event.margins(network, x[None], network.predict(x[None]))
        draws = x + noise.sample(20_000, 4, torch.Generator().manual_seed(seed))
        p = margins.occurs(network.forward(draws)).double().mean().item()
        for rung, log_p in log_bounds(network, x, noise, event).items():
            assert math.exp(log_p) >= p - 4 * math.sqrt(p * (1 - p) / 20_000), rung
            told += log_p < 0
    assert told


@pytest.mark.parametrize("seed", range(5))
def test_a_combination_is_never_more_than_its_forms_make_it(seed: int) -> None:
    """In rational arithmetic: the row is exact, the constant hardly too small; other rows are not combined."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-3, 4, (4, 3), generator=generator).double()
    constants = torch.rand(4, generator=generator, dtype=torch.float64)
    weight = torch.randint(0, 300, (4,), generator=generator).double() / 1024
    row, constant = combination.combination(rows, constants, weight)
    parts = [Fraction(w) for w in weight.tolist()]
    for k in range(3):
        total = sum(w * Fraction(c) for w, c in zip(parts, rows[:, k].tolist(), strict=True))
        assert Fraction(row[0, k].item()) == total
    exact = sum(w * Fraction(c) for w, c in zip(parts, constants.tolist(), strict=True))
    assert 0 <= exact - Fraction(constant.item()) <= Fraction(1, 2**50)
    for wrong in (-weight - 1, weight * math.nan, weight * math.inf, torch.zeros(4), torch.full((4,), 1 / 3)):
        full = rows / 3 if wrong[0] == 1 / 3 else rows  # whose combinations need more than 53 bits
        assert torch.equal(combination.combination(full, constants, wrong.double())[0], full[:1])


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_those_of_the_nearest_point(seed: int) -> None:
    """No other weights put the combination farther away, of many at random."""
    generator = torch.Generator().manual_seed(seed)
    normals, heights = (torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((3, 5), (3,)))
    heights = heights.abs() + 0.1

    def distance(w: Tensor) -> Tensor:
        return (w @ heights) / (w @ normals).norm(dim=1)

    best = distance(combination.weights(normals, heights)[None])
    others = distance(torch.rand(20_000, 3, generator=generator, dtype=torch.float64))
    assert best >= others.max() * 0.999


def test_other_events_have_none() -> None:
    network, x = random_dense((4, 7, 4), 0), points(1, 4, 0)
    for name in ("change", "top:2", "moves:0.1"):
        margins = named(name).margins(network, x, network.predict(x))
        assert with_combinations(network, x, margins) is margins
