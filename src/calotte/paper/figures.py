"""Figures 1 to 4: a polar cap, the cap that a hyperplane cuts off, the bound over d, the cells of a small network."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Arc, Circle, Polygon, Wedge
from scipy.spatial import ConvexHull

from calotte.cells.cell import Cell
from calotte.cells.polygon import cell_edges, cells_in_square
from calotte.network.graph import Network
from calotte.paper.drawing import BLUE, GREY, INK, ORANGE, PALE_BLUE, PALE_ORANGE, save, sequence, style, title
from calotte.sphere import log_ball_bound, log_cap

__all__ = ["bound_figure", "cap_figure", "cells_figure", "cut_figure"]

_LN10 = math.log(10.0)
DOTS = (0, (1, 1.4))


def cap_figure(out: Path) -> str:
    """Figure 1: a polar cap C(e, alpha) on the sphere, and how its measure falls with d."""
    with style():
        figure = Figure(figsize=(10.5, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
        _draw_cap(left, alpha=math.radians(38), tilt=math.radians(24))
        title(left, "A polar cap $C(e,\\alpha)$")
        heights: list[Line2D] = []
        d = np.unique(np.geomspace(2, 10_000, 160).round().astype(int))
        for cosine, colour in zip((0.1, 0.2, 0.3, 0.5), sequence(4), strict=True):
            exact = np.array([log_cap(cosine, int(k)) for k in d]) / _LN10
            ball = np.array([log_ball_bound(cosine, int(k)) for k in d]) / _LN10
            right.plot(d, exact, color=colour)
            right.plot(d, ball, color=colour, linestyle=DOTS, linewidth=1.6)
            heights += right.plot([], [], color=colour, label=f"$\\cos\\alpha={cosine}$")
        kinds = right.plot([], [], color=INK, label="exact measure $\\mu(C)$")
        kinds += right.plot([], [], color=INK, linestyle=DOTS, linewidth=1.6, label=r"Ball: $e^{-d\cos^2\!\alpha/2}$")
        right.add_artist(right.legend(handles=kinds, loc="lower left"))
        right.legend(handles=heights[::-1], loc="lower left", bbox_to_anchor=(0, 0.17))
        right.set(xscale="log", xlim=(2, 10_000), ylim=(-30, 0.5), xlabel="dimension $d$")
        right.set_yticks(range(-30, 1, 5), ["1" if k == 0 else f"$10^{{{k}}}$" for k in range(-30, 1, 5)])
        title(right, "Its share of the sphere falls exponentially in $d$")
        return save(figure, out, "figure-1-cap")


def _draw_cap(axes: Axes, alpha: float, tilt: float) -> None:
    """A sphere seen from `tilt` above its equator, the cap of radius alpha around its pole filled."""
    theta = np.linspace(0, 2 * math.pi, 361)
    polar, around = np.meshgrid(np.linspace(0, alpha, 40), theta)
    x = np.sin(polar) * np.cos(around)
    y = np.cos(polar) * math.cos(tilt) + np.sin(polar) * np.sin(around) * math.sin(tilt)
    facing = np.cos(polar) * math.sin(tilt) - np.sin(polar) * np.sin(around) * math.cos(tilt) >= -0.02
    points = np.stack([x[facing], y[facing]], 1)
    points = np.concatenate([points, _circle(alpha, tilt, theta)])
    axes.add_patch(Circle((0, 0), 1, facecolor=PALE_BLUE, edgecolor=INK, linewidth=1.2, zorder=1))
    axes.add_patch(Polygon(points[ConvexHull(points).vertices], facecolor=ORANGE, alpha=0.8, linewidth=0, zorder=2))
    equator, rim = _circle(math.pi / 2, tilt, theta), _circle(alpha, tilt, theta)
    axes.plot(*equator[180:].T, color=GREY, linewidth=1.0, zorder=3)
    axes.plot(*equator[:181].T, color=GREY, linewidth=1.0, linestyle=(0, (3, 3)), zorder=3)
    hidden = math.cos(alpha) * math.sin(tilt) < math.sin(alpha) * np.sin(theta) * math.cos(tilt)
    axes.plot(*np.where(hidden[:, None], np.nan, rim).T, color=INK, linewidth=1.2, zorder=3)
    end = rim[0]
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (0.0, 1.28 * math.cos(tilt)), (0, 0), arrowprops=arrow, zorder=5)
    axes.plot([0, end[0]], [0, end[1]], color=INK, linewidth=1.4, zorder=5)
    axes.plot(0, 0, "o", color=INK, markersize=4, zorder=6)
    first = math.degrees(math.atan2(end[1], end[0]))
    axes.add_patch(Arc((0, 0), 0.56, 0.56, theta1=first, theta2=90.0, zorder=5))
    axes.text(0.11, 0.33, r"$\alpha$", fontsize=13, zorder=6)
    axes.text(0.05, 1.2, "$e$", fontsize=13)
    axes.set(xlim=(-1.12, 1.12), ylim=(-1.08, 1.3), aspect="equal")
    axes.axis("off")


def _circle(radius: float, tilt: float, theta: np.ndarray) -> np.ndarray:
    """The circle at angle `radius` from the pole, as seen: (n, 2)."""
    height = math.cos(radius) * math.cos(tilt)
    return np.stack([math.sin(radius) * np.cos(theta), height + math.sin(radius) * math.sin(tilt) * np.sin(theta)], 1)


def cut_figure(out: Path) -> str:
    """Figure 2: the cap that a hyperplane cuts off the sphere of perturbed inputs, and the robustness left."""
    with style():
        figure = Figure(figsize=(10.5, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
        _draw_cut(left, rho=0.55)
        title(left, r"The cap that $H$ cuts off: $\cos\alpha=\rho/\varepsilon$")
        ratio = np.sin(np.linspace(0, math.pi / 2, 401))[:-1]
        for d, colour in zip((2, 10, 100, 1000), sequence(4), strict=True):
            right.plot(ratio, -np.expm1(log_cap(ratio, d)), color=colour, label=f"$d={d}$")
            bound = -np.expm1(log_ball_bound(ratio, d))
            right.plot(ratio, bound, color=colour, linestyle=DOTS, linewidth=1.6)
        right.legend(loc="lower right", ncols=2)
        right.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=r"$\rho/\varepsilon$")
        title(right, "Robustness of one perceptron: exactly (lines), at least by (5) (dots)")
        return save(figure, out, "figure-2-cut")


def _draw_cut(axes: Axes, rho: float) -> None:
    """The sphere around x, the hyperplane H at distance rho, the flipped cap; the sphere's radius is 1."""
    alpha = math.degrees(math.acos(rho))
    height = math.sin(math.radians(alpha))
    axes.add_patch(Polygon([[rho, -1.25], [1.55, -1.25], [1.55, 1.25], [rho, 1.25]], facecolor=PALE_ORANGE, zorder=0))
    axes.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor=BLUE, linewidth=2.2, zorder=2))
    axes.add_patch(Arc((0, 0), 2, 2, theta1=-alpha, theta2=alpha, edgecolor=ORANGE, linewidth=4.5, zorder=3))
    axes.plot([rho, rho], [-1.25, 1.25], color=INK, linewidth=1.6, zorder=3)
    axes.plot([0, rho], [0, 0], color=INK, linewidth=1.4, zorder=3)
    axes.plot([0, rho], [0, height], color=INK, linewidth=1.4, zorder=3)
    axes.plot([rho - 0.09, rho - 0.09, rho], [0, 0.09, 0.09], color=INK, linewidth=0.9, zorder=3)
    axes.add_patch(Wedge((0, 0), 0.26, 0, alpha, facecolor=GREY, alpha=0.3, zorder=1))
    axes.plot([0, rho], [0, 0], "o", color=INK, markersize=5, zorder=4)
    labels = {
        (-0.1, -0.13): "$x$", (rho + 0.1, -0.13): r"$\bar{x}$", (rho / 2, -0.14): r"$\rho$",
        (rho / 2 - 0.13, height / 2 + 0.07): r"$\varepsilon$", (0.14, 0.085): r"$\alpha$", (rho + 0.09, 1.14): "$H$",
    }  # fmt: skip
    for (a, b), text in labels.items():
        axes.text(a, b, text, fontsize=14, ha="center", va="center", zorder=5)
    axes.text(-0.72, -1.13, "$f(x+r)=f(x)$", fontsize=11, color=BLUE, ha="center")
    axes.text(1.07, -1.13, r"$f(x+r)\neq f(x)$", fontsize=11, color=ORANGE, ha="center")
    axes.set(xlim=(-1.3, 1.55), ylim=(-1.25, 1.25), aspect="equal")
    axes.axis("off")


