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

__all__ = ["SHOWN", "as_images", "image_shape", "riskiest"]

SHOWN = 12
"""How many inputs a picture shows, where nothing else is asked for."""


def riskiest(
    assessments: Sequence[Assessment], x: NDArray[np.float64], count: int = SHOWN, figure: Figure | None = None
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
    shape = image_shape(x.shape[1:])
    if shape is None:
        return None
    images = x.reshape(len(x), *shape)
    if len(shape) == 3:
        images = images if shape[2] == 3 else images.transpose(0, 2, 3, 1)
    low, high = images.min(), images.max()
    return (images - low) / (high - low) if high > low else images * 0.0


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of an image for inputs of a shape: (height, width), (3, height, width) or (height, width, 3).

    Numbers in one axis are taken for a square of at least 8 x 8 where they make one. None where it is no image.
    """
    axes = tuple(size for size in shape if size > 1)
    if len(axes) == 2 and min(axes) >= 4:
        return axes
    if len(axes) == 3 and 3 in (axes[0], axes[2]) and sorted(axes)[1] >= 4:
        return axes
    if len(axes) == 1:
        for channels in (1, 3):
            side = math.isqrt(axes[0] // channels)
            if side >= 8 and side * side * channels == axes[0]:
                return (side, side) if channels == 1 else (3, side, side)
    return None
