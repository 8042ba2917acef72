"""How bounds and radii are spread over the inputs: empirical distributions, in all and by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from calotte.assessment import Assessment
from calotte.plot.style import COLOURS, FOUND, GRID, MUTED, STYLES, Logs, Sample, new_axes, probability_axis

__all__ = ["by_class", "probabilities", "radii"]

Spread = Literal["proved", "sampled", "radius"]
_POINTS = 400  # of a curve: more would not be seen
_DEEPEST = -12.0  # log10 p below which bounds are drawn at the edge, where delta is not smaller yet
_ROWS = 20  # classes shown


def probabilities(assessments: Sequence[Assessment], delta: float | None = None, axes: Axes | None = None) -> Axes:
    """The share of the inputs for which each rung bounds p by a number or less; bounds below the axis at its edge.

    Args:
        assessments: at least one; delta: marked by a line, where given; axes: to draw on, None for new ones.
    """
    axes = new_axes(axes)
    lines = {rung: logs / math.log(10) for rung, logs in Logs(assessments).by_rung().items()}
    floor = _floor(np.concatenate([*lines.values(), np.zeros(1)]), delta)
    for rung, logs in lines.items():
        _curve(axes, logs[~np.isnan(logs)], len(assessments), (floor, 0.0), COLOURS[rung], STYLES[rung], rung)
    if delta is not None:
        axes.axvline(math.log10(delta), color=MUTED, lw=0.8, ls=":", label=f"delta = {delta!r}")
    axes.set_xlim(floor, -0.02 * floor)
    probability_axis(axes.xaxis)
    return _shares(axes, "p is at most (at the left edge: less, p = 0 included)")


def radii(assessments: Sequence[Assessment], axes: Axes | None = None) -> Axes:
    """The share of the inputs whose certified radius, and whose nearest wrong answer found, is a number or less.

    Args:
        assessments: at least one; axes: to draw on, None for new ones.
    """
    axes = new_axes(axes)
    total = len(assessments)
    proved = np.array([math.inf if one.certified_radius is None else one.certified_radius for one in assessments])
    found = np.array([one.adversarial_distance for one in assessments if one.adversarial_distance is not None])
    finite = np.concatenate([proved[np.isfinite(proved)], found])
    end = 1.05 * finite.max(initial=0.0) or 1.0
    _curve(axes, proved, total, (0.0, end), COLOURS["branching"], "-", "certified radius (nothing nearer)")
    if len(found):
        _curve(axes, found, total, (0.0, end), FOUND, "--", "nearest wrong answer found")
    axes.set_xlim(0.0, end)
    return _shares(axes, f"distance from the input{assessments[0].unit_said}")


def by_class(assessments: Sequence[Assessment], what: Spread = "proved", axes: Axes | None = None) -> Axes:
    """The spread in each class: the middle nine tenths thin, the middle half thick, the median a dot.

    Classes are labels where they are known, else answers; the 20 with the worst medians are shown.

    Args:
        assessments: at least one.
        what: best proved bound, smallest sampled one, or certified radius; axes: to draw on, None for new ones.
    """
    groups: dict[int, list[float]] = {}
    for one in assessments:
        groups.setdefault(one.predicted if one.label is None else one.label, []).append(_value(one, what))
    axes = new_axes(axes, 6.0, 1.0 + 0.28 * min(len(groups), _ROWS))
    quantiles = {
        name: np.quantile([v for v in values if not math.isnan(v)] or [math.nan], [0.05, 0.25, 0.5, 0.75, 0.95],
                          method="inverted_cdf")
        for name, values in groups.items()
    }  # fmt: skip
    bad = -1.0 if what != "radius" else 1.0
    worst = sorted(groups, key=lambda name: (math.isnan(quantiles[name][2]), bad * quantiles[name][2]))[:_ROWS]
    shown = np.concatenate([quantiles[name] for name in worst])
    if what == "radius":
        low, high = 0.0, 1.05 * shown[np.isfinite(shown)].max(initial=0.0) or 1.0
    else:
        low, high = _floor(shown, None), 0.0
    colour = COLOURS["sampling" if what == "sampled" else "relaxation" if what == "proved" else "concentration"]
    for row, name in enumerate(sorted(worst)):
        q = np.clip(quantiles[name], low, high)
        axes.plot(q[[0, 4]], [row, row], color=colour, lw=1.2, solid_capstyle="butt")
        axes.plot(q[[1, 3]], [row, row], color=colour, lw=5.0, solid_capstyle="butt", alpha=0.55)
        axes.plot(q[2], row, "o", color=colour, ms=5)
    axes.set_yticks(range(len(worst)), [f"{name} ({len(groups[name])})" for name in sorted(worst)])
    axes.set_ylim(len(worst) - 0.5, -0.5)
    margin = 0.02 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    left_out = f", the {len(worst)} worst of {len(groups)}" if len(groups) > len(worst) else ""
    axes.set_ylabel(f"class (inputs{left_out})")
    axes.grid(axis="x", color=GRID)
    if what != "radius":
        probability_axis(axes.xaxis)
    radius = f"certified radius{assessments[0].unit_said}"
    names = {"proved": "p is at most (proved)", "sampled": "p is at most (sampled)", "radius": radius}
    axes.set_xlabel(names[what])
    return axes


def _value(one: Assessment, what: Spread) -> float:
    if what == "radius":
        return math.inf if one.certified_radius is None else one.certified_radius
    if what == "proved":
        return one.best.log_misclassification / math.log(10) if one.best else math.nan
    logs = [b.log_misclassification for b in one.bounds if b.guarantee == "confidence" and b.skipped is None]
    return min(logs, default=math.nan) / math.log(10)


def _floor(logs: Sample, delta: float | None) -> float:
    """Where an axis of log10 p ends: at the smallest number, or where smaller ones no longer matter."""
    deepest = _DEEPEST if delta is None else min(_DEEPEST, 2.0 * math.log10(delta))
    return 1.05 * max(float(logs[np.isfinite(logs)].min(initial=-3.0)), deepest)


def _curve(
    axes: Axes, values: Sample, total: int, ends: tuple[float, float], colour: str, style: str, label: str
) -> None:
    """An empirical distribution function on an interval; values below it count at its left end."""
    ordered = np.sort(values)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _POINTS)).round().astype(int))
    x = np.clip(ordered[places], ends[0], None) if len(ordered) else np.zeros(0)
    shares = (places + 1) / total
    begin = (ordered < ends[0]).sum() / total
    last = ((ordered <= ends[1]).sum()) / total
    axes.plot(
        [ends[0], *x[x <= ends[1]], ends[1]], [begin, *shares[x <= ends[1]], last], style, color=colour, lw=1.6,
        drawstyle="steps-post", label=label,
    )  # fmt: skip


def _shares(axes: Axes, label: str) -> Axes:
    axes.set_ylim(0.0, 1.02)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.set_xlabel(label)
    axes.set_ylabel("share of the inputs")
    axes.grid(color=GRID)
    axes.legend(frameon=False)
    return axes
