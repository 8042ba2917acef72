"""The ladder against the size of the noise, where the same inputs met several."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from calotte.assessment import Assessment, by_size
from calotte.bound import Bound
from calotte.noise import EPS
from calotte.plot.style import COLOURS, GRID, Sample, logs_of, named, new_axes, probability_axis
from calotte.theorems import log_target

__all__ = ["sizes"]


def sizes(assessments: Sequence[Assessment], delta: float | None = None, axes: Axes | None = None) -> Axes:
    """A line for each rung against eps: the median bound on p, or the share of the inputs with p <= delta.

    Args:
        assessments: of several sizes of the noise.
        delta: None for the median; axes: to draw on, None for new ones.
    """
    axes = new_axes(axes, 5.0, 4.0)
    curves: dict[str, list[tuple[float, float]]] = {}
    for group in sorted(by_size(assessments), key=lambda group: group[0].eps):
        eps = group[0].eps
        for rung, bounds in named(group).items():
            logs = logs_of(bounds)
            curves.setdefault(rung, []).append((eps, _median(logs) if delta is None else _share(bounds, delta)))
    values = np.array([value for curve in curves.values() for _, value in curve if math.isfinite(value)])
    floor = 1.05 * min(values.min(initial=-3.0), -3.0) if delta is None else 0.0
    for rung, curve in curves.items():
        style = "--" if rung in ("isoperimetry", "sampling") else "-"
        height = [max(value, floor) for _, value in curve]
        axes.plot([eps for eps, _ in curve], height, style, marker="o", ms=4, color=COLOURS[rung], label=rung)
    axes.set_xlabel(f"eps, {EPS[assessments[0].noise]}{assessments[0].unit_said}")
    if delta is None:
        axes.set_ylim(floor, -0.03 * floor)
        axes.set_ylabel("p is at most, median input")
        probability_axis(axes.yaxis)
    else:
        axes.set_ylim(0.0, 1.02)
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        axes.set_ylabel(f"share of the inputs with p ≤ {delta!r}")
    axes.grid(color=GRID)
    axes.legend(frameon=False)
    return axes


def _median(logs: Sample) -> float:
    """The upper median; a bound that is missing counts as 1."""
    return float(np.quantile(np.where(np.isnan(logs), 0.0, logs), 0.5, method="higher"))


def _share(bounds: Sequence[Bound | None], delta: float) -> float:
    target = log_target(delta)
    return sum(bound is not None and bound.log_misclassification <= target for bound in bounds) / len(bounds)
