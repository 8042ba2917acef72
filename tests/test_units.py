"""Raw units: the network behind (x - mean) / std says what the plain one says about normalised inputs."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from shell import run
from zoo import dense, points, random_dense, tensor

from calotte.adversary import nearest_misclassified
from calotte.assess import assess
from calotte.cells.hyperplanes import Hyperplanes
from calotte.errors import InvalidInput
from calotte.models.torch import from_torch
from calotte.network.clip import clipped
from calotte.network.dependence import depends
from calotte.network.normalise import normalised
from calotte.noise import Gaussian, Sphere
from calotte.settings import Settings

QUICK = Settings(samples=2000, search=False)
PROVED = ["theorem", "cell", "relaxation", "concentration"]


def test_bounds_in_raw_units_are_those_of_scaled_noise() -> None:
    """With one std for all features, noise of size eps is noise of size eps / std on the normalised input."""
    inner, raw = random_dense((6, 8, 3), 4), points(3, 6, 5)
    network = normalised(inner, 0.3, 0.25)
    x = (raw - 0.3) / 0.25
    assert torch.equal(network.predict(raw), inner.predict(x))
    for law in (Sphere, Gaussian):
        ours = assess(network, raw, law(0.1), rungs=[*PROVED, "sampling"], settings=QUICK)
        theirs = assess(inner, x, law(0.4), rungs=[*PROVED, "sampling"], settings=QUICK)
        for one, other in zip(ours, theirs, strict=True):
            for bound, same in zip(one.bounds, other.bounds, strict=True):
                assert bound.log_misclassification == pytest.approx(same.log_misclassification, rel=1e-6, abs=1e-9)
            assert one.certified_radius == pytest.approx((other.certified_radius or 0.0) * 0.25, rel=1e-3)
            assert one.distance == pytest.approx((other.distance or 0.0) * 0.25, rel=1e-9)


def test_each_channel_has_its_own() -> None:
    """Distances are those of scaled weights, in rational arithmetic."""
    w, b = points(1, 6, 1)[0], 0.4
    mean, std = [0.1, 0.5, 0.7], [0.2, 0.3, 0.9]
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 1)).double()
    with torch.no_grad():
        module[1].weight.copy_(w[None])
        module[1].bias.fill_(b)
    network = normalised(from_torch(module.eval(), (3, 2, 1)), mean, std)
    x = points(1, 6, 2)[0]
    scale = [Fraction(s) for s in std for _ in range(2)]
    centre = [Fraction(m) for m in mean for _ in range(2)]
    terms = zip(map(Fraction, w.tolist()), map(Fraction, x.tolist()), centre, scale, strict=True)
    value = sum((a * (v - m) / s for a, v, m, s in terms), Fraction(b))
    squares = sum((Fraction(a) / s) ** 2 for a, s in zip(w.tolist(), scale, strict=True))
    found = Hyperplanes(network).distances(x[None]).lower[0, 0].item()
    assert Fraction(found) ** 2 * squares <= value**2
    assert found == pytest.approx(abs(float(value)) / float(squares) ** 0.5, rel=1e-12)


def test_the_original_model_sees_normalised_points() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3)).eval()
    network = normalised(from_torch(module, (4,)), tensor([0.5, 0.1, 0.2, 0.0]), tensor([0.2, 2.0, 1.0, 0.5]))
    x = points(2, 4, 3)
    for row, witness in zip(x, nearest_misclassified(network, x), strict=True):
        assert witness is not None
        answer = int(network.predict(row[None]))
        shown = ((witness.point - tensor([0.5, 0.1, 0.2, 0.0])) / tensor([0.2, 2.0, 1.0, 0.5])).float()
        assert int(module(shown[None]).argmax()) == witness.original != answer


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (0.0, 0.0, "positive"), (0.0, -1.0, "positive"), (np.nan, 1.0, "finite"), ([1.0, 2.0], 1.0, "2 numbers"),
        (0.0, np.inf, "finite"), ("a", 1.0, "mean"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(mean: object, std: object, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        normalised(random_dense((3, 2, 2), 1), mean, std)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="before its input is clipped"):
        normalised(clipped(random_dense((3, 2, 2), 1), 0.0, 1.0), 0.0, 1.0)


def test_dependence() -> None:
    network = dense(([[1.0, 0.0], [0.0, 0.0]], [0.0, 0.3]), ([[0.0, 2.0]], [1.0]))
    assert not depends(network, torch.tensor([True, True]))
    open_path = dense(([[1.0, 0.0]], [0.0]), ([[2.0]], [1.0]))
    assert depends(open_path, torch.tensor([True, False]))
    assert not depends(open_path, torch.tensor([False, True]))


def test_the_command_line(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    common = "assess net.onnx in.npz --eps 0.2 --index 0 --no-search --rungs cell --json"
    plain = json.loads(run(capsys, monkeypatch, common)[1])
    x = np.load(here / "in.npz")["x"]
    np.savez(here / "raw.npz", x=x * 0.5 + 0.25)
    np.save(here / "m.npy", np.full(6, 0.25))
    for mean in ("0.25", "m.npy"):
        line = common.replace("in.npz --eps 0.2", "raw.npz --eps 0.1") + f" --mean {mean} --std 0.5"
        status, out, err = run(capsys, monkeypatch, line)
        assert status == 0
        assert "raw units" in err
        raw = json.loads(out)
        assert (plain["measured_in"], raw["measured_in"]) == ("network units", "raw units")
        assert "noise: eps 0.1, sigma 0.04082, raw units" in err
        assert raw["distance"] == pytest.approx(plain["distance"] / 2, rel=1e-9)
        assert raw["bounds"][0]["log_misclassification"] == pytest.approx(
            plain["bounds"][0]["log_misclassification"], abs=1e-9
        )
    for wrong in ("--mean a", "--std 0", "--mean 1,2", "--mean none.npy"):
        status, out, err = run(capsys, monkeypatch, f"{common} {wrong}")
        assert (status, out, err.count("\n")) == (2, "", 1)
    np.save(here / "map.npy", np.eye(1, 6)[0])
    assert "no output depends" not in run(capsys, monkeypatch, f"{common} --map map.npy")[2]
