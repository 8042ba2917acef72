"""Normals by transposed products: packed ones are those of one product for each unit."""

from __future__ import annotations

import math

import pytest
import torch

from calotte.cells.distances import Geometry
from calotte.cells.packing import one_hot_blocks, pack, pull_back, receptive_fields, row_norms
from calotte.network.affine import Affine, Dense, Reshape, Sum
from calotte.network.convolution import Convolution
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node, Relu

GENERATOR = torch.Generator().manual_seed(0)


def convolution(shape: tuple[int, ...], out: int, size: int, stride: int, pad: int) -> Convolution:
    kernel = torch.randn(out, shape[0], size, size, dtype=torch.float64, generator=GENERATOR)
    bias = torch.randn(out, dtype=torch.float64, generator=GENERATOR)
    both = [(pad, pad)] * 2
    return Convolution(kernel, bias, shape, stride=(stride,) * 2, padding=both, dilation=(1, 1))


def residual_network() -> Network:
    """3 x 12 x 12 input, a strided convolution, a residual block, a dense layer."""
    first = convolution((3, 12, 12), 4, 3, 2, 1)
    second = convolution(first.output_shape, 4, 3, 1, 1)
    shape = second.output_shape
    weight = torch.randn(5, math.prod(shape), dtype=torch.float64, generator=GENERATOR)
    ops: list[tuple[Affine | Relu, tuple[int, ...]]] = [
        (first, (0,)), (Relu(shape), (1,)), (second, (2,)), (Sum(shape, (1, 1)), (2, 3)), (Relu(shape), (4,)),
        (Reshape(shape, (math.prod(shape),)), (5,)), (Dense(weight), (6,)),
    ]  # fmt: skip
    nodes = [Node("x", None), *(Node(f"n{i}", op, inputs) for i, (op, inputs) in enumerate(ops, 1))]
    return Network(tuple(nodes), (3, 12, 12), Decision("argmax", 5))


NETWORK = residual_network()
X = torch.randn(2, NETWORK.d, dtype=torch.float64, generator=GENERATOR)


def one_by_one(network: Network, x: torch.Tensor, node: int, scale: torch.Tensor | float = 1.0) -> torch.Tensor:
    masks = {i: mask[0] for i, mask in network.masks(network.pattern(x[None])).items()}
    rows = [pull_back(network, masks, node, hot) for _, hot in one_hot_blocks(network, node, 1e5)]
    return row_norms(torch.cat(rows) * scale)


@pytest.mark.parametrize("limit", [2e9, 1e6])
def test_packed_norms_are_those_of_single_products(limit: float) -> None:
    geometry = Geometry(NETWORK, memory_limit=limit)
    packings = geometry.packings
    assert sum(p.products for p in packings.values()) < 0.5 * NETWORK.hidden_units
    distances = geometry.distances(X)
    start = 0
    for node in packings:
        size = math.prod(NETWORK.shape(node))
        values = dict(NETWORK.values(X[:1]))[node].flatten().abs()
        expected = values / one_by_one(NETWORK, X[0], node)
        torch.testing.assert_close(distances.nearest[0, start : start + size], expected, rtol=1e-10, atol=0.0)
        start += size


def test_a_scale_map_packs_and_a_matrix_does_not() -> None:
    scale = torch.rand(NETWORK.d, dtype=torch.float64, generator=GENERATOR)
    scale[::3] = 0.0
    diagonal, matrix = Geometry(NETWORK, scale), Geometry(NETWORK, torch.diag(scale))
    a, b = diagonal.distances(X), matrix.distances(X)
    torch.testing.assert_close(a.nearest, b.nearest, rtol=1e-10, atol=0.0)
    assert [p.owner is None for p in matrix.packings.values()] == [True, True]
    assert diagonal.packings[1].owner is not None


def test_fields_hold_every_input_that_a_unit_depends_on() -> None:
    for node in (1, 4):
        shape = NETWORK.shape(node)
        fields = receptive_fields(NETWORK, node, shape[0])
        masks = {i: torch.ones(NETWORK.shape(i)) for i in NETWORK.relus}
        for block, hot in one_hot_blocks(NETWORK, node, 1e9):
            seen = pull_back(NETWORK, masks, node, hot) != 0
            positions = torch.arange(block.start, block.stop) % len(fields)
            assert not (seen & ~fields[positions]).any()


def test_groups_do_not_overlap_and_hold_every_position_once() -> None:
    for node in (1, 4):
        packing = pack(NETWORK, node)
        fields = receptive_fields(NETWORK, node, packing.channels).to(torch.float64)
        assert (packing.members.sum(0) == 1).all()
        assert ((packing.members @ fields) <= 1).all()


def test_norms_survive_overflow_and_underflow_of_squares() -> None:
    rows = torch.tensor([[3e-200, 4e-200], [3e200, 4e200], [3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([5e-200, 5e200, 5.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(row_norms(rows), expected, rtol=1e-14, atol=0.0)
