"""Proved lower bounds on p: closed forms, draws on a zoo of networks, noises and events; mutants must fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor
from zoo import convolutional, dense, exact_log_tail, points, random_dense, residual, tensor

import calotte
from calotte.bound import ProvedRung
from calotte.independent import Box, Truncated
from calotte.ladder import PROVED_RUNGS
from calotte.lower import LowerBound
from calotte.network.event import Event
from calotte.network.graph import Network
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.printing import probability_down_text
from calotte.proofs import below
from calotte.proofs.forms import Forms
from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.evaluate import Units
from calotte.proofs.local.occurring import opposite
from calotte.proofs.price import NEGATIVE, POSITIVE, Offer
from calotte.proofs.prove import one_input
from calotte.proofs.union import log_difference_down, log_sum_down
from calotte.query import Query
from calotte.searches import slabs
from calotte.searches.concentration import Concentration
from calotte.searches.heights import Near
from calotte.searches.slabs import Slabs
from calotte.searches.thrift import Thrift
from calotte.settings import Settings

SETTINGS = Settings(search=False, boxes=15)
DRAWS = 40_000
RUNGS = [name for name, rung in PROVED_RUNGS.items() if rung.from_below]
EXACT = ["relaxation", "concentration"]  # for one perceptron


def below_p(query: Query, name: str) -> LowerBound:
    """What a rung says from below, after what it says from above."""
    rung = PROVED_RUNGS[name]
    return rung.lower(query, rung.bound(query))[0]


def of_perceptron(d: int, kind: type[Noise], height: float, turned: bool) -> tuple[Query, mpmath.mpf]:
    """A perceptron and log p: of x on the one side of it, or p of class 1 with x on that side already."""
    net, x = random_dense((d, 1), d), points(1, d, d + 1)
    row, bias = net.nodes[1].op.weight[0], net.nodes[1].op.offset[0]
    value = float(row @ x[0] + bias)
    size = abs(value) / row.norm().item() / height
    if not turned:
        event: Event | str = "change"
    else:
        event = Event([[(tensor([-1.0 if value > 0 else 1.0]), 0.0)]])  # it stays where it is
    s = Fraction(abs(value) / row.norm().item()) / Fraction(size)
    return one_input(net, x, kind(size), SETTINGS, event), exact_log_tail(kind, -s if turned else s, d)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", [Sphere, Ball, Gaussian])
@pytest.mark.parametrize("d", [2, 3, 40])
def test_of_a_half_space_the_measure_is_known(d: int, kind: type[Noise], turned: bool) -> None:
    for height in (0.05, 0.4, 0.9):
        query, truth = of_perceptron(d, kind, height, turned)
        for name in EXACT:
            found = below_p(query, name).log_misclassification
            assert found <= truth
            assert math.isclose(found, truth, rel_tol=1e-4, abs_tol=1e-6), name


@pytest.mark.parametrize("kind", [Sphere, Ball, Gaussian])
def test_where_the_event_lies_far_off_nothing_is_proved(kind: type[Noise]) -> None:
    query, _ = of_perceptron(30, kind, 1.5, turned=False)
    for name in EXACT:
        found = below_p(query, name).log_misclassification
        assert found == -math.inf if kind is not Gaussian else found < -1.0


@pytest.mark.parametrize("law", [Box(1.0), Truncated(0.5, cut=3.0)], ids=str)
def test_noise_in_a_cube_by_the_complement(law: Noise) -> None:
    """Of half-spaces only upper bounds are known there: p is bounded by what the opposite one has at most."""
    net = dense((-torch.ones(1, 30), [8.0]))
    event = Event([[(tensor([-1.0]), 0.0)]])  # sum x <= 8
    query = one_input(net, torch.zeros(30).double(), law, SETTINGS, event)
    v = 1 / 3 if isinstance(law, Box) else 0.25
    for name in EXACT:
        found = below_p(query, name).probability
        assert found >= 1 - math.exp(-64 / (2 * v * 30)) - 1e-9
        assert found <= 1 - 0.5 * math.erfc(8 / math.sqrt(2 * v * 30)) + 0.01


def test_conjunctions_need_all_of_their_inequalities() -> None:
    """z_0 >= 1 and z_1 >= 1 under a Gaussian: a product; from below 1 less the sum of what fails."""
    eye = torch.eye(2, dtype=torch.float64)
    for level in (-1.5, -2.5):
        event = Event([[((-eye[0]).tolist(), level), ((-eye[1]).tolist(), level)]])
        query = one_input(dense((eye, [0.0, 0.0])), torch.zeros(2).double(), Gaussian(1.0), SETTINGS, event)
        one = math.erfc(-level / math.sqrt(2)) / 2  # of failing
        truth = (1 - one) ** 2 if level > 0 else (1 - math.erfc(-level / math.sqrt(2)) / 2) ** 2
        for name in EXACT:
            found = below_p(query, name).probability
            assert max(1 - 2 * one, 0.0) - 1e-5 <= found <= truth


def test_ties_that_hold_do_not_count() -> None:
    """The outputs are equal everywhere: the first one answers, always."""
    net = dense(([[1.0, 0.0], [1.0, 0.0]], [0.0, 0.0]))
    for law in (Sphere(1.0), Box(1.0), Gaussian(1.0)):
        query = one_input(net, torch.zeros(2).double(), law, SETTINGS, "change")
        for name in RUNGS:
            assert below_p(query, name).log_misclassification == -math.inf, (name, law)


@dataclass(frozen=True, eq=False)
class Case:
    """A network, an input, a noise and an event."""

    network: Network
    x: Tensor
    law: Noise
    event: Event | str

    @property
    def query(self) -> Query:
        return one_input(self.network, self.x, self.law, SETTINGS, self.event)

    @cached_property
    def most(self) -> float:
        """p plus four standard errors, by draws."""
        y = self.x + self.law.sample(DRAWS, self.network.d, torch.Generator().manual_seed(5))
        share = self.query.margins.occurs(self.network.forward(y)).double().mean().item()
        return share + 4 * math.sqrt(max(share * (1 - share), 10 / DRAWS) / DRAWS)


def made() -> Iterator[Case]:
    events = ["change", "class:1", "top:2", "moves:0.05"]
    for k, widths in enumerate([(2, 5, 3), (8, 10, 6, 3), (40, 20, 3), (5, 9, 7, 4)]):
        net, d = random_dense(widths, k + 1), widths[0]
        scale = torch.linspace(0.3, 1.0, d, dtype=torch.float64)
        sizes = (0.05, 0.2, 0.6)
        for j, kind in enumerate((Sphere, Ball, Gaussian, Box)):
            for i, size in enumerate(sizes):
                per = math.sqrt(d) if kind in (Sphere, Ball) else 1.0
                law = kind(size * per, scale if (i + j) % 3 == 0 else None)
                yield Case(net, points(1, d, 20 + k), law, events[(i + j + k) % 4])
    for net in (residual(6, 3, 4), convolutional(1)):
        for law in (Gaussian(0.3), Sphere(0.4)):
            yield Case(net, points(1, net.d, 5), law, "class:1")


@lru_cache
def cases() -> tuple[Case, ...]:
    """Those of which draws find p above 1e-3."""
    return tuple(case for case in made() if case.most > 3e-3)


def violations(some: Sequence[Case], rung: ProvedRung, said: list[float] | None = None) -> list[str]:
    """Lower bounds beyond the draws, or above the upper bound; what is `said` is kept. An empty list is a pass."""
    lines = []
    for case in some:
        query = case.query
        if rung.refuses(query) is not None:
            continue
        (upper,) = rung.bound(query)
        (lower,) = rung.lower(query, [upper])
        if said is not None:
            said.append(lower.probability)
        if lower.probability > min(case.most, upper.probability):
            lines.append(f"{case}: {lower}, {upper}, draws say {case.most} at most")
    return lines


@pytest.mark.parametrize(("name", "telling"), [("relaxation", 0.1), ("concentration", 0.3), ("branching", 0.4)])
def test_no_lower_bound_is_above_what_draws_show(name: str, telling: float) -> None:
    said: list[float] = []
    assert violations(cases(), PROVED_RUNGS[name], said) == []
    assert len(cases()) >= 20
    assert sum(p > 1e-3 for p in said) >= telling * len(cases())


class Rash(Thrift):
    """Takes units to have one sign, whatever that costs: those of one layer, or of all."""

    def __init__(self, sign: int, layer: int | None = None) -> None:
        super().__init__()
        object.__setattr__(self, "sign", sign)
        object.__setattr__(self, "layer", layer)

    def choose(self, layer: int, offer: Offer) -> Tensor:
        if self.layer in (None, layer):  # type: ignore[attr-defined]
            return torch.full(offer.free[:, 0].shape, self.sign)  # type: ignore[attr-defined]
        return super().choose(layer, offer)


def price_not_paid(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(below, "log_difference_down", lambda a, b: a if a.ndim == 1 else log_difference_down(a, b))


def heights_turned(patch: pytest.MonkeyPatch) -> None:
    """A margin taken for the wrong side: what holds counts as what fails."""
    original = Forms.distances
    patch.setattr(Forms, "distances", lambda self: -original(self))


def lower_for_upper(patch: pytest.MonkeyPatch) -> None:
    """Linear lower bounds on margins taken for upper ones."""
    original = below.margin_rows

    def turned(query: Query, *more: Any) -> tuple[int, Tensor, Tensor]:
        last, rows, constants = original(query, *more)
        return last, -rows, -constants

    patch.setattr(below, "margin_rows", turned)


def half_of_a_conjunction(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(below, "log_complement_down", lambda log_p: torch.zeros_like(log_p))


@pytest.mark.parametrize("mutate", [price_not_paid, heights_turned, lower_for_upper, half_of_a_conjunction])
def test_mutants_are_caught(monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]) -> None:
    cases()
    rungs = (
        PROVED_RUNGS["concentration"],
        Concentration(chooser=Rash(POSITIVE)),
        Concentration(chooser=Rash(NEGATIVE)),
    )
    assert not any(violations(cases()[::8], rung) for rung in rungs)
    mutate(monkeypatch)
    assert any(violations(cases()[start::4], rung) for start in range(4) for rung in rungs)


@pytest.mark.parametrize("pair", [(0.0, -1.0), (-1e-9, -2.0), (-3.0, -3.0 - 1e-9), (-700.0, -701.0), (-5.0, -700.0)])
def test_differences_are_rounded_down(pair: tuple[float, float]) -> None:
    with mpmath.workdps(40):
        truth = mpmath.log(mpmath.exp(pair[0]) - mpmath.exp(pair[1]))
    found = log_difference_down(*(tensor(one) for one in pair)).item()
    assert found <= truth
    assert math.isclose(found, truth, rel_tol=1e-5, abs_tol=1e-12)


def test_nothing_comes_of_numbers_that_are_none() -> None:
    for a, b in ((-1.0, -0.5), (-1.0, -1.0), (-math.inf, -math.inf), (-1.0, math.nan), (math.nan, -math.inf)):
        assert log_difference_down(tensor([a]), tensor([b])).item() == -math.inf
    assert log_sum_down(tensor([math.nan, 0.0])).item() == -math.inf
    assert LowerBound("relaxation", math.nan).probability == 0.0


def test_sums_are_rounded_down() -> None:
    logs = -30.0 * torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    truth = mpmath.log(mpmath.fsum(mpmath.exp(t) for t in logs.tolist()) / 10**4)
    found = log_sum_down(logs - math.log(10**4)).item()
    assert truth - 1e-9 < found < truth


@pytest.mark.parametrize("p", [0.5, 0.123456, 1e-3, 0.00999999, 1.25e-200])
def test_lower_bounds_are_printed_rounded_down(p: float) -> None:
    truth = mpmath.exp(math.log(p))
    said = probability_down_text(math.log(p))
    assert truth * 0.89 < mpmath.mpf(said) <= truth
    assert probability_down_text(-math.inf) == "0"
    assert 0.0 < LowerBound("relaxation", math.log(p)).probability <= truth


def test_a_table_shows_both_sides() -> None:
    from calotte.report.tables import assessment_table

    net = dense(([[1.0, 0.0]], [0.1]))
    found = calotte.assess(net, [[0.0, 0.0], [9.0, 0.0]], Gaussian(1.0), rungs="relaxation", settings=SETTINGS)
    table = assessment_table(found)
    columns = {str(column.header).split("\n")[0]: column for column in table.columns}
    assert [str(cell) for cell in columns["at least"].cells] == [
        "0.46",
        probability_down_text(found[1].lower[0].log_misclassification),
    ]
    assert "rounded down" in str(table.caption)


@lru_cache
def gates() -> tuple[Case, ...]:
    """One unit z, and the event that it falls below a level, or rises above it: half-spaces with p about 0.3."""
    row = torch.randn(1, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    made = []
    for level in (0.5, 1.5):
        net = dense((row.tolist(), [1.0]), ([[1.0], [0.0]], [0.0, level]))
        size = 0.5 / row.norm().item() / 0.5  # at half a standard deviation
        made += [Case(net, torch.zeros(1, 20).double(), Gaussian(size), "change")]
        made += [Case(net, torch.zeros(1, 20).double(), Sphere(size * math.sqrt(20)), "change")]
    return tuple(made)


CHOSEN = [Slabs(), *(Slabs(chooser=Rash(NEGATIVE, layer)) for layer in (0, None))]  # 0: of the local network


def too_high(how: Slabs) -> bool:
    """Whether slabs prove more than draws show."""
    return any(math.exp(how.log_lower(case.query, case.query.sizes)) > case.most for case in gates())


def test_slabs_come_near_the_measure_of_a_half_space() -> None:
    for case in gates():
        assert math.exp(Slabs().log_lower(case.query, case.query.sizes)) > 0.75 * case.most, case


def no_price_of_g(patch: pytest.MonkeyPatch) -> None:
    right = slabs.near

    def free(*arguments: Any) -> Near:
        near = right(*arguments)
        assert near.found is not None
        network = replace(near.found.network, log_missed=-math.inf)
        return near._replace(found=replace(near.found, network=network))

    patch.setattr(slabs, "near", free)


def boxes_twice(patch: pytest.MonkeyPatch) -> None:
    right = slabs.cut
    patch.setattr(slabs, "cut", lambda *a: 2 * right(*a))
    patch.setattr(Boxes, "apart", lambda self: torch.ones(len(self), dtype=torch.bool))


def what_holds_for_what_fails(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(slabs, "opposite", lambda query, forms: query)


def price_of_boxes_unpaid(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Units, "log_price", lambda self, log_box, soft=None: torch.full_like(log_box, -torch.inf))


@pytest.mark.parametrize("mutate", [no_price_of_g, boxes_twice, what_holds_for_what_fails, price_of_boxes_unpaid])
def test_mutants_of_slabs_are_caught(
    monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    assert not any(map(too_high, CHOSEN))
    mutate(monkeypatch)
    assert any(map(too_high, CHOSEN))


def test_boxes_that_overlap_count_once() -> None:
    low, high = tensor([[0.0], [0.5], [1.0], [0.0]]), tensor([[1.0], [1.5], [2.0], [1.0]])
    assert Boxes(low, high).apart().tolist() == [True, False, True, False]


def test_forms_that_do_not_make_the_event_are_refused() -> None:
    """Of a conjunction both inequalities have to fail."""
    net = dense(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]))
    event = Event([[(tensor([1.0, 0.0]), 0.5), (tensor([0.0, 1.0]), 0.5)]])
    query = one_input(net, torch.zeros(2).double(), Gaussian(0.3), SETTINGS, event)
    with pytest.raises(ValueError, match="may not occur"):
        opposite(query, torch.tensor([1]))
    assert opposite(query, torch.tensor([0, 1])).margins.cases.forms == 2
