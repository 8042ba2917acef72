"""Layers behind the first as sums of its activations: against the network's values, on windows and whole."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from zoo import convolutional, network, points, random_dense, residual

from calotte.cells.hyperplanes import Hyperplanes
from calotte.deadline import NEVER, Deadline
from calotte.network.affine import Dense, Reshape, Sum
from calotte.network.convolution import Convolution
from calotte.network.enclosure import evaluate
from calotte.network.graph import Network, Relu
from calotte.noise import Sphere
from calotte.proofs.moments.aside import Aside, lines_within
from calotte.proofs.moments.ends import Peaks, ends_of
from calotte.proofs.moments.exponents import Group
from calotte.proofs.moments.first import first_layer
from calotte.proofs.moments.gaussian import GaussianLaw
from calotte.proofs.moments.layers import Layers
from calotte.proofs.moments.sums import Sums
from calotte.proofs.price import Offer
from calotte.proofs.relaxation.backward import Relaxation
from calotte.proofs.relaxation.lines import relaxed_lines
from calotte.proofs.support import Support
from calotte.query import Query
from calotte.searches.moments import ExponentialMoments, units_read
from calotte.searches.thrift import Thrift
from calotte.settings import Settings

EPS = 0.6
ONE = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) / 3


def three_convolutions(pads: tuple[int, int] = (1, 1), groups: int = 1) -> Network:
    """Strides, paddings and channels that all differ; the second map mixes channels, or each keeps to its own."""
    two = {"stride": (2, 1), "padding": ((1, 0), pads), "dilation": (1, 1), "groups": groups}
    first = Convolution(draw(1, 4, 2, 3, 3), draw(2, 4), (2, 7, 6), **ONE)
    second = Convolution(draw(3, 4, 4 // groups, 3, 2), draw(4, 4), first.output_shape, **two)
    third = Convolution(draw(5, 3, 4, 2, 2), draw(6, 3), second.output_shape, **ONE)
    flat = math.prod(third.output_shape)
    steps = [step for map_ in (first, second, third) for step in (map_, Relu(map_.output_shape))]
    return network((2, 7, 6), *steps, Reshape(third.output_shape, (flat,)), Dense(draw(7, 3, flat), None))


NETWORKS = {
    "dense": random_dense((12, 14, 10, 3), 5),
    "convolutions": three_convolutions(),
    "its own channel": three_convolutions(groups=4),
    "one layer": convolutional(),
    "residual": residual(6, 3, 6),
}


def residual_convolutions() -> Network:
    """Of two convolutions one after the other, the second is added to what the first one reads, a ReLU."""
    maps = [Convolution(draw(i, 3, c, 3, 3), draw(9 - i, 3), (c, 5, 4), **ONE) for i, c in enumerate((2, 3, 3))]
    relu, total = Relu((3, 5, 4)), Sum((3, 5, 4), (1, 1))
    steps = [maps[0], relu, maps[1], relu, maps[2], (total, (5, 2)), relu, Reshape((3, 5, 4), (60,))]
    return network((2, 5, 4), *steps, Dense(draw(8, 3, 60), None))


SPLIT = NETWORKS | {"residual convolutions": residual_convolutions()}


def layers_of(
    net: Network, x: Tensor, peaks: Peaks | None = None, aside: float = math.inf, soft: bool = False
) -> Layers:
    """As `log_bound` makes them, all units settled by all noise that is considered."""
    hyperplanes = Hyperplanes(net)
    query = Query(hyperplanes, x[None], [0], Sphere(EPS), Settings())
    around = Support.of(query, torch.tensor([EPS]).double(), 6.0)
    first, relaxation = first_layer(hyperplanes, NEVER), Relaxation(hyperplanes, query.x, around.farthest)
    assert first is not None
    value, error = first.units_of(net, evaluate(net, query.x, also=[one.source for one in first.ends.maxima]))
    none = torch.zeros(first.ends.windows)
    peaks = Peaks(none.double(), none.long()) if peaks is None else peaks
    law = GaussianLaw.of(query.noise, EPS, net.d)
    return Layers(query, first, around, law, relaxation, value, error, peaks, aside, soft)


def values_of(sums: Sums, values: dict[int, Tensor], noise: Tensor) -> Tensor:
    """(n, R) what the forms are at n noises."""
    active = torch.cat([values[i].flatten(1) for i in sums.first.ends.relus], 1)
    if sums.group is None:
        met = active @ sums.weight.t()
    else:
        read = active[:, sums.group.index].repeat_interleave(len(sums.weight) // len(sums.group.index), 1)
        met = (read * sums.weight).sum(2)
    return sums.constant + met + (0.0 if sums.linear is None else noise @ sums.linear.t())


def compared(net: Network, aside: float = math.inf) -> tuple[list[Tensor], list[Tensor], bool]:
    """What units (of layers that read the first one, and of others, and margins) are above the forms below them, and
    z's own sum with -z's; whether any form was on windows."""
    x, noise = points(1, net.d, 3)[0], Sphere(EPS).sample(300, net.d, torch.Generator().manual_seed(5))
    layers = layers_of(net, x, aside=aside)
    values = dict(net.values(x + noise))
    direct, above, narrow = [], [], False
    for i in layers.relus():
        if i in layers.first.ends.deep:
            feeder = net.feeders[i]
            channels = net.size(feeder) // net.shape(feeder)[0]
            for units, pulled, _ in layers.blocks(feeder):
                own = units // channels if len(net.shape(feeder)) == 3 else None
                sides = layers.sums(pulled, own)
                z = values[feeder].flatten(1)[:, units]
                below = [values_of(side, values, noise) for side in sides]
                narrow |= sides[0].group is not None
                (above if len(direct) else direct).extend([z - below[0], -z - below[1]])
                for side, found in zip(sides, below, strict=True):
                    assert (layers.range(side) <= found + 1e-12).all()
            layers.bound_units(i, lambda *_: [], Free(), -30.0)
    assert bool(layers.apart) == (aside < math.inf)
    y, outputs = net.predict(x[None]).item(), values[net.last]
    rivals = [k for k in range(outputs.shape[1]) if k != y]
    above.append(outputs[:, [y]] - outputs[:, rivals] - values_of(layers.margins(None)[0], values, noise))
    return direct, above, narrow


class Free(Thrift):
    """Pays for nothing."""

    def choose(self, layer: int, offer: Offer) -> Tensor:
        return torch.zeros(offer.free[:, 0].shape, dtype=torch.int8)


@pytest.mark.parametrize("name", NETWORKS)
def test_sums_lie_below_units_and_are_exact_where_nothing_is_in_between(name: str) -> None:
    direct, above, narrow = compared(NETWORKS[name])
    for gap in (*direct, *above):
        assert (gap >= -1e-12).all()
    if name != "residual":
        assert all((gap <= 1e-11).all() for gap in direct)
    assert narrow == (name in ("convolutions", "its own channel"))


@pytest.mark.parametrize("aside", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["convolutions", "its own channel", "residual convolutions"])
def test_sums_lie_below_units_where_others_are_set_aside(name: str, aside: float) -> None:
    """All noise that is considered bounds the cores here."""
    _, above, _ = compared(SPLIT[name], aside)
    for gap in above:
        assert (gap >= -1e-12).all()
    assert sum(gap.mean() for gap in above) < sum(gap.mean() for gap in compared(SPLIT[name])[1])


def test_lower_lines_go_by_the_value_at_x_and_not_by_the_interval() -> None:
    """A unit with an interval that grows past what is below keeps its line, so that margins do not jump."""
    lower, at_x = torch.tensor([-2.0, -2.0, 0.0, -2.0]).double(), torch.tensor([-0.5, 0.5, 0.5, -1.0]).double()
    for most in (1.9, 2.1):
        upper = torch.tensor([most, most, most, 0.0]).double()
        below, above, intercept = lines_within(lower, upper, torch.full_like(at_x, 9.0), at_x)
        assert below.tolist() == [0.0, 1.0, 1.0, 0.0]
        assert torch.equal(torch.stack([above, intercept]), torch.stack(relaxed_lines(lower, upper)[1:]))


def test_activations_that_are_not_cut_off_at_zero_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: relu(A + B) <= relu(A) + B."""
    right = Aside.of

    def wrong(relaxation: Relaxation, relu: int, *given: Any) -> Aside:
        op = relaxation.network.nodes[relaxation.network.feeders[relu]].op
        assert isinstance(op, Convolution)
        return replace(right(relaxation, relu, *given), positive=op)

    monkeypatch.setattr(Aside, "of", wrong)
    _, above, _ = compared(SPLIT["convolutions"], 0.0)
    assert any((gap < -1e-3).any() for gap in above)


