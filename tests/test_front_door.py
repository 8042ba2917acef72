"""The front door: what people call their model and their inputs; numbers and texts that results give."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from zoo import dense, points

import calotte
from calotte.bound import Bound
from calotte.errors import InvalidInput, InvalidModel
from calotte.settings import Settings

FAST = Settings(samples=100, boxes=1, search=False)


def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 3)
    ).eval()


def test_a_module_its_file_and_its_network_give_the_same(tmp_path) -> None:
    net, x = module(), torch.randn(3, 1, 4, 4)
    network = calotte.from_torch(net, (1, 4, 4))
    torch.onnx.export(net, (x[:1],), tmp_path / "m.onnx", dynamo=True, verbose=False)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, net(x).argmax(1)), batch_size=3)
    (batch,) = list(loader)
    answers = net(x).argmax(1).tolist()
    for model, inputs in (
        (net, x), (network, x.numpy()), (str(tmp_path / "m.onnx"), x), (tmp_path / "m.onnx", x), (net, batch),
    ):  # fmt: skip
        found = calotte.assess(model, inputs, calotte.Gaussian(0.01), settings=FAST)
        assert [one.predicted for one in found] == answers
        assert all(0 < one.best.probability < 1e-3 or one.best.certain for one in found)
    assert all(one.correct for one in found)
    (first, *_) = calotte.plan(net, x, calotte.Gaussian(1.0), 0.01, rungs=["cell"])
    assert first.largest_eps["cell"] > 0


def test_a_scikit_learn_classifier() -> None:
    sklearn = pytest.importorskip("sklearn.neural_network")
    x = points(60, 3, 1).numpy()
    mlp = sklearn.MLPClassifier((6,), max_iter=30, random_state=0).fit(x, (x[:, 0] > 0).astype(int))
    (one,) = calotte.assess(mlp, x[:1], calotte.Sphere(1e-6), settings=FAST)
    assert one.predicted == mlp.predict(x[:1])[0]


def test_the_readme_runs(tmp_path, monkeypatch, capsys) -> None:
    """Its Python, word for word, with a module, inputs, a file and a classifier of the kind that it speaks of."""
    sklearn = pytest.importorskip("sklearn.neural_network")
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    x = torch.rand(2, 1, 28, 28)
    mlp = sklearn.MLPClassifier((3,), max_iter=2).fit(points(20, 784, 1).numpy(), [0, 1] * 10)
    monkeypatch.chdir(tmp_path)
    torch.onnx.export(net.eval(), (x[:1],), "model.onnx", dynamo=True, verbose=False)
    capsys.readouterr()
    scope = {"module": net, "x": x, "mlp": mlp}
    exec(code.replace("random_network((784, 256, 256, 10)", "random_network((784, 8, 10)"), scope)
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith(f"input {i // 2}, answer") for i, line in enumerate(lines)] == [True, False] * 2


@pytest.mark.parametrize(
    ("model", "inputs", "error", "message"),
    [
        (3, [[0.0]], InvalidInput, "network: expected a calotte Network, the path.*came int"),
        (module(), torch.zeros(16), InvalidInput, "a module takes batches"),
        (module().train(), torch.zeros(2, 1, 4, 4), InvalidModel, "training mode"),
        ("nowhere.onnx", [[0.0]], InvalidModel, "nowhere.onnx"),
    ],
)
def test_what_is_no_model(model, inputs, error, message: str) -> None:
    with pytest.raises(error, match=message):
        calotte.assess(model, inputs, calotte.Sphere(0.1))


@pytest.mark.parametrize("scale", [[0.0, 0.0], [math.nan, 1.0], "ab", np.zeros((2, 0)), np.ones((1, 1, 1))])
def test_a_noise_checks_its_map_at_once(scale) -> None:
    with pytest.raises(InvalidInput, match="noise map"):
        calotte.Sphere(0.5, map=scale)


def test_a_noise_takes_any_array_as_its_map() -> None:
    net = dense(([[1.0, 2.0]], [0.5]), ([[1.0]], [0.3]))
    bounds = set()
    for scale in ([1.0, 0.0], np.array([1, 0]), torch.tensor([1.0, 0.0], dtype=torch.float32)):
        (one,) = calotte.assess(net, [[0.1, 0.2]], calotte.Gaussian(0.5, map=scale), rungs="cell", settings=FAST)
        bounds.add(one.best.log_probability)
    assert len(bounds) == 1


@pytest.mark.parametrize("log_p", [0.0, -1e-17, -0.5, -3.0, -700.0, -745.0, -1e5, -math.inf])
def test_probabilities_are_rounded_up(log_p: float) -> None:
    p = Bound("cell", "proved", log_p).probability
    if log_p == -math.inf:
        assert p == 0.0
    else:
        with mpmath.workdps(60):
            exact = mpmath.exp(mpmath.mpf(log_p))
            number = Fraction(p)
            assert mpmath.mpf(number.numerator) / number.denominator >= exact
        assert p <= max(math.exp(log_p) * (1 + 1e-14), 1.5e-323)


def test_results_print_in_a_line() -> None:
    net = dense(([[1.0, 2.0]], [0.5]), ([[1.0]], [0.3]))
    (one,) = calotte.assess(net, [[0.1, 0.2]], calotte.Sphere(0.7), settings=FAST)
    assert re.fullmatch(
        r"input 0, answer 1, sphere noise of eps 0\.7: p <= \S+ \(.*proved\); certified radius \S+", str(one)
    )
    assert str(Bound("cell", "proved", 0.0, skipped="no time")) == "cell: skipped, no time"
    assert str(Bound("sampling", "confidence", -2.0, confidence=0.9)) == "p <= 0.14 (sampling, at confidence 0.9)"
    assert repr(calotte.Sphere(0.5)) == "Sphere(0.5)"
    assert repr(calotte.Gaussian(0.5, map=[1.0, 2.0])) == "Gaussian(0.5, map=(2,))"
    assert len(repr(net)) < 200
