"""The ladder of bounds for every input, riskiest first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from calotte.assessment import Assessment, by_risk, size_text
from calotte.plot.style import COLOURS, GRID, MUTED, logs_of, named, new_axes, probability_axis
from calotte.printing import plain

__all__ = ["risk"]


def risk(assessments: Sequence[Assessment], axes: Axes | None = None) -> Axes:
    """Upper bounds on p of all inputs, riskiest left, one line for each rung; skipped ones are left out.

    Args:
        assessments: at least one; axes: to draw on, None for new ones.
    """
    axes = new_axes(axes)
    ranked = by_risk(assessments)
    x = np.arange(1, len(ranked) + 1)
    lines = {rung: (bounds, logs_of(bounds)) for rung, bounds in named(ranked).items()}
    finite = np.concatenate([logs[np.isfinite(logs)] for _, logs in lines.values()] or [np.zeros(0)])
    floor = 1.08 * min(finite.min(initial=-3.0), -3.0)
    certain = False
    for rung, (bounds, logs) in lines.items():
        levels = {bound.confidence for bound in bounds if bound is not None} - {None}
        label = f"{rung} (confidence {levels.pop():g})" if levels else rung
        style, colour = "--" if any(b and b.guarantee == "confidence" for b in bounds) else "-", COLOURS[rung]
        marker = "o" if len(ranked) <= 60 else None
        axes.plot(x, np.where(np.isfinite(logs), logs, np.nan), style, color=colour, label=label, marker=marker,
                  ms=3.5, lw=1.6)  # fmt: skip
        zero = logs == -np.inf
        (edge,) = axes.plot(x[zero], np.full(zero.sum(), floor), "v", color=colour, ms=5, clip_on=False)
        edge.set_in_layout(False)
        certain |= bool(zero.any())
    if certain:
        axes.plot([], [], "v", color=MUTED, ms=5, label="p = 0 proved")
    axes.set_ylim(floor, 0.03 * -floor)
    first = ranked[0]
    axes.set_xlabel("inputs, riskiest first")
    axes.set_ylabel("p is at most")
    probability_axis(axes.yaxis)
    what = "noise is to change the answer" if first.event == "change" else f"{plain(first.event)} is"
    size = f"{first.noise} noise, {size_text(ranked)}"
    axes.set_title(f"How likely {what}, at most: {size}", loc="left", fontsize="medium", parse_math=False)
    axes.grid(axis="y", color=GRID)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return axes
