"""The ladder against the size of the noise, where the same inputs met several."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes

from calotte.assessment import Assessment
from calotte.noise import EPS
from calotte.plot.style import COLOURS, GRID, STYLES, Logs, Sample, new_axes, probability_axis
from calotte.theorems import log_target

__all__ = ["sizes"]


def sizes(assessments: Iterable[Assessment], delta: float | None = None, axes: Axes | None = None) -> Axes:
    """A line for each rung against eps: the median bound on p, or the share of the inputs with p <= delta.

    Args:
        assessments: of several sizes of the noise.
        delta: None for the median; axes: to draw on, None for new ones.
    """
    axes = new_axes(axes, 5.0, 4.0)
    curves: dict[str, list[tuple[float, float]]] = {}
    groups: defaultdict[float, Logs] = defaultdict(Logs)
    for one in assessments:
        groups[one.eps].add(one)
    for eps in sorted(groups):
        for rung, logs in groups[eps].by_rung().items():
            height = _median(logs) if delta is None else _share(logs, delta)
            curves.setdefault(rung, []).append((eps, height))
    values = np.array([value for curve in curves.values() for _, value in curve if math.isfinite(value)])
    floor = 1.05 * min(values.min(initial=-3.0), -3.0) if delta is None else 0.0
    for rung, curve in curves.items():
        heights = [max(value, floor) for _, value in curve]
        axes.plot([eps for eps, _ in curve], heights, STYLES[rung], marker="o", ms=4, color=COLOURS[rung], label=rung)
    axes.set_xlabel(f"eps, {EPS[one.noise]}{one.unit_said}")
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
    """The upper median as a power of ten; a bound that is missing counts as 1."""
    return float(np.quantile(np.where(np.isnan(logs), 0.0, logs), 0.5, method="higher")) / math.log(10)


def _share(logs: Sample, delta: float) -> float:
    return float((logs <= log_target(delta)).mean())