def bound_figure(out: Path, ratio: float = 0.1) -> str:
    """Figure 3: the bound of Theorem 4.2 over d for several N, at a fixed rho_x / eps."""
    with style():
        figure = Figure(figsize=(10.5, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        d = np.geomspace(500, 20_000, 2000)
        exponent = -d * ratio**2 / 2
        for k, colour in zip(range(2, 7), sequence(5), strict=True):
            log_p = np.minimum(0.0, k * _LN10 + exponent)
            left.plot(d, -np.expm1(log_p), color=colour, label=f"$N=10^{k}$")
            right.plot(d, log_p / _LN10, color=colour)
        for power, line in ((1, (0, (4, 1.6))), (2, (0, (1, 1.2)))):
            log_p = np.minimum(0.0, power * np.log(d) + exponent)
            label = "$N=d$" if power == 1 else f"$N=d^{power}$"
            told = np.where((log_p < -1e-3) & (log_p > math.log(1e-3)), log_p, np.nan)  # not on top of the others
            left.plot(d, -np.expm1(told), color=ORANGE, linestyle=line, label=label)
            right.plot(d, np.where(log_p < 0, log_p, np.nan) / _LN10, color=ORANGE, linestyle=line)
        left.legend(loc="lower right", bbox_to_anchor=(1.0, 0.1))
        for axes in (left, right):
            axes.set(xscale="log", xlim=(500, 20_000), xlabel="dimension $d$")
        left.set_ylim(-0.01, 1.02)
        right.set_ylim(-30, 0.5)
        right.set_yticks(range(-30, 1, 5), ["1" if k == 0 else f"$10^{{{k}}}$" for k in range(-30, 1, 5)])
        title(left, rf"Robustness is at least ...  ($\rho_x/\varepsilon={ratio}$)")
        title(right, r"... misclassification at most $N\,e^{-d\rho_x^2/2\varepsilon^2}$")
        return save(figure, out, "figure-3-bound")


def cells_figure(out: Path, network: Network, x: torch.Tensor, low: float, high: float) -> str:
    """Figure 4: the cells of a small network with two inputs, and the cell of x with its faces and its ball."""
    cell = Cell(network, x)
    corners, edges = cell_edges(cell, low, high)
    rho = cell.distance or 0.0
    pieces = cells_in_square(network, low, high)
    with style():
        figure = Figure(figsize=(10.8, 5.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        window = 0.62 * float((corners.max(0) - corners.min(0)).max())
        centre = (corners.max(0) + corners.min(0)) / 2
        for axes in (left, right):
            for piece in pieces:
                colour = PALE_ORANGE if piece.answer else PALE_BLUE
                axes.add_patch(Polygon(piece.corners, facecolor=colour, edgecolor="white", linewidth=0.9))
            axes.add_patch(Polygon(corners, facecolor=BLUE if cell.predicted == 0 else ORANGE, alpha=0.55))
            axes.set(xticks=[], yticks=[], aspect="equal")
            axes.spines[:].set_visible(False)
        for unit, edge in edges.items():
            right.plot(edge[:, 0], edge[:, 1], color=INK, linewidth=2.4)
            middle = edge.mean(0)
            outward = -(cell.normals[unit] * cell.signs[unit]).numpy()
            outward /= np.linalg.norm(outward)
            side = "left" if outward[0] > 0.3 else "right" if outward[0] < -0.3 else "center"
            level = "bottom" if outward[1] > 0.3 else "top" if outward[1] < -0.3 else "center"
            right.text(*(middle + 0.03 * window * outward), cell.names[unit], fontsize=10, ha=side, va=level)
        left.add_patch(Polygon(corners, facecolor="none", edgecolor=INK, linewidth=1.2))
        right.add_patch(Circle(tuple(x.tolist()), rho, facecolor="white", alpha=0.55, edgecolor="none"))
        right.add_patch(Circle(tuple(x.tolist()), rho, facecolor="none", edgecolor=INK, linewidth=1.2))
        foot = _foot(cell)
        right.plot([x[0], foot[0]], [x[1], foot[1]], color=INK, linewidth=1.2)
        right.text(
            *((x.numpy() + foot) / 2 + np.array([0.05, 0.03]) * window),
            r"$\rho_x$",
            fontsize=12,
            ha="center",
            va="center",
        )
        for axes, size in ((left, 4), (right, 6)):
            axes.plot(x[0], x[1], "o", color=INK, markersize=size)
        right.text(x[0] - 0.03 * window, x[1] - 0.05 * window, "$x$", fontsize=13, ha="right", va="center")
        left.set(xlim=(low, high), ylim=(low, high))
        right.set(xlim=centre[0] + window * np.array([-1, 1]), ylim=centre[1] + window * np.array([-1, 1]))
        title(left, f"{len(pieces)} cells of a network of $N={network.units}$ units")
        title(right, f"The cell of $x$: {len(edges)} faces, and the ball of radius $\\rho_x$")
        return save(figure, out, "figure-4-cells")


def _foot(cell: Cell) -> np.ndarray:
    """The point of the nearest hyperplane that is nearest to x."""
    unit = cell.nearest_unit
    assert unit is not None
    normal = cell.normals[unit]
    return (cell.x - normal * (cell.values[unit] / (normal @ normal))).numpy()
