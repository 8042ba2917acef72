"""Printed numbers lie on the safe side; pictures are drawn."""

from __future__ import annotations

import io
import math
from decimal import MIN_EMIN, Decimal, getcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

from calotte.assess import assess
from calotte.cells.cell import Cell
from calotte.network.random import random_network
from calotte.noise import Sphere
from calotte.plan import plan
from calotte.printing import lower_text, number, probability_text
from calotte.report.pictures import cell_picture, clip, risk_picture, riskiest_picture
from calotte.report.tables import assessment_table, by_risk, plan_table, summary
from calotte.settings import Settings

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


def test_tables_and_pictures(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    network = random_network((64, 12, 12, 3), generator)
    x = torch.rand(14, 64, dtype=torch.float64, generator=generator).numpy()
    found = assess(network, x, Sphere(0.4), settings=Settings(samples=200, boxes=20), labels=np.zeros(14, dtype=int))
    logs = [one.best.log_misclassification for one in by_risk(found) if one.best]
    assert logs == sorted(logs, reverse=True)
    console = Console(width=120, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    console.print(assessment_table(found, rows=5))
    text = console.export_text()
    assert "5 of 14" in text
    assert "14 inputs" in summary(found)
    risk_picture(found, tmp_path / "risk.png")
    assert riskiest_picture(found, x, tmp_path / "riskiest.png")
    cell_picture(Cell(network, x[0]), tmp_path / "cell.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("risk.png", "riskiest.png", "cell.png"))
    odd = [[0.1, 0.2, 0.3]] * 14
    assert not riskiest_picture(found, np.array(odd), tmp_path / "none.png")


@pytest.fixture(scope="module")
def tables() -> list[Table]:
    generator = torch.Generator().manual_seed(2)
    network = random_network((64, 12, 12, 3), generator)
    x = torch.rand(14, 64, dtype=torch.float64, generator=generator).numpy()
    found = assess(network, x, Sphere(0.2), settings=Settings(samples=200, boxes=20))
    plans = plan(network, x, Sphere(1.0), 1e-3, rungs=["theorem", "cell", "relaxation", "concentration"])
    return [assessment_table(found), plan_table(plans)]


@pytest.mark.parametrize("width", [200, 80, 40])
def test_numbers_are_never_cut(width: int, tables: list[Table]) -> None:
    for table in tables:
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(table, crop=False)
        lines = [line.split() for line in console.export_text().splitlines()]
        for i in range(14):
            entries = [Text.from_markup(str(list(column.cells)[i])).plain for column in table.columns]
            assert entries in lines


def test_clipping_a_square() -> None:
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    half = clip(square, np.array([-1.0, 0.0]), 0.25)
    assert half[:, 0].max() == 0.25
    assert len(clip(square, np.array([1.0, 0.0]), -2.0)) == 0
