"""Inputs as images, and the riskiest of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calotte.assessment import Assessment, by_risk
from calotte.printing import probability_text

__all__ = ["as_images", "riskiest"]


def riskiest(
    assessments: Sequence[Assessment], x: NDArray[np.float64], count: int = 12, figure: Figure | None = None
) -> list[Axes]:
    """The riskiest inputs as images with their answers and best bounds; nothing where inputs are no images.

    Args:
        assessments: as assessed; x: (B, ...) the same inputs in the same order.
        count: how many to show; figure: to draw on, None for a new one.

    Returns:
        Axes of the figure, one for each image, riskiest first.
    """
    images = as_images(x)
    if images is None:
        return []
    place = {one.index: k for k, one in enumerate(assessments)}
    ranked = by_risk(assessments)[:count]
    columns = min(6, len(ranked))
    rows = math.ceil(len(ranked) / columns)
    if figure is None:
        from matplotlib import pyplot

        figure = pyplot.figure(layout="constrained")
    figure.set_size_inches(1.7 * columns, 2.15 * rows)
    shown = []
    for k, one in enumerate(ranked):
        axes = figure.add_subplot(rows, columns, k + 1)
        axes.imshow(images[place[one.index]], cmap="gray_r")
        best = one.best
        proved = probability_text(best.log_misclassification) if best else "-"
        mark = "" if one.correct is None else " ✓" if one.correct else " ✗"
        axes.set_title(f"#{one.index}: {one.predicted}{mark}\np ≤ {proved}", fontsize=9)
        axes.set_axis_off()
        shown.append(axes)
    return shown


def as_images(x: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Inputs as images (B, height, width[, 3]) scaled to [0, 1], or None where they do not look like any."""
    size = x[0].size
    side = math.isqrt(size)
    images: NDArray[np.float64]
    if side * side == size and side >= 8:
        images = x.reshape(len(x), side, side)
    elif size % 3 == 0 and math.isqrt(size // 3) ** 2 * 3 == size and size >= 192:
        side = math.isqrt(size // 3)
        last = x.ndim == 4 and x.shape[-1] == 3
        images = x.reshape(len(x), side, side, 3) if last else x.reshape(len(x), 3, side, side).transpose(0, 2, 3, 1)
    else:
        return None
    low, high = images.min(), images.max()
    return (images - low) / (high - low) if high > low else images * 0.0
