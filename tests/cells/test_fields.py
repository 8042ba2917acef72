"""Receptive fields: no input that a unit depends on is outside of its box, whatever the maps on the way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from calotte.cells.fields import receptive_fields
from calotte.network.affine import Affine, Dense, Diagonal, Inexact, Reshape, Shape, Sum
from calotte.network.convolution import Convolution, TransposedConvolution
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node
from calotte.network.rearrange import Concatenation, Select
from calotte.network.reduction import AxisSum


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.float64)


def convolution(shape: Shape, out: int, size: Shape, stride=1, pad=(0, 0), dilation=1, groups=1) -> Convolution:
    rank = len(size)
    return Convolution(
        ones(out, shape[0] // groups, *size),
        None,
        shape,
        stride=(stride,) * rank,
        padding=[pad] * rank,
        dilation=(dilation,) * rank,
        groups=groups,
    )


def unfold(op: Convolution) -> TransposedConvolution:
    return TransposedConvolution(op, None)


class Reversal(Affine):
    """A map that the fields know nothing of."""

    def __init__(self, n: int) -> None:
        self.input_shapes, self.output_shape, self.offset, self.terms, self.adjoint_terms = ((n,),), (n,), None, 0, 0

    def linear(self, *xs):
        return xs[0].flip(1)

    def adjoint(self, y):
        return (y.flip(1),)

    def with_coefficients(self, f):
        return self


CHANNELS = np.arange(4 * 6 * 5).reshape(4, 6, 5)
EDGES = np.where(CHANNELS % 5 == 4, -1, CHANNELS + 1)  # shifted along an axis, zeros come in
MIXED = np.random.default_rng(0).permutation(4 * 6 * 5).reshape(4, 6, 5)
IMAGE = (4, 6, 5)
# name -> (steps after the first convolution, each an operation and what it reads: 0 the input, 1 the convolution,
# and so on; whether boxes are as small as they can be)
CASES = {
    "nothing else": ([], True),
    "strided": ([(convolution(IMAGE, 3, (3, 3), 2, (1, 1)), (1,))], True),
    "uneven padding": ([(convolution(IMAGE, 3, (2, 3), 1, (0, 2)), (1,))], True),
    "padding beyond the kernel": ([(convolution(IMAGE, 3, (2, 1), 1, (3, 3)), (1,))], True),
    "dilated": ([(convolution(IMAGE, 3, (2, 2), 1, (1, 1), dilation=3), (1,))], False),
    "groups": ([(convolution(IMAGE, 8, (1, 3), 1, (0, 0), groups=2), (1,))], True),
    "groups, two deep": (
        [
            (convolution(IMAGE, 8, (1, 3), 1, (0, 0), groups=4), (1,)),
            (convolution((8, 6, 3), 4, (1, 1), groups=2), (2,)),
        ],
        True,
    ),
    "transposed": ([(unfold(convolution((2, 13, 11), 4, (3, 3), 2)), (1,))], True),
    "transposed, padded, dilated": ([(unfold(convolution((6, 11, 9), 4, (2, 2), 2, (1, 1), 2, 2)), (1,))], True),
    "branches": ([(Sum(IMAGE, (1, -1)), (0, 1))], True),
    "scaled": ([(Diagonal(IMAGE, ones(5), None), (1,))], True),
    "shift in all channels": ([(Select(IMAGE, EDGES), (1,))], True),
    "one channel": ([(Select(IMAGE, EDGES[2]), (1,))], True),
    "permuted entries": ([(Select(IMAGE, MIXED), (1,))], True),
    "all zero": ([(Select(IMAGE, np.full((2, 3), -1)), (1,)), (Dense(ones(2, 3), leading=(2,)), (2,))], True),
    "concatenated": ([(Concatenation((IMAGE, IMAGE), (8, 6, 5)), (1, 0))], True),
    "rows of a matrix": ([(Dense(ones(2, 5), leading=(4, 6)), (1,))], True),
    "flat, dense": ([(Reshape(IMAGE, (120,)), (1,)), (Dense(ones(3, 120)), (2,))], True),
    "cut anew": ([(Reshape(IMAGE, (8, 15)), (1,)), (Dense(ones(2, 15), leading=(8,)), (2,))], True),
    "summed over an axis": ([(AxisSum(IMAGE, (1,)), (1,))], True),
    "summed over two": ([(AxisSum(IMAGE, (1, 2)), (1,))], True),
    "with inexact coefficients": ([(Inexact(convolution(IMAGE, 3, (3, 3), 2, (1, 1)), 2), (1,))], True),
    "unknown": ([(Reshape(IMAGE, (120,)), (1,)), (Reversal(120), (2,))], False),
}


def depends(network: Network) -> dict[int, torch.Tensor]:
    """For every node the inputs that each entry depends on, by one product for each input: bool (d, *shape)."""
    found = {0: torch.eye(network.d, dtype=torch.float64).reshape(-1, *network.input_shape)}
    for i, node in enumerate(network.nodes[1:], start=1):
        found[i] = (node.op.support.linear(*(found[j] for j in node.inputs)) != 0).to(torch.float64)
    return {i: marks > 0 for i, marks in found.items()}


@pytest.mark.parametrize("name", CASES)
def test_every_input_that_a_unit_depends_on_is_in_its_box(name: str) -> None:
    steps, tight = CASES[name]
    steps = [(convolution((4, 7, 6), 4, (2, 2), groups=4), (0,)), *steps]
    if any(0 in reads for _, reads in steps[1:]):  # where the input is read again it has the shape of the image
        steps[0] = (convolution(IMAGE, 4, (3, 3), 1, (1, 1)), (0,))
    nodes = [Node("x", None), *(Node(f"n{i}", op, reads) for i, (op, reads) in enumerate(steps, 1))]
    last = steps[-1][0].output_shape
    network = Network(tuple(nodes), steps[0][0].input_shapes[0], Decision("argmax", max(math.prod(last), 2)))
    fields = receptive_fields(network)
    axes = torch.stack(torch.meshgrid(*map(torch.arange, network.input_shape), indexing="ij")).flatten(1)
    for i, marks in depends(network).items():
        low, high = (t.expand(3, *network.shape(i)).flatten(1) for t in (fields[i].low, fields[i].high))
        for unit, mark in enumerate(marks.flatten(1).t()):
            if not mark.any():
                continue
            seen = axes[:, mark]
            assert (low[:, unit] <= seen.amin(1)).all()
            assert (high[:, unit] >= seen.amax(1)).all()
            if tight:
                assert torch.equal(low[:, unit].long(), seen.amin(1))
                assert torch.equal(high[:, unit].long(), seen.amax(1))
        extents = (high - low + 1).amax(1).clamp_min(1)
        assert fields[i].widths == tuple(int(extent) for extent in extents)


def test_fields_of_channels_alike_are_stored_once() -> None:
    """Also behind a selection that does the same in each of them, as the pairs of a max-pool do."""
    fields = receptive_fields(
        Network(
            (
                Node("x", None),
                Node("a", convolution((2, 6, 5), 4, (3, 3), 1, (1, 1)), (0,)),
                Node("b", Select(IMAGE, EDGES), (1,)),
                Node("c", Select(IMAGE, MIXED), (2,)),
            ),
            (2, 6, 5),
            Decision("argmax", 120),
        )
    )
    assert [tuple(fields[i].low.shape) for i in (1, 2, 3)] == [(3, 1, 6, 5), (3, 1, 6, 5), (3, *IMAGE)]
