"""Proofs of `moments`: the bits that were found, from JSON as well; whatever they say, a true bound or a refusal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_first_layer_moments import two_convolutions
from torch import Tensor
from zoo import dense as dense_network
from zoo import network, points, pooled, random_dense

import calotte
from calotte.cells.hyperplanes import Hyperplanes
from calotte.errors import InvalidInput
from calotte.network.affine import Dense, Reshape
from calotte.network.convolution import Convolution
from calotte.network.graph import Network, Relu
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.proofs.first_layer_moments import FirstLayerMoments, Tilted, in_255ths, short
from calotte.proofs.local.violations import Slack
from calotte.proofs.moments.ends import Peaks
from calotte.proofs.moments.layers import Place
from calotte.proofs.price import ABOVE, BELOW, BOTH
from calotte.proofs.proof import Proof
from calotte.query import Query
from calotte.searches.moments import ExponentialMoments
from calotte.settings import Settings

QUIET = Settings(search=False)
NONE = Peaks(torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))


def convolutions() -> tuple[Network, Tensor, Noise]:
    net, x = two_convolutions(0)
    return net, x, Sphere(2.0)


def rarely_on() -> tuple[Network, Tensor, Noise]:
    net, x = two_convolutions(2, 1.5)
    return net, x, Sphere(6.0)


def dense() -> tuple[Network, Tensor, Noise]:
    return random_dense((12, 14, 10, 3), 5), points(1, 12, 7)[0], Sphere(0.7)


def pools() -> tuple[Network, Tensor, Noise]:
    return pooled(0), points(1, 36, 3)[0], Sphere(1.0)


MADE: dict[str, Callable[[], tuple[Network, Tensor, Noise]]] = {
    "convolutions": convolutions,
    "rarely on": rarely_on,
    "dense": dense,
    "pools": pools,
}


def proposed(name: str) -> tuple[Network, Tensor, Noise, FirstLayerMoments]:
    net, x, noise = MADE[name]()
    proof = calotte.propose(net, x, noise, "moments")
    assert isinstance(proof, FirstLayerMoments)
    return net, x, noise, proof


@pytest.mark.parametrize("law", [Sphere(2.0), Ball(2.5), Gaussian(0.16), Sphere(2.0, torch.linspace(0.0, 1.5, 144))])
def test_what_is_read_back_gives_the_bits_that_were_found(law: Noise) -> None:
    """Two convolutions, units on windows. The JSON of `cifar_base_kw` has 1.4 MB, that of `mnist-net_256x2` 0.1."""
    net, x = two_convolutions(0)
    (one,) = calotte.assess(net, x, law, rungs=["moments"], settings=QUIET)
    proof = calotte.propose(net, x, law, "moments")
    text = proof.to_json()
    again = Proof.from_json(text)
    assert again == proof
    assert calotte.prove(net, x, law, again) == one.bounds[0].log_misclassification < -1.0
    assert len(text) < 200_000


def test_units_that_are_rarely_on_are_better_set_aside() -> None:
    net, x, noise, proof = proposed("rarely on")
    assert proof.aside == ExponentialMoments().aside
    (one,) = calotte.assess(net, x, noise, rungs=["moments"], settings=QUIET)
    found = calotte.prove(net, x, noise, Proof.from_json(proof.to_json()))
    assert found == one.bounds[0].log_misclassification
    query = Query(Hyperplanes(net), x[None], [0], noise, QUIET)
    assert found < replace(ExponentialMoments(), aside=math.inf).log_bound(query, query.sizes).item() - 0.1


def test_relus_of_relus_have_nothing_to_set_aside() -> None:
    """A ReLU that follows one of the first layer's is no map: units that are rarely on stay as they are."""
    weight = torch.randn(4, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first = Convolution(
        weight, torch.full((4,), -9.0).double(), (2, 3, 3), stride=(1, 1), padding=[(0, 0)] * 2, dilation=(1, 1)
    )
    relu, tail = Relu((4, 2, 2)), (Reshape((4, 2, 2), (16,)), Dense(weight.reshape(2, 16), torch.ones(2).double()))
    second = Convolution(
        weight.flatten(1)[:, :4, None, None],
        None,
        (4, 2, 2),
        stride=(1, 1),
        padding=[(0, 0)] * 2,
        dilation=(1, 1),
    )
    net = network((2, 3, 3), first, relu, relu, relu, second, relu, *tail)
    (one,) = calotte.assess(net, points(1, 18, 4)[0], Gaussian(0.3), rungs=["moments"], settings=QUIET)
    assert one.bounds[0].skipped is None


@pytest.mark.parametrize("name", ["convolutions", "dense", "pools"])
def test_hostile_proofs_prove_nothing_false(name: str) -> None:
    """Against draws, where p is large enough to be seen: everything in a Proof is redrawn, part by part."""
    net, x, noise, right = proposed(name)
    g, said = torch.Generator().manual_seed(2), 0
    for round_ in range(12):
        law = noise.resized(noise.size * (1.0 + 0.5 * (round_ % 3)))
        r = law.sample(20_000, net.d, torch.Generator().manual_seed(3))
        share = (net.predict(x + r) != net.predict(x[None])).double().mean().item()
        low = share - 4 * math.sqrt(share / len(r))
        wrong = right
        if round_ % 2:
            slopes = {
                place: replace(t, slopes=torch.randint(0, 256, t.slopes.shape, generator=g, dtype=torch.uint8))
                for place, t in right.tilts.items()
            }
            wrong = replace(wrong, tilts=slopes)
        if round_ % 3 == 0:
            factor = float(torch.rand((), generator=g)) ** 2 * 3
            wrong = replace(wrong, exponents=tuple(short(p * factor) for p in right.exponents))
        if round_ % 4 == 1:
            choices = {
                i: torch.randint(0, 6, c.shape, generator=g, dtype=torch.int8) for i, c in right.choices.items()
            }
            wrong = replace(wrong, choices=choices)
        if round_ % 4 == 2:
            scale = math.exp(2 * float(torch.randn((), generator=g)))
            wrong = replace(wrong, tilts={k: replace(t, rates=t.rates * scale) for k, t in wrong.tilts.items()})
        if round_ % 4 == 3:
            thresholds = right.peaks.threshold * torch.rand(len(right.peaks.threshold), generator=g) * 2
            winners = right.peaks.winner[torch.randperm(len(right.peaks.winner), generator=g)]
            wrong = replace(wrong, peaks=Peaks(thresholds.double(), winners))
        if right.slack is not None and round_ % 5 < 3:
            rooms = tuple(short(t * 2 * torch.rand(t.shape, generator=g).double()) for t in right.rooms)
            soft = torch.rand(right.slack.soft.shape, generator=g) < 0.3 * (round_ % 5)
            margins = right.slack.margins * 3 * torch.rand(right.slack.margins.shape, generator=g).double()
            wrong = replace(wrong, rooms=rooms, slack=Slack(margins, soft | (round_ % 5 == 1) & right.slack.soft))
        wrong = replace(wrong, log_each=right.log_each * (0.3 + round_ / 10), aside=float(round_ // 3 or math.inf))
        found = calotte.prove(net, x, law, Proof.from_json(wrong.to_json()))
        assert low <= 0 or found >= math.log(low)
        assert found <= 0.0
        said += found < -0.5
    assert said >= 1


@pytest.mark.parametrize("rate", [-1.0, 0.0, math.inf, -math.inf, math.nan])
def test_a_rate_that_makes_no_sense_bounds_no_unit(rate: float) -> None:
    """relu(z), z normal around 0, taken to be 0 up to exp(-700): the answer changes with probability 0.46."""
    net = dense_network(([[1.0, 0], [0, 1]], [10.0, 10]), ([[1.0, 0]], [-10.0]), ([[-10.0], [0]], [1.0, 0]))
    slopes = torch.zeros(1, 2, dtype=torch.uint8)
    tilts = {Place(4, 0, side): Tilted(slopes, torch.tensor([[rate]]).double(), 0) for side in (0, 1)}
    tilts[Place(-1, 0, 0)] = Tilted(slopes, torch.ones(1, 1).double(), 0)
    powers = (torch.tensor([4.0, 4.0]).double(),)
    for choice in (BELOW, ABOVE, BOTH):
        proof = FirstLayerMoments(
            30.0, -700.0, math.inf, {4: torch.tensor([choice], dtype=torch.int8)}, NONE, powers, tilts
        )
        assert calotte.prove(net, torch.zeros(2).double(), Gaussian(1.0), proof) >= math.log(0.4)


def test_exponents_that_are_too_small_prove_nothing() -> None:
    net, x, noise, right = proposed("dense")
    assert calotte.prove(net, x, noise, right) < -1.0
    small = replace(right, exponents=tuple(short(0.9 * p) for p in right.exponents))
    assert calotte.prove(net, x, noise, small) == 0.0


@pytest.mark.parametrize("other", [random_dense((12, 15, 10, 3), 5), random_dense((12, 14, 11, 3), 5)])
def test_another_network_is_refused(other: Network) -> None:
    _, x, noise, right = proposed("dense")
    with pytest.raises(InvalidInput, match="another network"):
        calotte.prove(other, x, noise, right)


def test_ends_that_have_room_are_soft_where_others_are_or_not_to_be_had() -> None:
    """What other ends are missed by may take all of the room: the end alone is not what rests on it."""
    net, x, noise, right = proposed("convolutions")
    assert right.slack is not None
    roomy, soft = torch.cat(right.rooms, 1) > 0, right.slack.soft
    assert (soft & roomy).any()
    assert (soft & ~roomy).any()
    wrong = replace(right, slack=replace(right.slack, soft=soft & ~roomy))
    assert calotte.prove(net, x, noise, wrong) == 0.0


@pytest.mark.parametrize("size", [0.7, 1e-3])
@pytest.mark.parametrize("margin", [0, 1])
@pytest.mark.parametrize("taken", [5e-324, 1e300])
def test_each_margin_pays_for_what_violations_may_take_of_it(size: float, margin: int, taken: float) -> None:
    """Nothing, and any shortfall is too much; all, and its row need not be there: under noise that it bears, too."""
    net, x, _, right = proposed("dense")
    assert right.slack is not None
    assert calotte.prove(net, x, Sphere(size), right) < -1.0
    given = right.slack.margins.clone()
    given[0, margin] = taken
    assert calotte.prove(net, x, Sphere(size), replace(right, slack=replace(right.slack, margins=given))) == 0.0


def test_soft_ends_of_others_are_refused() -> None:
    net, x, noise, right = proposed("dense")
    assert right.slack is not None
    slack, (room,) = right.slack, right.rooms
    others = (
        replace(right, rooms=()),
        replace(right, rooms=(room[:, :9],)),
        replace(right, slack=replace(slack, soft=slack.soft[:, :, :9])),
        replace(right, slack=replace(slack, soft=slack.soft.to(torch.int8))),
        replace(right, slack=replace(slack, margins=slack.margins[:, :1])),
    )
    for other in others:
        with pytest.raises(InvalidInput, match="another network"):
            calotte.prove(net, x, noise, other)
    with pytest.raises(InvalidInput, match="real arithmetic"):
        calotte.prove(net, x, noise, right, arithmetic="float32")


def test_other_noise_is_refused() -> None:
    net, x, _, right = proposed("dense")
    with pytest.raises(InvalidInput, match="alike in all directions"):
        calotte.prove(net, x, calotte.Box(0.1), right)


def edited(change: Callable[[dict[str, Any]], None]) -> str:
    written = json.loads(proposed("dense")[3].to_json())
    change(written)
    return json.dumps(written)


WRONG: dict[str, Callable[[dict[str, Any]], None]] = {
    "a price above 1": lambda w: w.update(log_each="0x1p+0"),
    "no price": lambda w: w.update(log_each="nan"),
    "set aside above 0": lambda w: w.update(aside="-0x1p+0"),
    "set aside nowhere": lambda w: w.update(aside="nan"),
    "a tail below 0": lambda w: w.update(tail="-0x1p+0"),
    "choices in words": lambda w: w.update(choices={"4": {"shape": [10], "digits": "free"}}),
    "choices that are none": lambda w: w["choices"]["4"].update(digits="7" * 10),
    "exponents of none": lambda w: w["forms"][0].update(exponents=9),
    "a slope less": lambda w: w["forms"][0]["slopes"].update(width=13),
    "a form less": lambda w: w["forms"][0]["slopes"]["rows"].pop(),
    "far too many slopes": lambda w: w["forms"][0]["slopes"].update(width=10**12),
    "no side": lambda w: w["forms"][0].pop("side"),
    "no forms": lambda w: w.update(forms=None),
    "slack without ends": lambda w: w["slack"].pop("soft"),
    "room of numbers": lambda w: w.update(rooms=[1.0]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_proof_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="proof"):
        Proof.from_json(edited(WRONG[name]))


def test_slopes_and_exponents_are_kept_in_short() -> None:
    p = torch.tensor([0.0, 1.0, 1.0 + 1e-12, math.pi, 1e-30, 12345.678]).double()
    up = short(p)
    assert (up[1:] > p[1:]).all()
    assert (up <= p * (1 + 2**-6.9)).all()
    assert in_255ths(torch.tensor([0.0, 1.0, 0.4999, math.nan, 2.0]).double()).tolist() == [0, 255, 127, 0, 255]
    one = FirstLayerMoments(1.0, -2.0, math.inf, {}, NONE, (up,), {})
    again = Proof.from_json(one.to_json())
    assert isinstance(again, FirstLayerMoments)
    assert torch.equal(again.exponents[0], up)
    with pytest.raises(InvalidInput, match="belong together"):
        FirstLayerMoments(
            1.0, -2.0, math.inf, {}, NONE, (), {next(iter(proposed("dense")[3].tilts)): Tilted(up, up, 0)}
        )
