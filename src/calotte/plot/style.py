"""What pictures share: colours, axes of probabilities, numbers by rung."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from calotte.assessment import Assessment
from calotte.bound import Bound

__all__ = ["COLOURS", "FOUND", "GRID", "MUTED", "Sample", "logs_of", "named", "new_axes", "odds", "probability_axis"]

COLOURS = {
    "theorem": "#999999",
    "cell": "#56b4e9",
    "relaxation": "#0072b2",
    "concentration": "#009e73",
    "moments": "#c9b900",
    "branching": "#000000",
    "isoperimetry": "#cc79a7",
    "sampling": "#d55e00",
}
"""A colour for each rung, apart for the colour-blind too (Okabe and Ito, Color Universal Design, 2008).

Their yellow is darker here, for white paper."""
FOUND, MUTED, GRID = "#e69f00", "#666666", "#e6e6e6"
"""Colours of what a search found, of helping lines and words, and of the grid."""

Sample = NDArray[np.float64]
_WORDS = {0: "1", -1: "1 in 10", -2: "1 in 100", -3: "1 in 1,000", -6: "1 in a million", -9: "1 in a billion"}
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def new_axes(axes: Axes | None, width: float = 8.0, height: float = 4.5) -> Axes:
    """The axes given, or those of a new figure of so many inches, known to pyplot: notebooks show it."""
    if axes is None:
        from matplotlib import pyplot

        _, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def odds(log: float) -> str:
    """A power of ten as odds: 'one in a million' where there is a word for it."""
    return _WORDS.get(round(log), "1 in 10" + f"{-log:.0f}".translate(_RAISED))


def probability_axis(axis: Axis) -> None:
    """Ticks of an axis whose numbers are logarithms to base 10 of probabilities."""
    axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axis.set_major_formatter(lambda log, _: odds(log))


def named(assessments: Iterable[Assessment]) -> dict[str, list[Bound | None]]:
    """Rung -> its bound for each input; None where it says nothing. Rungs that never do are left out."""
    kept = [{b.rung: b for b in one.bounds if b.skipped is None} for one in assessments]
    names = dict.fromkeys(name for bounds in kept for name in bounds)
    return {name: [bounds.get(name) for bounds in kept] for name in sorted(names, key=_place)}


def logs_of(bounds: Sequence[Bound | None]) -> Sample:
    """Logarithms to base 10: -inf where p = 0 is proved, NaN where there is no bound."""
    return np.array([np.nan if b is None else b.log_misclassification / math.log(10) for b in bounds])


def _place(rung: str) -> int:
    return list(COLOURS).index(rung)
