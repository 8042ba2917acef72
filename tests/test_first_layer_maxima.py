"""Where pull-backs end: maxima seen in the network's structure, and the sums below and above them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_layers import EPS, Free, layers_of
from torch import Tensor
from zoo import network, points, pooled, residual

import calotte
from calotte.cells.hyperplanes import Hyperplanes
from calotte.errors import InvalidInput
from calotte.network.affine import Dense, Sum
from calotte.network.graph import Network, Relu
from calotte.network.rearrange import Select
from calotte.noise import Sphere
from calotte.proofs.first_layer_moments import FirstLayerMoments
from calotte.proofs.moments.ends import Ends, Peaks, ends_of
from calotte.proofs.moments.layers import Layers
from calotte.searches.moments import units_read
from calotte.settings import Settings

POOLED = {
    "ReLUs first": pooled(0),
    "pools first": pooled(1, relu_first=False),
    "pools that overlap": pooled(2, stride=1),
    "a layer behind": pooled(3, deep=True),
}


def ends(net: Network) -> Ends:
    return ends_of(net, Hyperplanes(net).first_nodes)


@pytest.mark.parametrize("name", POOLED)
def test_maxima_are_what_the_network_computes(name: str) -> None:
    net = POOLED[name]
    found, values = ends(net), dict(net.values(points(50, net.d, 1)))
    (one,) = found.maxima
    assert found.relus == ()
    assert len(found.deep) == ("behind" in name)
    assert one.windows == (75 if "overlap" in name else 27)
    assert one.window.bincount().eq(4).all()
    members = values[one.source].flatten(1)[:, one.member].reshape(50, -1, 4)
    assert torch.allclose(members.amax(2).clamp_min(0.0), values[one.node].flatten(1), atol=1e-14)


def test_forms_behind_maxima_are_counted_as_reading_the_whole_layer() -> None:
    net = POOLED["a layer behind"]
    found, hyperplanes = ends(net), Hyperplanes(net)
    deep = sum(net.size(i) for i in found.deep)
    units = sum(len(some) for _, some in found.parts(net))
    assert units_read(hyperplanes, found) == deep * units > 0


@pytest.mark.parametrize(
    ("less", "signs", "last"),
    [
        ((2, 3), (1, 1), (2, 5)),  # a + relu(a - b)
        ((3, 2), (1, 1), (3, 5)),  # b + relu(b - a)
        ((2, 3), (1, -1), (3, 5)),  # b - relu(a - b)
        ((2, 3), (1, 1, 1), (3, 5, 5)),  # b + 2 relu(a - b)
    ],
)
def test_what_is_no_maximum_is_not_taken_for_one(
    less: tuple[int, int], signs: tuple[int, ...], last: tuple[int, ...]
) -> None:
    w, relu = Dense(points(4, 4, 0), None), Relu((4,))
    swapped = (Select((4,), np.array([1, 0, 3, 2])), (2,))
    difference, total = (Sum((4,), (1, -1)), less), (Sum((4,), signs), last)
    assert ends(network((4,), w, relu, swapped, difference, relu, total, w)).maxima == ()


def test_a_maximum_is_seen_in_vectors_and_residual_networks_have_none() -> None:
    w, relu = Dense(points(4, 4, 0), None), Relu((4,))
    swapped = (Select((4,), np.array([1, 0, 3, -1])), (2,))
    difference, total = (Sum((4,), (1, -1)), (2, 3)), (Sum((4,), (1, 1)), (5, 3))
    (one,) = ends(network((4,), w, relu, swapped, difference, relu, total, w)).maxima
    assert one.member.tolist() == [0, 1, 1, 0, 2, 3, 3]  # the last alone, beside 0
    assert one.window.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert ends(residual(6, 3, 6)).maxima == ()


def met(layers: Layers, sums: object, values: dict[int, Tensor], noise: Tensor) -> Tensor:
    """(n, R) what forms over members of maxima are at n noises."""
    z = torch.cat([values[i].flatten(1)[:, some] for i, some in layers.first.ends.parts(layers.query.network)], 1)
    moved = z[:, None] + (sums.value - layers.value)  # type: ignore[attr-defined]
    return sums.constant + (sums.weight * moved.clamp_min(0.0)).sum(2)  # type: ignore[attr-defined]


def draws(name: str, peaks: Peaks) -> tuple[float, float]:
    """The least and the mean gap between units, or margins, and the sums below them."""
    net, x = POOLED[name], points(1, 36, 3)[0]
    noise = Sphere(EPS).sample(400, 36, torch.Generator().manual_seed(5))
    layers, values, gaps = layers_of(net, x, peaks), dict(net.values(x + noise)), []
    for i in range(len(net.nodes)):
        if i:
            layers.relaxation.reach.bound(i)
        if i in layers.first.ends.deep:
            ((units, pulled, _),) = layers.blocks(net.feeders[i])
            z = values[net.feeders[i]].flatten(1)[:, units]
            for side, sign in zip(layers.sums(pulled), (1, -1), strict=True):
                gaps.append(sign * z - met(layers, side, values, noise))
                assert (layers.range(side) <= met(layers, side, values, noise) + 1e-12).all()
            layers.bound_units(i, lambda *_: [], Free(), -30.0)
        elif i in net.relus:
            layers.bound_hidden(i)
    margins, _ = layers.margins(None)
    outputs = values[net.last]
    y = net.predict(x[None]).item()
    rivals = [k for k in range(3) if k != y]
    gaps.append(outputs[:, [y]] - outputs[:, rivals] - met(layers, margins, values, noise))
    return min(gap.min().item() for gap in gaps), gaps[0].mean().item()


@pytest.mark.parametrize("name", POOLED)
def test_sums_lie_below_whatever_is_proposed(name: str) -> None:
    layers, g = layers_of(POOLED[name], points(1, 36, 3)[0]), torch.Generator().manual_seed(4)
    windows, members = layers.first.ends.windows, len(layers.first.ends.window)
    for scale in (0.0, 0.3, 3.0):
        threshold = scale * torch.randn(windows, generator=g).double()  # negative ones are taken for 0
        winner = 4 * torch.arange(windows) + torch.randint(0, 4, (windows,), generator=g)
        winner = torch.where(torch.rand(windows, generator=g) < 0.3, winner.flip(0), winner)  # of other windows
        assert members == 4 * windows
        assert draws(name, Peaks(threshold, winner))[0] >= -1e-12


def test_thresholds_and_winners_that_suit_leave_little() -> None:
    """Beside the worst ones."""
    layers = layers_of(POOLED["ReLUs first"], points(1, 36, 3)[0])
    z = layers.value.reshape(-1, 4)
    window = 4 * torch.arange(len(z))
    good = Peaks(z.amax(1).clamp_min(0.0), window + z.argmax(1))
    bad = Peaks(torch.zeros(len(z)).double(), window + z.argmin(1))
    assert draws("ReLUs first", good)[1] < 0.5 * draws("ReLUs first", bad)[1]


def test_a_proof_says_how_maxima_are_bounded() -> None:
    net, x, noise = POOLED["ReLUs first"], points(1, 36, 3)[0], Sphere(0.5)
    (one,) = calotte.assess(net, x, noise, rungs=["moments"], settings=Settings(search=False))
    proof = calotte.propose(net, x, noise, "moments")
    assert isinstance(proof, FirstLayerMoments)
    again = FirstLayerMoments.from_json(proof.to_json())
    assert again == proof
    assert calotte.prove(net, x, noise, again) == one.bounds[0].log_misclassification < -1.0
    with pytest.raises(InvalidInput, match="another network"):
        calotte.prove(POOLED["pools that overlap"], x, noise, proof)
    with pytest.raises(InvalidInput, match="a threshold"):
        FirstLayerMoments(
            1.0, -2.0, math.inf, {}, Peaks(torch.tensor([math.nan]).double(), torch.tensor([0])), (), {}
        )
