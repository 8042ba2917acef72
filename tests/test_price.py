"""Whoever chooses is not trusted: bounds are true whatever is paid for; what was chosen gives the same bits again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from test_soundness import Case, answers, half_spaces, high_dimensions, switches, violations
from torch import Tensor
from zoo import points, random_dense

from calotte.assess import RUNGS
from calotte.cells.hyperplanes import Hyperplanes
from calotte.errors import Contradiction
from calotte.ladder import PROVED_RUNGS
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.proofs.chooser import Chooser, Recorded
from calotte.proofs.event import Budget, relaxed_margins
from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.evaluate import evaluate
from calotte.proofs.local.localise import localise
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.local.tilted import BoxTilt, ExponentialTails, Pairs
from calotte.proofs.local.violations import Slack, Violations
from calotte.proofs.price import ABOVE, BELOW, BOTH, NEGATIVE, POSITIVE, Offer
from calotte.proofs.support import Support
from calotte.query import Query
from calotte.searches.concentration import Concentration
from calotte.searches.thrift import Thrift
from calotte.settings import Settings


@dataclass(eq=False)
class Hostile:
    """Answers anything, and numbers that mean nothing, for a share of the units."""

    share: float
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(3))

    def choose(self, layer: int, offer: Offer) -> Tensor:
        right = Thrift().choose(layer, offer)
        drawn = torch.randint(-1, 8, right.shape, generator=self.generator)
        return torch.where(torch.rand(right.shape, generator=self.generator) < self.share, drawn, right)

    def improve(self, layer: int, offer: Offer) -> Tensor:
        return torch.rand(offer.free[:, 0].shape, generator=self.generator) < 0.5

    def shapes(self, local: LocalNetwork, mask: tuple[bool, ...], correlation: Tensor, longest: Tensor) -> Tensor:
        drawn = torch.rand(4, len(longest), dtype=torch.float64, generator=self.generator)
        return torch.tensor([[0.0], [math.nan], [1.0], [-1.0]]).double() * drawn

    def tilt(self, layer: int, moments: ExponentialTails, pairs: Pairs, log_each: Tensor | None) -> BoxTilt:
        right = Thrift().tilt(layer, moments, pairs, log_each)
        odd = torch.rand(len(right.rate), generator=self.generator) < self.share
        odder = torch.tensor([math.nan, -1.0, 0.0, math.inf, 1e-3, 1.0, 30.0], dtype=torch.float64)
        factor = odder[torch.randint(7, right.rate.shape, generator=self.generator)]
        alpha = 3.0 * torch.rand(right.alpha.shape, dtype=torch.float64, generator=self.generator) - 1.0
        which = torch.randint(-3, 9, right.which.shape, generator=self.generator)
        alpha[:, ::7] = math.nan
        return BoxTilt(
            torch.where(odd[:, None], alpha, right.alpha),
            torch.where(odd, which, right.which),
            torch.where(odd, factor * right.rate, right.rate),
        )

    def slack(self, violations: Violations, log_tails: Tensor, rate: Tensor) -> Slack:
        right = Thrift().slack(violations, log_tails, rate)
        odder = torch.tensor([math.nan, -1.0, 0.0, math.inf, 1e-3, 1.0, 30.0], dtype=torch.float64)
        factor = odder[torch.randint(7, right.margins.shape, generator=self.generator)]
        odd = torch.rand(right.margins.shape, generator=self.generator) < self.share
        flipped = torch.rand(right.soft.shape, generator=self.generator) < self.share
        return Slack(torch.where(odd, factor * right.margins, right.margins), right.soft ^ flipped)


def some(rung: str) -> list[Case]:
    cases = [*half_spaces(), *switches(), *high_dimensions()]
    return cases[:: 5 if rung == "concentration" else 16]


@pytest.mark.parametrize("rung", ["concentration", "branching"])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_a_hostile_chooser_proves_nothing_false(rung: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = some(rung)
    monkeypatch.setitem(RUNGS, rung, replace(PROVED_RUNGS[rung], chooser=Hostile(share)))
    lines = violations(cases, answers(cases, rung))
    assert [line for line in lines if "the truth is" in line] == []


def test_a_hostile_chooser_shows_what_is_not_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [case for case in switches() if "unstable" in case.name]
    monkeypatch.setitem(RUNGS, "concentration", Concentration(chooser=Hostile(1.0)))
    assert not any("the truth is" in line for line in violations(cases, answers(cases, "concentration")))
    monkeypatch.setattr(Offer, "log_signs", lambda self, choice: torch.full_like(self.log_sign, -torch.inf))
    with pytest.raises((AssertionError, Contradiction)):  # or a lower bound is above it
        assert violations(cases, answers(cases, "concentration")) == []


@pytest.mark.parametrize("chooser", [Thrift(), Hostile(0.3)], ids=["thrift", "hostile"])
@pytest.mark.parametrize("law", [Sphere(0.7), Ball(0.7), Gaussian(0.15)], ids=["sphere", "ball", "gaussian"])
def test_recorded_decisions_give_the_same_bits(chooser: Chooser, law: Noise) -> None:
    network, x = random_dense((12, 14, 10, 3), 5), points(1, 12, 6)
    case = Query(Hyperplanes(network), x, [0], law, Settings())
    around = Support.of(case, case.sizes, 5.0)
    reach = 0.7 * around.farthest
    margins, event = relaxed_margins(case, around, Budget(reach, chooser))
    assert torch.cat([t.flatten() for t in event.choices.values()]).unique().numel() > 1
    again, repeated = relaxed_margins(case, around, Budget(reach, Recorded(event.choices)))
    assert torch.equal(event.log_price, repeated.log_price)
    assert torch.equal(margins.constant, again.constant)
    assert torch.equal(margins.norm, again.norm)

    near = localise(case, case.sizes, 4.0 * law.sigma(12) / law.size, 6.0, Thrift())
    assert near is not None
    assert len(near.network.groups) > 1
    local = near.network.along(torch.eye(near.network.normal.shape[1], dtype=torch.float64)[:, :1], 1.0)
    boxes = Boxes(torch.tensor([[-0.1], [0.1]]).double(), torch.tensor([[0.1], [math.inf]]).double())
    heights = torch.full((2, 2, local.units), 2.0 * local.sigma, dtype=torch.float64)
    found = evaluate(local, boxes, heights, chooser)
    same = evaluate(local, boxes, heights, found.chosen)
    assert torch.equal(found.log_bound, same.log_bound)
    assert torch.equal(found.units.low, same.units.low)
    assert torch.equal(found.units.high, same.units.high)


def test_each_choice_has_its_ends_and_its_price() -> None:
    offer = Offer(*(torch.tensor([[[a], [b]]]).double() for a, b in ((-4, -3), (-2, -1), (-7, -8), (-5, -6))))
    known = {  # low, high, the logarithms of what was paid
        POSITIVE: (0.0, 3.0, {-7.0}), NEGATIVE: (-4.0, 0.0, {-8.0}), BELOW: (-2.0, 3.0, {-5.0}),
        ABOVE: (-4.0, 1.0, {-6.0}), BOTH: (-2.0, 1.0, {-5.0, -6.0}), 0: (-4.0, 3.0, set()), 9: (-4.0, 3.0, set()),
    }  # fmt: skip
    for choice, (low, high, prices) in known.items():
        chosen = torch.tensor([[choice]])
        paid = torch.cat([offer.log_signs(chosen), offer.log_halves(chosen)]).flatten().tolist()
        assert [t.item() for t in offer.ends(chosen)] == [low, high]
        assert {log for log in paid if log > -math.inf} == prices
