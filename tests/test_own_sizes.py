"""A size of the noise for each input: the numbers of separate runs, in one table, one claim, one campaign."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from shell import run, same, save_model

import calotte
from calotte.inputs import read_inputs

COMMON = "assess net.onnx {} --index 1:5 --samples 200 --rungs cell,concentration,sampling --json"
SIZES = [0.3, 0.1, 0.4, 0.1, 0.2, 0.5]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small model, and inputs with sizes as an archive and as a table."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 6)), rng.integers(0, 3, 6)
    np.savez(tmp_path / "plain.npz", x=x, y=y)
    for name in ("eps", "sigma"):
        np.savez(tmp_path / f"{name}.npz", x=x, y=y, **{name: np.array(SIZES)})
        columns = ",".join(["f0", "f1", name, "f2", "f3", "label", "f4", "f5"])
        rows = [[*r[:2], s, *r[2:4], c, *r[4:]] for r, s, c in zip(x.tolist(), SIZES, y.tolist(), strict=True)]
        text = "\n".join([columns, *(",".join(map(repr, row)) for row in rows)])
        (tmp_path / f"{name}.csv").write_text(text)
    save_model(tmp_path / "net.onnx")
    return tmp_path


@pytest.mark.parametrize("name", ["eps", "sigma"])
def test_each_input_meets_its_own_noise(here: Path, name: str, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    wanted = []
    for i in range(1, 5):
        alone = f"{COMMON.format('plain.npz')} --{name} {SIZES[i]}".replace("1:5", str(i))
        wanted.append(same(run(capsys, monkeypatch, alone)[1]))
    for file in (f"{name}.npz", f"{name}.csv"):
        status, out, err = run(capsys, monkeypatch, COMMON.format(file))
        assert status == 0, err
        assert [same(line) for line in out.splitlines()] == wanted
        assert err.count("Misclassification probability") == 1, "one table"
        assert f"'{name}' is taken as the size" in err
    status, _, err = run(capsys, monkeypatch, f"{COMMON.format(f'{name}.npz')} --{name} 0.1")
    assert status == 2
    assert f"leave out --{name}" in err
    status, _, err = run(capsys, monkeypatch, f"plan net.onnx {name}.npz --delta 1e-3")
    assert status == 2
    assert "plan finds the largest size of the noise by itself" in err


def test_a_campaign_of_own_sizes(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Goes on where it stopped, is one share for a requirement, one page, one claim."""
    command = f"{COMMON.format('eps.csv')} --out kept"
    status, out, err = run(capsys, monkeypatch, f"{command} --require p<=0.9")
    assert status in (0, 3)
    assert "of 4 inputs" in err
    again = run(capsys, monkeypatch, command)
    assert again[1] == out
    assert "4 of 4 inputs are finished" in again[2]
    assert [json.loads(line)["eps"] for line in out.splitlines()] == SIZES[1:5]
    assert run(capsys, monkeypatch, "report kept")[0] == 0
    page = (here / "kept" / "report.html").read_text()
    assert "eps 0.1 to 0.4" in page
    assert "each input has its own" in page
    assert "f2" in page, "inputs are read back without the column of sizes"
    assert run(capsys, monkeypatch, "export kept kept.csv")[0] == 0
    assert "noise of eps 0.1, 0.4, 0.2 (sigma" in (here / "kept.csv").read_text()


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"eps": [0.1, 0.0]}, "eps of input 1 must be positive"),
        ({"eps": [0.1, np.nan]}, "eps of input 1 must be positive"),
        ({"sigma": [0.1]}, "one for each is needed"),
        ({"eps": [[0.1, 0.2], [0.1, 0.2]]}, "one for each is needed"),
        ({"eps": [1, 1], "sigma": [1, 1]}, "one size for each"),
        ({"eps": ["a", "b"]}, "eps must be real numbers"),
    ],
)
def test_sizes_that_are_none(tmp_path: Path, sizes: dict[str, object], said: str) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((2, 3)), **{k: np.array(v) for k, v in sizes.items()})
    with pytest.raises(calotte.InvalidInput, match=said):
        read_inputs(tmp_path / "in.npz")


def test_a_feature_may_be_called_sigma(tmp_path: Path) -> None:
    """Where the network takes all columns, none of them is a size."""
    (tmp_path / "in.csv").write_text("a,sigma\n1,2\n3,4\n")
    network = calotte.random_network((2, 3, 2), torch.Generator().manual_seed(0))
    assert read_inputs(tmp_path / "in.csv").fitted(network).sizes is None


def test_the_largest_noise_of_an_event() -> None:
    network = calotte.random_network((4, 6, 3), torch.Generator().manual_seed(1))
    x = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    other = (int(network.predict(x[None])[0]) + 1) % 3
    given = {"rungs": ["relaxation"], "event": f"class:{other}"}
    size = calotte.largest_noise(network, x, calotte.Sphere(1.0), 1e-3, **given)
    changed = calotte.largest_noise(network, x, calotte.Sphere(1.0), 1e-3, rungs=["relaxation"])
    assert size >= changed > 0
    (one,) = calotte.assess(network, x[None], calotte.Sphere(size), **given)
    assert one.best is not None
    assert one.best.probability <= 1e-3
