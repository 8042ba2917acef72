"""What campaigns pass on: files for other programs, and two campaigns side by side."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from rich.console import Console
from shell import called, run, save_model

from calotte.campaign.compare import Pair, comparison_table, moved, tens
from calotte.campaign.export import escaped, power
from calotte.campaign.outcome import Job
from calotte.campaign.store import Store

ASSESS = "assess net.onnx in.npz --rungs theorem,cell,relaxation,sampling --samples 300 --clip -9 9"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a campaign `res`, whose input 4 was lost."""
    folder = tmp_path_factory.mktemp("finished")
    rng = np.random.default_rng(0)
    np.savez(folder / "in.npz", x=rng.standard_normal((7, 6)), y=rng.integers(0, 3, 7))
    save_model(folder / "net.onnx")
    process = called(f"{ASSESS} --eps 0.2 --estimates splitting --index 0:4 --out res", folder)
    assert process.returncode == 0, process.stderr
    with Store.to_read(folder / "res") as store:
        description = store.description
    with Store.in_folder(folder / "res", description) as store:
        store.put(Job([], store.run).failed((4, 0), "lost", "killed, twice"))
    return folder


@pytest.fixture
def kept(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The results of that campaign, in a copy of the folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return [json.loads(line) for line in (tmp_path / "res" / "assessments.jsonl").open()]


def test_csv_and_parquet_hold_the_lines(tmp_path: Path, kept, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for name in ("a.csv", "a.parquet"):
        assert run(capsys, monkeypatch, f"export res {name}") == (0, f"wrote 5 rows to {name}\n", "")
    said, *text = (tmp_path / "a.csv").read_text().splitlines()
    rows = list(csv.DictReader(text))
    table = parquet.read_table(tmp_path / "a.parquet")
    assert [row["index"] for row in rows] == list("01234")
    assert said == f"# {table.schema.metadata[b'claim'].decode()}"
    assert all(word in said for word in ("sphere noise of eps 0.2", "proved for theorem, cell, relaxation", "0.999"))
    assert "at 4 inputs (1 more have no result)" in said
    assert (rows[4]["failed"], rows[4]["reason"], rows[4]["cell.probability"]) == ("lost", "killed, twice", "")
    for row, typed, line in zip(rows, table.to_pylist(), kept, strict=False):
        assert int(row["index"]) == typed["index"] == line["index"]
        assert float(row["certified_radius"]) == typed["certified_radius"] == line["certified_radius"]
        assert (typed["clip.low"], typed["clip.high"], typed["correct"]) == (-9, 9, line["correct"])
        for bound in line["bounds"]:
            log = -math.inf if bound["certain"] else bound["log_misclassification"]
            name = bound["rung"]
            assert float(row[f"{name}.log_misclassification"]) == typed[f"{name}.log_misclassification"] == log
            assert float(row[f"{name}.probability"]) == typed[f"{name}.probability"]
            assert math.exp(log) <= typed[f"{name}.probability"] <= math.exp(log) * (1 + 1e-14)


def test_the_table_for_latex_rounds_up_and_down(tmp_path: Path, kept, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    assert run(capsys, monkeypatch, "export res a.tex")[0] == 0
    text = (tmp_path / "a.tex").read_text()
    assert text.count("{") == text.count("}")
    assert text.index("\\caption{Upper bounds") < text.index("\\toprule")
    found = re.findall(r"^(\d+) & (\d+) & (.*) \\\\$", text, re.M)
    assert sorted(int(index) for index, *_ in found) == [0, 1, 2, 3]
    lines = {line["index"]: line for line in kept}
    best = []
    for index, answer, rest in found:
        line, numbers = lines[int(index)], [value(cell) for cell in rest.split(" & ")]
        assert int(answer) == line["predicted"]
        for bound, printed in zip(line["bounds"], numbers, strict=False):
            p = 0 if bound["certain"] else math.exp(bound["log_misclassification"])
            assert Fraction(p) <= printed <= Fraction(p) * Fraction(12, 10)
        assert numbers[-2] <= Fraction(line["certified_radius"])
        assert rest.endswith("--") == (line["adversarial_distance"] is None)
        assert numbers[-1] >= Fraction(line["adversarial_distance"] or 0)
        best.append(min(numbers[:3]))
    assert best == sorted(best, reverse=True), "riskiest first"


def value(cell: str) -> Fraction:
    """The number that LaTeX prints; 0 where there is none."""
    if cell == "--":
        return Fraction(0)
    match = re.fullmatch(r"\$([\d.]+)(?:\\cdot 10\^\{(-?\d+)\})?\$", cell)
    assert match is not None, cell
    return Fraction(match[1]) * Fraction(10) ** int(match[2] or 0)


def test_what_cannot_be_exported_is_said(tmp_path: Path, kept, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    run(capsys, monkeypatch, "plan net.onnx in.npz --delta 0.1 --rungs cell --out plans")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for line, said in (
        ("export nowhere a.csv", "nowhere holds no campaign.sqlite"),
        ("export plans a.csv", "results of plan"),
        ("export res a.xlsx", ".csv, .parquet, .tex"),
        ("export res no/a.csv", "no folder no"),
        ("export res a.parquet", "pip install 'calotte[parquet]'"),
        ("compare res plans", "results of plan"),
    ):
        status, out, err = run(capsys, monkeypatch, line)
        assert (status, out, err.count("\n")) == (2, "", 1), line
        assert said in err
    assert not [path for path in tmp_path.iterdir() if path.stem == "a"]


def test_text_cannot_act_on_latex() -> None:
    assert escaped("50 % of a_b & {c} #1 \\input{x} ~^$\n") == (
        "50 \\% of a\\_b \\& \\{c\\} \\#1 \\textbackslash{}input\\{x\\} \\textasciitilde{}\\textasciicircum{}\\$"
    )
    assert [power(text) for text in ("0.031", "7.5e-4", "1.0e6", "∞")] == [
        "$0.031$", "$7.5\\cdot 10^{-4}$", "$1.0\\cdot 10^{6}$", "$\\infty$",
    ]  # fmt: skip


def test_two_sizes_of_noise_side_by_side(tmp_path: Path, kept, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Each bound is taken from the right line, and larger noise lowers none of them."""
    run(capsys, monkeypatch, f"{ASSESS.replace('theorem,', '')} --eps 0.3 --index 1:7 --out more")
    status, out, err = run(capsys, monkeypatch, "compare res more --json")
    assert status == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert [pair["index"] for pair in found] == [1, 2, 3]
    more = {line["index"]: line for line in map(json.loads, (tmp_path / "more" / "assessments.jsonl").open())}
    for pair in found:
        lines = kept[pair["index"]], more[pair["index"]]
        assert pair["predicted"] == [line["predicted"] for line in lines]
        assert pair["certified_radius"] == [line["certified_radius"] for line in lines]
        assert list(pair["rungs"]) == ["cell", "relaxation", "sampling"]
        for name, logs in pair["rungs"].items():
            bounds = [next(b for b in line["bounds"] if b["rung"] == name) for line in lines]
            assert logs == [bound["log_misclassification"] for bound in bounds]
            assert -math.inf if logs[0] is None else logs[0] <= (-math.inf if logs[1] is None else logs[1])
        for line, log in zip(lines, pair["log_misclassification"], strict=True):
            assert log == next(b for b in line["bounds"] if b["rung"] == line["best"])["log_misclassification"]
    assert "options.eps was 0.2, is 0.3" in err
    assert "3 inputs with results in both, of 5 and 6; 0 are answered differently" in err
    x = np.load(tmp_path / "in.npz")["x"]
    np.save(tmp_path / "other.npy", x + 1)
    run(capsys, monkeypatch, f"{ASSESS.replace('in.npz', 'other.npy')} --eps 0.2 --out other")
    status, out, err = run(capsys, monkeypatch, "compare res other")
    assert (status, out) == (2, "")
    assert "no input in common" in err


def test_the_table_shows_what_moved_most_in_80_columns() -> None:
    found = [
        Pair(i, "a", (0.1, 0.1), (1, 1 if i else 2), (-10.0, -10.0 + math.log(10) * (i - 50)), (0.5, math.inf), {})
        for i in range(100)
    ]
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(comparison_table(found, 80))
    text = console.export_text()
    rows = [line.split() for line in text.splitlines() if re.match(r" +\d+ ", line)]
    assert [int(row[0]) for row in rows] == [*range(99, 84, -1), *range(14, -1, -1)]
    assert (rows[0][1], rows[0][4], rows[-1][1], rows[-1][4]) == ("1", "+49", "1→2", "-50")
    assert "30 of 100 inputs" in text
    assert max(map(len, text.splitlines())) <= 80


def test_changes_in_words() -> None:
    logs = [(-1.0, -1.0), (-math.inf, -math.inf), (-math.inf, -1.0), (-3.0, -math.inf), (0.0, -math.log(10))]
    assert moved(logs) == "smaller for 2, larger for 1, the same for 2; median change of log10 p 0"
    assert [tens(change) for change in (-math.inf, math.inf, 0.0, math.log(100))] == ["to 0", "from 0", "0", "+2"]
    assert moved([(-1.0, -math.inf)]).endswith("to 0")
