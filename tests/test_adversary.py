"""The search for misclassified points: certain finds, never below rho_x, exact where the answer is known."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from calotte.adversary import Witness, nearest_misclassified
from calotte.assess import assess
from calotte.cells.hyperplanes import Hyperplanes
from calotte.models.onnx import load
from calotte.models.torch import from_torch
from calotte.network.affine import Dense, Sum
from calotte.network.clip import clipped
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node, Original, Relu
from calotte.network.random import random_network
from calotte.noise import Sphere


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
    rho = Hyperplanes(network).distances(x).rho
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


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_bits_whatever_the_batch(name):
    network = NETWORKS[name]
    x = normal(30, network.d, seed=8)
    together = nearest_misclassified(network, x, seed=1)
    alone = [nearest_misclassified(network, x[i], seed=1, index=[i])[0] for i in range(30)]
    assert sum(one is not None for one in alone) >= 25
    for a, b in zip(together, alone, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.distance, a.answer) == (b.distance, b.answer)
            assert torch.equal(a.point, b.point)


def test_less_memory_finds_the_same_up_to_last_digits(monkeypatch) -> None:
    network, rows = NETWORKS["argmax, deep"], []
    x, real = normal(6, network.d, seed=8), Network.forward

    def watched(self, x, start=0):
        rows.append(len(x))
        return real(self, x, start)

    whole = nearest_misclassified(network, x)
    monkeypatch.setattr(Network, "forward", watched)
    parts = nearest_misclassified(network, x, memory_limit=8000.0)
    assert max(rows) < 4
    for a, b in zip(whole, parts, strict=True):
        assert a.distance == pytest.approx(b.distance, rel=1e-3)


def test_the_adversarial_distance_is_never_below_the_certified_radius(data) -> None:
    """On 360 inputs of small random networks, clipped and mapped ones too, and images of real ones."""
    close = found = 0
    networks = [random_network((6, 10, 10, 3), generator(s)) for s in range(6)]
    networks += [random_network((3, 8, 1), generator(s)) for s in range(3)]
    networks += [clipped(random_network((4, 9, 3), generator(9)), -1.0, 1.0), residual(2), linear(7, 9, 3)]
    for k, network in enumerate(networks):
        x, noise = normal(30, network.d, seed=k), Sphere(0.1)
        if k % 2:
            noise = Sphere(0.1, torch.linspace(0, 2, network.d, dtype=torch.float64))
        for rungs, rows in ((["cell"], x[4:]), (["relaxation"], x[:4])):
            for one in assess(network, rows, noise, rungs=rungs):
                if one.witness is not None:
                    found += 1
                    assert one.to_dict()["adversarial_distance"] == one.witness.distance >= one.certified_radius
                    close += one.witness.distance < 1.2 * one.certified_radius
    for depth in (2, 4, 6):
        network = load(data / "mnistfc" / f"mnist-net_256x{depth}.onnx")
        raw = gzip.decompress((data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
        images = np.frombuffer(raw, np.uint8, 4 * 784, 16).reshape(4, 784) / 255.0
        for one in assess(network, images, Sphere(0.1), rungs=["relaxation"]):
            found += one.witness is not None
            assert one.witness is None or one.witness.distance >= one.certified_radius
    assert found > 330
    assert close > 40  # the test has teeth: many radii would fail it if they were a fifth larger


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_original_model_confirms(dtype) -> None:
    """A witness is one point for both: a number of the module's type, answered otherwise by the module itself."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(7, 12), torch.nn.ReLU(), torch.nn.Linear(12, 4)).to(dtype).eval()
    network = from_torch(module, (7,))
    x = 3 * normal(40, 7, seed=1)
    for row, witness in zip(x, nearest_misclassified(network, x), strict=True):
        assert witness is not None
        assert (witness.point.to(dtype).to(torch.float64) == witness.point).all()
        own = int(module(witness.point.to(dtype)[None]).argmax())
        assert own == witness.original != int(network.predict(row[None]))
        assert exact_answer(network, witness.point) == witness.answer


def test_what_the_original_model_denies_is_no_witness() -> None:
    """An original that always says 1: points answered 0 by the network are no witnesses for inputs answered 1."""
    network = linear(7, 9, 1)
    x = normal(20, 9, seed=5)
    constant = Original(lambda points: torch.ones(len(points), dtype=torch.int64), torch.float32, "a constant")
    found = nearest_misclassified(replace(network, original=constant), x)
    answers = network.predict(x).tolist()
    assert {0, 1} == set(answers)
    assert [w is None for w in found] == [answer == 1 for answer in answers]
    for one in found:
        assert one is None or (one.point.to(torch.float32).to(torch.float64) == one.point).all()


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (0.0, None), (None, 0.3)])
def test_within_a_range(low, high) -> None:
    """Witnesses stay in the range; for a linear classifier they are the nearest there, by bisection on its dual."""
    network = linear(7, 9, 1)
    weight, bias = network.nodes[1].op.weight[0].numpy(), network.nodes[1].op.offset.item()
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    x = (0.3 * normal(40, 9, seed=5)).clamp(least, most)
    bounded = 0
    for row, witness in zip(x.numpy(), nearest_misclassified(network, x, low=low, high=high), strict=True):
        side = 1.0 if row @ weight + bias > 0 else -1.0
        farthest = np.where(side * weight > 0, max(least, -1e6), min(most, 1e6))
        if side * (farthest @ weight + bias) >= 0:
            assert witness is None
            continue
        a, b = 0.0, 1e7
        for _ in range(200):
            t = (a + b) / 2
            a, b = (t, b) if side * (np.clip(row - t * side * weight, least, most) @ weight + bias) > 0 else (a, t)
        nearest = np.linalg.norm(np.clip(row - b * side * weight, least, most) - row)
        plain = abs(row @ weight + bias) / np.linalg.norm(weight)
        assert witness is not None
        assert ((witness.point >= least) & (witness.point <= most)).all()
        assert nearest * (1 - 1e-9) <= witness.distance <= nearest * (1 + 1e-6)
        bounded += nearest > 1.01 * plain
    assert bounded >= 2


def test_clipping_gives_witnesses_of_the_clipped_network() -> None:
    inner = random_network((5, 12, 3), generator(5))
    network, x = clipped(inner, -0.5, 0.5), normal(30, 5, seed=6)
    outside = (x.abs() > 0.5).any(1)
    assert outside.any()
    found = nearest_misclassified(network, x)
    assert sum(w is not None for w in found) > 20
    for row, witness in zip(x, found, strict=True):
        if witness is not None:
            seen = witness.point.clamp(-0.5, 0.5)
            assert exact_answer(inner, seen) != exact_answer(inner, row.clamp(-0.5, 0.5))
            assert (witness.point - row).norm() <= witness.distance
            beyond = row.abs() > 0.5
            assert (witness.point[beyond].abs() <= row[beyond].abs()).all()


def test_random_starts_help() -> None:
    network = NETWORKS["sign, deep"]
    x = normal(20, 5, seed=9)
    without, found = (nearest_misclassified(network, x, restarts=n) for n in (0, 18))
    ratios = sorted(b.distance / a.distance for a, b in zip(without, found, strict=True))
    assert ratios[-2] <= 1 + 1e-4
    assert ratios[0] < 0.99
