"""Shared by all tests: one thread, failures named as they happen, the folder of real networks where it exists."""

from pathlib import Path

import numpy as np
import pytest
import torch
from shell import save_model

torch.set_num_threads(1)


def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """In place of an F: which test failed, and on what."""
    if not report.failed:
        return None
    reason = next((line[1:].strip() for line in report.longreprtext.splitlines() if line.startswith("E ")), "")
    category = "failed" if report.when == "call" else "error"
    return category, f"\n{category.upper()} {report.nodeid}: {reason}\n", category.upper()


@pytest.fixture
def data() -> Path:
    """The data folder `../shared/data` from the project's root."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the data folder {folder} is absent")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model `net.onnx` of 6 inputs and 3 classes, and 7 labelled inputs `in.npz`."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "in.npz", x=rng.standard_normal((7, 6)), y=rng.integers(0, 3, 7))
    return tmp_path
