"""Printed numbers lie on the safe side; pictures are drawn."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from decimal import MIN_EMIN, Decimal, getcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from calotte.assess import RUNGS, assess
from calotte.assessment import Assessment, by_risk
from calotte.bound import Bound
from calotte.cells.cell import Cell
from calotte.inputs import Inputs
from calotte.network.graph import Network
from calotte.network.random import random_network
from calotte.noise import Sphere
from calotte.plan import Plan, plan
from calotte.plot import COLOURS, risk
from calotte.plot.plane import clip
from calotte.printing import lower_text, number, probability_text
from calotte.report import svg
from calotte.report.pictures import cell_picture, risk_picture, riskiest_picture
from calotte.report.tables import SHORT, assessment_table, cell_table, plan_table
from calotte.report.words import plan_remarks, remarks, summary
from calotte.settings import Settings
from calotte.terminal import PLAIN, Terminal

getcontext().prec, getcontext().Emin = 60, MIN_EMIN
positive = st.floats(min_value=1e-300, max_value=1e300)


@given(positive)
def test_printed_lower_and_upper_numbers_enclose_and_are_close(x: float) -> None:
    low, high = Decimal(lower_text(x)), Decimal(number(x, "up"))
    assert low <= Decimal(x) <= high
    assert high - low <= Decimal(x) / 99


@given(st.floats(min_value=-1e7, max_value=-1e-9))
def test_printed_probabilities_are_upper_bounds(log_p: float) -> None:
    printed, true = Decimal(probability_text(log_p)), Decimal(log_p).exp()
    assert true <= printed <= min(Decimal(1), true * Decimal("1.11"))


def test_ends() -> None:
    assert (probability_text(-math.inf), probability_text(0.0), lower_text(None), lower_text(0.0)) == (
        "0", "1", "∞", "0",
    )  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network((64, 12, 12, 3), torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return torch.rand(14, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()


@pytest.fixture(scope="module")
def found(network: Network, x: np.ndarray) -> list[Assessment]:
    settings = Settings(samples=100, boxes=4)
    return assess(network, x, Sphere(0.2), labels=np.zeros(14, dtype=int), rungs=["all"], settings=settings)


@pytest.fixture(scope="module")
def plans(network: Network, x: np.ndarray) -> list[Plan]:
    return plan(network, x, Sphere(1.0), 1e-3, rungs=["theorem", "cell", "relaxation", "concentration"])


def printed(table: Table, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table, crop=False)
    return console.export_text()


def entries(table: Table, row: int) -> list[str]:
    return [str(list(column.cells)[row]) for column in table.columns]


def test_tables_are_ranked_and_counted(found: list[Assessment]) -> None:
    logs = [one.best.log_misclassification for one in by_risk(found) if one.best]
    assert logs == sorted(logs, reverse=True)
    assert "5 of 14" in printed(assessment_table(found, rows=5), 120)


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40, None])
def test_tables_fit_and_break_neither_numbers_nor_headings(
    found: list[Assessment], plans: list[Plan], width: int | None
) -> None:
    for table, rungs in ((assessment_table(found, width), RUNGS), (plan_table(plans, width), plans[0].largest_eps)):
        lines = printed(table, width or 500).splitlines()
        body = [line.split() for line in lines]
        assert all(entries(table, i) in body for i in range(14)), "no number is cut"
        names = {SHORT.get(rung, rung): rung for rung in rungs} | {rung: rung for rung in rungs}
        headings = next(line for line in lines if line.split()[:1] == ["input"]).replace("wrong at", "").split()
        shown = {names[word] for word in headings if word in names}
        assert set(headings) <= {*names, "input", "answer", "ans.", "radius", "distance", "dist."}, (
            "no heading is broken"
        )
        caption = " ".join(" ".join(lines).split())
        assert set(rungs) - shown == {rung for rung in rungs if re.search(rf"left out to fit: .*{rung}", caption)}
        for word in headings:
            assert names.get(word, word) in caption, "what is shortened is said in full"
        if width is not None and width >= 60:
            assert max(map(len, lines)) <= width
        if width in (None, 200):
            assert shown == set(rungs)
            assert not set(SHORT.values()) & set(headings)


def test_at_80_columns_the_default_rungs_are_all_there(found: list[Assessment]) -> None:
    default = [replace(one, bounds=tuple(b for b in one.bounds if b.rung != "isoperimetry")) for one in found]
    text = printed(assessment_table(default, 80), 80)
    assert "left out" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "wrong at" in text


def bound_of(rung: str, log: float = -1.0, **rest: object) -> Bound:
    return Bound(rung, "confidence" if rung == "sampling" else "proved", log, **rest)  # type: ignore[arg-type]


def with_bounds(one: Assessment, *bounds: Bound, **rest: object) -> Assessment:
    return replace(one, bounds=bounds, **rest)  # type: ignore[arg-type]


def test_skipped_and_cut_short_rungs_are_marked_and_explained(found: list[Assessment]) -> None:
    skipped = bound_of("sampling", 0.0, skipped="time limit of 2 s reached before sampling")
    sampled = bound_of("sampling", -3.0, confidence=0.99, samples=100)
    cut = bound_of("branching", -2.0, cut_short="time limit of 2 s reached in the search for slopes")
    run = [
        with_bounds(found[0], bound_of("cell", 0.0), cut, skipped),
        with_bounds(found[1], bound_of("cell", -0.5), bound_of("branching", -2.0), sampled),
    ]
    text = printed(assessment_table(run), 80)
    assert "at 0.99" in text
    assert "at 0 " not in printed(assessment_table(run[:1]), 80)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()[:1].isdigit()}
    assert rows["0"][-5:-2] == ["1", "0.14*", "-"]
    assert rows["1"][-5:-2] == ["0.61", "0.14", "0.050"]
    lines = remarks(run)
    assert len(lines) == 2
    assert lines[0].startswith("* branching: cut short for 1 of 2 inputs: time limit of 2 s")
    assert lines[1].startswith("sampling: - for 1 of 2 inputs: time limit")
    assert "--time-limit" in lines[1]


def test_rungs_that_say_nothing_are_explained(found: list[Assessment]) -> None:
    vacuous = (
        bound_of("theorem", 0.0),
        bound_of("cell", 0.0),
        bound_of("relaxation", 0.0),
        bound_of("sampling", -9.0),
    )
    off = [with_bounds(one, *vacuous) for one in found]
    (line,) = remarks(off)
    assert line.startswith("theorem, cell, relaxation: 1 for all 14 inputs: too much noise")
    assert "calotte plan --delta 1e-3 --noise sphere --rungs theorem,cell,relaxation" in line
    on = [replace(one, distance=0.0, nearest_unit="pool[3]") for one in off]
    lines = remarks(on)
    assert [line.split(":")[0] for line in lines] == ["theorem, cell", "relaxation"]
    assert "pool[3]" in lines[0]
    assert "average pooling" in lines[0]
    assert not remarks([with_bounds(one, bound_of("cell", -0.1)) for one in found])


def test_plans_say_what_is_skipped_and_speak_of_sigma_for_gaussians(plans: list[Plan]) -> None:
    eps = plans[0].largest_eps
    one = replace(
        plans[0],
        noise="gaussian",
        largest_eps={"theorem": 0.0, "cell": 0.02},
        largest_sigma={"theorem": 0.0, "cell": 0.00125},
        skipped={"branching": "too slow so far on a graph"},
        cut_short={"cell": "memory"},
        distance=0.0,
    )
    text = printed(plan_table([one]), 80)
    assert "Largest sigma of gaussian noise with p <= 0.001 proved" in text
    assert entries(plan_table([one]), 0)[2:5] == ["0", "0.00125*", "-"]
    lines = plan_remarks([one])
    assert [line.split(":")[0] for line in lines] == ["* cell", "branching", "theorem"]
    assert "too slow so far on a graph" in lines[1]
    assert "average pooling" in lines[2]
    assert "Largest eps of sphere noise" in printed(plan_table(plans), 80)
    assert entries(plan_table(plans[:1]), 0)[2:-1] == [lower_text(value) for value in eps.values()]


def test_the_summary_speaks_of_samples_too(found: list[Assessment]) -> None:
    logs = [-9.0] * 5 + [-2.0] * 9
    run = [
        with_bounds(one, bound_of("cell"), bound_of("sampling", log, confidence=0.999, samples=10**4))
        for one, log in zip(found, logs, strict=True)
    ]
    assert "14 inputs" in summary(run)
    assert summary(run).endswith("9 of 14 with a sampled bound above 1e-3")
    few = [with_bounds(one, bound_of("sampling", -4.0, confidence=0.999, samples=200)) for one in found]
    assert "200 samples cannot show less than 0.034: raise --samples" in summary(few)  # 1 - 0.001^(1/200) = 0.03395
    asked = [with_bounds(one, bound_of("sampling", -4.0, confidence=0.999, samples=200, delta=0.05)) for one in found]
    assert summary(asked).endswith("0 of 14 with a sampled bound above 5e-2")
    assert "sampled" not in summary([with_bounds(one, bound_of("cell")) for one in found])


HOSTILE = "act[/b][red]:smile:\x1b[31m[0]"


def test_names_are_printed_as_they_are(network: Network, x: np.ndarray, found: list[Assessment]) -> None:
    named = replace(network, nodes=tuple(replace(node, name=f"{HOSTILE}{k}") for k, node in enumerate(network.nodes)))
    cell = Cell(named, x[0])
    table = cell_table(cell, cell.faces())
    assert "act[/b][red]:smile:\\x1b[31m[0]" in printed(table, 200)
    lines = remarks([with_bounds(found[0], bound_of("cell", 0.0), distance=0.0, nearest_unit=f"{HOSTILE}[1]")])
    console = Terminal(width=400, record=True, file=io.StringIO(), **PLAIN)
    console.print(lines[0])
    assert "(of unit act[/b][red]:smile:\\x1b[31m[0][1])" in console.export_text()


def test_pictures(network: Network, x: np.ndarray, found: list[Assessment], tmp_path: Path) -> None:
    risk_picture(found, tmp_path / "risk.png")
    data = Inputs(x, None, list(range(len(x))))
    assert riskiest_picture(found, data, tmp_path / "riskiest.png")
    cell_picture(Cell(network, x[0]), tmp_path / "cell.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("risk.png", "riskiest.png", "cell.png"))
    odd = replace(data, x=np.array([[0.1, 0.2, 0.3]] * len(x)))
    assert not riskiest_picture(found, odd, tmp_path / "none.png")


def test_the_picture_of_the_risk_shows_every_rung_in_a_colour_of_its_own(found: list[Assessment]) -> None:
    assert set(COLOURS) == set(RUNGS)
    assert len(set(COLOURS.values())) == len(COLOURS)
    axes = risk(found, Figure().subplots())
    lines = {line.get_label().split(" ")[0]: line for line in axes.lines if line.get_label() in _legend(axes)}
    assert {name for name in lines if name != "p"} == set(RUNGS)
    ranked = by_risk(found)
    for k, bound in enumerate(ranked[0].bounds):
        line = lines[bound.rung]
        assert line.get_color() == line.get_markerfacecolor() == COLOURS[bound.rung]
        assert line.get_linestyle() == ("-" if bound.guarantee == "proved" else "--")
        logs = np.array([one.bounds[k].log_misclassification for one in ranked]) / math.log(10)
        assert np.allclose(line.get_ydata(), np.where(np.isfinite(logs), logs, np.nan), equal_nan=True)
    skipped = [with_bounds(one, bound_of("cell"), bound_of("branching", 0.0, skipped="too slow")) for one in found]
    axes = risk(skipped, Figure().subplots())
    assert _legend(axes) == ["cell"], "what was skipped is left out"


def test_pages_have_every_colour_of_pictures_light_and_dark() -> None:
    light, dark = (Path(svg.__file__).parent / "page.css").read_text().split("@media", 1)
    for rung in COLOURS:
        assert f"--{rung}:" in light
        assert f"--{rung}:" in dark.split("* {")[0] or rung == "branching", "branching is the colour of the text"


def _legend(axes: Axes) -> list[str]:
    return [str(text.get_text()) for text in axes.get_legend().get_texts()]


def test_clipping_a_square() -> None:
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    half = clip(square, np.array([-1.0, 0.0]), 0.25)
    assert half[:, 0].max() == 0.25
    assert len(clip(square, np.array([1.0, 0.0]), -2.0)) == 0
