"""The cell of one input, in a plane through it."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from calotte.cells.cell import Cell
from calotte.plot.style import new_axes

__all__ = ["cell", "clip"]


def cell(here: Cell, hyperplanes: int = 60, axes: Axes | None = None) -> Axes:
    """The cell in a plane through x: the input plane where d = 2, else along the two nearest hyperplanes' normals.

    Hyperplanes appear as lines, the cell as their filled polygon, the disc of radius rho_x as a circle.

    Args:
        here: the cell; hyperplanes: at most so many, the nearest; axes: to draw on, None for new ones.

    Raises:
        ValueError: it has no hyperplane.
    """
    normals, distances = here.normals, here.distances
    near = [i for i in distances.argsort().tolist() if here.has_hyperplane[i]][:hyperplanes]
    basis = _plane(normals[near])
    if basis is None:
        raise ValueError("the cell has no hyperplane: there is nothing to draw")
    lines = (here.signs[near, None] * (normals[near] @ basis.t())).numpy()
    values = (here.signs[near] * here.values[near]).numpy()
    reach = 2.5 * float(distances[near[min(len(near) - 1, 4)]]) or 1.0
    polygon = np.array([[-reach, -reach], [reach, -reach], [reach, reach], [-reach, reach]])
    for line, value in zip(lines, values, strict=True):
        polygon = clip(polygon, line, value)
    axes = new_axes(axes, 6.0, 6.0)
    axes.fill(polygon[:, 0], polygon[:, 1], color="#dbe8f5", zorder=0)
    for line, value in zip(lines, values, strict=True):
        norm = float(np.hypot(*line))
        if norm > 0 and abs(value) / norm < 1.5 * reach:
            foot, along = -value * line / norm**2, np.array([-line[1], line[0]]) / norm
            ends = foot + np.outer([-3 * reach, 3 * reach], along)
            axes.plot(ends[:, 0], ends[:, 1], color="#2f6fb0", lw=0.7, alpha=0.6)
    rho = here.distance or 0.0
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(rho * np.cos(turn), rho * np.sin(turn), color="#d9822b", lw=1.4, label=f"rho = {rho:.3g}")
    axes.plot(0, 0, "o", color="black", ms=4, label="x")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_title(f"The cell of the input, answer {here.predicted}", loc="left")
    axes.legend(frameon=False, loc="upper right")
    return axes


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
