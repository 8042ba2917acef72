"""Soft ends behind the first layer: what margins lose where ends are left, with room and without, against draws."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pytest
import torch
from test_layers import EPS, SPLIT, Free, layers_of, values_of
from torch import Tensor
from zoo import points, random_dense

from calotte.network.graph import Network
from calotte.noise import Sphere
from calotte.proofs.local.violations import Slack, Violations
from calotte.proofs.moments.layers import Place
from calotte.proofs.moments.shortfalls import Settled, swept, violations
from calotte.proofs.moments.sums import Sums, Tilt, log_moments
from calotte.proofs.moments.tails import levels, log_shortfalls
from calotte.proofs.price import BOTH, Offer
from calotte.searches.exponents import exponents, exponents_each

OFTEN = 0.0  # logarithm of what ends "may fail with" here: they are left all the time
DEEP = SPLIT | {"five layers": random_dense((8, 10, 10, 10, 8, 3), 3, 0.3)}


class Both(Free):
    """Pays for both ends of all units that have two signs."""

    def choose(self, layer: int, offer: Offer) -> Tensor:
        return torch.where((offer.free < 0).all(1), BOTH, 0).to(torch.int8)


def tilted(place: Place, sums: Sums, law: object, log_each: float | None) -> list[Tilt]:
    """Slopes of one half, and rates that suit about."""
    first, ones = sums.first, torch.ones_like(sums.weight)
    if sums.group is None:
        found = exponents(first, torch.ones(first.units).double())
    else:
        found = exponents_each(first, sums.group, ones)
    assert found is not None
    spread = (sums.weight * sums.of_units(first.longest) * law.high).norm(dim=1)  # type: ignore[attr-defined]
    return [Tilt(0.5 * ones, 1.0 / spread.clamp_min(1e-3), found)]


class Drawn:
    """A network behind its first layer with ends that draws leave, and the values of all rows at these."""

    def __init__(self, net: Network, aside: float, often: float) -> None:
        x, noise = points(1, net.d, 3)[0], Sphere(EPS).sample(1000, net.d, torch.Generator().manual_seed(5))
        self.layers = layers = layers_of(net, x, aside=aside, soft=True)
        values = dict(net.values(x + noise))
        self.settled, self.short, self.units = list[Settled](), list[Tensor](), list[Tensor]()
        for i in layers.relus():
            if i in layers.first.ends.deep:
                feeder, rare = net.feeders[i], layers.rare(i)
                shape = net.shape(feeder)
                rows = torch.full((len(noise), 2, net.size(feeder)), torch.inf).double()
                for units, pulled, _ in layers.blocks(feeder):
                    for side, sums in enumerate(
                        layers.sums(pulled, units // math.prod(shape[1:]) if len(shape) == 3 else None)
                    ):
                        sums = sums if rare is None else sums.without(rare)
                        rows[:, side, units] = values_of(sums, values, noise)
                self.settled.append(layers.bound_units(i, tilted, Both(), often))
                self.short.append(rows)
                self.units.append(torch.stack([values[feeder].flatten(1), -values[feeder].flatten(1)], 1))
        sums, below = layers.margins(None)
        self.below, self.rows = {i: part[0] for i, part in below.items()}, values_of(sums, values, noise)
        outputs, y = values[net.last], net.predict(x[None]).item()
        self.margins = outputs[:, [y]] - outputs[:, [k for k in range(outputs.shape[1]) if k != y]]

    def violations(self, rooms: list[Tensor]) -> Violations:
        return violations(self.settled, rooms, self.below, self.rows.shape[1])

    def shortfalls(self, rooms: list[Tensor]) -> Tensor:
        """(n, 2, N) what rows fall short of ends, and their room."""
        parts = zip(self.settled, rooms, self.short, strict=True)
        return torch.cat([(one.ends + room - rows).clamp_min(0.0) for one, room, rows in parts], 2)

    def rooms(self, deviations: float) -> list[Tensor]:
        """Room for ends that most rows are so many deviations above."""
        parts = [(one, rows - one.ends) for one, rows in zip(self.settled, self.short, strict=True)]
        found = [(one, above.mean(0) - deviations * above.std(0)) for one, above in parts]
        return [torch.where((most > 0) & (one.part > 0), most, 0.0).nan_to_num(0.0, 0.0) for one, most in found]


@functools.cache
def drawn(name: str, aside: float = math.inf, often: float = OFTEN) -> Drawn:
    return Drawn(DEEP[name], aside, often)


CASES = [("dense", math.inf), ("convolutions", math.inf), ("convolutions", 0.5), ("residual convolutions", 0.5)]


@pytest.mark.parametrize(("name", "aside"), CASES)
def test_margins_lose_no_more_than_their_weights_times_what_rows_fall_short_by(name: str, aside: float) -> None:
    made = drawn(name, aside)
    none = made.rooms(math.inf)
    lost = torch.einsum("nse,cse->nc", made.shortfalls(none), made.violations(none).weight[0])
    assert (made.margins >= made.rows - lost - 1e-9).all()
    assert (made.shortfalls(none) > 0).any(0).sum() > 5  # ends are left
    assert (lost > 0).any()


@pytest.mark.parametrize(("name", "aside"), CASES)
def test_where_violations_are_small_margins_hold_with_room_for_units(name: str, aside: float) -> None:
    made, held = drawn(name, aside), 0
    for deviations in (1.5, 2.5):
        rooms = made.rooms(deviations)
        found = made.violations(rooms)
        assert (found.least > 1e-3).any()
        for d in (0.1, 1.0, 10.0):
            each = torch.maximum((found.weight[0] / d).amax(0), found.least[0])
            total = (made.shortfalls(rooms) * each).sum((1, 2))
            good = total < 1.0
            held += int((good & (total > 0)).sum())
            assert (made.margins >= made.rows - d - 1e-9)[good].all()
    assert held > 20


WHOLE = ("convolutions", "residual convolutions", "five layers")


@pytest.mark.parametrize("name", WHOLE)
def test_units_lose_no_more_than_their_weights_times_what_rows_fall_short_by(name: str) -> None:
    """Both sides of each, between ends so narrow that a row is below them as often as not."""
    made, lost_by = drawn(name, often=2.0), [0.0, 0.0]
    short = made.shortfalls(made.rooms(math.inf)).split([one.part.shape[1] for one in made.settled], 2)
    for k, (one, rows, units) in enumerate(zip(made.settled, made.short, made.units, strict=True)):
        before = made.settled[:k]
        for side in (0, 1):
            begun = {i: takes[side] for i, takes in one.takes.items()}
            nothing = [torch.zeros_like(s.part, dtype=torch.bool) for s in before]
            lost = torch.zeros_like(rows[:, side])
            for weight, missed in zip(swept(before, nothing, begun, rows.shape[2]), short, strict=False):
                lost += torch.einsum("nse,cse->nc", missed, weight)
            bounded = rows[0, side].isfinite()
            assert (units[:, side] >= rows[:, side] - lost - 1e-9)[:, bounded].all()
            lost_by[side] += float((rows[:, side] - units[:, side])[:, bounded].amax())
    assert min(lost_by) > 1e-3


@pytest.mark.parametrize("name", WHOLE)
def test_where_violations_are_small_units_with_room_are_above_their_ends(name: str) -> None:
    """Whatever is asked of margins."""
    made, held = drawn(name, often=2.0), 0
    ends, units = torch.cat([one.ends for one in made.settled], 1), torch.cat(made.units, 2)
    for share in (0.01, 0.1, 1.0):
        for deviations in (0.0, 1.0, 2.0):
            rooms = [share * room for room in made.rooms(deviations)]
            each, some = made.violations(rooms).least[0], torch.cat(rooms, 1) > 0
            total = (made.shortfalls(rooms) * each).sum((1, 2))
            good = (total < 1.0) & (total > 0.0)
            held += int(good.sum())
            assert (units > ends - 1e-9)[good][:, some].all()
    assert held > 20


def test_rows_alone_are_above_margins() -> None:
    """So that what is said of violations matters here."""
    for name, aside in CASES[:3]:
        assert (drawn(name, aside).margins - drawn(name, aside).rows).min() < -1e-3


def test_means_of_shortfalls_are_above_those_of_draws() -> None:
    """Of the second layer, whose rows are exact: the mean by moments, and the level that they are for."""
    made = drawn("convolutions")
    one, rows = made.settled[0], made.short[0]
    bounded = one.moment.isfinite()
    mean = (one.ends - rows).clamp_min(0.0)
    error = 4.0 * mean.std(0) / math.sqrt(len(rows))
    most = log_shortfalls(one.ends, one.moment, one.rate).exp()
    assert (mean.mean(0) - error <= most)[bounded].all()
    assert ((rows < one.ends).double().mean(0) > 0)[bounded].any()


def test_ends_that_cannot_be_left_cost_nothing_and_those_with_room_cannot_be_paid_for() -> None:
    made = drawn("convolutions")
    one, *rest = made.settled
    room = [torch.full_like(s.part, 0.1) for s in made.settled]
    free = replace(one, free=one.ends + 10.0)
    found = violations([free, *rest], room, made.below, made.rows.shape[1]).log_each[0]
    n = one.part.shape[1]
    assert (found[:, :n][one.part > 0] == -torch.inf).all()
    left = torch.cat([(s.part > 0) & (s.ends + 0.1 > s.free) for s in rest], 1)
    assert (found[:, n:][left] == torch.inf).all()


@pytest.mark.parametrize("room", [-1.0, 0.0, math.nan, math.inf])
def test_room_that_makes_no_sense_is_none(room: float) -> None:
    made = drawn("dense")
    found = made.violations([torch.full_like(one.part, room) for one in made.settled])
    none = made.violations(made.rooms(math.inf))
    for a, b in ((found.weight, none.weight), (found.log_each, none.log_each), (found.least, none.least)):
        assert torch.equal(a, b)
    assert not found.log_mean.isnan().any()


def test_levels_and_moments_belong_together() -> None:
    """log E (level - F)+ is at most that of failing, over e times the rate."""
    made = drawn("dense")
    sums, _ = made.layers.margins(None)
    (tilt,) = tilted(Place(-1, 0, 0), sums, made.layers.law, None)
    moment = log_moments(sums, made.layers.law, tilt)
    level = levels(moment, tilt.rate, torch.full_like(moment, -5.0))
    found = log_shortfalls(level, moment, tilt.rate)
    assert found == pytest.approx(-6.0 - tilt.rate.log(), abs=1e-9)


@pytest.mark.parametrize("kept", [[True, True], [True, False], [False, False]])
def test_soft_ends_cost_their_largest_share_of_a_margin_or_of_room(kept: list[bool]) -> None:
    made = drawn("five layers")
    found = made.violations(made.rooms(1.0))
    d, every = torch.tensor([[2.0, 0.01]]).double(), torch.tensor([kept])
    soft = found.log_mean.isfinite() & (found.log_each > -torch.inf)
    share = torch.where(every[:, :, None, None], found.weight / d[:, :, None, None], 0.0).amax(1)
    direct = (torch.maximum(share, found.least) * found.log_mean.exp())[soft].sum()
    assert found.log_price(Slack(d, soft), every).exp().item() == pytest.approx(direct.item(), rel=1e-9)
    assert (found.least > share)[soft].any()


def test_what_is_passed_on_by_either_end_adds_up_but_not_behind_room() -> None:
    """One unit, one that takes 2 of it with z and 3 with -z, and a margin that takes 5 of that and 7 of the first."""
    slope, part, one = 0.25, torch.tensor([[0.75], [0.25]]).double(), torch.zeros(2, 1).double()
    first = Settled(1, one - 1.0, one - 9.0, one, one + 1.0, one - 1.0, part, {})
    takes = torch.tensor([[[2.0]], [[3.0]]]).double()
    second = replace(first, relu=2, part=torch.tensor([[slope], [1.0 - slope]]).double(), takes={1: takes})
    margins = {1: torch.tensor([[7.0]]).double(), 2: torch.tensor([[5.0]]).double()}
    for room, passed in (([0, 0], 2 * slope + 3 * (1 - slope)), ([1, 0], 3 * (1 - slope)), ([0, 1], 2 * slope)):
        rooms = [one, torch.tensor(room)[:, None].double() / 2]
        found = violations([first, second], rooms, margins, 1)
        assert found.weight[0, 0, :, 0].tolist() == pytest.approx(
            [(7 + 5 * passed) * share for share in (0.75, 0.25)]
        )
        assert found.weight[0, 0, :, 1].tolist() == pytest.approx(
            [5 * p * (not r) for p, r in zip((slope, 1 - slope), room, strict=True)]
        )
        taken = sum(2 * n * r for n, r in zip((2, 3), room, strict=True))
        assert found.least[0, :, 0].tolist() == pytest.approx([taken * 0.75, taken * 0.25])
        assert found.least[0, :, 1].tolist() == pytest.approx([2.0 * r for r in room])
