"""Affine maps: adjoints, the rounding contract, and enclosures of whole networks, against exact arithmetic."""

import mpmath
import numpy as np
import pytest
import torch
from exact import assert_enclosed, exact_matrix, exact_values, matrix, randn

from calotte.network import convolution as module
from calotte.network.affine import Dense, Diagonal, Inexact, Reshape, Sum
from calotte.network.convolution import TRANSPOSE, Convolution, TransposedConvolution, transposed
from calotte.network.decision import Decision
from calotte.network.enclosure import evaluate
from calotte.network.graph import Network, Node, Relu
from calotte.network.random import random_network
from calotte.network.rearrange import Concatenation, Select
from calotte.network.reduction import AxisSum
from calotte.rounding import gamma


def convolution(kernel, shape, bias=None, stride=None, padding=None, dilation=None, groups=1):
    rank = kernel.ndim - 2
    return Convolution(
        kernel,
        bias,
        shape,
        stride=stride or (1,) * rank,
        padding=padding or ((1, 1),) * rank,
        dilation=dilation or (1,) * rank,
        groups=groups,
    )


MAPS = {
    "dense": Dense(randn(3, 5), randn(3)),
    "dense, wild": Dense(randn(3, 5, wild=True), randn(3, wild=True)),
    "dense, leading": Dense(randn(3, 5), randn(3), leading=(2, 4)),
    "shift": Diagonal((2, 3), None, randn(2, 1), terms=1),
    "scale": Diagonal((2, 3), randn(2, 3), randn(3)),
    "divide": Diagonal((2, 3), randn(3), randn(2, 3), divide=True),
    "inexact": Inexact(Dense(randn(3, 5), randn(3)), 2),
    "reshape": Reshape((2, 3), (3, 2)),
    "sum": Sum((2, 3), (1, -1, 1)),
    "select": Select((2, 3), np.array([[5, 0], [2, 4]])),
    "select, with zeros": Select((2, 3), np.array([5, -1, 2, -1])),
    "select, repeated": Select((2, 3), np.array([[5, -1, 2], [5, 0, 5]])),
    "concatenation": Concatenation(((2,), (1, 3)), (5,)),
    "axis sum": AxisSum((2, 3, 4), (0, 2)),
    "convolution": convolution(randn(4, 3, 2, 3), (3, 4, 5)),
    "convolution, bias": convolution(randn(4, 3, 2, 3), (3, 4, 5), randn(4)),
    "convolution, uneven": convolution(
        randn(4, 1, 2, 3, wild=True), (2, 4, 7), randn(4), (2, 3), ((0, 1), (2, 0)), (2, 1), 2
    ),
    "convolution, many channels": convolution(
        randn(9, 8, 2, 3, wild=True), (8, 4, 3), randn(9), padding=((1, 1), (2, 2))
    ),
    "convolution, 1-D": convolution(randn(4, 3, 2), (3, 6), None, (2,), ((1, 1),), (3,)),
    "transposed": TransposedConvolution(
        convolution(randn(3, 2, 2, 3), (2, 6, 7), None, (2, 3), ((1, 1), (0, 0))), randn(2)
    ),
    "transposed, groups": TransposedConvolution(
        convolution(randn(4, 1, 3, wild=True), (2, 8), None, (2,), ((0, 1),), (1,), 2), None
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_adjoint(name):
    op = MAPS[name]
    xs = [randn(4, *shape, seed=i) for i, shape in enumerate(op.input_shapes)]
    y = randn(4, *op.output_shape, seed=9)
    left = (op.linear(*xs) * y).flatten(1).sum(1)
    right = sum((x * a).flatten(1).sum(1) for x, a in zip(xs, op.adjoint(y), strict=True))
    scale = (op.absolute.linear(*(x.abs() for x in xs)) * y.abs()).flatten(1).sum(1)
    assert ((left - right).abs() <= 1e-12 * scale).all()


@pytest.mark.parametrize("name", MAPS)
def test_absolute_and_support_have_the_right_coefficients(name):
    op = MAPS[name]
    for i in range(len(op.input_shapes)):
        a = matrix(op, i)
        assert torch.allclose(
            matrix(op.with_coefficients(lambda w: w.clamp_min(0.0)), i), a.clamp_min(0.0), rtol=1e-14
        )
        assert torch.allclose(matrix(op.absolute, i), a.abs(), rtol=1e-14, atol=0)
        assert torch.equal(matrix(op.support, i), (a != 0).double())


@pytest.mark.parametrize("name", MAPS)
def test_rounding_contract(name):
    """Against 60 digits: the computed map, its absolute and its adjoint are as accurate as `terms` says."""
    op = MAPS[name]
    xs = [randn(1, *shape, seed=i, wild=True) for i, shape in enumerate(op.input_shapes)]
    y = randn(1, *op.output_shape, seed=9, wild=True)
    with mpmath.workdps(60):
        matrices = [exact_matrix(op, i) for i in range(len(xs))]
        offset = [mpmath.mpf(0)] * y.numel()
        if op.offset is not None:
            offset = [mpmath.mpf(v) for v in op.offset.expand(op.output_shape).reshape(-1).tolist()]
        got, absolute = op(*xs).reshape(-1).tolist(), op.absolute.linear(*(x.abs() for x in xs)).reshape(-1).tolist()
        flat = [x.reshape(-1).tolist() for x in xs]
        for j in range(y.numel()):
            parts = [a[j][k] * mpmath.mpf(v) for a, x in zip(matrices, flat, strict=True) for k, v in enumerate(x)]
            magnitude = mpmath.fsum(abs(p) for p in parts)
            slack = gamma(op.terms) * (magnitude + abs(offset[j]))
            assert abs(got[j] - (mpmath.fsum(parts) + offset[j])) <= slack
            assert abs(absolute[j] - magnitude) <= gamma(max(op.terms, op.absolute.terms)) * magnitude
        for a, back in zip(matrices, op.adjoint(y), strict=True):
            for k, v in enumerate(back.reshape(-1).tolist()):
                parts = [a[j][k] * mpmath.mpf(u) for j, u in enumerate(y.reshape(-1).tolist())]
                magnitude = mpmath.fsum(abs(p) for p in parts)
                assert abs(v - mpmath.fsum(parts)) <= gamma(op.adjoint_terms) * magnitude


@pytest.mark.parametrize("size", [(1, 2), (3, 3), (4, 2), (5, 5)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 1), (3, 4), (5, 0)])
def test_transposes_by_shifts_are_those_by_scattering(size, padding, monkeypatch):
    """Whatever the padding, beyond the kernel's size too, and however many images are a block."""
    monkeypatch.setattr(module, "_MIXED", 1)
    scattered = TRANSPOSE[2]
    monkeypatch.setitem(TRANSPOSE, 2, None)
    op = convolution(randn(4, 3, *size), (3, 7, 6), padding=[(n, n) for n in padding])
    y, window = randn(5, *op.output_shape, seed=1), randn(5, 4, 3, 2, seed=2)
    for block in (1, 700, 2**17):
        monkeypatch.setattr(module, "_BLOCK", block)
        right = scattered(y, op.kernel, None, 1, padding)
        torch.testing.assert_close(op.adjoint(y)[0], right, rtol=1e-13, atol=1e-13)
        right = scattered(window, op.kernel)
        torch.testing.assert_close(transposed(op, window, [0, 0], [0, 0]), right, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("size", [(1, 2), (3, 3), (4, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 2)])
def test_transposes_of_kernels_of_each_channel_are_those_by_scattering(size, stride, monkeypatch):
    """Where the stride leaves a rest of the image too."""
    scattered = TRANSPOSE[2]
    monkeypatch.setitem(TRANSPOSE, 2, None)
    for low, high in ((0, 0), (1, 1), (0, 2)):
        op = convolution(randn(3, 1, *size), (3, 7, 6), stride=list(stride), padding=[(low, high)] * 2, groups=3)
        y, window = randn(5, *op.output_shape, seed=1), randn(5, 3, 3, 2, seed=2)
        right = scattered(y, op.kernel, None, stride, 0, op.rest, 3)[:, :, low : low + 7, low : low + 6]
        torch.testing.assert_close(op.adjoint(y)[0], right, rtol=1e-13, atol=1e-13)
        right = scattered(window, op.kernel, None, stride, groups=3)
        torch.testing.assert_close(transposed(op, window, [0, 0], [0, 0]), right, rtol=1e-13, atol=1e-13)


def normalised(network, mean, scale):
    """The network behind (x - mean) / scale."""
    shape = network.input_shape
    first = [
        Node("input", None),
        Node("shift", Diagonal(shape, None, -mean, terms=1), (0,)),
        Node("scale", Diagonal(shape, scale, torch.zeros(shape, dtype=torch.float64), divide=True), (1,)),
    ]
    rest = [Node(n.name, n.op, tuple(j + 2 for j in n.inputs)) for n in network.nodes[1:]]
    return Network((*first, *rest), shape, network.decision)


@pytest.mark.parametrize("widths", [(3, 4, 2), (6, 20, 20, 20, 3), (2, 5, 1)])
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e9])
def test_enclosures_hold_the_exact_values(widths, scale):
    network = random_network(widths, torch.Generator().manual_seed(1))
    network = normalised(network, randn(widths[0]), randn(widths[0]))
    x = randn(5, widths[0], seed=3) * scale
    for masks in (None, network.masks(network.pattern(x))):
        enclosed = evaluate(network, x, masks)
        with mpmath.workdps(60):
            for b in range(len(x)):
                assert_enclosed(enclosed, exact_values(network, x[b]), b)


def test_exact_zeros_stay_exact():
    """A unit whose inputs are all dead has no error, whatever its weights."""
    nodes = (
        Node("input", None),
        Node("dead", Dense(torch.tensor([[1.0], [2.0]]).double(), torch.tensor([-9.0, -9.0]).double()), (0,)),
        Node("relu", Relu((2,)), (1,)),
        Node("last", Dense(torch.tensor([[0.1, 0.3]]).double(), torch.tensor([0.75]).double()), (2,)),
    )
    network = Network(nodes, (1,), Decision("sign", 1))
    out = evaluate(network, torch.tensor([[0.3]], dtype=torch.float64))[-1]
    assert (out.value.item(), out.error.item()) == (0.75, 0.0)
