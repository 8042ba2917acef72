"""Errors of float32: above what programs do that add up in any order, and not absurdly far above."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from calotte.network.affine import Dense, Diagonal
from calotte.network.clip import clipped
from calotte.network.float32 import Bounds, Float32Errors
from calotte.network.graph import Network
from calotte.network.normalise import normalised
from calotte.network.norms import spectral_norm

sys.path.insert(0, str(Path(__file__).parents[1]))
from exact import exact_values, matrix, randn
from float32_programs import PROGRAMS, executed
from zoo import convolutional, dense, gaussian_layers, points, random_dense, residual


def errors(network: Network, x: Tensor, radius: float) -> Bounds:
    """Of the outputs, for all noise of norm up to the radius."""
    length = torch.full((len(x),), radius, dtype=torch.float64)
    entries = torch.full((len(x), *network.input_shape), radius, dtype=torch.float64)
    found = Float32Errors(network, x, Bounds(entries, length))
    for relu in network.relus:
        found.settle(relu)
    return found.outputs()


def exact_outputs(network: Network, x: Tensor) -> np.ndarray:
    """In 60 digits, rounded once."""
    with mpmath.workdps(60):
        return np.array([[float(v) for v in exact_values(network, row)[-1]] for row in x])


def cancelling(seed: int) -> Network:
    """Rows whose terms cancel in pairs of very different size: float32 loses nearly all."""
    layers = gaussian_layers((6, 8, 8, 3), seed)
    for k, (weight, bias) in enumerate(layers):
        scale = 10.0 ** torch.randint(-3, 7, (len(weight), 1), generator=torch.Generator().manual_seed(seed + k))
        big = torch.round(scale * torch.ones_like(weight))
        big[:, 1::2] *= -1
        layers[k] = (weight + big, bias * scale[:, 0])
    return dense(*layers)


def tiny(seed: int) -> Network:
    """Weights and values where float32 underflows."""
    return dense(*((w * 1e-23, b * 1e-40) for w, b in gaussian_layers((5, 7, 3), seed)))


NETWORKS = {
    "dense": lambda seed: random_dense((6, 9, 7, 4), seed),
    "cancelling": cancelling,
    "tiny": tiny,
    "residual": lambda seed: residual(5, 3, seed),
    "convolution": lambda seed: convolutional(seed, channels=2, side=4),
    "normalised": lambda seed: normalised(random_dense((6, 9, 4), seed), 0.4914, 0.00247),
    "clipped": lambda seed: clipped(random_dense((6, 9, 4), seed), -0.3, 0.7),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_program_is_off_by_more(name: str) -> None:
    """Points within the radius, by float32 programs of all kinds, against 60 digits."""
    for seed in range(2):
        network = NETWORKS[name](seed)
        x, radius = points(1, network.d, seed), 0.3
        noise = randn(6, network.d, seed=seed)
        noisy = x + radius * noise / noise.norm(dim=1, keepdim=True) * torch.linspace(0.0, 1.0, 6)[:, None].double()
        true, bound = exact_outputs(network, noisy), errors(network, x, radius)
        worst = 0.0
        for k, program in enumerate(PROGRAMS):
            off = np.abs(executed(network, noisy, *program, seed=k) - true)
            assert (off <= bound.entries.numpy()).all(), program
            assert (np.linalg.norm(off, axis=1) <= bound.norm.numpy()).all(), program
            worst = max(worst, (off / bound.entries.numpy()).max())
        assert worst > 1e-4 or name in ("cancelling", "convolution"), "far above all that programs do"


def test_one_sum_of_many_terms_is_bounded_nearly_as_it_may_be() -> None:
    """A sum of equal terms, added one by one: the bound is at most some ten times what is lost."""
    n = 3000
    weight = torch.full((1, n), float(np.float32(1 / 3)), dtype=torch.float64)
    network = dense((torch.cat([weight, -weight]), None))
    x = torch.full((1, n), float(np.float32(0.7)), dtype=torch.float64)
    off = np.abs(executed(network, x, "forward", False, False) - network.forward(x).numpy()).max()
    bound = errors(network, x, 0.0).entries.max().item()
    assert off <= bound <= 20 * off


def test_units_that_are_off_for_certain_have_no_error() -> None:
    weight = torch.eye(2, dtype=torch.float64)
    network = dense((weight, [-5.0, 5.0]), ([[1e6, 0.0], [0.0, 1.0]], [0.0, 0.0]))
    bound = errors(network, torch.zeros(1, 2, dtype=torch.float64), 0.5).entries[0]
    assert bound[0] < 1e-30
    assert 1e-7 < bound[1] < 1e-5
    above = Float32Errors(
        network, torch.zeros(1, 2).double(), Bounds(torch.full((1, 2), 9.0).double(), torch.tensor([9.0]).double())
    )
    above.settle(network.relus[0], torch.tensor([[-1e-3, 9.0]], dtype=torch.float64))
    assert above.outputs().entries[0, 0] < 1e-30, "what is known of units is used"


def test_a_unit_that_only_float32_finds_active() -> None:
    """Negative by less than its error: rounding may open it, and what it is worth then counts."""
    size = 2.0**20
    first = [[1.0], [1.0]], [size, 8.0]
    second = [[1.0, -1.0], [-1.0, 1.0]], [8.0 - size - 2.0**-10, size - 8.0 - 2.0**-10]
    network = dense(first, second, ([[1e6, 0.0], [0.0, 1e6]], None))
    x = torch.tensor([[0.03]], dtype=torch.float64)
    assert (exact_outputs(network, x) == 0).all()
    worst = np.max([executed(network, x, *program) for program in PROGRAMS], axis=0)
    assert worst.max() > 1e4
    assert (worst <= errors(network, x, 0.0).entries.numpy()).all()


@pytest.mark.parametrize(
    "layers",
    [
        [(torch.full((2, 2), 1e38), None), (torch.eye(2), None)],
        [(torch.eye(2) * 1e30, None), (torch.eye(2) * 1e30, None)],
        [(torch.eye(2), [3.4028235e38, 3.4028235e38]), (torch.eye(2), None)],
        [(torch.eye(2) * 1e39, None), (torch.eye(2) * 1e-39, None)],
    ],
)
def test_where_float32_may_overflow_nothing_is_known(layers: list[tuple[Tensor, object]]) -> None:
    network = dense(*((w.double(), b) for w, b in layers))
    bound = errors(network, torch.ones(1, 2, dtype=torch.float64), 1.0)
    assert bound.entries.isinf().all()
    assert bound.norm.isinf().all()


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (40, 40), (7, 300), (300, 7)])
def test_spectral_norms(shape: tuple[int, int]) -> None:
    for scale in (1.0, 1e-200, 1e200):
        m = randn(*shape, seed=3) * scale
        true = torch.linalg.svdvals(m / scale)[0].item() * scale
        assert true * (1 - 1e-12) <= spectral_norm(m) <= 1.06 * true
    one = torch.outer(torch.ones(shape[0]), torch.ones(shape[1])).double()
    assert math.sqrt(shape[0] * shape[1]) <= spectral_norm(one) <= math.sqrt(shape[0] * shape[1]) * (1 + 1e-9)
    assert spectral_norm(torch.zeros(shape, dtype=torch.float64)) == 0.0


def test_norms_of_maps() -> None:
    """Above those of their matrices, for every kind of map."""
    ops = [
        node.op for net in (convolutional(0), residual(5, 3, 0)) for node in net.nodes if hasattr(node.op, "linear")
    ]
    ops += [Diagonal((4,), randn(4), None, divide=True), Dense(randn(4, 6))]
    for op in ops:
        whole = torch.cat([matrix(op, k) for k in range(len(op.input_shapes))], 1)
        assert torch.linalg.svdvals(whole)[0] <= op.norm * (1 + 1e-12)
