"""The command line as a stranger meets it: contract, output streams, exit statuses, error manners."""

from __future__ import annotations

import csv
import importlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from shell import run, same

import calotte
from calotte.assess import RUNGS
from calotte.ladder import PROVED_RUNGS
from calotte.models.onnx import load
from calotte.settings import Settings


def test_json_lines_are_the_contract(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    status, out, err = run(
        capsys, monkeypatch, "assess net.onnx in.npz --eps 0.2 --index 1:6:2 --json --samples 500 --seed 4"
    )
    assert status == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["index"] for line in lines] == [1, 3, 5]
    for line in lines:
        assert set(line) >= {
            "index", "predicted", "label", "correct", "noise", "eps", "sigma", "input_dimension", "units", "distance",
            "certified_radius", "bounds", "best", "estimates", "adversarial_distance", "seed", "version",
            "model_sha256",
        }  # fmt: skip
        assert (line["eps"], line["input_dimension"], line["units"], line["seed"]) == (0.2, 6, 8 + 2, 4)
        assert line["sigma"] == pytest.approx(0.2 / math.sqrt(6))
        assert line["certified_radius"] >= line["distance"] > 0
        bounds = {bound["rung"]: bound for bound in line["bounds"]}
        assert list(bounds) == [name for name in RUNGS if name != "isoperimetry"]
        for bound in bounds.values():
            assert (bound["log_misclassification"] is None) == bound["certain"]
            assert bound["certain"] or bound["log_misclassification"] <= 0
        assert bounds["sampling"]["samples"] == 500
        assert bounds["sampling"]["confidence"] == 0.999
    assert "accuracy" in err
    assert "proved" in err, "the table goes to standard error"


