"""Distances against the bounds on p."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from calotte.assessment import Assessment
from calotte.plot.style import COLOURS, GRID, new_axes, probability_axis

__all__ = ["scatter"]

_VECTORS = 2000  # points up to which each is drawn as a shape of its own
_NAMES = {
    "distance": "distance to the nearest hyperplane of the cell",
    "radius": "certified radius",
    "witness": "nearest wrong answer found",
}


def scatter(
    assessments: Sequence[Assessment],
    x: Literal["distance", "radius", "witness"] = "distance",
    axes: Axes | None = None,
) -> Axes:
    """A dot for each input: a distance, and the best proved bound on p; crosses are answered wrongly to begin with.

    Args:
        assessments: at least one; those without the distance are left out.
        x: which distance; axes: to draw on, None for new ones.
    """
    axes = new_axes(axes, 5.0, 4.0)
    points = [(_distance(one, x), one.best.log_misclassification / math.log(10), one.correct is False)
              for one in assessments if one.best is not None]  # fmt: skip
    known = np.array([point for point in points if point[0] is not None and math.isfinite(point[0])], dtype=float)
    known = known.reshape(-1, 3)
    logs = known[:, 1]
    floor = 1.05 * min(logs[np.isfinite(logs)].min(initial=-3.0), -3.0)
    height = np.where(np.isfinite(logs), logs, floor)
    for wrong, marker, label in ((False, "o", "answered rightly"), (True, "x", "answered wrongly")):
        rows = known[:, 2] == wrong
        if rows.any():
            axes.scatter(
                known[rows, 0], height[rows], s=14, marker=marker, alpha=0.7, linewidths=1.2 if wrong else 0,
                color=COLOURS["sampling" if wrong else "relaxation"], label=label, rasterized=len(known) > _VECTORS,
                clip_on=False,
            )  # fmt: skip
    axes.set_ylim(floor, -0.03 * floor)
    axes.set_xlim(left=0.0)
    axes.set_xlabel(_NAMES[x] + assessments[0].unit_said)
    axes.set_ylabel("p is at most (at the bottom: p = 0)")
    probability_axis(axes.yaxis)
    axes.grid(color=GRID)
    if (known[:, 2] == 1).any():
        axes.legend(frameon=False)
    return axes


def _distance(one: Assessment, x: str) -> float | None:
    if x == "witness":
        return one.adversarial_distance
    return one.distance if x == "distance" else one.certified_radius
