"""The ladder of bounds for every input, riskiest first."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from calotte.assessment import Assessment, Sizes
from calotte.assessment import risk as risk_of
from calotte.plot.style import COLOURS, GRID, MUTED, STYLES, Logs, new_axes, probability_axis
from calotte.printing import plain

__all__ = ["risk"]


def risk(assessments: Iterable[Assessment], axes: Axes | None = None) -> Axes:
    """Upper bounds on p of all inputs, riskiest left, one line for each rung; skipped ones are left out.

    Args:
        assessments: at least one; axes: to draw on, None for new ones.
    """
    axes = new_axes(axes)
    keys, bounds, size = array("d"), Logs(), Sizes()
    for first in assessments:
        keys.extend(risk_of(first))
        bounds.add(first)
        size.add(first)
    order = np.lexsort(np.array(keys).reshape(-1, 3).T[::-1])
    x = np.arange(1, len(order) + 1)
    lines = {rung: logs[order] / math.log(10) for rung, logs in bounds.by_rung().items()}
    finite = np.concatenate([logs[np.isfinite(logs)] for logs in lines.values()] or [np.zeros(0)])
    floor = 1.08 * min(finite.min(initial=-3.0), -3.0)
    certain = False
    for rung, logs in lines.items():
        levels = bounds.levels[rung]
        label = f"{rung} (confidence {min(levels):g})" if levels else rung
        marker = "o" if len(x) <= 60 else None
        axes.plot(x, np.where(np.isfinite(logs), logs, np.nan), STYLES[rung], color=COLOURS[rung], label=label,
                  marker=marker, ms=3.5, lw=1.6)  # fmt: skip
        zero = logs == -np.inf
        (edge,) = axes.plot(x[zero], np.full(zero.sum(), floor), "v", color=COLOURS[rung], ms=5, clip_on=False)
        edge.set_in_layout(False)
        certain |= bool(zero.any())
    if certain:
        axes.plot([], [], "v", color=MUTED, ms=5, label="p = 0 proved")
    axes.set_ylim(floor, 0.03 * -floor)
    axes.set_xlabel("inputs, riskiest first")
    axes.set_ylabel("chance, at most")
    probability_axis(axes.yaxis)
    what = "noise is to change the answer" if first.event == "change" else f"{plain(first.event)} is"
    axes.set_title(
        f"How likely {what}, at most: {first.noise} noise, {size}", loc="left", fontsize="medium", parse_math=False
    )
    axes.grid(axis="y", color=GRID)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dashed = any(STYLES[rung] == "--" for rung in lines)
    axes.legend(frameon=False, title="solid: proved, dashed: sampled" if dashed else None)
    return axes
