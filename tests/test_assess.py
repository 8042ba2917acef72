"""assess: order of the rungs, the public form, batches, refusals."""

import dataclasses
import gzip
import hashlib
import itertools
import json
import math

import numpy as np
import pytest
import torch
from zoo import dense, points, random_dense, residual

from calotte.assess import RUNGS, assess, assess_each, select_rungs
from calotte.errors import InvalidInput
from calotte.ladder import PROVED_RUNGS
from calotte.models.onnx import load
from calotte.network.clip import clipped
from calotte.network.graph import Network
from calotte.network.random import random_network
from calotte.noise import Ball, Gaussian, Noise, Sphere, noise_map
from calotte.settings import Settings

NETWORKS = {
    "perceptron": random_dense((3, 1), 0),
    "d <= n": random_dense((2, 7, 5, 3), 1),
    "d > n": random_dense((20, 5, 4, 3), 2),
    "argmin": random_dense((4, 6, 3), 3, rule="argmin"),
    "residual": residual(4, 3, 4),
    "clipped": clipped(random_dense((3, 6, 3), 5), -0.5, 0.5),
}
NOISES = [Sphere, Ball, Gaussian]
FAST = Settings(samples=50, boxes=1)
BOUNDS = Settings(search=False)  # where no witness is asked for: the search takes longer than the bounds


def bound_of(network: Network, x, noise: Noise, rung: str) -> float:
    return assess(network, x, noise, rungs=[rung], settings=BOUNDS)[0].bounds[0].log_misclassification


