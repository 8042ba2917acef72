"""Contradictions: false bounds and radii are caught and can be seen again; true ones and rounding never accuse."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from shell import run
from zoo import dense, points, random_dense

from calotte.assess import assess
from calotte.bound import Bound, ProvedRung
from calotte.cells.hyperplanes import Hyperplanes
from calotte.errors import Contradiction
from calotte.ladder import PROVED_RUNGS
from calotte.lower import LowerBound
from calotte.models.onnx import load
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.query import Query
from calotte.sampling.contradiction import LEVEL, binomial_tail, check_samples
from calotte.sampling.monte_carlo import SAMPLING
from calotte.settings import Settings

MODULE = sys.modules["calotte.assess"]  # the package has a function of that name


@dataclass(frozen=True)
class Mutant(ProvedRung):
    """A rung that claims p <= exp(log_p) of every input, or of input `only`."""

    log_p: float = 0.0
    only: int | None = None

    def log_bound(self, query: Query, sizes: torch.Tensor) -> torch.Tensor:
        logs = torch.full((len(query.x),), self.log_p, dtype=torch.float64)
        if self.only is not None:
            logs[torch.tensor(query.index) != self.only] = 0.0
        return logs


def mutant(log_p: float, only: int | None = None) -> ProvedRung:
    return Mutant("concentration", "nothing", "nowhere", log_p=log_p, only=only)


def with_mutant(monkeypatch: pytest.MonkeyPatch, log_p: float, only: int | None = None) -> None:
    rungs = {"cell": PROVED_RUNGS["cell"], "concentration": mutant(log_p, only), "sampling": SAMPLING}
    monkeypatch.setattr(MODULE, "RUNGS", rungs)


@pytest.mark.parametrize("p", [0.3, 1e-3, 1e-7])
@pytest.mark.parametrize("n", [1, 50, 3000])
def test_binomial_tail_against_its_sum(n: int, p: float) -> None:
    with mpmath.workdps(40):
        q = mpmath.mpf(p)
        for k in sorted({0, 1, 2, 10, n // 2, n} & set(range(n + 1))):
            below = sum((mpmath.binomial(n, j) * q**j * (1 - q) ** (n - j) for j in range(k)), mpmath.mpf(0))
            if 1 - below > 1e-25:
                assert binomial_tail(k, n, math.log(p)) == pytest.approx(float(1 - below), rel=1e-9)
    assert binomial_tail(0, n, -math.inf) == 1.0
    assert binomial_tail(1, n, -math.inf) == 0.0
    assert binomial_tail(1, n, -1e4) == 0.0


@pytest.mark.parametrize("noise", [Sphere(1.5), Ball(2.0), Gaussian(0.5), Sphere(1.0, torch.tensor([2.0, 0.0, 1.0]))])
@pytest.mark.parametrize("log_p", [-math.inf, -200.0, math.log(1e-3)])
def test_samples_catch_a_false_bound(monkeypatch: pytest.MonkeyPatch, noise: Noise, log_p: float) -> None:
    """x_1 >= 0.6 is misclassified: p is a few percent at least, and the mutant says less."""
    net = dense(([[-2.0, 0.0, 0.0]], [1.2]))
    with_mutant(monkeypatch, log_p)
    noise = noise if noise.map is None else replace(noise, map=noise.map.double())
    with pytest.raises(
        Contradiction, match=r"input 4: rung 'concentration' proves p <= .* of 2000 samples"
    ) as caught:
        assess(net, torch.zeros(1, 3), noise, index=[4], settings=Settings(samples=2000, seed=7, search=False))
    found = caught.value.evidence
    assert caught.value.index == found["index"] == 4
    assert (found["seed"], found["noise"], found["size"], found["samples"]) == (7, noise.kind, noise.size, 2000)
    assert found["witness"][0] > 0.6
    assert ("map" in found) == (noise.map is not None)
    # both counts can be seen again, and are what p makes likely
    again = assess(net, torch.zeros(1, 3), noise, index=[4], rungs=["sampling"], settings=Settings(2000, seed=7))
    assert again[0].bounds[0].misclassified == found["misclassified"]


def test_true_bounds_are_not_accused() -> None:
    """The exact p as the bound, 300 times: a level of 1e-9 leaves no room for one false alarm."""
    net, noise = dense(([[-2.0, 0.0, 0.0]], [1.2])), Sphere(1.5)
    p = math.exp(noise.log_tail(torch.tensor([0.6], dtype=torch.float64), 3).item())
    n = 1000
    rejected = 0
    for index in range(300):
        query = Query(Hyperplanes(net), torch.zeros(1, 3).double(), [index], noise, Settings(samples=n))
        sampled = SAMPLING.bound(query)[0]
        check_samples(query, 0, [Bound("exact", "proved", math.log(p)), sampled])
        rejected += binomial_tail(sampled.misclassified, n, math.log(p)) < 0.05
    assert 1 <= rejected <= 300 * 0.05 + 4 * math.sqrt(300 * 0.05 * 0.95)  # the tail is one, and it is exact
    assert LEVEL == 1e-9


def test_rounding_does_not_accuse() -> None:
    """(c x + 1) - c x with c = 1e17 is 1 for x > 0, and 0 in float64: every draw looks misclassified, none is."""
    net = dense(([[1e17], [1e17]], [1.0, 0.0]), ([[1.0, -1.0]], None))
    x = torch.tensor([[1.0]]).double()
    query = Query(Hyperplanes(net), x, [0], Ball(0.5), Settings(samples=500))
    query.known["predicted"] = torch.tensor([1])  # as it is in exact arithmetic
    sampled = SAMPLING.bound(query)[0]
    assert sampled.misclassified == 500
    check_samples(query, 0, [Bound("exact", "proved", -math.inf), sampled])


def test_a_witness_catches_a_false_radius(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = random_dense((6, 8, 3), 1), points(3, 6, 2)
    honest = assess(net, x, Sphere(0.1), rungs=["relaxation"], index=[7, 8, 9])
    assert all(one.witness is not None and one.witness.distance >= one.certified_radius for one in honest)

    def larger(behind, _):
        k = behind.index[0] - 7
        return torch.tensor([honest[k].witness.distance * (1 + 1e-9 * (k == 1))], dtype=torch.float64)

    monkeypatch.setattr(MODULE, "relaxed_radius", larger)
    with pytest.raises(Contradiction, match=r"input 8: rung 'relaxation' certifies") as caught:
        assess(net, x, Sphere(0.1), rungs=["relaxation"], index=[7, 8, 9])
    found = caught.value.evidence
    assert np.linalg.norm(found["witness"] - found["x"]) <= found["distance"] < found["certified_radius"]
    changed = net.predict(torch.from_numpy(found["witness"])[None])
    assert int(changed) == found["answer"] != found["predicted"]


def test_the_command_goes_on_and_ends_with_status_1(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """The other inputs have results, one line names both sides, and the file brings the misclassified point back."""
    with_mutant(monkeypatch, -300.0, only=2)
    line = "assess net.onnx in.npz --eps 2 --json --samples 3000 --seed 5"
    for folder, option in ((here, ""), (here / "res", " --out res")):
        status, out, err = run(capsys, monkeypatch, line + option)
        assert status == 1
        lines = [json.loads(text) for text in out.splitlines()]
        assert [found["index"] for found in lines] == list(range(7))
        assert [found["index"] for found in lines if found.get("failed") == "contradiction"] == [2]
        told = [text for text in err.splitlines() if text.startswith("calotte: ")]
        assert len(told) == 1
        assert all(
            word in told[0] for word in ("contradiction", "input 2", "rung 'concentration'", "samples", ".npz")
        )
        assert "Traceback" not in err
        with np.load(folder / "contradiction-2.npz") as saved:
            network = load(here / "net.onnx")
            assert str(saved["model_sha256"]) == network.sha256
            assert (saved["noise"], saved["size"], saved["seed"]) == ("sphere", 2.0, 5)
            assert np.linalg.norm(saved["witness"] - saved["x"]) == pytest.approx(2.0, rel=1e-12)
            assert int(network.predict(torch.from_numpy(saved["witness"])[None])) != saved["predicted"]
            assert saved["x"] == pytest.approx(np.load(here / "in.npz")["x"][2])
    for name, numbers in (("assessments.jsonl", [0, 1, 3, 4, 5, 6]), ("failures.jsonl", [2])):
        assert [json.loads(t)["index"] for t in (here / "res" / name).read_text().splitlines()] == numbers


def test_a_lower_bound_above_an_upper_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """p = P(g > 0.1) = 0.46, which `relaxation` says from below; a rung that claims p <= 0.45 cannot be right."""
    net, x = dense(([[1.0, 0.0]], [0.1])), torch.zeros(1, 2).double()
    for log_p in (math.log(0.45), math.log(0.47)):
        rungs = {"relaxation": PROVED_RUNGS["relaxation"], "concentration": mutant(log_p)}
        monkeypatch.setattr(MODULE, "RUNGS", rungs)
        if log_p > math.log(0.46):
            assert assess(net, x, Gaussian(1.0), settings=Settings(search=False))[0].best_lower is not None
            continue
        with pytest.raises(
            Contradiction, match=r"'relaxation' proves p >= 0\.46.*'concentration' p <= 0\.45"
        ) as found:
            assess(net, x, Gaussian(1.0), settings=Settings(search=False))
        assert found.value.evidence["lower_rung"] == "relaxation"
        assert found.value.evidence["rung"] == "concentration"


@dataclass(frozen=True)
class MutantBelow(ProvedRung):
    """A rung that claims p <= 1 and p >= exp(log_p)."""

    log_p: float = 0.0

    def log_bound(self, query: Query, sizes: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(query.x), dtype=torch.float64)

    def lower(self, query: Query, upper: Sequence[Bound], unseen: bool = False) -> list[LowerBound]:
        return [LowerBound(self.name, self.log_p)] * len(query.x)


@pytest.mark.parametrize("arithmetic", ["real", "float32"])
@pytest.mark.parametrize("p", [1.0, 0.9, 0.12])
def test_samples_catch_a_false_lower_bound(monkeypatch: pytest.MonkeyPatch, p: float, arithmetic: str) -> None:
    """x_1 >= 0.6 is misclassified: p = 0.067 on this sphere of dimension 3 (Archimedes), and the mutant says more."""
    rungs = {"relaxation": MutantBelow("relaxation", "nothing", "nowhere", math.log(p)), "sampling": SAMPLING}
    monkeypatch.setattr(MODULE, "RUNGS", rungs)
    net, settings = dense(([[-2.0, 0.0, 0.0]], [1.2])), Settings(samples=2000, seed=7, search=False)
    with pytest.raises(Contradiction, match=r"input 4: rung 'relaxation' proves p >= .* of 2000 samples") as caught:
        assess(net, torch.zeros(1, 3), Sphere(0.7), index=[4], arithmetic=arithmetic, settings=settings)
    found = caught.value.evidence
    assert found["lower_rung"] == "relaxation"
    assert found["log_lower"] == math.log(p)
    assert found["certainly_right"] > found["fresh_samples"] * (1 - p)
    assert found["witness"][0] < 0.6


def test_true_lower_bounds_are_not_accused() -> None:
    """The exact p as the bound, 300 times, and the draws that reject it at 0.05 as often as they should."""
    net, noise, n = dense(([[-2.0, 0.0, 0.0]], [1.2])), Sphere(1.5), 1000
    p = math.exp(noise.log_tail(torch.tensor([0.6], dtype=torch.float64), 3).item())
    rejected = 0
    for index in range(300):
        query = Query(Hyperplanes(net), torch.zeros(1, 3).double(), [index], noise, Settings(samples=n))
        sampled = SAMPLING.bound(query)[0]
        check_samples(query, 0, [sampled], [LowerBound("exact", math.log(p))])
        rejected += binomial_tail(n - sampled.misclassified, n, math.log1p(-p)) < 0.05
    assert 1 <= rejected <= 300 * 0.05 + 4 * math.sqrt(300 * 0.05 * 0.95)


def test_rounding_does_not_accuse_lower_bounds() -> None:
    """(c x + 1) - c x is 1 and not above 1 / 2, and 0 in float64: no draw looks misclassified, each one is."""
    net = dense(([[1e17], [1e17]], [1.0, 0.0]), ([[-1.0, 1.0]], [0.5]))
    query = Query(Hyperplanes(net), torch.tensor([[1.0]]).double(), [0], Ball(0.5), Settings(samples=500))
    query.known["predicted"] = torch.tensor([1])
    sampled = SAMPLING.bound(query)[0]
    assert sampled.misclassified == 0
    check_samples(query, 0, [sampled], [LowerBound("exact", 0.0)])
