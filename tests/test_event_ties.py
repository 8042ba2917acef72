"""Events that occur on ties: margins that are exactly zero on a whole cell are no reason to call p zero."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from test_events import truth
from torch import Tensor
from zoo import dense

from calotte.assess import assess
from calotte.network.event import Becomes, Event, OutputEvent, as_event
from calotte.network.graph import Network
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.proofs.cell import OverCell
from calotte.proofs.prove import prove
from calotte.settings import Settings

RUNGS = ["theorem", "cell", "relaxation", "concentration", "moments", "branching"]
FEW = Settings(boxes=12, search=False, time_limit=20.0)


def zero_outputs() -> Network:
    """z = (relu(u - 10), 0): near 0 both outputs are zero, and the tie is given to answer 0."""
    return dense(([[1.0]], [-10.0]), ([[1.0], [0.0]], [0.0, 0.0]))


def two_dead() -> Network:
    """Near 0 z0 = z1 = 0 by dead units, and z2 = 1 - u0."""
    first = ([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [-10.0, -10.0, 5.0])
    return dense(first, ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]], [0.0, 0.0, 6.0]))


@pytest.mark.parametrize("event", [Becomes(0), Event([[([1.0, 0.0], 0.0)]])], ids=["class", "custom"])
def test_what_occurs_everywhere_is_not_proved_away(event: OutputEvent) -> None:
    net, x = zero_outputs(), torch.zeros(1, 1, dtype=torch.float64)
    (one,) = assess(net, x, Ball(1.0), event=event, rungs=[*RUNGS, "sampling"], settings=FEW)
    assert [b.rung for b in one.bounds if b.skipped is None and b.log_misclassification < 0] == []
    assert one.certified_radius == 0
    assert prove(net, x[0], Ball(1.0), OverCell(True), event) == 0


@pytest.mark.parametrize(
    "event",
    [Becomes(0), Event([[([1.0, -1.0, 0.0], 0.0), ([-1.0, 0.0, 1.0], 0.0)]]), Event([[([1.0, 0.0, 0.0], 0.0)]])],
    ids=["class", "conjunction", "always"],
)
def test_a_constant_zero_in_a_conjunction_leaves_the_other_form(event: OutputEvent) -> None:
    net, x = two_dead(), torch.tensor([[0.2, 0.3]], dtype=torch.float64)
    always = isinstance(event, Event) and len(event.rows) == 1
    p = 1.0 if always else 0.5 * math.erfc(0.8 / 0.5 / math.sqrt(2.0))  # z2 <= 0 where u0 >= 0.8
    (one,) = assess(net, x, Gaussian(0.5), event=event, rungs=RUNGS, settings=FEW)
    for bound in one.bounds:
        assert bound.skipped is not None or bound.probability >= p * (1 - 1e-9), bound.rung
    assert one.certified_radius is not None
    assert one.certified_radius <= (0.0 if always else 0.8)


@pytest.mark.parametrize("seed", range(40))
def test_networks_of_small_integers_against_draws(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator).double()

    d, out = int(whole(1, 3)), int(whole(2, 4))
    widths = [d, *(int(whole(1, 5)) for _ in range(int(whole(1, 2)))), out]
    net = dense(*((whole(-2, 2, n, k).tolist(), whole(-2, 2, n).tolist()) for k, n in pairwise(widths)))
    x = whole(-4, 4, d) / 2
    cases = [[(whole(-1, 1, out).tolist(), float(whole(-1, 1)))] * int(whole(1, 2)) for _ in range(int(whole(1, 2)))]
    event = as_event([Event(cases), Becomes(int(whole(0, out - 1)))][seed % 2], net)
    noise: Noise = (Sphere, Ball, Gaussian)[seed % 3](float(2.0 ** whole(-3, 2)))
    (one,) = assess(net, x[None], noise, event=event, rungs=RUNGS[:5], settings=FEW)
    n = 20_000
    u = torch.randn(n, d, dtype=torch.float64, generator=generator)
    if not isinstance(noise, Gaussian):
        u = u / u.norm(dim=1, keepdim=True)
    if isinstance(noise, Ball):
        u = u * torch.rand(n, 1, dtype=torch.float64, generator=generator) ** (1 / d)
    occurs = truth(event, net, x)
    p = float(occurs(net.forward(x + noise.size * u)).mean())
    for bound in one.bounds:
        slack = 4 * math.sqrt(p * (1 - p) / n)
        assert bound.skipped is not None or bound.probability >= p - slack, (bound, p)
    radius = 100.0 if one.certified_radius is None else one.certified_radius * (1 - 1e-9)
    inside = u / u.norm(dim=1, keepdim=True).clamp_min(1e-300) * radius
    assert not (radius > 0 and occurs(net.forward(x + inside[:4000])).any())
