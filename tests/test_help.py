"""Help comes at once and agrees with the code; the theory's questions."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from shell import run

import calotte
from calotte import cli
from calotte.assess import ESTIMATORS, RUNGS
from calotte.cli.assess import ASKED, ESTIMATES
from calotte.theorems import theorem_4_2

COMMANDS = [command.callback.__name__ for command in cli.app.registered_commands if command.callback]
DOCS = Path(__file__).parents[1] / "docs" / "command-line.md"


@pytest.mark.parametrize("line", ["--help", "--version", "assess --help", "asess", "assess a.onnx --eps", "theory"])
def test_help_and_mistakes_wait_for_no_library(line: str) -> None:
    code = (
        "import sys\nfrom calotte.cli import main\n"
        f"sys.argv = ['calotte', *{line.split()!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'onnx', 'onnxruntime', 'matplotlib'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_in_the_help_and_the_docs(capsys, monkeypatch, command: str) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = run(capsys, monkeypatch, f"{command} --help")
    assert status == 0
    assert f"Example: calotte {command}" in out
    assert f"`calotte {command}" in DOCS.read_text()
    example = re.search(r"Example: calotte (.*)", out)
    assert example is not None
    for option in re.findall(r"--[a-z-]+", example[1]):
        assert f" {option} " in out


def test_the_docs_name_no_option_that_is_not_there(capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "200")
    known = " ".join(run(capsys, monkeypatch, f"{command} --help")[1] for command in ["", *COMMANDS] if command)
    known += run(capsys, monkeypatch, "--help")[1]
    for option in set(re.findall(r"--[A-Za-z][a-z-]*", DOCS.read_text())):
        assert f" {option} " in known, option


def test_help_lists_the_rungs_and_estimates_that_there_are() -> None:
    assert ASKED.split(", ") == list(RUNGS)
    assert ESTIMATES.split(", ") == list(ESTIMATORS)


def test_the_version_is_that_of_the_package(capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    assert run(capsys, monkeypatch, "--version") == (0, f"calotte {calotte.__version__}\n", "")


def test_importing_a_module_does_not_hide_the_function_of_the_same_name() -> None:
    code = "import calotte, calotte.plan, calotte.assess; print(callable(calotte.plan), callable(calotte.assess))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "True True\n"


GIVEN = {"rho": "0.5", "eps": "2.2", "d": "784", "N": "521", "delta": "1e-6"}


@pytest.mark.parametrize("asked", GIVEN)
def test_theory_answers_what_is_not_given(capsys, monkeypatch, asked: str) -> None:  # type: ignore[no-untyped-def]
    """The answer proves p <= delta, and the next one on the bold side does not."""
    line = "theory " + " ".join(f"--{name} {value}" for name, value in GIVEN.items() if name != asked)
    status, out, err = run(capsys, monkeypatch, f"{line} --json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["asked"], found["statement"]) == (asked, "Theorem 4.2")
    rho, eps, d, N, delta = (found[name] for name in GIVEN)
    exact = float(Fraction(d) * Fraction(rho) ** 2 / (2 * Fraction(eps) ** 2))
    if asked == "delta":
        assert N * math.exp(-exact) <= delta <= N * math.exp(-exact) * (1 + 1e-13)
    else:
        assert theorem_4_2(rho, eps, d, N).log_misclassification <= math.log(1e-6)
        bolder = {
            "rho": (math.nextafter(rho, 0), eps, d, N), "eps": (rho, math.nextafter(eps, 9), d, N),
            "d": (rho, eps, d - 1, N), "N": (rho, eps, d, N + 1),
        }  # fmt: skip
        assert theorem_4_2(*bolder[asked]).log_misclassification > math.log(1e-6) - 1e-9
    status, text, _ = run(capsys, monkeypatch, line)
    assert status == 0
    assert text.count("\n") == 1
    number = float(re.findall(r"[\d.]+(?:e[+-]?\d+)?", text)[-1])
    assert number >= found[asked] if asked in ("rho", "delta") else number <= found[asked]
    assert number == pytest.approx(found[asked], rel=0.06)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("theory", "missing are --rho, --eps, --d, --N, --delta"),
        ("theory --rho 1 --eps 2 --d 9 --N 5 --delta 0.1", "all are given"),
        ("theory --rho 0 --eps 2 --d 9 --N 5", "rho"),
        ("theory --rho nan --eps 2 --d 9 --N 5", "rho"),
        ("theory --rho 1 --eps 2 --d 1 --N 5", "d"),
        ("theory --rho 1 --eps 2 --d 9.5 --N 5", "--d"),
        ("theory --rho 1 --eps 2 --d 9 --N 0", "N"),
        ("theory --rho 1 --d 9 --N 5 --delta 1", "delta"),
    ],
)
def test_theory_refuses_what_makes_no_sense(capsys, monkeypatch, line: str, said: str) -> None:  # type: ignore[no-untyped-def]
    status, out, err = run(capsys, monkeypatch, line)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert "defect" not in err


def test_theory_at_its_ends(capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    certain = json.loads(run(capsys, monkeypatch, "theory --rho 2 --eps 2 --d 9 --N 5 --json")[1])
    assert certain["delta"] == 0
    tiny = json.loads(run(capsys, monkeypatch, "theory --rho 1 --eps 2 --d 100000 --N 5 --json")[1])
    assert tiny["delta"] == 5e-324
    assert "e-5428 is proved" in run(capsys, monkeypatch, "theory --rho 1 --eps 2 --d 100000 --N 5")[1]
    assert json.loads(run(capsys, monkeypatch, "theory --rho inf --d 9 --N 5 --delta 0.1 --json")[1])["eps"] is None
