"""Drawing: the one style of the report's figures, and how they are saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "GREY", "INK", "ORANGE", "PALE_BLUE", "PALE_ORANGE", "save", "sequence", "style", "title"]

INK, GREY = "#22303c", "#8a949e"
BLUE, ORANGE, GREEN = "#1f6f9f", "#d9622b", "#3a8f6b"
PALE_BLUE, PALE_ORANGE = "#dcebf4", "#fbe3d6"

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.grid": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "figure.dpi": 100,
}


@contextmanager
def style() -> Iterator[None]:
    """The style, for the figures made inside; global settings stay as they are."""
    with mpl.rc_context(_STYLE):
        yield


def sequence(n: int) -> list[tuple[float, ...]]:
    """n colours from light to dark blue, for an ordered quantity."""
    colours = mpl.colormaps["YlGnBu"]
    return [colours(0.35 + 0.6 * k / max(1, n - 1)) for k in range(n)]


def title(axes: Axes, text: str) -> None:
    """A panel's title."""
    axes.set_title(text, color=INK)


def save(figure: Figure, out: Path, name: str) -> str:
    """Save as vector PDF and as PNG, the same bytes each time; gives the name back."""
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        figure.savefig(out / f"{name}{suffix}", bbox_inches="tight", metadata=metadata)
    return name
