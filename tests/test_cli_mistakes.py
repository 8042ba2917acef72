"""Mistakes on the command line: one line that says what to do, and an exit status."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from shell import run, save_model

BAD = {
    "layout of no image": ("assess net.onnx in.npz --eps 1 --layout NHWC", "three axes"),
    "an unknown layout": ("assess net.onnx in.npz --eps 1 --layout CHW", "--layout"),
    "an unknown output": ("assess net.onnx in.npz --eps 1 --output z", "z"),
    "two dashes": ("assess net.onnx in.npz --eps 1 --1", "--1"),
    "a number with two dashes": ("assess net.onnx in.npz --eps --1", "--eps"),
    "samples as a float": ("assess net.onnx in.npz --eps 1 --samples 1e9", "--samples"),
    "infinite memory": ("assess net.onnx in.npz --eps 1 --memory-limit inf", "memory"),
    "infinite memory of a plan": ("plan net.onnx in.npz --delta 0.1 --memory-limit inf", "memory"),
    "infinite memory of a cell": ("cell net.onnx in.npz --memory-limit inf", "memory"),
    "time of a cell": ("cell net.onnx in.npz --time-limit nan", "time"),
    "delta NaN": ("plan net.onnx in.npz --delta nan", "delta"),
    "markup in a name": ("assess net[/b].onnx in.npz --eps 1", "net[/b].onnx"),
    "markup in the inputs": ("assess net.onnx [red]in.npz --eps 1", "[red]in.npz"),
    "clip upside down": ("assess net.onnx in.npz --eps 1 --clip 1 0", "low < high"),
    "clip with one end": ("assess net.onnx in.npz --eps 1 --clip 1", "clip"),
    "missing model": ("assess no.onnx in.npz --eps 1", "no.onnx"),
    "model of another kind": ("assess in.npz in.npz --eps 1", "in.npz"),
    "missing inputs": ("assess net.onnx no.npy --eps 1", "no.npy"),
    "no size": ("assess net.onnx in.npz", "--eps or --sigma"),
    "two sizes": ("assess net.onnx in.npz --eps 1 --sigma 1", "--eps or --sigma"),
    "zero eps": ("assess net.onnx in.npz --eps 0", "positive"),
    "negative sigma": ("assess net.onnx in.npz --sigma -1", "positive"),
    "infinite eps": ("assess net.onnx in.npz --eps inf", "finite"),
    "NaN eps": ("assess net.onnx in.npz --eps nan", "finite"),
    "eps is a word": ("assess net.onnx in.npz --eps big", "--eps"),
    "unknown noise": ("assess net.onnx in.npz --eps 1 --noise pink", "--noise"),
    "unknown rung": ("assess net.onnx in.npz --eps 1 --rungs theory", "theory"),
    "statistical rung in plan": ("plan net.onnx in.npz --delta 0.1 --rungs sampling", "sampling"),
    "no rung": ("assess net.onnx in.npz --eps 1 --rungs ,", "rungs"),
    "index beyond": ("assess net.onnx in.npz --eps 1 --index 7", "out of range"),
    "index nonsense": ("assess net.onnx in.npz --eps 1 --index a:b", "index"),
    "empty index": ("assess net.onnx in.npz --eps 1 --index 5:5", "none"),
    "wrong decision": ("assess net.onnx in.npz --eps 1 --decision sign", "sign"),
    "confidence 1": ("assess net.onnx in.npz --eps 1 --confidence 1", "confidence"),
    "no samples": ("assess net.onnx in.npz --eps 1 --samples 0", "samples"),
    "negative seed": ("assess net.onnx in.npz --eps 1 --seed -1", "seed"),
    "zero memory": ("assess net.onnx in.npz --eps 1 --memory-limit 0", "memory"),
    "zero time": ("assess net.onnx in.npz --eps 1 --time-limit 0", "time"),
    "cuda": ("assess net.onnx in.npz --eps 1 --device cuda", "CUDA"),
    "delta 0": ("plan net.onnx in.npz --delta 0", "delta"),
    "delta 2": ("plan net.onnx in.npz --delta 2", "delta"),
    "no delta": ("plan net.onnx in.npz", "delta"),
    "delta of sampling": ("assess net.onnx in.npz --eps 1 --delta 1", "delta"),
    "cell of two": ("cell net.onnx in.npz --index 0:2", "index"),
    "cell to nowhere": ("cell net.onnx in.npz --out cell.txt", ".npz"),
    "out is a file": ("assess net.onnx in.npz --eps 1 --out in.npz", "folder"),
    "map is missing": ("assess net.onnx in.npz --eps 1 --map no.npy", "no.npy"),
    "no command": ("", "ommand"),
    "wrong command": ("asess net.onnx in.npz --eps 1", "asess"),
    "unknown option": ("assess net.onnx in.npz --epsilon 1", "--epsilon"),
}


@pytest.mark.parametrize(("line", "said"), BAD.values(), ids=BAD)
def test_mistakes_get_one_line_and_status_2(here: Path, capsys, monkeypatch, line: str, said: str) -> None:  # type: ignore[no-untyped-def]
    status, out, err = run(capsys, monkeypatch, line)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err


def bad_files(folder: Path) -> None:
    good = (folder / "net.onnx").read_bytes()
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_text("not a model\n")
    (folder / "half.onnx").write_bytes(good[: len(good) // 2])
    save_model(folder / "soft.onnx", operator="Softplus")
    x = np.load(folder / "in.npz")["x"]
    np.save(folder / "nan.npy", np.where(np.arange(6) == 3, np.nan, x))
    np.save(folder / "inf.npy", np.where(np.arange(6) == 3, np.inf, x))
    np.save(folder / "wide.npy", np.ones((3, 7)))
    np.save(folder / "none.npy", np.ones((0, 6)))
    np.save(folder / "words.npy", np.array(["a", "b"]))
    np.save(folder / "objects.npy", np.array([{}], dtype=object))
    np.save(folder / "complex.npy", np.ones((2, 6)) * 1j)
    (folder / "cut.npy").write_bytes((folder / "wide.npy").read_bytes()[:-9])
    (folder / "text.npy").write_text("1,2,3")
    (folder / "text.npz").write_text("1,2,3")
    np.savez(folder / "nox.npz", z=x)
    np.savez(folder / "range.npz", x=x, y=np.full(7, 3))
    np.savez(folder / "negative.npz", x=x, y=np.full(7, -1))
    np.savez(folder / "fraction.npz", x=x, y=np.full(7, 0.5))
    np.savez(folder / "fewer.npz", x=x, y=np.zeros(6))
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("a,b,c,d,e,f\n")
    (folder / "ragged.csv").write_text("1,2,3,4,5,6\n1,2\n")
    (folder / "word.csv").write_text("1,2,3,4,5,6\n1,2,3,4,5,x\n")
    (folder / "other.txt").write_text("1 2 3")
    (folder / "other.vnnlib").write_text("(assert (<= X_0 1))")


@pytest.mark.parametrize("model", ["empty.onnx", "text.onnx", "half.onnx", "soft.onnx"])
def test_bad_models(here: Path, capsys, monkeypatch, model: str) -> None:  # type: ignore[no-untyped-def]
    bad_files(here)
    status, out, err = run(capsys, monkeypatch, f"assess {model} in.npz --eps 1")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "Softplus" in err if model == "soft.onnx" else model in err


@pytest.mark.parametrize(
    "name",
    [
        "nan.npy", "inf.npy", "wide.npy", "none.npy", "words.npy", "objects.npy", "complex.npy", "cut.npy",
        "text.npy", "text.npz", "nox.npz", "range.npz", "negative.npz", "fraction.npz", "fewer.npz", "empty.csv",
        "header.csv", "ragged.csv", "word.csv", "other.txt", "other.vnnlib", ".",
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["assess net.onnx {} --eps 1 --json", "plan net.onnx {} --delta 0.1 --json"])
def test_bad_inputs(here: Path, capsys, monkeypatch, name: str, command: str) -> None:  # type: ignore[no-untyped-def]
    bad_files(here)
    status, out, err = run(capsys, monkeypatch, command.format(name))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1


def test_a_defect_is_one_line_and_status_1(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr(importlib.import_module("calotte.assess").Assessor, "__init__", broken)
    status, out, err = run(capsys, monkeypatch, "assess net.onnx in.npz --eps 1")
    assert (status, out) == (1, "")
    assert "defect" in err
    assert err.count("\n") == 1
