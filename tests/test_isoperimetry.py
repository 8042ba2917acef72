"""Isoperimetry: the inequality against mpmath, balls against draws in them, the rung against half-spaces, mutants."""

from __future__ import annotations

import gzip
import math
import time
from collections.abc import Callable
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from zoo import dense, exact_log_tail, points, random_dense, residual, tensor

from calotte import load
from calotte.assess import assess
from calotte.cells.hyperplanes import Hyperplanes
from calotte.network.graph import Network
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.proofs.local.balls import free_within
from calotte.proofs.local.localise import localise
from calotte.proofs.local.network import LocalNetwork
from calotte.query import Query
from calotte.sampling import isoperimetry
from calotte.sampling.isoperimetry import ISOPERIMETRY, log_far
from calotte.searches.concentration import Concentration
from calotte.searches.thrift import Thrift
from calotte.settings import Settings

KINDS = (Sphere, Ball, Gaussian)


def query(net: Network, x: Tensor, noise: Noise, **settings: object) -> Query:
    return Query(Hyperplanes(net, noise.map), x[None], [0], noise, Settings(search=False, **settings))


def log_measure(angle: mpmath.mpf, d: int) -> mpmath.mpf:
    """log of the measure of a cap of the sphere of R^d."""
    part = mpmath.betainc(mpmath.mpf(d - 1) / 2, 0.5, 0, mpmath.sin(angle) ** 2, regularized=True) / 2
    return mpmath.log(part if angle <= mpmath.pi / 2 else 1 - part)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [2, 3, 30, 784])
def test_of_a_half_space_the_inequality_is_an_equality(kind: type[Noise], m: int) -> None:
    """What is further than t from {e.u <= s} is {e.u > s + t}: on a sphere t is a chord."""
    for s in (-0.5, 0.3, 1.2, 2.8):
        for t in (0.1, 1.0, 3.5):
            size = 1.7
            if kind is Gaussian:
                height, chord = s, t
                beyond = mpmath.log(mpmath.ncdf(-(mpmath.mpf(s) + t)))
            else:
                height, chord = math.tanh(s / 3), 2 * t / (t + 4)
                angle = mpmath.acos(height) - 2 * mpmath.asin(mpmath.mpf(chord) / 2)
                beyond = mpmath.mpf("-inf") if angle <= 0 else log_measure(angle, m + 2 if kind is Ball else m)
            missed = float(exact_log_tail(kind, Fraction(height), m))
            found = log_far(kind(size), m, missed, chord * size)
            assert found >= float(beyond) - 1e-13 * abs(float(beyond))
            assert found == pytest.approx(float(beyond), rel=1e-9, abs=1e-12)


def test_the_inequality_at_its_ends() -> None:
    for kind in KINDS:
        assert log_far(kind(1.0), 5, 0.0, 0.0) == 0.0
        assert log_far(kind(1.0), 5, -3.0, 0.0) == pytest.approx(-3.0, rel=1e-9)
        assert log_far(kind(1.0), 5, -3.0, 0.0) >= -3.0
    assert log_far(Sphere(1.0), 5, -3.0, 2.0) == -math.inf, "all of the sphere is within a diameter"
    assert log_far(Sphere(1.0), 5, 0.0, 1.0) > -math.inf, "a set that may be empty has no neighbourhood"


def half_space(m: int, kind: type[Noise], log_p: float) -> tuple[Network, Tensor, Noise, float]:
    """A perceptron, x, a noise, and the exact log p, near the one asked for."""
    net, x = random_dense((m, 1), m), points(1, m, m + 1)[0]
    row, bias = net.nodes[1].op.weight[0], net.nodes[1].op.offset[0]
    distance = ((row @ x + bias).abs() / row.norm()).item()
    size = distance / kind(1.0).standard_quantile(torch.tensor([log_p]).double(), m).item()
    return net, x, kind(size), float(exact_log_tail(kind, Fraction(distance) / Fraction(size), m))


HIDDEN = dense(([[0.6, 0.8]], [-0.75]), ([[-1e6]], [1.0]))  # wrong only where its unit is on, nearly at once


def below_the_truth() -> list[str]:
    """The check of the mutants: bounds that are below the truth."""
    lines = []
    for kind in KINDS:
        for m in (2, 400):
            for log_p in (-2.0, -12.0):
                net, x, noise, truth = half_space(m, kind, log_p)
                settings = {"samples": 10_000, "confidence": 1 - 1e-6}
                (bound,) = ISOPERIMETRY.bound(query(net, x, noise, **settings))
                if not truth <= bound.log_misclassification <= 0:
                    lines.append(f"{kind.__name__} m={m}: {bound.log_misclassification}, the truth is {truth}")
        size = 1.0 if kind is not Gaussian else 0.25
        truth = float(exact_log_tail(kind, Fraction(0.750001) / Fraction(size), 2))
        (bound,) = ISOPERIMETRY.bound(query(HIDDEN, torch.zeros(2).double(), kind(size), samples=2000))
        if not truth <= bound.log_misclassification <= 0:
            lines.append(f"{kind.__name__}, unit: {bound.log_misclassification}, the truth is {truth}")
    return lines


