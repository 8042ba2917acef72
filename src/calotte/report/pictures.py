"""Pictures of assessments and cells, drawn with matplotlib without a screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from calotte.assessment import Assessment
from calotte.cells.cell import Cell
from calotte.printing import probability_text
from calotte.report.files import write_whole
from calotte.report.tables import by_risk

__all__ = ["COLOURS", "cell_picture", "risk_figure", "risk_picture", "riskiest_picture"]

COLOURS = {
    "theorem": "#999999",
    "cell": "#56b4e9",
    "relaxation": "#0072b2",
    "concentration": "#009e73",
    "moments": "#e69f00",
    "branching": "#000000",
    "isoperimetry": "#cc79a7",
    "sampling": "#d55e00",
}
"""A colour for each rung, apart for the colour-blind too (Okabe and Ito, Color Universal Design, 2008)."""


def risk_picture(assessments: Sequence[Assessment], path: Path) -> None:
    """Draw `risk_figure` to a file.

    Raises:
        CannotWrite: the disk refuses.
    """
    save(risk_figure(assessments), path)


def risk_figure(assessments: Sequence[Assessment]) -> Figure:
    """Upper bounds on p of all inputs, riskiest left, one line for each rung; skipped ones are left out."""
    ranked = by_risk(assessments)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    x = np.arange(1, len(ranked) + 1)
    logs = np.array(
        [[np.nan if b.skipped else b.log_misclassification for b in one.bounds] for one in ranked]
    ) / math.log(10)
    floor = 1.08 * min(logs[np.isfinite(logs)].min(initial=-3.0), -3.0)
    for k, bound in enumerate(ranked[0].bounds):
        if np.isnan(logs[:, k]).all():
            continue
        levels = {one.bounds[k].confidence for one in ranked} - {None}
        label = f"{bound.rung} (confidence {levels.pop():g})" if levels else bound.rung
        style, colour = "-" if bound.guarantee == "proved" else "--", COLOURS[bound.rung]
        marker = "o" if len(ranked) <= 60 else None
        values = np.where(np.isfinite(logs[:, k]), logs[:, k], np.nan)
        axes.plot(x, values, style, color=colour, label=label, marker=marker, ms=3.5, lw=1.6)
        certain = logs[:, k] == -np.inf
        (edge,) = axes.plot(x[certain], np.full(certain.sum(), floor), "v", color=colour, ms=5, clip_on=False)
        edge.set_in_layout(False)
    if (logs == -np.inf).any():
        axes.plot([], [], "v", color="0.4", ms=5, label="p = 0 proved")
    axes.set_ylim(floor, 0.03 * -floor)
    first = ranked[0]
    axes.set_xlabel("inputs, riskiest first")
    axes.set_ylabel("upper bound on p")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(lambda log, _: "1" if log == 0 else f"$10^{{{log:.0f}}}$")
    axes.set_title(
        f"Probability p that noise changes the answer: {first.noise}, eps {first.eps:.4g}, sigma {first.sigma:.4g}",
        loc="left",
        fontsize="medium",
    )
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a file, whole or not at all."""
    write_whole(path, lambda part: figure.savefig(part, dpi=150))


def riskiest_picture(assessments: Sequence[Assessment], x: NDArray[np.float64], path: Path, count: int = 12) -> bool:
    """The riskiest inputs as images with their answers and best bounds; False where inputs are no images.

    Args:
        assessments: as assessed; x: (B, ...) the same inputs in the same order.
        path: of the picture; count: how many to show.
    """
    images = as_images(x)
    if images is None:
        return False
    place = {one.index: k for k, one in enumerate(assessments)}
    ranked = by_risk(assessments)[:count]
    columns = min(6, len(ranked))
    rows = math.ceil(len(ranked) / columns)
    figure = Figure(figsize=(1.7 * columns, 2.15 * rows), layout="constrained")
    for k, one in enumerate(ranked):
        axes = figure.add_subplot(rows, columns, k + 1)
        axes.imshow(images[place[one.index]], cmap="gray_r")
        best = one.best
        proved = probability_text(best.log_misclassification) if best else "-"
        mark = "" if one.correct is None else " ✓" if one.correct else " ✗"
        axes.set_title(f"#{one.index}: {one.predicted}{mark}\np ≤ {proved}", fontsize=9)
        axes.set_axis_off()
    save(figure, path)
    return True


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


def cell_picture(cell: Cell, path: Path, hyperplanes: int = 60) -> None:
    """The cell in a plane through x: the input plane where d = 2, else along the two nearest hyperplanes' normals.

    Hyperplanes appear as lines, the cell as their filled polygon, the disc of radius rho_x as a circle.
    """
    normals, distances = cell.normals, cell.distances
    near = [i for i in distances.argsort().tolist() if cell.has_hyperplane[i]][:hyperplanes]
    basis = _plane(normals[near])
    if basis is None:
        raise ValueError("the cell has fewer than one hyperplane: there is nothing to draw")
    lines = (cell.signs[near, None] * (normals[near] @ basis.t())).numpy()
    values = (cell.signs[near] * cell.values[near]).numpy()
    reach = 2.5 * float(distances[near[min(len(near) - 1, 4)]]) or 1.0
    polygon = np.array([[-reach, -reach], [reach, -reach], [reach, reach], [-reach, reach]])
    for line, value in zip(lines, values, strict=True):
        polygon = clip(polygon, line, value)
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.fill(polygon[:, 0], polygon[:, 1], color="#dbe8f5", zorder=0)
    for line, value in zip(lines, values, strict=True):
        norm = float(np.hypot(*line))
        if norm > 0 and abs(value) / norm < 1.5 * reach:
            foot, along = -value * line / norm**2, np.array([-line[1], line[0]]) / norm
            ends = foot + np.outer([-3 * reach, 3 * reach], along)
            axes.plot(ends[:, 0], ends[:, 1], color="#2f6fb0", lw=0.7, alpha=0.6)
    rho = cell.distance or 0.0
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(rho * np.cos(turn), rho * np.sin(turn), color="#d9822b", lw=1.4, label=f"rho = {rho:.3g}")
    axes.plot(0, 0, "o", color="black", ms=4, label="x")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_title(f"The cell of the input, answer {cell.predicted}", loc="left")
    axes.legend(frameon=False, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def _plane(normals: Tensor) -> Tensor | None:
    """Orthonormal basis (2, d) of the drawing plane: the axes for d = 2, else the first two normals."""
    if len(normals) == 0:
        return None
    if normals.shape[1] == 2:
        return torch.eye(2, dtype=torch.float64)
    first = normals[0] / normals[0].norm()
    for other in (*normals[1:], *torch.eye(normals.shape[1], dtype=torch.float64)[:2]):
        rest = other - (other @ first) * first
        if rest.norm() > 1e-6 * other.norm():
            return torch.stack([first, rest / rest.norm()])
    return None


def clip(polygon: NDArray[np.float64], line: NDArray[np.float64], value: float) -> NDArray[np.float64]:
    """The part of a convex polygon (k, 2) where line . p + value >= 0 (Sutherland and Hodgman)."""
    height = polygon @ line + value
    kept: list[NDArray[np.float64]] = []
    for k in range(len(polygon)):
        j = (k + 1) % len(polygon)
        if height[k] >= 0:
            kept.append(polygon[k])
        if (height[k] >= 0) != (height[j] >= 0):
            kept.append(polygon[k] + (polygon[j] - polygon[k]) * (height[k] / (height[k] - height[j])))
    return np.array(kept) if len(kept) >= 3 else polygon[:0].reshape(0, 2)