def test_channels_that_keep_to_themselves_read_no_others() -> None:
    net = NETWORKS["its own channel"]
    layers = layers_of(net, points(1, net.d, 3)[0])
    layers.relaxation.reach.bound(1)
    layers.bound_first(2)
    layers.relaxation.reach.bound(3)
    ((units, pulled, _),) = layers.blocks(3)
    (sums, _) = layers.sums(pulled, units // math.prod(net.shape(3)[1:]))
    assert sums.weight.shape[1] == 6
    assert sums.group is not None
    assert len(sums.group.index) == len(units)


def shifted(group: Group, by: int) -> Group:
    return replace(group, index=(group.index + by).clamp_max(group.index.max()))


@pytest.mark.parametrize("by", [1, -1])
def test_windows_shifted_by_one_are_noticed(by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant."""
    right = Layers.group
    monkeypatch.setattr(Layers, "group", lambda self, *given: shifted(right(self, *given), by))
    direct, _, narrow = compared(NETWORKS["convolutions"])
    assert narrow
    assert any((gap < -1e-3).any() for gap in direct)


def test_paddings_forgotten_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: windows begin where they would without zeros before the image."""
    right = Layers.group

    def wrong(self: Layers, relu: int, shape: object, places: Tensor, *rest: object) -> Group:
        return right(self, relu, shape, places.clamp_min(0), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Layers, "group", wrong)
    assert any((gap < -1e-3).any() for gap in compared(NETWORKS["convolutions"])[0])


def test_what_takes_minutes_is_tried_within_a_time_limit_only() -> None:
    net, x = NETWORKS["convolutions"], points(1, 84, 3)
    rung = replace(ExponentialMoments(), most_read=10.0)
    hyperplanes = Hyperplanes(net)
    assert 10 < units_read(hyperplanes, ends_of(net, hyperplanes.first_nodes)) <= net.hidden_units**2
    forever = Query(hyperplanes, x, [0], Sphere(EPS), Settings())
    reason = rung.refuses(forever)
    assert reason is not None
    assert "--time-limit" in reason
    assert rung.refuses(forever.within(Deadline.after(60.0))) is None
