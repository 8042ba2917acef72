"""The command line for tests: a small model, a call, its status and what it printed."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calotte import cli


def save_model(path: Path, d: int = 6, classes: int = 3, hidden: int = 8, operator: str = "Relu") -> Path:
    rng = np.random.default_rng(5)
    weights = {
        "w1": rng.standard_normal((hidden, d)) / math.sqrt(d),
        "b1": 0.3 * rng.standard_normal(hidden),
        "w2": rng.standard_normal((classes, hidden)) / math.sqrt(hidden),
        "b2": 0.1 * rng.standard_normal(classes),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "first", transB=1),
        helper.make_node(operator, ["h"], ["a"], "hidden"),
        helper.make_node("Gemm", ["a", "w2", "b2"], ["y"], "last", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", d])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["calotte", *line.split()])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def same(line: str) -> dict[str, object]:
    """A line without what differs between two runs that say the same."""
    found = json.loads(re.sub(r'"seconds": [\d.e-]+', '"seconds": 0', line))
    return {key: value for key, value in found.items() if key != "run"}


def called(line: str, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "calotte", *line.split()],
        **{"capture_output": True, "text": True, "cwd": folder, "timeout": 120} | options,
    )


def forked(line: str) -> BaseProcess:
    """The command in a copy of this process, which has imported everything already; it prints nothing."""

    def child() -> None:
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        sys.argv = ["calotte", *line.split()]
        cli.main()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process


def stored(folder: Path) -> int:
    """How many outcomes the campaign of a folder has; 0 before there is one."""
    try:
        with closing(sqlite3.connect(f"{(folder / 'campaign.sqlite').as_uri()}?mode=ro", uri=True)) as database:
            (count,) = database.execute("SELECT count(*) FROM outcomes").fetchone()
            return int(count)
    except sqlite3.OperationalError:
        return 0


def limited(size: int) -> Callable[[], None]:
    """For `preexec_fn`: no file of the process grows beyond so many bytes, as on a disk that is full."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
