"""Shared by all tests: one thread, failures named as they happen, the folder of real networks where it exists."""

from pathlib import Path

import pytest
import torch

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
