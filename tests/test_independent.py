"""Noise on a cube: moments and tails against many digits, convolutions and draws; rungs against draws of numpy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, stats
from shell import run
from torch import Tensor
from zoo import dense, points, random_dense, residual, tensor

from calotte.assess import assess
from calotte.cells.hyperplanes import Hyperplanes
from calotte.errors import Contradiction, InvalidInput
from calotte.independent import Box, Independent, Truncated
from calotte.laws import make_noise
from calotte.network.graph import Network
from calotte.noise import noise_map
from calotte.plan import plan
from calotte.proofs.forms import Forms
from calotte.query import Query
from calotte.settings import Settings

QUICK = Settings(samples=2000, confidence=1 - 1e-6, search=False)
PROVED = ["theorem", "cell", "relaxation", "concentration"]
LAWS = [Box(1.0), Truncated(1.0), Truncated(1.0, cut=1.0), Truncated(1.0, cut=0.01), Truncated(1.0, cut=100.0)]


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_moments_are_never_below_the_truth_and_close(law: Independent) -> None:
    x = torch.tensor([0.0, 1e-300, 1e-8, 1e-4, 0.1, 0.3, 0.499, 0.5, 1, 3, 20, 100, 700], dtype=torch.float64)
    found = law.log_moment(torch.cat([x, -x]))
    assert torch.equal(found[: len(x)], found[len(x) :])
    with mpmath.workdps(40):
        for height, bound in zip(x.tolist(), found.tolist(), strict=False):
            y, c = mpmath.mpf(height), mpmath.mpf(law.reach)
            if height == 0:
                exact = mpmath.mpf(0)
            elif isinstance(law, Box):
                exact = mpmath.log(mpmath.sinh(y) / y)
            else:
                inside = mpmath.ncdf(c - y) - mpmath.ncdf(-c - y)
                exact = y**2 / 2 + mpmath.log(inside / (mpmath.ncdf(c) - mpmath.ncdf(-c)))
            assert exact <= bound <= exact * (1 + 3e-6) + 2e-8, height
            assert bound <= law.variance * height**2 / 2 * (1 + 1e-9) + 1e-290
    assert law.log_moment(tensor([1e200])).isfinite().all()


def uniform_sum(weights: list[float], t: float) -> float:
    """log P(sum of w_i U_i >= t), U_i uniform on [-1, 1], by inclusion and exclusion over the corners of the cube."""
    n = len(weights)
    with mpmath.workdps(60):
        total = mpmath.mpf(0)
        for mask in range(2**n):
            corner = mpmath.fsum(w if mask >> i & 1 else -w for i, w in enumerate(map(mpmath.mpf, weights)))
            sign = (-1) ** (n - mask.bit_count())
            total += sign * max(corner - mpmath.mpf(t), mpmath.mpf(0)) ** n
        volume = mpmath.factorial(n) * mpmath.fprod(2 * mpmath.mpf(w) for w in weights)
        return float(mpmath.log(total / volume))


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_tails_of_sums_of_uniform_numbers(n: int) -> None:
    weights = (1.0 + torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)).tolist()
    for share in (0.05, 0.3, 0.7, 0.97):
        t = share * sum(weights)
        exact = uniform_sum(weights, t)
        bound = Box(0.5).log_half_space(0.5 * t, weights, rounding="up")
        assert exact <= bound <= exact + math.log(12.0 * n)  # Chernoff has no prefactor
        by_norm = Box(0.5).standard_log_tail(tensor([t / math.hypot(*weights)]), n, rounding="up").item()
        assert bound <= by_norm + 1e-9
    assert Box(0.5).log_half_space(0.5 * sum(weights) * (1 + 1e-9), weights, rounding="up") == -math.inf
    assert Box(0.5).log_half_space(-0.1, weights, rounding="up") == 0.0


@pytest.mark.parametrize("cut", [0.7, 3.0])
def test_tails_of_cut_normals_in_the_plane(cut: float) -> None:
    """By quadrature over one of the two coordinates."""
    inside = 2 * stats.norm.cdf(cut) - 1
    a, b = 0.6, 1.1
    for share in (0.2, 0.6, 0.9):
        t = share * cut * (a + b)

        def beyond(u: float, t: float = t) -> float:
            need = min(max((t - a * u) / b, -cut), cut)
            return float(stats.norm.pdf(u) * (stats.norm.cdf(cut) - stats.norm.cdf(need)) / inside**2)

        exact = math.log(integrate.quad(beyond, -cut, cut, points=[(t - b * cut) / a], limit=200)[0])
        bound = Truncated(1.0, cut=cut).log_half_space(t, [a, b], rounding="up")
        assert exact - 1e-6 <= bound <= exact + math.log(60.0)


@pytest.mark.parametrize("law", [Box(0.5), Truncated(0.5, cut=1.5)], ids=repr)
def test_draws_have_the_law(law: Independent) -> None:
    generator = torch.Generator().manual_seed(0)
    direct = law.sample(20_000, 2, generator) / law.size
    kernel = law.from_normals(torch.randn(20_000, 2, dtype=torch.float64, generator=generator))
    exact = stats.uniform(-1, 2) if isinstance(law, Box) else stats.truncnorm(-1.5, 1.5)
    for drawn in (direct, kernel):
        assert drawn.abs().max() <= law.reach
        for column in drawn.t():
            assert stats.kstest(column.numpy(), exact.cdf).pvalue > 1e-4
        assert abs(np.corrcoef(drawn.t().numpy())[0, 1]) < 4 / math.sqrt(20_000)


def test_the_relaxation_reaches_to_the_corner_and_no_farther() -> None:
    """A linear margin: p = 0 exactly while the half-width times the sum of absolute weights is below the constant."""
    w = points(1, 9, 3)
    network, x = dense((w, [1.0])), torch.zeros(1, 9, dtype=torch.float64)
    edge = 1.0 / float(w.abs().sum())
    for half_width, certain in ((edge * (1 - 1e-9), True), (edge * (1 + 1e-9), False)):
        for law in (Box(half_width), Truncated(half_width / 2, cut=2.0)):
            (one,) = assess(network, x, law, rungs=["relaxation", "concentration"], settings=QUICK)
            assert [bound.certain for bound in one.bounds] == [certain] * 2
            if certain:
                assert one.certified_radius is not None
                assert one.certified_radius >= half_width * (1 - 1e-12)


def zoo() -> list[tuple[str, Network, Tensor, Tensor | None]]:
    return [
        ("dense", random_dense((2, 5, 4, 4), 3), points(1, 2, 5)[0], None),
        ("wide", random_dense((9, 6, 3), 7), points(1, 9, 8)[0], None),
        ("residual", residual(4, 4, 9), points(1, 4, 9)[0], tensor([0.5, 0.0, 2.0, 1.0])),
        ("corner", dense(([[1.0, 1.0]], [-1.9]), ([[-50.0]], [1.0])), torch.zeros(2, dtype=torch.float64), None),
        ("one unit", dense(([[1.0, 0.2]], [0.5])), torch.zeros(2, dtype=torch.float64), None),
    ]


def unsound(make: Callable[[float, Tensor | None], Independent]) -> list[str]:
    """What proved rungs say below what draws of numpy show, less four standard errors."""
    found, rng = [], np.random.default_rng(0)
    for name, network, x, scale in zoo():
        for size in (0.3, 0.55, 1.2):
            law = make(size, scale)
            w = rng.uniform(-1, 1, (10_000, network.d))
            if isinstance(law, Truncated):
                w = stats.truncnorm.ppf((w + 1) / 2, -law.cut, law.cut)
            r = law.size * w * (1.0 if scale is None else scale.numpy())
            share = float((network.predict(x + torch.from_numpy(r)) != network.predict(x[None])).double().mean())
            least = share - 4 * math.sqrt(share / len(w)) if share * len(w) >= 30 else 0.0
            try:
                (one,) = assess(network, x[None], law, settings=QUICK, rungs=[*PROVED, "sampling"])
            except Contradiction as error:
                found.append(str(error))
                continue
            found += [f"{name} {law}: {bound} < {least}" for bound in one.bounds if bound.probability < least]
            sampled = one.bounds[-1].misclassified or 0
            if abs(sampled / 2000 - share) > 5 * math.sqrt(max(share, 1e-3) / 2000):
                found.append(f"{name} {law}: sampling counts {sampled} of 2000, the share is {share}")
    return found


@pytest.mark.parametrize("make", [Box, Truncated, lambda s, m: Truncated(s, m, cut=1.0)])
def test_no_rung_is_below_what_draws_show(make: Callable[[float, Tensor | None], Independent]) -> None:
    assert unsound(make) == []


@pytest.mark.parametrize("mutant", ["variance", "corner", "moment", "map", "draws"])
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mutant == "variance":
        monkeypatch.setattr(Box, "variance", 1.0 / 30.0)
    elif mutant == "corner":  # the nearest point of the cube's boundary in place of its corner
        lowest = Forms.lowest
        monkeypatch.setattr(Forms, "lowest_in", lambda self, cube: lowest(self, cube))
    elif mutant == "moment":
        right = Box.log_moment
        monkeypatch.setattr(Box, "log_moment", lambda self, x: 0.3 * right(self, x))
    elif mutant == "map":
        right_hyperplanes = Hyperplanes.mapped
        monkeypatch.setattr(Hyperplanes, "mapped", lambda self, normals: 0.4 * right_hyperplanes(self, normals))
    else:
        project = Box.project
        monkeypatch.setattr(Box, "project", lambda self, *given: 0.5 * project(self, *given))
    assert unsound(Box)


def test_hostile_numbers_prove_nothing() -> None:
    law, zero = Box(1.0), torch.zeros(1, 1, dtype=torch.float64)
    for normal in ([math.nan, 1.0], [math.inf, 1.0], [1e200, 1e200], [1e-200, 1e-300]):
        for t in (math.nan, 0.0, -1.0, -math.inf):
            found = law.log_tails(tensor([[normal]]), zero, tensor([[t]]), tensor([1.0]))
            assert found.item() == 0.0
    assert law.log_tails(tensor([[[math.nan, 1.0]]]), zero, tensor([[5.0]]), tensor([1.0])).item() == 0.0
    assert law.log_tails(tensor([[[0.0, 0.0]]]), zero, tensor([[1e-9]]), tensor([1.0])).item() == -math.inf
    assert law.log_tails(tensor([[[1.0, 0.0]]]), zero + 10.0, tensor([[1.5]]), tensor([1.0])).item() == 0.0
    assert law.standard_exponential_tail(tensor([math.nan, -1.0, 0.0, math.inf]), 4).tolist() == [0, 0, 0, -math.inf]


def test_splitting_agrees_with_a_convolution() -> None:
    """A half-space of p = 2e-7 under uniform noise, which moves of normals under a monotone map keep."""
    weights = [1.0, 0.8, 1.2, 0.5, 0.9, 1.1]
    t = 0.86 * sum(weights)
    exact = uniform_sum(weights, t)
    network = dense(([[-w for w in weights]], [t]))
    (one,) = assess(
        network, torch.zeros(1, 6).double(), Box(1.0), rungs=["concentration"], estimates=["all"], settings=QUICK
    )
    estimate = one.estimates[0]
    assert estimate.log_probability is not None
    assert abs(math.exp(estimate.log_probability - exact) - 1) < 4 * (estimate.relative_error or 0) + 0.05
    assert one.bounds[0].log_misclassification >= exact
    assert all(other.reason and "exact measures" in other.reason for other in one.estimates[1:])


def test_plan_finds_what_assess_proves() -> None:
    network, x = random_dense((9, 6, 3), 7), points(1, 9, 8)
    for noise in (Box(1.0), Truncated(1.0, cut=2.0)):
        (found,) = plan(network, x, noise, 1e-4, settings=QUICK)
        assert set(found.skipped) >= {"branching"}
        for rung in PROVED:
            eps = found.largest_eps[rung]
            assert eps
            law = make_noise(noise.kind, 9, eps=eps, cut=2.0 if isinstance(noise, Truncated) else None)
            (one,) = assess(network, x, law, rungs=[rung], settings=QUICK)
            assert one.bounds[0].probability <= 1e-4 * (1 + 1e-9)


def test_rungs_for_isotropic_noise_say_so() -> None:
    (one,) = assess(random_dense((7, 4, 3), 1), points(1, 7, 1), Box(0.1), rungs=["all"], settings=QUICK)
    skipped = {bound.rung for bound in one.bounds if bound.skipped}
    assert {"branching", "isoperimetry"} <= skipped
    assert not skipped & {*PROVED, "sampling"}


def test_sizes_are_tied_and_nonsense_is_refused() -> None:
    assert make_noise("box", 5, sigma=1.0).size == pytest.approx(math.sqrt(3))
    assert (Box(2.0).eps(7), Box(3.0).sigma(7)) == (2.0, pytest.approx(math.sqrt(3)))
    assert make_noise("truncated", 16, eps=2.0).size == 0.5
    for wrong in (
        lambda: Truncated(1.0, cut=0.0), lambda: Truncated(1.0, cut=math.nan), lambda: Box(-1.0),
        lambda: make_noise("box", 3, eps=1.0, cut=2.0), lambda: Box(1.0).log_half_space(1.0, [1.0, 2.0]),
        lambda: Box(1.0, noise_map(np.eye(2))).log_half_space(1.0, [1.0, 2.0], rounding="up"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput):
            wrong()
    network = random_dense((9, 4, 3), 1)
    with pytest.raises(ValueError, match="coordinates"):
        Query(Hyperplanes(network), points(1, 9, 1), [0], Box(1.0), QUICK)


def test_the_command_line(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    common = "assess net.onnx in.npz --index 0:2 --no-search --rungs cell,concentration,sampling --samples 200 --json"
    for options, eps in (
        ("--noise box --eps 0.2", 0.2),
        ("--noise truncated --cut 2 --sigma 0.1", 0.1 * math.sqrt(6)),
    ):
        status, out, _ = run(capsys, monkeypatch, f"{common} {options}")
        assert status == 0
        assert json.loads(out.splitlines()[0])["eps"] == pytest.approx(eps)
    (here / "e.vnnlib").write_text(
        "".join(f"(declare-const X_{i} Real)(assert (<= X_{i} 0.{i}))(assert (>= X_{i} 0))" for i in range(6))
        + "".join(f"(declare-const Y_{i} Real)" for i in range(3))
        + "(assert (>= Y_0 0.5))"
    )
    for kind in ("box", "truncated"):
        line = common.replace("in.npz --index 0:2", "e.vnnlib")
        status, out, _ = run(capsys, monkeypatch, f"{line} --noise {kind} --event e.vnnlib")
        assert (status, json.loads(out)["event"]) == (0, "e.vnnlib")
    for wrong in ("--noise box", "--noise sphere --event e.vnnlib", "--noise box --eps 1 --cut 2"):
        status, out, err = run(capsys, monkeypatch, f"{common} {wrong}")
        assert (status, out, err.count("\n")) == (2, "", 1)