def surroundings(result, x: torch.Tensor, direction: torch.Tensor, seed: int) -> torch.Tensor:
    """Points of the open ball of the certified radius: near its sphere, along the nearest normal, inside."""
    d, radius = len(x), result.certified_radius * (1 - 1e-9)
    u = points(400, d, seed)
    u = torch.cat([u / u.norm(dim=1, keepdim=True), torch.eye(d).double(), -torch.eye(d).double(), direction])
    shrunk = torch.rand(len(u), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.cat([x + radius * u, x + radius * shrunk * u])


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("name", NETWORKS)
def test_cell_is_never_above_theorem(name: str, kind) -> None:
    """Over all eps, with and without maps; and a larger eps never gives a smaller bound on either."""
    net = NETWORKS[name]
    x = points(4, net.d, 10, 0.4)
    strict = 0
    for s in (None, torch.linspace(0, 2, net.d).double(), points(net.d, 3, 11)):
        before = {"theorem": [-math.inf] * 4, "cell": [-math.inf] * 4}
        for eps in np.logspace(-3, 2, 12):
            found = assess(net, x, kind(float(eps), s), rungs=["theorem", "cell"], settings=BOUNDS)
            for i, result in enumerate(found):
                theorem, cell = result.bounds
                assert cell.log_misclassification <= theorem.log_misclassification <= 0.0
                strict += cell.log_misclassification < theorem.log_misclassification
                for bound in result.bounds:
                    assert bound.log_misclassification >= before[bound.rung][i]
                    before[bound.rung][i] = bound.log_misclassification
    assert strict > 10


def test_certain_within_the_cell_and_never_for_a_gaussian() -> None:
    net = NETWORKS["d <= n"]
    x = points(1, 2, 12)
    rho = assess(net, x, Sphere(1.0), settings=FAST)[0].distance
    for kind in (Sphere, Ball):
        for rung in ("theorem", "cell"):
            assert bound_of(net, x, kind(rho), rung) == -math.inf
            assert bound_of(net, x, kind(rho * 1.0001), rung) > -math.inf
    assert -1e300 < bound_of(net, x, Gaussian(rho / 100), "cell") < -4000
    for sigma in (1e-150, 1e-200, 1e-300, 5e-324):  # a normal tail is never zero, whatever overflows
        for rung in ("theorem", "cell"):
            assert -math.inf < bound_of(net, x, Gaussian(sigma), rung) <= -1e290


def test_a_constant_network_is_certain_under_every_noise() -> None:
    net = dense(([[0.0, 0.0]], [1.0]))
    for kind in NOISES:
        (result,) = assess(net, [[1.0, 2.0]], kind(1e3), rungs=["theorem", "cell"])
        assert [bound.certain for bound in result.bounds] == [True, True]
        assert result.distance is result.certified_radius is result.nearest_unit is None


def test_one_dimension_of_noise() -> None:
    """A sphere in R^1 is two points: `theorem` does not apply, `cell` counts half for each point beyond."""
    net, s = random_dense((3, 1), 0), noise_map([0.0, 2.0, 0.0])
    (result,) = assess(net, [[0.1, 0.2, 0.3]], Sphere(10.0, s), settings=FAST)
    assert "d >= 2" in result.bounds[0].skipped
    assert result.bounds[1].log_misclassification == pytest.approx(math.log(0.5), abs=1e-12)
    assert result.best.rung == "cell"
    assert bound_of(net, [0.1, 0.2, 0.3], Sphere(1e-3, s), "cell") == -math.inf
    (gaussian,) = assess(net, [[0.1, 0.2, 0.3]], Gaussian(1.0, s), settings=FAST)
    assert gaussian.bounds[0].skipped is None


def test_x_on_a_hyperplane() -> None:
    net = dense(([[1.0, -1.0], [0.5, 2.0]], [0.0, 1.0]), ([[1.0, 1.0], [1.0, -3.0]], [0.0, 0.5]))
    (result,) = assess(net, [[0.25, 0.25]], Sphere(0.1), settings=FAST)
    assert result.distance == 0.0 <= (result.certified_radius or 0.0)
    assert result.nearest_unit == "relu2[0]"
    assert all(bound.log_misclassification >= math.log(0.5) for bound in result.bounds[:2])


CONTRACT = {
    "index", "predicted", "label", "correct", "noise", "eps", "sigma", "input_dimension", "units", "distance",
    "certified_radius", "bounds", "best", "estimates", "adversarial_distance", "seed", "version", "model_sha256",
}  # fmt: skip


@pytest.mark.parametrize("kind", NOISES)
def test_the_public_form(kind) -> None:
    net, x = NETWORKS["d <= n"], points(3, 2, 40)
    labels = [(int(net.predict(x[:1])) + 1) % 3, *net.predict(x[1:]).tolist()]
    noise = kind(0.05)
    found = assess(net, x, noise, labels=labels, index=[5, 2, 9], settings=Settings(samples=70, seed=4, boxes=1))
    for k, result in enumerate(found):
        entry = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert set(entry) >= CONTRACT
        assert entry["index"] == [5, 2, 9][k]
        assert entry["predicted"] == int(net.predict(x[k : k + 1]))
        assert (entry["label"], entry["correct"]) == (labels[k], k > 0)
        assert (entry["noise"], entry["eps"], entry["sigma"]) == (noise.kind, noise.eps(2), noise.sigma(2))
        assert entry["eps"] == pytest.approx(entry["sigma"] * math.sqrt(2))
        assert (entry["input_dimension"], entry["units"], entry["seed"]) == (2, 14, 4)
        assert [bound["rung"] for bound in entry["bounds"]] == [name for name in RUNGS if name != "isoperimetry"]
        for bound, source in zip(entry["bounds"], result.bounds, strict=True):
            assert bound["guarantee"] == ("proved" if bound["rung"] in PROVED_RUNGS else "confidence")
            assert bound["certain"] == (bound["log_misclassification"] is None)
            assert source.certain == (source.log_misclassification == -math.inf)
            assert bound["seconds"] >= 0
            if bound["rung"] == "sampling":
                assert (bound["confidence"], bound["samples"]) == (0.999, 70)
                assert 0 <= bound["misclassified"] <= 70
        proved = [b for b in result.bounds if b.guarantee == "proved"]
        assert entry["best"] == min(proved, key=lambda b: b.log_misclassification).rung
        assert entry["estimates"] == []


def test_best_is_the_smallest_proved_bound() -> None:
    net, x = NETWORKS["d > n"], points(1, 20, 41)
    (result,) = assess(net, x, Sphere(0.2), settings=FAST)
    assert result.best.guarantee == "proved"
    assert result.best.log_misclassification == min(
        b.log_misclassification for b in result.bounds if b.guarantee == "proved"
    )
    (sampled,) = assess(net, x, Sphere(0.2), rungs=["sampling"], settings=FAST)
    assert sampled.best is None
    assert sampled.to_dict()["best"] is None


def test_an_assessment_is_frozen() -> None:
    (result,) = assess(NETWORKS["perceptron"], [0.1, 0.2, 0.3], Sphere(1.0), settings=FAST)
    assert result.label is result.correct is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.predicted = 1


@pytest.mark.parametrize("name", ["d > n", "residual"])
def test_batches_say_what_single_inputs_say(name: str) -> None:
    net = NETWORKS[name]
    x = points(300, net.d, 50)  # more than one batch
    whole = assess(net, x, Sphere(0.3), rungs=["theorem", "cell"], settings=BOUNDS)
    assert [a.index for a in whole] == list(range(300))
    small = Settings(memory_limit=1e4, search=False)
    for i, blocks in enumerate(
        itertools.islice(assess_each(net, x, Sphere(0.3), rungs=["cell"], settings=small), 40)
    ):
        (alone,) = assess(net, x[i : i + 1], Sphere(0.3), rungs=["cell"], settings=BOUNDS)
        assert alone.predicted == blocks.predicted == whole[i].predicted
        assert alone.distance == pytest.approx(whole[i].distance, rel=1e-12)
        expected = pytest.approx(whole[i].bounds[1].log_misclassification, rel=1e-10)
        assert alone.bounds[0].log_misclassification == expected
        assert blocks.bounds[0].log_misclassification == expected


def test_shapes_of_inputs() -> None:
    net = NETWORKS["d <= n"]
    x = points(3, 2, 60)
    options = {"rungs": ["cell"], "settings": BOUNDS}
    expected = [a.distance for a in assess(net, x, Sphere(1.0), **options)]
    for form in (x.tolist(), x.numpy(), x.numpy()[:, :, None], x.float().double()):
        found = [a.distance for a in assess(net, form, Sphere(1.0), **options)]
        assert found == pytest.approx(expected, rel=1e-5)
    assert len(assess(net, x[0], Sphere(1.0), **options)) == 1


def test_rungs_by_name() -> None:
    default = [name for name in RUNGS if name != "isoperimetry"]
    assert [r.name for r in select_rungs(["all"], RUNGS)] == list(RUNGS)
    for names in (None, ["default"]):
        assert [r.name for r in select_rungs(names, RUNGS)] == default
    assert [r.name for r in select_rungs(["sampling", "theorem"], RUNGS)] == ["theorem", "sampling"]


GOOD = [[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [[0.1, math.nan, 0.3]]}, "input 0 holds NaN"),
        ({"inputs": [*GOOD, [0.0, math.inf, 0.0]]}, "input 2 holds NaN or infinite"),
        ({"inputs": [[0.1, 0.2]]}, "each row has 2 numbers, the network takes 3"),
        ({"inputs": [0.1, 0.2]}, "network takes 3"),
        ({"inputs": []}, "no inputs"),
        ({"inputs": np.zeros((0, 3))}, "no inputs"),
        ({"inputs": 1.0}, "no inputs"),
        ({"inputs": "images"}, "array of numbers"),
        ({"inputs": [[1.0, 2.0, 3.0], [1.0]]}, "array of numbers"),
        ({"labels": [0]}, "1 labels for 2 inputs"),
        ({"labels": [0, 2]}, "label 2 of input 1 is no class: the network has 0 to 1"),
        ({"labels": [-1, 0]}, "label -1 of input 0"),
        ({"labels": [0.5, 0.0]}, "whole numbers"),
        ({"labels": [math.nan, 0.0]}, "whole numbers"),
        ({"labels": [math.inf, 0.0]}, "no class"),
        ({"index": [1]}, "index: 1 numbers for 2 inputs"),
        ({"rungs": ["cel"]}, "rung 'cel': no rung"),
        ({"rungs": ["all", "cell"]}, "rung 'all'"),
        ({"rungs": []}, "no rungs"),
        ({"noise": Sphere(1.0, noise_map([1.0, 2.0]))}, "map is for 2 features, the network takes 3"),
        ({"rungs": "cel"}, "rung 'cel': no rung"),
        ({"noise": 0.1}, "noise: expected calotte.Sphere.*came float 0.1"),
        ({"settings": 1000}, "settings: expected calotte.Settings.*came int 1000"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_computed(change: dict, message: str) -> None:
    arguments = {"inputs": GOOD, "noise": Sphere(1.0), **change}
    inputs, noise = arguments.pop("inputs"), arguments.pop("noise")
    with pytest.raises(InvalidInput, match=message):
        assess_each(NETWORKS["perceptron"], inputs, noise, **arguments)


def test_an_input_at_which_the_network_overflows_is_refused() -> None:
    net = dense(([[1e200]], [0.0]), ([[1e200], [-1e200]], [0.0, 0.0]))
    with pytest.raises(InvalidInput, match="input 1: the network's outputs there are not finite"):
        assess(net, [[0.0], [1.0]], Sphere(0.1), settings=FAST)


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("noise", [Sphere(0.3), Gaussian(0.2)], ids=["sphere", "gaussian"])
def test_out_of_time_everything_says_so_and_what_stands_is_true(net, noise) -> None:
    """With no time at all there are lines all the same; bounds are trivial, skipped or as true as ever."""
    settings = Settings(samples=2000, time_limit=1e-9)
    (one,) = assess(net, points(1, net.d, 5), noise, rungs=["all"], settings=settings)
    (free,) = assess(net, points(1, net.d, 5), noise, rungs=["sampling"], settings=Settings(samples=2000))
    for bound in one.bounds:
        quick = bound.rung in ("theorem", "cell", "isoperimetry") or net.hidden_units == 0
        assert bound.skipped or bound.cut_short or quick, bound
        if bound.skipped:
            assert "time limit of 1e-09 s" in bound.skipped or bound.rung == "isoperimetry"
        elif bound.guarantee == "proved":
            k, n = free.bounds[0].misclassified, free.bounds[0].samples
            p = math.exp(bound.log_misclassification)
            assert k <= n * p + 4 * math.sqrt(n * p * (1 - p)) + 1e-9
    assert one.predicted == free.predicted


def test_the_same_lines_in_a_batch_and_alone() -> None:
    """Whatever else is assessed, in whatever order, an input's line has the same bits; only clocks differ."""
    net = random_network((6, 16, 12, 4), torch.Generator().manual_seed(2))
    x, settings = points(4, 6, 8), Settings(samples=300, boxes=20)

    def facts(one) -> dict:
        line = one.to_dict()
        for bound in line["bounds"]:
            bound.pop("seconds", None)
        return line

    together = [facts(one) for one in assess(net, x, Sphere(0.5), settings=settings)]
    order = [3, 0, 2]
    some = assess(net, x[order], Sphere(0.5), index=order, settings=settings)
    alone = [facts(one) for i in range(4) for one in assess(net, x[i], Sphere(0.5), index=[i], settings=settings)]
    assert together == alone
    assert [together[i] for i in order] == [facts(one) for one in some]


def test_what_is_said_about_a_line() -> None:
    net, scale = clipped(random_network((3, 4, 1), torch.Generator().manual_seed(1)), 0.0, 1.0), [1.0, 0.0, 2.0]
    x, seen = points(2, 3, 3).abs().clamp_max(1.0), []
    noise = Ball(0.1, noise_map(scale))
    lines = [
        one.to_dict()
        for one in assess_each(
            net,
            x,
            noise,
            settings=FAST,
            run="abc",
            watch=lambda i, step: seen.append((i, step)),
        )
    ]
    for i, line in enumerate(lines):
        assert (line["event"], line["arithmetic"], line["decision"]) == ("change", "real", "sign")
        assert (line["clip"], line["run"]) == ([0.0, 1.0], "abc")
        assert line["map_sha256"] == hashlib.sha256(np.array(scale).tobytes()).hexdigest()
        assert line["input_sha256"] == hashlib.sha256(x[i].numpy().tobytes()).hexdigest()
        for bound in line["bounds"]:
            assert (i, f"rung {bound['rung']}") in seen
    assert [i for i, _ in seen] == sorted(i for i, _ in seen)


def test_a_real_network_on_real_images(data) -> None:
    """Certified balls of MNIST images hold draws on and in them; proved bounds stay above what draws show."""
    net = load(data / "mnistfc" / "mnist-net_256x2.onnx")
    raw = gzip.decompress((data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = torch.from_numpy(np.frombuffer(raw, np.uint8, 5 * 784, 16).reshape(5, 784) / 255.0)
    for noise in (Sphere(0.1), Gaussian(0.1 / 28)):
        for result, x in zip(
            assess(net, images, noise, settings=Settings(samples=1000, boxes=1)), images, strict=True
        ):
            near = surroundings(result, x, points(1, 784, 70) / 28, 71)
            assert (net.predict(near) == result.predicted).all()
            theorem, cell, sampling = (b for b in result.bounds if b.rung in ("theorem", "cell", "sampling"))
            assert cell.log_misclassification <= theorem.log_misclassification
            assert sampling.misclassified == 0
            assert result.units == 521
