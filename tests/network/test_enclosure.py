"""Enclosures: what is not a number never makes an error zero, and every error bounds the exact one."""

from __future__ import annotations

import math

import pytest
import torch
from zoo import dense, tensor

from calotte.cells.distances import signed_distances
from calotte.cells.hyperplanes import Hyperplanes
from calotte.network.affine import Dense, Diagonal, Sum
from calotte.network.enclosure import Enclosure, apply, backward_underflow, evaluate, magnitude_pass, rounded
from calotte.network.graph import Network

NAN, INF = math.nan, math.inf
LOST = [NAN, INF]


@pytest.mark.parametrize("error", LOST)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, NAN, INF])
def test_an_unknown_error_stays_unknown(value: float, error: float) -> None:
    known = rounded(tensor([value]), tensor([error]), 1e-16, 1e-300)
    assert not known.isfinite().any()
    here = Enclosure(tensor([[value, 1.0]]), tensor([[error, 0.0]]))
    for op in (
        Dense(torch.ones(1, 2, dtype=torch.float64), tensor([0.5])),
        Diagonal((2,), tensor([2.0, 1.0]), tensor([0.5, 0.5])),
        Sum((2,), (1,)),
    ):
        assert not apply(op, here).error[0, 0].isfinite()
        assert not magnitude_pass(op, 1e-300, here.error)[0, 0].isfinite()
    assert not backward_underflow(tensor([[error]]), tensor([1.0])).isfinite().any()


def overflowing() -> Network:
    """Two units that overflow, their difference NaN; the unit behind it has weight zero in the output."""
    layers = ([[1e200, 0.0], [1e200, 0.0]], [1.0, 0.0]), ([[1.0, -1.0], [0.0, 0.0]], [1.0, 1.0])
    return dense(*layers, ([[0.0, 1.0], [1.0, 0.0]], [3.0, 0.0]))


@pytest.mark.parametrize("masked", [False, True])
def test_evaluation_that_meets_no_number_says_so(masked: bool) -> None:
    network, x = overflowing(), tensor([[1e200, 0.0]])
    masks = {i: torch.ones(1, *network.shape(i), dtype=torch.bool) for i in network.relus} if masked else None
    outputs = evaluate(network, x, masks)[-1]
    assert (outputs.value.isfinite() & outputs.error.isfinite()).sum() == 0


def test_nothing_is_known_of_distances_behind_it() -> None:
    network = overflowing()
    for chain in (True, False):
        form = Hyperplanes(network)
        if not chain:
            form.chain = None
        found = form.distances(tensor([[1e200, 0.0]]))
        assert (found.lower[0, 2:4] == -INF).all()
        assert found.rho[0] == 0.0


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("lost", [NAN, INF, -INF])
def test_a_distance_with_any_part_unknown_is_unknown(place: int, lost: float) -> None:
    """Value, its error, norm, its error: where one is lost, no side of the hyperplane is certain."""
    for others in ([1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]):
        parts = [tensor([[v if k != place else lost]]) for k, v in enumerate(others)]
        _, lower = signed_distances(*parts, 1e-15)
        if place == 1 and lost == -INF:
            continue  # an error is never negative
        assert lower.item() == -INF
