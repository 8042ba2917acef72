"""Axes: reshapes that keep the order of the numbers, and those that do not."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calotte.cells.cell import Cell
from calotte.errors import InvalidInput
from calotte.network.axes import same_order
from calotte.network.decision import Decision, Rule
from calotte.network.graph import Network, Node, Relu
from calotte.network.random import random_network


def takes(*shape: int) -> Network:
    """A network of that input shape, one ReLU on each number, which answers with the largest."""
    network = random_network((int(np.prod(shape)), 3), torch.Generator().manual_seed(0))
    return Network((Node("x", None), Node("relu", Relu(shape), (0,))), shape, Decision("argmax", network.d))


@pytest.mark.parametrize(
    ("rows", "shape"),
    [
        ((784,), (1, 28, 28)), ((28, 28), (1, 28, 28)), ((28, 28, 1), (1, 28, 28)), ((1, 28, 28), (784,)),
        ((784, 1), (1, 1, 28, 28)), ((3, 1024), (3, 32, 32)), ((32, 32, 3), (3072,)), ((1, 6), (6, 1)),
    ],
)  # fmt: skip
def test_harmless_reshapes_keep_every_number_in_its_place(rows: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x = np.arange(2.0 * np.prod(rows)).reshape(2, *rows)
    read = takes(*shape).inputs(x)
    assert read.tolist() == x.reshape(2, *shape).reshape(2, -1).tolist()
    assert takes(*shape).inputs(x[0]).tolist() == read[:1].tolist(), "one input without a batch"


@pytest.mark.parametrize(
    ("rows", "shape", "said"),
    [
        ((32, 32, 3), (3, 32, 32), "--layout NHWC"), ((3, 32, 32), (32, 32, 3), "--layout NCHW"),
        ((6, 4), (4, 6), "another order"), ((32, 3, 32), (3, 32, 32), "another order"),
    ],
)  # fmt: skip
def test_other_orders_are_refused(rows: tuple[int, ...], shape: tuple[int, ...], said: str) -> None:
    for x in (np.ones((5, *rows)), np.ones(rows)):
        with pytest.raises(InvalidInput, match=said):
            takes(*shape).inputs(x)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_shape_agrees_with_what_refines_it_and_not_with_its_axes_exchanged(shape: list[int], random) -> None:  # type: ignore[no-untyped-def]
    cuts = sorted(random.sample(range(1, len(shape)), random.randint(0, len(shape) - 1)))
    merged = [int(np.prod(shape[a:b])) for a, b in itertools.pairwise([0, *cuts, len(shape)])]
    assert same_order(merged, shape)
    assert same_order(shape, merged)
    for order in itertools.permutations(range(len(shape))):
        turned = [shape[k] for k in order]
        same = [size for size in turned if size > 1] == [size for size in shape if size > 1]
        assert same_order(turned, shape) == same


def test_outputs_are_named_by_their_class() -> None:
    generator = torch.Generator().manual_seed(0)
    network = random_network((3, 4, 3), generator)
    assert network.unit_names(0)[4:] == ["output[1]", "output[2]"]
    assert network.unit_names(1)[4:] == ["output[0]", "output[2]"]
    assert network.unit_names(2)[4:] == ["output[0]", "output[1]"]
    assert [network.unit_name(i, 1) for i in range(6)] == network.unit_names(1)
    single = random_network((3, 4, 1), generator)
    assert single.unit_names(0)[4:] == single.unit_names(1)[4:] == ["output[0]"]


@pytest.mark.parametrize("rule", ["argmax", "argmin"])
def test_beyond_the_nearest_hyperplane_stands_the_class_that_it_is_named_for(rule: Rule) -> None:
    generator = torch.Generator().manual_seed(1)
    linear = replace(random_network((3, 4), generator), decision=Decision(rule, 4))
    seen = set()
    for x in torch.randn(20, 3, dtype=torch.float64, generator=generator):
        cell = Cell(linear, x)
        assert cell.nearest_unit is not None
        i = cell.nearest_unit
        height = cell.normals[i] @ x + cell.offsets[i]
        beyond = x - (1 + 1e-9) * height / cell.normals[i].norm() ** 2 * cell.normals[i]
        seen.add((cell.predicted, int(linear.predict(beyond[None]))))
        assert cell.names[i] == f"output[{int(linear.predict(beyond[None]))}]"
    assert len(seen) > 4
