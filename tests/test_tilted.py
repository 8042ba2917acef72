"""Exponential moments over boxes, against draws: forms of one or two units for which the bounds are nearly sharp."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from test_branching import two_units
from zoo import tensor

from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.regions import InBoxes
from calotte.proofs.local.tilted import BoxTilt, ExponentialTails
from calotte.searches.thrift import Thrift

DRAWS = 200_000


@dataclass(frozen=True)
class Case:
    """A margin over boxes of the first coordinate of standard normal noise in three dimensions.

    Attributes:
        normal, constant: of two units and the margin, weight: of the units in the margin.
        boxes: their ends; high: bounds of each box on both units; alpha, rate: of the tilt.
        first: whether both units are of the first group; else the second is of a group behind it, and active.
    """

    normal: list[list[float]]
    constant: list[float]
    weight: list[float]
    boxes: list[tuple[float, float]]
    alpha: float = 0.0
    rate: float = 1.0
    high: tuple[float, ...] = (30.0, 30.0)
    first: bool = True


UNIT, OTHER, NONE = [1.0, 0.5, 0.0], [1.0, 0.0, 0.5], [0.0, 0.0, 0.0]
EVERYWHERE = (-math.inf, math.inf)
CASES = {
    "a rising unit, most likely where it is high": Case([UNIT, OTHER, NONE], [2, 0, 3], [-1, 0], [(-4, -1)]),
    "a falling unit, most likely where it is low": Case([UNIT, OTHER, NONE], [-2, 0, 1], [1, 0], [(1, 4)]),
    "a unit that rises where it is off": Case([UNIT, OTHER, UNIT], [-2, 0, -2], [-1, 0], [(1, 4)], 1.0, 2.0),
    "a form along the axis": Case([UNIT, OTHER, [3.0, 1.0, 0.0]], [1.0, 0.0, 2.0], [-1.0, 0.0], [(-0.1, 0.1)]),
    "boxes of two kinds": Case([UNIT, OTHER, NONE], [0, 0, 2], [-1, -1], [EVERYWHERE, (-0.1, 0.1)], rate=0.7),
    "units that do not go beyond": Case([[0.0, 0.01, 0.0]] * 2 + [NONE], [1, 1, 2], [-1, -1], [EVERYWHERE], 0.0, 50.0,
                                        (1.0, 1.0)),
    "bounds on units of each box": Case([UNIT, OTHER, NONE], [1, 0, 2], [-1, 0], [EVERYWHERE, (-2, 2)], 0.0, 1.0,
                                        (0.1, 30.0)),
    "a unit behind the first group": Case([[0, 0, 0.1], [0, 2.0, 0], NONE], [0, 20, -15], [-1, 1], [EVERYWHERE],
                                          rate=0.5, first=False),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_moments_over_boxes_hold_and_are_close(name: str) -> None:
    case, weight = CASES[name], torch.zeros(3, 2, dtype=torch.float64)
    weight[2] = tensor(case.weight)
    groups = (slice(0, 2),) if case.first else (slice(0, 1), slice(1, 2))
    local = two_units(groups, tensor(case.normal), tensor(case.constant), weight, tensor([[1.0], [0.0], [0.0]]))
    count = len(case.boxes)
    low = torch.full((count, 2), -30.0, dtype=torch.float64)
    high = tensor(case.high[:count])[:, None].repeat(1, 2)
    local = replace(local, low=low[0], high=torch.full((2,), 30.0).double())
    lines = torch.ones(3, count, 2, dtype=torch.float64)
    lines[2] = 0.0  # active, where a group is relaxed
    boxes = Boxes(*tensor(case.boxes).t()[:, :, None].contiguous())
    moments = ExponentialTails(InBoxes(local, boxes), Thrift().shapes)
    rows = local.pull_back(local.margins, torch.ones(1).double(), lines)
    pairs = moments.pairs(rows, torch.arange(count), torch.zeros(count, dtype=torch.int64))
    alpha = torch.full((count, moments.first.stop), case.alpha, dtype=torch.float64)
    tilt = BoxTilt(alpha, torch.zeros(count, dtype=torch.int64), torch.full((count,), case.rate, dtype=torch.float64))
    found = moments.tails(pairs, tilt, low, high)
    u = torch.randn(DRAWS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for i, (a, b) in enumerate(case.boxes):
        v = u[(u[:, 0] >= a) & (u[:, 0] <= b)]
        z = v @ local.normal[:2].t() + local.constant[:2]
        value = v @ local.normal[2] + z.clamp_min(0.0) @ weight[2] + local.constant[2]
        each = (-case.rate * value).exp() * (z <= high[i]).all(1)
        mean, error = each.mean(), 4 * each.std() / math.sqrt(len(each))
        assert mean - error <= found[i].exp()
        assert found[i] <= mean.log() + 4.5
