"""A small share of benchmarks/fuzz_import.py: no crash, no hang, no wrong network, nothing printed."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_import.py"


def test_damaged_files_are_refused_or_right():
    if not SCRIPT.exists():
        pytest.skip("benchmarks/fuzz_import.py is not part of this copy")
    run = subprocess.run(
        [sys.executable, str(SCRIPT), "--cases", "400", "--seed", "7"], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout
    assert "400 cases" in run.stdout
