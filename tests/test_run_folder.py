"""The folder of a run: what it says, that it goes on, and that the user's disk is no defect of ours."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from shell import called, limited, run, same, save_model

import calotte
from calotte.report.files import write_whole

ASSESS = "assess net.onnx in.npz --eps 0.2 --rungs theorem,cell,sampling --samples 300"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_run_json_says_what_the_lines_are_about(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    np.save(here / "s.npy", np.arange(1.0, 7))
    status, _, err = run(capsys, monkeypatch, f"{ASSESS} --map s.npy --clip -9 9 --index 0:2 --out res")
    assert status == 0, err
    about = json.loads((here / "res" / "run.json").read_text())
    assert about["command"] == f"calotte {ASSESS} --map s.npy --clip -9 9 --index 0:2 --out res"
    assert about["model"]["files"] == {"net.onnx": sha256(here / "net.onnx")}
    assert about["inputs"] == {"file": "in.npz", "sha256": sha256(here / "in.npz")}
    assert about["map"] == {"file": "s.npy", "sha256": sha256(here / "s.npy")}
    options = {"eps": 0.2, "clip": [-9, 9], "samples": 300, "noise": "sphere", "index": "0:2", "command": "assess"}
    assert options.items() <= about["options"].items()
    assert not {"out", "as_json", "wide"} & about["options"].keys()
    assert about["versions"]["torch"] == torch.__version__
    assert about["versions"]["calotte"] == calotte.__version__
    assert about["threads"] == torch.get_num_threads()
    assert platform.node() not in (here / "res" / "run.json").read_text().split('"'), "no name of a host"
    for line in map(json.loads, (here / "res" / "assessments.jsonl").read_text().splitlines()):
        assert line["run"] == sha256(here / "res" / "run.json")


def test_a_torn_run_goes_on_and_is_the_run_undisturbed(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    whole = run(capsys, monkeypatch, f"{ASSESS} --json --out whole")[1]
    assert run(capsys, monkeypatch, f"{ASSESS} --json --out torn")[0] == 0
    lines = here / "torn" / "assessments.jsonl"
    text = lines.read_bytes()
    third = [i for i, byte in enumerate(text) if byte == 10][2]
    lines.write_bytes(text[: third + 40])
    status, out, err = run(capsys, monkeypatch, f"{ASSESS} --json --wide --out torn")
    assert status == 0, err
    assert "3 of 7 inputs are finished" in err
    assert [same(line) for line in out.splitlines()] == [same(line) for line in whole.splitlines()]
    assert lines.read_bytes()[: third + 1] == text[: third + 1]
    assert lines.read_text() == out
    with np.load(here / "whole" / "witnesses.npz") as wanted, np.load(here / "torn" / "witnesses.npz") as found:
        assert all(np.array_equal(wanted[name], found[name]) for name in wanted.files)
    assert sorted(path.name for path in (here / "torn").iterdir()) == [
        "assessments.jsonl", "risk.png", "run.json", "witnesses.npz",
    ]  # fmt: skip


def test_a_finished_run_is_shown_again(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for line in (ASSESS, "plan net.onnx in.npz --delta 1e-3 --rungs theorem,cell"):
        first = run(capsys, monkeypatch, f"{line} --out res")
        kept = {path: path.read_bytes() for path in (here / "res").glob("*.jsonl")}
        again = run(capsys, monkeypatch, f"{line} --out res")
        assert (first[0], again[0]) == (0, 0)
        assert "7 of 7 inputs are finished" in again[2]
        assert first[1] == again[1], "the same table"
        assert {path: path.read_bytes() for path in kept} == kept
        for path in (here / "res").iterdir():
            path.unlink()


CHANGES = {
    "an option": (f"{ASSESS} --seed 3", "options.seed was 0, is 3"),
    "another command": ("plan net.onnx in.npz --delta 0.1 --rungs cell", 'options.command was "assess", is "plan"'),
    "another model": (ASSESS.replace("net.onnx", "other.onnx"), "model.sha256 was"),
    "other inputs": (ASSESS.replace("in.npz", "other.npz"), "inputs.file was"),
}


@pytest.mark.parametrize(("line", "said"), CHANGES.values(), ids=CHANGES)
def test_another_run_is_refused_and_loses_nothing(here: Path, capsys, monkeypatch, line: str, said: str) -> None:  # type: ignore[no-untyped-def]
    save_model(here / "other.onnx", hidden=9)
    np.savez(here / "other.npz", x=np.ones((2, 6)))
    assert run(capsys, monkeypatch, f"{ASSESS} --out res")[0] == 0
    kept = {path: path.read_bytes() for path in (here / "res").iterdir()}
    status, out, err = run(capsys, monkeypatch, f"{line} --out res")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert "name another folder" in err
    assert {path: path.read_bytes() for path in (here / "res").iterdir()} == kept


@pytest.mark.parametrize("damage", ["no run.json", "a damaged run.json", "a damaged line", "a line of another run"])
def test_folders_that_cannot_be_gone_on_with_are_left_alone(here: Path, capsys, monkeypatch, damage: str) -> None:  # type: ignore[no-untyped-def]
    run(capsys, monkeypatch, f"{ASSESS} --out res")
    lines, about = here / "res" / "assessments.jsonl", here / "res" / "run.json"
    text = lines.read_text()
    if damage == "no run.json":
        about.unlink()
    elif damage == "a damaged run.json":
        about.write_text("{")
    else:
        text = text.replace('"run": "', '"run": "0') if "another" in damage else "nonsense\n" + text
        lines.write_text(text)
    status, out, err = run(capsys, monkeypatch, f"{ASSESS} --out res")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "away" in err
    assert lines.read_text() == text


DISKS = {
    "a file for a folder": f"{ASSESS} --out in.npz",
    "a folder in a file": f"{ASSESS} --out in.npz/res",
    "a folder that cannot be made": f"{ASSESS} --out /proc/calotte",
    "cell into a missing folder": "cell missing.onnx in.npz --out nowhere/cell.npz",
    "cell over a folder": "cell missing.onnx in.npz --out folder.npz",
    "cell where nothing can be made": "cell missing.onnx in.npz --out /proc/cell.csv",
    "the paper": "paper --out in.npz",
}


@pytest.mark.parametrize("line", DISKS.values(), ids=DISKS)
def test_places_that_cannot_be_written_are_found_before_the_work(here: Path, capsys, monkeypatch, line: str) -> None:  # type: ignore[no-untyped-def]
    (here / "folder.npz").mkdir()
    work = importlib.import_module("calotte.assess").Assessor
    monkeypatch.setattr(work, "assess", lambda *_: pytest.fail("work was begun"))
    status, out, err = run(capsys, monkeypatch, line)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "defect" not in err
    assert "missing.onnx" not in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (here / "mine").mkdir(mode=0o500)
    status, out, err = run(capsys, monkeypatch, f"{ASSESS} --out mine")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "Permission denied" in err


def test_a_full_disk_keeps_finished_lines(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """No file grows beyond 5,000 bytes: some lines fit, not all."""
    full = called(f"{ASSESS} --json --no-search --out res", here, preexec_fn=limited(5000))
    assert full.returncode == 2
    assert "defect" not in full.stderr
    assert "cannot write res/assessments.jsonl" in full.stderr.splitlines()[-1]
    kept = (here / "res" / "assessments.jsonl").read_bytes()
    finished = kept[: kept.rfind(b"\n") + 1].decode()
    assert 0 < finished.count("\n") < 7
    assert full.stdout == finished
    again = called(f"{ASSESS} --json --no-search --out res", here)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(finished)
    assert (here / "res" / "assessments.jsonl").read_text() == again.stdout
    fresh = run(capsys, monkeypatch, f"{ASSESS} --json --no-search")[1]
    assert [same(line) for line in again.stdout.splitlines()] == [same(line) for line in fresh.splitlines()]


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def broken(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(calotte.CalotteError, match=r"a\.txt: No space left on device"):
        write_whole(path, broken)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]


def test_standard_output_that_is_full_or_closed(here: Path) -> None:
    with open("/dev/full", "w") as full:
        result = called(f"{ASSESS} --json", here, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "calotte: cannot write to standard output: No space left on device"
    for line in (f"{ASSESS} --json", f"{ASSESS} --index 0"):
        result = subprocess.run(
            f"(sleep 0.5; exec {sys.executable} -m calotte {line}) | true; echo ${{PIPESTATUS[0]}}",
            shell=True, executable="/bin/bash", capture_output=True, text=True, cwd=here,
        )  # fmt: skip
        assert result.stdout == "2\n"
        assert result.stderr.splitlines()[-1] == "calotte: standard output was closed before the end"


def test_a_signal_stops_a_run_as_an_interruption(here: Path) -> None:
    line = "assess net.onnx in.npz --eps 0.2 --rungs sampling --samples 3000000 --no-search --out res"
    process = subprocess.Popen(
        [sys.executable, "-m", "calotte", *line.split()], cwd=here, stderr=subprocess.PIPE, text=True
    )
    lines, deadline = here / "res" / "assessments.jsonl", time.monotonic() + 60
    while time.monotonic() < deadline and not (lines.exists() and lines.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    finished = lines.read_text().count("\n")
    assert process.returncode == 130, err
    assert f"interrupted: {finished} of 7 inputs are finished and kept in res/assessments.jsonl" in err


def test_json_goes_to_standard_output_beside_a_bar_on_a_terminal(here: Path) -> None:
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "calotte", *f"{ASSESS} --json".split()],
        cwd=here, stdout=subprocess.PIPE, stderr=terminal, text=True,
    )  # fmt: skip
    os.close(terminal)
    seen = b""
    try:
        while chunk := os.read(main, 4096):
            seen += chunk
    except OSError:  # how a pseudo-terminal says that the other side is closed
        pass
    out = process.communicate(timeout=60)[0]
    os.close(main)
    assert process.returncode == 0
    assert [json.loads(line)["index"] for line in out.splitlines()] == list(range(7))
    assert b"7/7" in seen or b"6/7" in seen, "a bar was drawn"
    assert b'"index"' not in seen
