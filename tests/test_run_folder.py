"""The folder of a run: what it says, that it goes on, and that the user's disk is no defect of ours."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import os
import platform
import pty
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from shell import called, forked, limited, run, same, save_model, stored

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


def test_a_killed_run_goes_on_and_is_the_run_undisturbed(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Three times kill -9 at a random moment; while it runs, another process is refused."""
    line = f"{ASSESS.replace('300', '40000')} --json --out"
    whole = run(capsys, monkeypatch, f"{line} whole")[1]
    numbers, refused, torn = random.Random(), 0, 0
    for least in (1, 2, 4):
        process = forked(f"{line} torn")
        while process.is_alive() and stored(here / "torn") < least:
            time.sleep(0.002)
        if least == 1:
            status, out, err = run(capsys, monkeypatch, f"{line} torn")
            refused += (status, out, err.count("\n")) == (2, "", 1) and "another process is at work in torn" in err
        time.sleep(0.05 * numbers.random())
        process.kill()
        process.join()
        torn += 0 < stored(here / "torn") < 7
    assert refused == 1
    assert torn > 0
    finished = stored(here / "torn")
    status, out, err = run(capsys, monkeypatch, f"{line} torn")
    assert status == 0, err
    assert f"{finished} of 7 inputs are finished" in err
    assert [same(text) for text in out.splitlines()] == [same(text) for text in whole.splitlines()]
    assert (here / "torn" / "assessments.jsonl").read_text() == out
    with np.load(here / "whole" / "witnesses.npz") as wanted, np.load(here / "torn" / "witnesses.npz") as found:
        assert wanted.files == found.files
        assert all(np.array_equal(wanted[name], found[name]) for name in wanted.files)
    assert sorted(path.name for path in (here / "torn").iterdir()) == [
        ".campaign.lock", "assessments.jsonl", "campaign.sqlite", "risk.png", "run.json", "witnesses.npz",
    ]  # fmt: skip


def test_results_do_not_depend_on_the_clock_of_the_wall(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    whole = run(capsys, monkeypatch, f"{ASSESS} --json")[1]
    clock = itertools.count(2e9, -3600.0)  # it is set back by an hour at every look
    monkeypatch.setattr(time, "time", lambda: next(clock))
    status, out, _ = run(capsys, monkeypatch, f"{ASSESS} --json --out res --index 0:3")
    again = run(capsys, monkeypatch, f"{ASSESS} --json --out res --index 0:3")
    assert (status, again[1]) == (0, out)
    assert [same(text) for text in out.splitlines()] == [same(text) for text in whole.splitlines()[:3]]


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


def flipped(database: bytes) -> bytes:
    """One bit of a number in a line."""
    place = database.index(b'"certified_radius": 0.') + 25
    return database[:place] + bytes([database[place] ^ 1]) + database[place + 1 :]


DAMAGES = {
    "a bit": flipped,
    "a page": lambda database: database[:-4096] + b"\x07" * 4096,
    "the header": lambda database: b"nonsense" + database[8:],
    "the end": lambda database: database[: len(database) // 2],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_left_alone(here: Path, capsys, monkeypatch, damage: Callable[[bytes], bytes]) -> None:  # type: ignore[no-untyped-def]
    run(capsys, monkeypatch, f"{ASSESS} --out res")
    store = here / "res" / "campaign.sqlite"
    database = damage(store.read_bytes())
    store.write_bytes(database)
    status, out, err = run(capsys, monkeypatch, f"{ASSESS} --out res")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert "res/campaign.sqlite is damaged" in err
    assert "away" in err
    assert store.read_bytes() == database


def test_folders_that_cannot_be_gone_on_with_are_left_alone(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    run(capsys, monkeypatch, f"{ASSESS} --out res")
    store = here / "res" / "campaign.sqlite"
    with closing(sqlite3.connect(store)) as database:
        database.execute("PRAGMA user_version = 7")
    kept = {path: path.read_bytes() for path in (here / "res").iterdir()}
    status, out, err = run(capsys, monkeypatch, f"{ASSESS} --out res")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "has layout 7" in err
    assert {path: path.read_bytes() for path in (here / "res").iterdir()} == kept
    store.unlink()
    status, out, err = run(capsys, monkeypatch, f"{ASSESS} --out res")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "holds results without the campaign.sqlite" in err
    assert not store.exists()


def test_files_beside_the_store_are_made_again(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    run(capsys, monkeypatch, f"{ASSESS} --out res")
    kept = {path: path.read_bytes() for path in (here / "res").iterdir() if path.suffix in (".json", ".jsonl")}
    (here / "res" / "run.json").write_text("{")
    (here / "res" / "assessments.jsonl").unlink()
    assert run(capsys, monkeypatch, f"{ASSESS} --out res")[0] == 0
    assert {path: path.read_bytes() for path in kept} == kept


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


def test_a_full_disk_keeps_finished_inputs(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """No file grows beyond 45,000 bytes: some inputs fit into the journal, not all."""
    full = called(f"{ASSESS} --json --no-search --out res", here, preexec_fn=limited(45_000))
    assert full.returncode == 2
    assert "defect" not in full.stderr
    assert "the disk refuses res/campaign.sqlite" in full.stderr.splitlines()[-1]
    assert 0 < full.stdout.count("\n") == stored(here / "res") < 7
    status, again, err = run(capsys, monkeypatch, f"{ASSESS} --json --no-search --out res")
    assert status == 0, err
    assert again.startswith(full.stdout)
    assert (here / "res" / "assessments.jsonl").read_text() == again
    fresh = run(capsys, monkeypatch, f"{ASSESS} --json --no-search")[1]
    assert [same(line) for line in again.splitlines()] == [same(line) for line in fresh.splitlines()]


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
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not stored(here / "res"):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    finished = (here / "res" / "assessments.jsonl").read_text().count("\n")
    assert process.returncode == 130, err
    assert 0 < finished == stored(here / "res") < 7
    assert f"interrupted: {finished} of 7 inputs are finished and kept in res/campaign.sqlite" in err


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
