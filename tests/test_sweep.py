"""Several sizes of the noise in one campaign: the numbers of separate runs, kept, resumed, shown and passed on."""

from __future__ import annotations

import csv
import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from shell import run, same, save_model

import calotte
from calotte.adversary import Adversary
from calotte.assess import Assessor
from calotte.campaign.keys import Key
from calotte.campaign.outcome import Job, Outcome, Task
from calotte.campaign.reading import read_campaign
from calotte.campaign.store import Store
from calotte.campaign.workers import in_processes
from calotte.cells.hyperplanes import Hyperplanes
from calotte.cli import running

ASSESS = "assess net.onnx in.npz --index 4:7 --samples 200 --rungs theorem,cell,relaxation,concentration,sampling"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small model and inputs."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "in.npz", x=rng.standard_normal((7, 6)), y=rng.integers(0, 3, 7))
    np.save(tmp_path / "s.npy", np.arange(0.0, 1.2, 0.2))
    save_model(tmp_path / "net.onnx")
    return tmp_path


def lines(out: str) -> list[dict[str, object]]:
    return [same(line) for line in out.splitlines()]


@pytest.mark.parametrize(
    ("option", "more"), [("eps", "--estimates splitting"), ("sigma", "--noise gaussian --map s.npy --clip -2 2")]
)
def test_a_sweep_is_the_separate_runs(here: Path, option: str, more: str, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """In this process and in others; inputs in their order, sizes in the order given."""
    alone = {
        size: lines(run(capsys, monkeypatch, f"{ASSESS} {more} --json --{option} {size}")[1])
        for size in ("0.4", "0.1")
    }
    wanted = [alone[size][i] for i in range(3) for size in ("0.4", "0.1")]
    for how in ("", *(["--workers 1"] if option == "eps" else [])):
        status, out, err = run(capsys, monkeypatch, f"{ASSESS} {more} --json --{option} 0.4,0.1 {how}")
        assert status == 0, err
        assert lines(out) == wanted
        assert len(re.findall(r"noise: eps [\d.]+, sigma [\d.]+", err)) == 2, "a table for each size"


def test_what_no_size_changes_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []

    def counted(kind: type[Any], name: str) -> None:
        original = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda *args, **more: (found.append(name), original(*args, **more))[1])

    counted(Hyperplanes, "distances")
    counted(Adversary, "nearest")
    network = calotte.random_network((5, 8, 3), torch.Generator().manual_seed(0))
    first = Assessor(network, calotte.Sphere(0.1), rungs=["cell", "relaxation"])
    job = Job([first.at(size).assess for size in (0.1, 0.2, 0.4)])
    x = torch.randn((2, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for i in range(2):
        outcomes = list(job(Task(i, x[i], None, (0, 1, 2))))
        assert [one.key for one in outcomes] == [(i, 0), (i, 1), (i, 2)]
        assert len({one.line["adversarial_distance"] for one in outcomes}) == 1
        alone = [Assessor(network, calotte.Sphere(s), rungs=["cell", "relaxation"]) for s in (0.1, 0.2, 0.4)]
        if i == 0:
            assert found == ["distances", "nearest"]
        for one, other in zip(outcomes, alone, strict=True):
            wanted = json.dumps(other.assess(x[i], i).to_dict() | {"run": None})
            assert same(json.dumps(one.line)) == same(wanted)
        assert len(found) == 8 * (i + 1), "another input, another search"


def test_a_sweep_goes_on_at_the_size_where_it_stopped(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """The process ends between two sizes of one input; what was kept is not done again."""
    sweep = f"{ASSESS} --eps 0.1,0.2 --json --out"
    whole = run(capsys, monkeypatch, f"{sweep} whole")[1]
    put, done = Store.put, list[Key]()

    def stopping(store: Store, outcome: Outcome) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        put(store, outcome)
        done.append(outcome.key)

    monkeypatch.setattr(running.Store, "put", stopping)
    status, _, err = run(capsys, monkeypatch, f"{sweep} torn")
    assert status == 130
    assert "interrupted: 3 of 6 inputs and sizes are finished and kept" in err
    done.clear()
    status, out, err = run(capsys, monkeypatch, f"{sweep} torn")
    assert status == 0, err
    assert "3 of 6 inputs and sizes are finished" in err
    assert done == [(5, 1), (6, 0), (6, 1)]
    assert lines(out) == lines(whole)
    assert (here / "torn" / "assessments.jsonl").read_text() == out
    with np.load(here / "whole" / "witnesses.npz") as wanted, np.load(here / "torn" / "witnesses.npz") as found:
        assert found["index"].tolist() == [4, 5, 6], "a witness is of an input, whatever the size"
        assert all(np.array_equal(wanted[name], found[name]) for name in wanted.files)
    status, out, err = run(capsys, monkeypatch, f"{sweep.replace('0.1,', '0.3,')} torn")
    assert (status, out) == (2, "")
    assert "options.eps was [0.1, 0.2], is [0.3, 0.2]" in err


class Failing:
    """Work that fails with a defect, or not at all."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails

    def __call__(self, *_: object) -> Any:
        if self.fails:
            raise ZeroDivisionError("oops")
        return self

    def to_dict(self) -> dict[str, Any]:
        return {"index": 7}


def test_one_size_fails_and_the_others_go_on() -> None:
    job = Job([Failing(False), Failing(True)], "r", [{"eps": 0.1, "sigma": 1.0}, {"eps": 0.2, "sigma": 2.0}])
    task = Task(7, torch.zeros(1), None, (0, 1))
    for outcomes in (job(task), in_processes(job, [task], lambda *_: None, count=1)):
        good, bad = outcomes
        assert (good.key, good.failure, bad.key, bad.failure) == ((7, 0), None, (7, 1), "defect")
        assert (bad.line["index"], bad.line["eps"], bad.line["sigma"], bad.line["run"]) == (7, 0.2, 2.0, "r")


def test_a_folder_of_several_sizes_is_reported_and_passed_on(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    status, out, err = run(capsys, monkeypatch, f"{ASSESS} --eps 0.1,0.4,0.2 --json --out res")
    assert status == 0, err
    assert "sizes.png" in err
    status, again, err = run(capsys, monkeypatch, f"{ASSESS} --eps 0.1,0.4,0.2 --json --out res --require p<=0.05")
    assert (status, again) == (3, out)
    assert "required p<=0.05 at eps 0.1: holds" in err
    assert "required p<=0.05 at eps 0.4: does not hold" in err.splitlines()[-1]
    kept = [json.loads(line) for line in out.splitlines()]
    with Store.to_read(here / "res") as store:
        description = store.description
    with Store.in_folder(here / "res", description) as store:
        job = Job([], store.run, [{"eps": 0.1, "sigma": 1.0}])
        store.put(job.failed((9, 0), "lost", "killed"))
        runs = read_campaign(here / "res", store)
    assert [(one.assessments[0].eps, len(one.assessments)) for one in runs] == [(0.4, 3), (0.2, 3), (0.1, 3)]
    assert all(one.witness is not None for one in runs[1].assessments)
    assert run(capsys, monkeypatch, "report res --delta 0.01")[0] == 0
    html = (here / "res" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<h1>[^<]*noise of eps 0.4 ", html), "the claim is about the largest"
    assert "3 sizes of the noise. All here is about eps 0.4 (sigma 0.1633), the largest of them" in html
    assert [row[1] for row in re.findall(r"<tr>(<td>)([\d.]+)</td><td>[\d.]+</td><td>3</td>", html)] == [
        "0.1", "0.2", "0.4",
    ]  # fmt: skip
    assert "The ladder against eps" in html
    assert "input 9 has no result at eps 0.1: lost: killed" in html

    Store.in_folder(here / "res", description).close()  # which takes it out: it is to be tried again
    for name in ("a.csv", "a.parquet", "a.tex"):
        assert run(capsys, monkeypatch, f"export res {name}") == (0, f"wrote 9 rows to {name}\n", "")
    said, *text = (here / "a.csv").read_text().splitlines()
    assert "eps 0.1, 0.4, 0.2 (sigma 0.04082, 0.1633, 0.08165)" in said
    assert "at 3 inputs," in said
    wanted = [(line["index"], line["eps"], line["bounds"][1]["log_misclassification"]) for line in kept]
    rows = list(csv.DictReader(text))
    log = "cell.log_misclassification"
    assert [
        (int(row["index"]), float(row["eps"]), None if row[log] == "-inf" else float(row[log])) for row in rows
    ] == wanted
    assert [row["eps"] for row in parquet.read_table(here / "a.parquet").to_pylist()] == [eps for _, eps, _ in wanted]
    assert len(re.findall(r"^\d+ & 0\.[124] & \d ", (here / "a.tex").read_text(), re.M)) == 9

    run(capsys, monkeypatch, f"{ASSESS.replace('200', '300')} --sigma 0.1,0.08164965809277261 --out other")
    status, out, err = run(capsys, monkeypatch, "compare res other --json")
    assert status == 0, err
    pairs = [json.loads(line) for line in out.splitlines()]
    assert [(pair["index"], *pair["eps"]) for pair in pairs] == [(i, 0.2, pytest.approx(0.2)) for i in (4, 5, 6)]
    run(capsys, monkeypatch, f"{ASSESS} --eps 0.3 --out third")
    status, out, err = run(capsys, monkeypatch, "compare res third")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "no input at a size of noise in common" in err


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ("--eps 0.1,,0.2", "'0.1,,0.2': expected a number, or several with commas between them"),
        ("--sigma 0.1,a", "'0.1,a': expected a number"),
        ("--sigma 0.1,0.10", "'0.1,0.10': 0.10 is given twice"),
        ("--eps 0.1,-0.2", "eps must be a positive finite number, came -0.2"),
        ("--eps 0.1,nan", "eps must be a positive finite number, came nan"),
        ("--eps 0.1 --sigma 0.1,0.2", "either --eps or --sigma"),
    ],
)
def test_wrong_sizes_are_refused_in_one_line(here: Path, sizes: str, said: str, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    status, out, err = run(capsys, monkeypatch, f"{ASSESS} {sizes} --out res")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert "Invalid value" not in err or err.endswith("(see calotte assess --help)\n")
    assert not (here / "res").exists()


def test_a_plan_tells_no_hyperplane_from_not_asked_for(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    plan = "plan net.onnx in.npz --index 0 --delta 1e-3 --json --rungs"
    status, out, err = run(capsys, monkeypatch, f"{plan} cell")
    assert status == 0, err
    assert json.loads(out)["distance"] > 0
    assert "distance_skipped" not in json.loads(out)
    monkeypatch.setattr(importlib.import_module("calotte.plan"), "affordable", lambda _: False)
    out, err = run(capsys, monkeypatch, f"{plan} relaxation")[1:]
    assert json.loads(out)["distance"] is None
    assert json.loads(out)["distance_skipped"].startswith("not asked for")
    assert "distance" not in err
    assert "∞" not in err
