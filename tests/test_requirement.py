"""Requirements as an exit status."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path

import pytest
from shell import run

from calotte.assessment import Assessment
from calotte.bound import Bound
from calotte.errors import InvalidInput
from calotte.requirement import Requirement


def result(*bounds: Bound) -> Assessment:
    return Assessment(
        index=0, predicted=0, label=None, noise="sphere", eps=1.0, sigma=1.0, input_dimension=2, units=1,
        distance=None, nearest_unit=None, certified_radius=0.0, bounds=bounds, seed=0, model_sha256=None,
    )  # fmt: skip


def test_what_meets_it() -> None:
    """The bound itself, not its neighbour; samples only where that is said; what is skipped never."""
    proved, sampled = Requirement.of("p<=1e-6 for 95%"), Requirement.of(" p <= 1e-6  sampled ")
    assert (proved.percent, sampled.percent, sampled.sampled) == (95, 100, True)
    log_p = math.log(1e-6)
    for bound, by_proof, by_either in (
        (Bound("cell", "proved", log_p - 1e-12), True, True),
        (Bound("cell", "proved", log_p + 1e-12), False, False),
        (Bound("cell", "proved", -math.inf), True, True),
        (Bound("sampling", "confidence", log_p - 1e-12, confidence=0.999), False, True),
        (Bound("cell", "proved", 0.0, skipped="why"), False, False),
        (Bound("sampling", "confidence", 0.0, skipped="why"), False, False),
    ):
        assert (proved.met_by(result(bound)), sampled.met_by(result(bound))) == (by_proof, by_either)


@pytest.mark.parametrize(("share", "holds"), [("66.6", True), ("66.67", False), ("200e-1", True), ("100", False)])
def test_the_share_is_exact(share: str, holds: bool) -> None:
    good, bad = result(Bound("cell", "proved", -99.0)), result(Bound("cell", "proved", 0.0))
    found, said = Requirement.of(f"p<=0.01 for {share}%").verdict([good, bad, good], 3)
    assert (found, "2 of 3 inputs" in said) == (holds, True)
    assert not Requirement.of("p<=0.01").verdict([good, good], 3)[0], "an input without a result does not meet it"
    assert Requirement.of("p<=0.01 for 12.5%").percent == Fraction(25, 2)


@pytest.mark.parametrize("text", ["", "p<1", "p<=0", "p<=1", "p<=2", "p<=1e-3 for 0%", "p<=1e-3 for 101%", "q<=0.1"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(f"requirement '{text}'")):
        Requirement.of(text)


def test_the_exit_status(here: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    common = "assess net.onnx in.npz --eps 0.05 --no-search --rungs cell --index 0:3 --json --require"
    status, out, err = run(capsys, monkeypatch, f"{common} p<=0.999999")
    assert (status, out.count("\n")) == (0, 3)
    assert "required p<=0.999999: holds, proved for 3 of 3 inputs, 100 %" in err
    status, out, err = run(capsys, monkeypatch, f"{common} p<=1e-300")
    assert (status, out.count("\n")) == (3, 3)
    assert "calotte: required p<=1e-300: does not hold, proved for" in err
    status, out, err = run(capsys, monkeypatch, f"{common} nonsense")
    assert (status, out, err.count("\n")) == (2, "", 1)