def test_never_below_the_truth_for_half_spaces() -> None:
    assert below_the_truth() == []


def test_tight_for_half_spaces_up_to_what_samples_can_show() -> None:
    """Probabilities that 1e4 samples cannot see are bounded within a fifth of their logarithms.

    In high dimension: the plane through an error is nearer to a point of a sphere than the sphere's errors are."""
    for kind in KINDS:
        for m, log_p in ((784, -20.0), (784, -40.0)):
            net, x, noise, truth = half_space(m, kind, log_p)
            (bound,) = ISOPERIMETRY.bound(query(net, x, noise, confidence=1 - 1e-6))
            assert truth <= bound.log_misclassification <= 0.8 * truth, (kind, m)


def with_distance(factor: float) -> Callable[[pytest.MonkeyPatch], None]:
    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(isoperimetry, "log_far", lambda n, m, log, t: log_far(n, m, log, factor * t))

    return apply


def with_dimension(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(isoperimetry, "log_far", lambda n, m, log, t: log_far(n, 2 * m, log, t))


def without_confidence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(isoperimetry, "clopper_pearson", lambda k, n, c: math.log(max(k, 0.01) / n))
    patch.setattr(isoperimetry, "bound_of_draws", lambda k, n, *_: math.log(max(k, 0.01) / n))


def without_the_good_event(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(isoperimetry, "total", lambda errors, missed: errors)


def with_smaller_balls(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(isoperimetry, "free_within", lambda local, y, t: free_within(local, y, 0.7 * t))


MUTANTS = {
    "angle of an arc for a chord's": with_distance(1.3),
    "twice the dimension": with_dimension,
    "the share for its bound": without_confidence,
    "G for free": without_the_good_event,
    "smaller balls": with_smaller_balls,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_fail(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    assert below_the_truth()


def test_coverage() -> None:
    """For half-spaces nothing but chance separates bound and truth: it is too low as often as its level allows."""
    net, x, noise, truth = half_space(12, Gaussian, -9.0)
    runs, confidence, low = 100, 0.7, 0
    for seed in range(runs):
        (bound,) = ISOPERIMETRY.bound(query(net, x, noise, samples=100, confidence=confidence, seed=seed))
        low += bound.log_misclassification < truth
    assert low / runs <= 1 - confidence + 4 * math.sqrt((1 - confidence) * confidence / runs)
    assert low >= 3, "the check has teeth"


def local_of(net: Network, x: Tensor, noise: Noise) -> LocalNetwork:
    """The network within the whole support, nothing being left out."""
    found = localise(query(net, x, noise), torch.tensor([noise.size]).double(), 2.0, 6.0, Thrift())
    assert found is not None
    return found.network


ZOO = {
    "one layer": (random_dense((3, 6, 3), 0), None),
    "two layers": (random_dense((4, 6, 5, 3), 1), None),
    "three layers": (random_dense((6, 5, 5, 5, 2), 2), None),
    "wide": (random_dense((3, 12, 12, 1), 3), None),
    "argmin": (random_dense((4, 5, 3), 4, rule="argmin"), None),
    "relu after the logits": (random_dense((4, 5, 3), 5, final_relu=True), None),
    "residual": (residual(4, 3, 6), None),
    "scale": (random_dense((5, 6, 4, 3), 7), tensor([0.0, 2.0, 0.5, 0.0, 3.0])),
    "matrix": (random_dense((6, 6, 4, 3), 9), points(6, 3, 10) / 2),
    "residual, matrix": (residual(5, 3, 11), points(5, 3, 12) / 2),
    "more inputs than units": (random_dense((20, 5, 4, 3), 13), None),
}


@pytest.mark.parametrize("name", ZOO)
def test_balls_hold_no_error(name: str) -> None:
    """Within the distance found around draws all of the support is answered right; errors lie not far beyond."""
    net, s = ZOO[name]
    generator = torch.Generator().manual_seed(1)
    tight = errors = 0
    for x in points(4, net.d, 20):
        answer = net.predict(x[None])
        for eps in (1.0, 8.0):
            noise = Sphere(eps, s)
            here = query(net, x, noise)
            local = local_of(net, x, noise)
            chain, m = here.hyperplanes.chain, here.m
            u = Sphere(eps).project(40, m, m, generator)
            errors += int((net.predict(x + noise.apply_map(u, net.d)) != answer).sum())
            y = u if chain is None else u @ coordinates(here)
            low, high = torch.zeros(len(u)).double(), torch.full((len(u),), 2 * eps).double()
            for _ in range(20):
                middle = (low + high) / 2
                free = free_within(local, y, middle)
                low, high = torch.where(free, middle, low), torch.where(free, high, middle)
            for i in range(len(u)):
                near = u[i] + torch.cat([low[i] * Sphere(1.0).project(300, m, m, generator),
                                         low[i] * Ball(1.0).project(100, m, m, generator)])  # fmt: skip
                near = near[near.norm(dim=1) <= eps]
                if low[i] > 0 and len(near):
                    assert (net.predict(x + noise.apply_map(near, net.d)) == answer).all()
                beyond = u[i] + 2.0 * low[i] * Sphere(1.0).project(300, m, m, generator)
                beyond = beyond[beyond.norm(dim=1) <= eps]
                if low[i] > 0 and len(beyond):
                    tight += bool((net.predict(x + noise.apply_map(beyond, net.d)) != answer).any())
    assert tight >= 5 or errors == 0, "errors are met at twice the distance"


def coordinates(here: Query) -> Tensor:
    """(m, n): from u to coordinates in the system of the normals, found by least squares on the first layer."""
    hyperplanes = here.hyperplanes
    assert hyperplanes.chain is not None
    mapped = hyperplanes.mapped(hyperplanes.chain.weights[0])
    return torch.linalg.lstsq(mapped, hyperplanes.space.rows, driver="gelsd").solution


def test_refusals_and_limits() -> None:
    net, x = random_dense((1, 3, 2), 0), points(1, 1, 1)[0]
    (bound,) = ISOPERIMETRY.bound(query(net, x, Sphere(1.0)))
    assert bound.skipped is not None
    assert "d >= 2" in bound.skipped
    assert ISOPERIMETRY.bound(query(net, x, Ball(0.01)))[0].skipped is None, "the sphere above it has dimension 3"
    net, x = random_dense((3, 4, 2), 0), points(1, 3, 1)[0]
    (bound,) = ISOPERIMETRY.bound(query(net, x, Sphere(1.0), samples=5))
    assert bound.skipped is not None
    assert "at least 8 samples" in bound.skipped
    (bound,) = ISOPERIMETRY.bound(query(net, x, Sphere(0.1), time_limit=1e-9))
    assert bound.skipped is not None
    assert "time limit" in bound.skipped


def test_the_clock_keeps_the_draws_made_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound on fewer draws: worse than that of all, never below the truth, and marked."""
    net, x, noise, truth = half_space(12, Gaussian, -9.0)
    (whole,) = ISOPERIMETRY.bound(query(net, x, noise, samples=9000))
    real = isoperimetry.free_of_errors

    def late(*arguments):
        if len(arguments[1]) == 1024:  # draws that estimate
            monkeypatch.setattr(time, "perf_counter", lambda: 1e12)
        return real(*arguments)

    monkeypatch.setattr(isoperimetry, "free_of_errors", late)
    (cut,) = ISOPERIMETRY.bound(query(net, x, noise, samples=9000, time_limit=1e6))
    assert cut.skipped is None
    assert "time limit" in cut.cut_short
    assert cut.samples < whole.samples == 9000
    assert truth < whole.log_misclassification < cut.log_misclassification < 0


def test_overflow_is_never_free_of_errors() -> None:
    """Outputs that are infinite or NaN in float64 are not shown to be right."""
    huge = dense((1e200 * torch.ones(3, 4), None), (1e200 * points(2, 3, 1), [1.0, 0.0]))
    (bound,) = ISOPERIMETRY.bound(query(huge, torch.full((4,), 1e-150).double(), Sphere(1.0), samples=400))
    assert bound.log_misclassification == 0.0


def test_the_same_numbers_whatever_the_batch() -> None:
    net, x = random_dense((4, 6, 5, 3), 1), points(3, 4, 20)
    options = {"rungs": ["isoperimetry"], "settings": Settings(samples=400, search=False)}
    together = assess(net, x, Gaussian(0.1), **options)
    for i in range(3):
        (alone,) = assess(net, x[i], Gaussian(0.1), index=[i], **options)
        entry = alone.bounds[0].to_dict()
        assert entry["guarantee"] == "confidence"
        assert entry["samples"] == 400
        assert "misclassified" not in entry
        assert alone.bounds[0].log_misclassification == together[i].bounds[0].log_misclassification


def test_far_below_concentration_on_a_real_image(data) -> None:
    net = load(data / "mnistfc" / "mnist-net_256x2.onnx")
    raw = gzip.decompress((data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    x = torch.from_numpy(np.frombuffer(raw, np.uint8, 784, 16) / 255.0)
    here = query(net, x, Sphere(0.9), samples=4000, confidence=1 - 1e-6)
    (bound,) = ISOPERIMETRY.bound(here)
    assert bound.log_misclassification < Concentration().log_bound(here, here.sizes).item() - 3
