"""Pictures in a folder of results, drawn by `calotte.plot` without a screen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure

from calotte.assessment import Assessment, by_risk
from calotte.cells.cell import Cell
from calotte.inputs import Inputs
from calotte.plot import cell, risk, riskiest, sizes
from calotte.plot.images import SHOWN
from calotte.report.files import write_whole

__all__ = ["cell_picture", "risk_picture", "riskiest_picture", "sizes_picture"]


def risk_picture(assessments: Iterable[Assessment], path: Path) -> None:
    """Draw `plot.risk` to a file.

    Raises:
        CannotWrite: the disk refuses.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    risk(assessments, figure.subplots())
    save(figure, path)


def sizes_picture(assessments: Iterable[Assessment], path: Path) -> None:
    """Draw `plot.sizes` of several sizes of the noise to a file.

    Raises:
        CannotWrite: the disk refuses.
    """
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    sizes(assessments, axes=figure.subplots())
    save(figure, path)


def riskiest_picture(assessments: Iterable[Assessment], data: Inputs, path: Path) -> bool:
    """Draw `plot.riskiest` to a file; False where inputs are no images."""
    worst = by_risk(assessments, SHOWN)
    figure = Figure(layout="constrained")
    x = data.taken([data.index.index(one.index) for one in worst]).x
    shown = bool(riskiest(worst, x, figure=figure))
    if shown:
        save(figure, path)
    return shown


def cell_picture(here: Cell, path: Path) -> None:
    """Draw `plot.cell` to a file."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    cell(here, axes=figure.subplots())
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a file, whole or not at all."""
    write_whole(path, lambda part: figure.savefig(part, dpi=150))