def test_table_ranks_by_risk_and_goes_to_standard_output(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = run(capsys, monkeypatch, "assess net.onnx in.npz --eps 0.05 --rungs theorem,cell --out res")
    assert status == 0
    lines = [json.loads(line) for line in (here / "res" / "assessments.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(7))
    assert (here / "res" / "risk.png").stat().st_size > 5000
    rows = [int(match[1]) for match in re.finditer(r"^ +(\d+)  +\d", out, re.M)]
    best = {
        line["index"]: min(-math.inf if b["certain"] else b["log_misclassification"] for b in line["bounds"])
        for line in lines
    }
    assert sorted(rows) == list(range(7))
    assert [best[i] for i in rows] == sorted(best.values(), reverse=True)


@pytest.mark.parametrize(("noise", "factor"), [("sphere", 1.0), ("ball", 1.0), ("gaussian", 1.0)])
def test_eps_and_sigma_say_the_same(here: Path, capsys, monkeypatch, noise: str, factor: float) -> None:  # type: ignore[no-untyped-def]
    line = f"assess net.onnx in.npz --noise {noise} --rungs cell --index 0 --json"
    by_eps = json.loads(run(capsys, monkeypatch, f"{line} --eps 0.3")[1])
    by_sigma = json.loads(run(capsys, monkeypatch, f"{line} --sigma {0.3 / math.sqrt(6)}")[1])
    assert by_eps["eps"] == pytest.approx(by_sigma["eps"])
    assert by_eps["sigma"] == pytest.approx(by_sigma["sigma"])
    assert by_eps["bounds"][0]["log_misclassification"] == pytest.approx(
        by_sigma["bounds"][0]["log_misclassification"]
    )


def test_map_masks_features(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    np.save(here / "mask.npy", np.array([1.0, 0, 1, 0, 0, 1]))
    status, out, _ = run(capsys, monkeypatch, "assess net.onnx in.npz --eps 0.3 --map mask.npy --index 0 --json")
    line = json.loads(out)
    assert status == 0
    assert line["sigma"] == pytest.approx(0.3 / math.sqrt(3))


def test_witnesses_are_printed_and_saved(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    line = "assess net.onnx in.npz --eps 0.2 --rungs cell --json"
    status, out, _ = run(capsys, monkeypatch, f"{line} --index 1:6 --out res")
    assert status == 0
    lines = {entry["index"]: entry for entry in map(json.loads, out.splitlines())}
    network, x = load(here / "net.onnx"), np.load(here / "in.npz")["x"]
    with np.load(here / "res" / "witnesses.npz") as saved:
        assert saved["index"].tolist() == list(lines) == [1, 2, 3, 4, 5]
        for i, point, distance, answer, predicted in zip(*(saved[name] for name in saved.files), strict=True):
            assert lines[i]["adversarial_distance"] == distance >= lines[i]["certified_radius"]
            assert lines[i]["predicted"] == predicted != answer == int(network.predict(torch.tensor(point)[None]))
            assert np.linalg.norm(point - x[i]) <= distance < np.linalg.norm(point - x[i]) * (1 + 1e-12)
    alone = json.loads(run(capsys, monkeypatch, f"{line} --index 3")[1])
    assert alone["adversarial_distance"] == lines[3]["adversarial_distance"]
    without = json.loads(run(capsys, monkeypatch, f"{line} --index 3 --no-search")[1])
    assert without["adversarial_distance"] is None
    assert "wrong at" in run(capsys, monkeypatch, "assess net.onnx in.npz --eps 0.2 --rungs cell")[1]


def test_sampling_stops_once_it_knows(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    line = "assess net.onnx in.npz --eps 0.2 --rungs sampling --no-search --json"
    status, out, err = run(capsys, monkeypatch, f"{line} --delta 0.01 --samples 50000")
    assert status == 0
    bounds = [json.loads(text)["bounds"][0] for text in out.splitlines()]
    assert {bound["decision"] for bound in bounds} <= {"yes", "no", "undecided"}
    for bound in bounds:
        assert bound["delta"] == 0.01
        assert bound["samples"] == 50000 or bound["decision"] != "undecided"
        assert bound["decision"] != "yes" or bound["log_misclassification"] <= math.log(0.01) + 1e-12
        assert bound["decision"] != "no" or bound["misclassified"] > 0.01 * bound["samples"]
    assert any(bound["samples"] < 2000 for bound in bounds)
    assert "raise --samples" not in err
    assert "raise --samples" in run(capsys, monkeypatch, f"{line} --delta 1e-6 --index 0")[2]
    (bound,) = json.loads(run(capsys, monkeypatch, f"{line} --index 0")[1])["bounds"]
    assert "decision" not in bound


def test_plan_answers_are_proved_by_assess(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = run(capsys, monkeypatch, "plan net.onnx in.npz --delta 1e-3 --index 0:2 --json")
    assert status == 0
    network = calotte.load(here / "net.onnx")
    x = np.load(here / "in.npz")["x"]
    for line in map(json.loads, out.splitlines()):
        assert line["scope"] == {"theorem": "all", "cell": "all"}
        assert list(line["largest_eps"]) == list(PROVED_RUNGS)
        for rung, eps in line["largest_eps"].items():
            assert eps > 0

            def log_bound(size: float, rung: str = rung, i: int = line["index"]) -> float:
                settings = Settings(search=False)
                (one,) = calotte.assess(network, x[i], calotte.Sphere(size), rungs=[rung], settings=settings)
                return one.bounds[0].log_misclassification

            assert log_bound(eps) <= math.log(1e-3)
            if rung in line["scope"]:
                assert line["distance"] <= eps
                assert log_bound(eps * (1 + 1e-9)) > math.log(1e-3)


def test_cell_as_table_json_and_files(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = run(capsys, monkeypatch, "cell net.onnx in.npz --index 2 --json --out cell.npz")
    cell = json.loads(out)
    assert status == 0
    distances = [plane["distance"] for plane in cell["hyperplanes"]]
    assert distances == sorted(distances)
    assert cell["hyperplanes"][0]["face"] is True, "the nearest hyperplane is always a face"
    assert len(cell["hyperplanes"]) + len(cell["without_hyperplane"]) == cell["units"] == 10
    saved = np.load(here / "cell.npz")
    assert saved["normals"].shape == (10, 6)
    for name in ("cell.csv", "cell.png"):
        assert run(capsys, monkeypatch, f"cell net.onnx in.npz --index 2 --out {name}")[0] == 0
        assert (here / name).stat().st_size > 100


def test_clipping_is_announced(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    np.save(here / "edge.npy", np.array([[0.0, 0.5, 0.5, 0.5, 0.5, 0.5], [0.2, 0.5, 0.5, 0.5, 0.5, 0.9]]))
    status, out, err = run(capsys, monkeypatch, "assess net.onnx edge.npy --eps 0.05 --clip 0 1 --json")
    first, second = map(json.loads, out.splitlines())
    assert status == 0
    assert first["units"] == 10 + 2 * 6
    assert first["distance"] == 0.0 < first["certified_radius"]
    assert second["distance"] > 0
    assert "1 of 2 inputs have entries at 0 or 1" in err


def test_one_row_of_the_right_size_is_one_input(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    np.save(here / "one.npy", np.ones(6))
    status, out, _ = run(capsys, monkeypatch, "assess net.onnx one.npy --eps 1 --json --rungs cell")
    assert status == 0
    assert len(out.splitlines()) == 1


def test_csv_with_header_and_labels(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    data = np.load(here / "in.npz")
    rows = [",".join(map(repr, [*map(float, x), int(y)])) for x, y in zip(data["x"], data["y"], strict=True)]
    (here / "in.csv").write_text("\n".join(["a,b,c,d,e,f,label", *rows]))
    line = "assess net.onnx {} --eps 0.1 --json --rungs cell"
    from_csv = run(capsys, monkeypatch, line.format("in.csv"))[1]
    strip = re.compile(r'"seconds": [\d.e-]+')
    assert strip.sub("", from_csv) == strip.sub("", run(capsys, monkeypatch, line.format("in.npz"))[1])


@pytest.mark.parametrize("delta", [1e-13, 1e-300])
def test_deltas_beyond_all_samples_are_answered(here: Path, capsys, monkeypatch, delta: float) -> None:  # type: ignore[no-untyped-def]
    line = "assess net.onnx in.npz --eps 0.2 --index 0 --rungs sampling --samples 2000 --no-search --json"
    status, out, err = run(capsys, monkeypatch, f"{line} --delta {delta}")
    assert status == 0, err
    assert json.loads(out)["bounds"][0]["decision"] != "yes"
    assert "whatever --samples" in err
    status, out, _ = run(capsys, monkeypatch, f"plan net.onnx in.npz --index 0 --rungs cell --delta {delta} --json")
    assert status == 0
    assert json.loads(out)["largest_eps"]["cell"] >= json.loads(out)["distance"] > 0


def test_names_of_models_with_markup_are_printed_as_they_are(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    model = onnx.load(here / "net.onnx")
    model.graph.node[1].name = "act[/b][red]:smile:"
    (here / "a[b]").mkdir()
    onnx.save(model, here / "a[b]" / "[bold].onnx")
    for line in ("assess a[b]/[bold].onnx in.npz --eps 5 --out a[b]/[i]", "plan a[b]/[bold].onnx in.npz --delta 0.1"):
        status, out, err = run(capsys, monkeypatch, f"{line} --rungs theorem,cell")
        assert status == 0, err
    assert (here / "a[b]" / "[i]" / "assessments.jsonl").exists()
    status, out, err = run(capsys, monkeypatch, "cell a[b]/[bold].onnx in.npz --out a[b]/[i].csv")
    assert status == 0, err
    assert "act[/b][red]:smile:[" in out
    assert "wrote a[b]/[i].csv" in err
    with open(here / "a[b]" / "[i].csv", newline="") as file:
        assert {row["unit"] for row in csv.DictReader(file)} >= {f"act[/b][red]:smile:[{k}]" for k in range(8)}


def test_bytes_draw_a_warning(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    np.save(here / "bytes.npy", np.arange(12.0).reshape(2, 6) * 20)
    assert "divide by 255" in run(capsys, monkeypatch, "assess net.onnx bytes.npy --eps 1 --rungs cell")[2]
    assert "255" not in run(capsys, monkeypatch, "assess net.onnx in.npz --eps 1 --rungs cell")[2]


def test_interrupt_keeps_finished_lines(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    work = importlib.import_module("calotte.assess").Assessor
    real = work.assess

    def interrupted(self: object, x: object, index: int, *rest: object) -> object:
        if index == 2:
            raise KeyboardInterrupt
        return real(self, x, index, *rest)

    monkeypatch.setattr(work, "assess", interrupted)
    status, out, err = run(
        capsys,
        monkeypatch,
        "assess net.onnx in.npz --eps 1 --json --no-search --rungs cell,relaxation,sampling --out res",
    )
    assert status == 130
    assert len(out.splitlines()) == 2
    assert (here / "res" / "assessments.jsonl").read_text() == out
    assert "interrupted: 2 of 7 inputs are finished and kept in res/campaign.sqlite; the same command goes on" in err
    monkeypatch.undo()
    monkeypatch.chdir(here)
    status, whole, err = run(
        capsys,
        monkeypatch,
        "assess net.onnx in.npz --eps 1 --json --no-search --rungs cell,relaxation,sampling --out res",
    )
    assert status == 0
    assert "2 of 7 inputs are finished" in err
    assert whole.splitlines()[:2] == out.splitlines(), "finished lines are kept as they are"
    assert (here / "res" / "assessments.jsonl").read_text() == whole
    fresh = run(
        capsys, monkeypatch, "assess net.onnx in.npz --eps 1 --json --no-search --rungs cell,relaxation,sampling"
    )[1]
    assert [same(line) for line in whole.splitlines()] == [same(line) for line in fresh.splitlines()]


def test_the_installed_command_runs(here: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from calotte.cli import main; main()", "assess", "net.onnx", "in.npz", "--eps", "0"],
        capture_output=True, text=True, cwd=here,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1


def test_paper_passes_on_what_it_finds(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """On one section: `test_paper` looks at them all."""
    import calotte.paper
    from calotte.paper import Effort
    from calotte.paper.run import Workshop

    monkeypatch.setattr(Workshop, "sections", lambda self: [self.checks()])
    real = calotte.paper.run
    monkeypatch.setattr(calotte.paper, "run", lambda out, **rest: real(out, effort=Effort.quick(), **rest))
    status, out, err = run(capsys, monkeypatch, "paper --out figures --seed 1")
    assert status == 0, err
    assert "Theorem 4.2" in out
    assert (here / "figures" / "paper.json").exists()

    class Violated:
        held, violations = False, ("Theorem 3.1: claimed too much",)

    monkeypatch.setattr(calotte.paper, "run", lambda *_, **__: Violated())
    status, _, err = run(capsys, monkeypatch, "paper --out figures")
    assert status == 1
    assert "claimed too much" in err
