"""The search for misclassified points: certain finds, never below rho_x, exact where the answer is known."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from calotte.adversary import Witness, nearest_misclassified
from calotte.errors import InvalidInput
from calotte.geometry import Geometry
from calotte.network.affine import Dense, Sum
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node, Relu
from calotte.network.random import random_network


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def residual(seed: int) -> Network:
    """Two branches that meet, argmin of three outputs: no chain."""
    g = generator(seed)
    first, second, out = (torch.randn(s, dtype=torch.float64, generator=g) for s in ((6, 4), (6, 6), (3, 6)))
    nodes = (
        Node("input", None),
        Node("a", Dense(first, torch.ones(6, dtype=torch.float64) / 4), (0,)),
        Node("relu_a", Relu((6,)), (1,)),
        Node("b", Dense(second), (2,)),
        Node("relu_b", Relu((6,)), (3,)),
        Node("sum", Sum((6,), (1, -1)), (4, 2)),
        Node("out", Dense(out), (5,)),
    )
    return Network(nodes, (4,), Decision("argmin", 3))


def linear(seed: int, d: int, classes: int) -> Network:
    weight, bias = normal(classes, d, seed=seed), normal(classes, seed=seed + 1)
    decision = Decision("argmax", classes) if classes > 1 else Decision("sign", 1)
    return Network((Node("input", None), Node("out", Dense(weight, bias), (0,))), (d,), decision)


NETWORKS = {
    "sign, deep": random_network((5, 12, 12, 1), generator(0)),
    "argmax, deep": random_network((30, 20, 20, 20, 4), generator(1)),
    "argmin, residual": residual(2),
}


def exact_outputs(network: Network, point: Tensor) -> list[Fraction]:
    """Outputs in rational arithmetic."""
    values: list[list[Fraction]] = []
    for node in network.nodes:
        if node.op is None:
            values.append([Fraction(v) for v in point.tolist()])
        elif isinstance(node.op, Relu):
            values.append([max(v, Fraction(0)) for v in values[node.inputs[0]]])
        elif isinstance(node.op, Sum):
            columns = zip(*(values[j] for j in node.inputs), strict=True)
            values.append([sum(s * v for s, v in zip(node.op.signs, column, strict=True)) for column in columns])
        else:
            assert isinstance(node.op, Dense)
            below = values[node.inputs[0]]
            bias = [0.0] * len(node.op.weight) if node.op.offset is None else node.op.offset.tolist()
            rows = zip(node.op.weight.tolist(), bias, strict=True)
            values.append(
                [sum(Fraction(w) * v for w, v in zip(r, below, strict=True)) + Fraction(b) for r, b in rows]
            )
    return values[-1]


def exact_answer(network: Network, point: Tensor) -> int:
    z = exact_outputs(network, point)
    if network.decision.rule == "sign":
        return int(z[0] > 0)
    return z.index(max(z) if network.decision.rule == "argmax" else min(z))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_witness_is_answered_differently_in_exact_arithmetic(name):
    network = NETWORKS[name]
    x = normal(6, network.d, seed=3)
    for row, witness in zip(x, nearest_misclassified(network, x), strict=True):
        assert isinstance(witness, Witness)
        assert exact_answer(network, witness.point) == witness.answer != exact_answer(network, row)
        squared = sum(
            (Fraction(a) - Fraction(b)) ** 2 for a, b in zip(witness.point.tolist(), row.tolist(), strict=True)
        )
        assert squared <= Fraction(witness.distance) ** 2 <= squared * Fraction(1 + 1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_witness_is_nearer_than_rho(name):
    network = NETWORKS[name]
    x = normal(60, network.d, seed=4)
    rho = Geometry(network).distances(x).rho
    found = nearest_misclassified(network, x)
    assert all(w is not None and w.distance >= r for w, r in zip(found, rho.tolist(), strict=True))


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_exact_for_a_linear_classifier(classes):
    network = linear(7, 9, classes)
    weight, bias = network.nodes[1].op.weight, network.nodes[1].op.offset
    x = normal(30, 9, seed=5)
    z = x @ weight.t() + bias
    for row, values, witness in zip(x, z, nearest_misclassified(network, x), strict=True):
        if classes == 1:
            nearest = (values.abs() / weight.norm()).item()
        else:
            y = int(values.argmax())
            gaps = [(values[y] - values[k]) / (weight[y] - weight[k]).norm() for k in range(classes) if k != y]
            nearest = min(gaps).item()
        assert witness.distance == pytest.approx(nearest, rel=1e-9)
        assert witness.distance >= nearest * (1 - 1e-12)
        assert int(network.predict(row[None])) != witness.answer


@pytest.mark.parametrize("widths", [(2, 8, 1), (2, 8, 8, 1), (2, 12, 12, 3)])
def test_close_to_brute_force_in_the_plane(widths):
    network = random_network(widths, generator(3))
    x = 2 * normal(20, 2, seed=1)
    angles = torch.linspace(0, 2 * math.pi, 481, dtype=torch.float64)[:-1]
    radii = torch.linspace(0, 6, 601, dtype=torch.float64)[1:]
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    ratios = []
    for row, witness in zip(x, nearest_misclassified(network, x), strict=True):
        points = (row + radii[:, None, None] * circle).reshape(-1, 2)
        wrong = (network.predict(points) != network.predict(row[None])).reshape(len(radii), -1).any(1)
        if wrong.any():
            assert witness is not None
            ratios.append(witness.distance / radii[int(wrong.to(torch.int64).argmax())].item())
    assert len(ratios) >= 10
    ratios.sort()
    assert ratios[int(0.9 * len(ratios))] < 1.01  # the grid itself is good to a percent
    assert ratios[-1] < 1.3


def test_none_where_the_answer_never_changes():
    weight = torch.zeros(1, 3, dtype=torch.float64)
    out = Dense(weight, torch.ones(1, dtype=torch.float64))
    network = Network((Node("input", None), Node("out", out, (0,))), (3,), Decision("sign", 1))
    assert nearest_misclassified(network, torch.ones(2, 3)) == [None, None]


def test_the_same_whatever_the_batch():
    network = NETWORKS["argmax, deep"]
    x = normal(5, network.d, seed=8)
    together = nearest_misclassified(network, x, seed=1)
    alone = nearest_misclassified(network, x[3], seed=1, index=[3])[0]
    assert together[3].distance == pytest.approx(alone.distance, rel=1e-9)
    assert together[3].answer == alone.answer


def test_bad_arguments_are_refused():
    network = NETWORKS["sign, deep"]
    with pytest.raises(InvalidInput, match="2 indices for 1 inputs"):
        nearest_misclassified(network, torch.zeros(1, 5), index=[0, 1])
    with pytest.raises(InvalidInput, match="NaN"):
        nearest_misclassified(network, torch.full((1, 5), math.nan))


def test_random_starts_only_help():
    network = NETWORKS["sign, deep"]
    x = normal(20, 5, seed=9)
    without, found = (nearest_misclassified(network, x, restarts=n) for n in (0, 16))
    assert all(b.distance <= a.distance * (1 + 1e-6) for a, b in zip(without, found, strict=True))
    assert any(b.distance < 0.99 * a.distance for a, b in zip(without, found, strict=True))
