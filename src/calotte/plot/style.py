"""What pictures share: colours, axes of probabilities, numbers by rung."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from calotte.assessment import Assessment

__all__ = ["COLOURS", "FOUND", "GRID", "MUTED", "STYLES", "Logs", "Sample", "new_axes", "odds", "probability_axis"]

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
STYLES = dict.fromkeys(COLOURS, "-") | {"isoperimetry": "--", "sampling": "--"}
"""A style of line for each rung: dashed where it holds at a confidence."""
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


class Logs:
    """Bounds on log p by rung, of inputs that are added one by one: numbers only, as there may be many.

    Attributes:
        levels: of confidence, by rung, of those that hold at one.
    """

    def __init__(self, assessments: Iterable[Assessment] = ()) -> None:
        self.levels = defaultdict[str, set[float]](set)
        self._columns: dict[str, array[float]] = {}
        self._count = 0
        for one in assessments:
            self.add(one)

    def add(self, one: Assessment) -> None:
        """One more input."""
        for bound in one.bounds:
            if bound.skipped is None:
                column = self._columns.setdefault(bound.rung, array("d"))
                column.extend([math.nan] * (self._count - len(column)))
                column.append(bound.log_misclassification)
                if bound.confidence is not None:
                    self.levels[bound.rung].add(bound.confidence)
        self._count += 1

    def by_rung(self) -> dict[str, Sample]:
        """Rung -> a bound on log p for each input, -inf where p = 0 is proved, NaN where there is none.

        In the order of the ladder; rungs that never say anything are left out.
        """
        missing = {name: [math.nan] * (self._count - len(column)) for name, column in self._columns.items()}
        names = sorted(self._columns, key=list(COLOURS).index)
        return {name: np.array([*self._columns[name], *missing[name]]) for name in names}
