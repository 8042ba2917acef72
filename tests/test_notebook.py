"""What notebooks show: results, lists of them and cells as tables, pictures on axes."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch
from matplotlib.axes import Axes

import calotte
from calotte.printing import lower_text, probability_text


class Rows(HTMLParser):
    """The texts of a table's cells, row by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1].append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = False


@pytest.fixture(scope="module")
def network() -> calotte.Network:
    return calotte.random_network((5, 8, 3), torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def found(network: calotte.Network) -> list[calotte.Assessment]:
    x = torch.randn(40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    settings = calotte.Settings(samples=50, search=False)
    rungs = ["cell", "relaxation", "sampling"]
    return calotte.assess(network, x, calotte.Sphere(0.3), labels=[0] * 40, rungs=rungs, settings=settings)


def test_assessments_are_shown_riskiest_first(found: list[calotte.Assessment]) -> None:
    heads, *rows = Rows(found._repr_html_()).rows  # type: ignore[attr-defined]
    assert heads == ["input", "answer", "cell", "relaxation", "sampling", "certified radius", "wrong at"]
    assert len(rows) == 30
    logs = {str(one.index): one.best.log_misclassification for one in found if one.best}
    shown = [logs[row[0]] for row in rows]
    assert shown == sorted(logs.values(), reverse=True)[:30]
    (one,) = (one for one in found if str(one.index) == rows[0][0])
    said = [probability_text(bound.log_misclassification) for bound in one.bounds]
    assert rows[0][2:] == [*said, lower_text(one.certified_radius), "-"]
    assert Rows(one._repr_html_()).rows == [heads, rows[0]]
    assert "30 of 40" in found._repr_html_()  # type: ignore[attr-defined]
    assert "at confidence 0.999" in one._repr_html_()
    assert calotte.assess_each is not None
    assert type(found)()._repr_html_() == "<p>no results</p>"  # type: ignore[attr-defined]


def test_plans_and_cells_are_shown(network: calotte.Network) -> None:
    x = torch.ones(2, 5, dtype=torch.float64)
    for noise, sizes in ((calotte.Sphere(1.0), "largest_eps"), (calotte.Gaussian(1.0), "largest_sigma")):
        plans = calotte.plan(network, x, noise, 1e-3, rungs=["theorem", "cell"])
        heads, *rows = Rows(plans._repr_html_()).rows  # type: ignore[attr-defined]
        assert heads == ["input", "answer", "theorem", "cell"]
        assert rows[0][2:] == [lower_text(size) for size in getattr(plans[0], sizes).values()]
    cell = calotte.Cell(network, x[0])
    heads, *rows = Rows(cell._repr_html_()).rows
    assert heads[0] == "unit"
    assert rows[0][0] == cell.names[cell.nearest_unit or 0]
    assert len(rows) == 10


def test_names_of_units_are_text() -> None:
    from calotte.notebook import html_table

    text = html_table("<b>", ["a\x1b"], [["<script>"]], "&")
    assert "<script" not in text.replace("&lt;script", "")
    assert Rows(text).rows == [["a\\x1b"], ["<script>"]]


def test_pictures_are_drawn_on_axes_of_their_own_or_given(
    network: calotte.Network, found: list[calotte.Assessment]
) -> None:
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    cell = calotte.Cell(network, torch.ones(5))
    for draw, what in (
        (calotte.plot.risk, found), (calotte.plot.probabilities, found), (calotte.plot.radii, found),
        (calotte.plot.by_class, found), (calotte.plot.scatter, found), (calotte.plot.sizes, found),
        (calotte.plot.cell, cell),
    ):  # fmt: skip
        axes = draw(what)  # type: ignore[operator]
        assert isinstance(axes, Axes)
        assert axes.figure.number in pyplot.get_fignums(), "notebooks show it"  # type: ignore[union-attr]
        assert draw(what, axes=axes) is axes  # type: ignore[operator]
    images = torch.rand(40, 8, 8).numpy()
    shown = calotte.plot.riskiest(found, images, count=3)
    assert len(shown) == 3
    assert calotte.plot.riskiest(found, images[:, :2, :2]) == []
    pyplot.close("all")


def test_pictures_are_imported_when_they_are_asked_for() -> None:
    code = "import sys, calotte; a = 'matplotlib' in sys.modules; calotte.plot; print(a, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
