"""Progress and its honesty; warnings about the range of inputs."""

from __future__ import annotations

import time

import pytest
import torch

from calotte.cli.opening import accuracy, range_warning
from calotte.network.random import random_network
from calotte.terminal import Watch, seconds_text


def test_a_log_gets_a_line_every_so_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10**6, 4))  # four seconds go by between two looks at the clock
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with Watch(total=40, done=10) as watch:
        for index in range(10, 40):
            watch(index, "rung branching")
            watch.finished()
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) < 30, "not one for each input"
    assert lines[0].endswith(f"; now input {lines[0].split('input ')[-1].split(':')[0]}: rung branching")
    assert all(" of 40 inputs in " in line for line in lines)
    assert "left" in lines[-1]


def test_the_time_left_is_that_of_inputs_finished_now(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch = Watch(total=40, done=30)
    now[0] += 60
    assert watch.left() == "", "nothing is known before an input is finished"
    watch.finished()
    watch.finished()
    assert watch.left() == "0.033/s, about 4 min left", (
        "8 inputs at 30 s each; the 30 finished before took no time now"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (150, "2 min"), (3 * 3600, "3 h"), (5 * 86400, "5 d")]
)
def test_durations(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_ranges_that_look_wrong() -> None:
    generator = torch.Generator().manual_seed(0)
    network = random_network((20, 30, 5), generator)
    x = torch.rand(50, 20, dtype=torch.float64, generator=generator)
    labels = network.predict(x)
    other = network.predict(255 * x)
    assert accuracy(network, x, labels) == 1.0 > accuracy(network, 255 * x, labels)
    assert "x / 255 is answered better" in (range_warning(network, 255 * x, labels) or "")
    assert "x / 255 is answered better" in (
        range_warning(network, (255 * x).round(), network.predict((255 * x).round() / 255)) or ""
    )
    assert range_warning(network, x, labels) is None
    assert "255 x is answered better" in (range_warning(network, x, other) or "")
    assert range_warning(network, 255 * x, other) is None, "a network that takes bytes"
    assert "look like bytes" in (range_warning(network, 255 * x, None) or ""), "fractions from 0 to 255"
    assert "look like bytes" in (range_warning(network, (9 * x).round(), None) or ""), "whole numbers"
    for harmless in (9 * x, x, 255 * x - 1, 300 * x, x * 0):
        assert range_warning(network, harmless, None) is None
