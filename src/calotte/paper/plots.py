"""Plots of what was measured: rho_x and its scaling, adversarial-free balls, patterns that noise does not find."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calotte.noise import Sphere
from calotte.paper.adversarial import Balls, Beside
from calotte.paper.behaviour import DELTA, SHARE, Distance
from calotte.paper.drawing import BLUE, GREEN, GREY, INK, ORANGE, save, style, title

__all__ = ["balls_figure", "distance_figure", "patterns_figure"]


def distance_figure(
    out: Path, over_d: Sequence[Distance], over_N: Sequence[Distance], over_layers: Sequence[Distance]
) -> str:
    """Figure 5: sqrt(d) rho_x / eps over d, N and the number of layers, beside what the bound needs."""
    with style():
        figure = Figure(figsize=(11.5, 4.3), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        _bands(panels[0], over_d, [m.d for m in over_d])
        _bands(panels[1], over_N, [m.N for m in over_N])
        _bands(panels[2], over_layers, [m.layers for m in over_layers])
        panels[0].set(xlabel="dimension $d$", ylabel=r"$\sqrt{d}\,\rho_x/\varepsilon$", yscale="log", ylim=(1e-3, 20))
        panels[1].set(xlabel="units $N$")
        panels[2].set(xlabel="hidden layers, the same $N$")
        for axes, words in zip(panels, ("dimension", "size", "depth"), strict=True):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            title(axes, words)
        panels[0].text(
            0.98, 0.88, f"needed for $p\\leq 10^{{{round(math.log10(DELTA))}}}$",
            transform=panels[0].transAxes, ha="right", va="bottom", fontsize=10,
        )  # fmt: skip
        panels[2].legend(loc="lower right")
        figure.suptitle(
            f"How far inputs are from their cell's boundary: median and 80 % band, noise of {SHARE:.0%} of the norm",
            x=0.01, ha="left", fontsize=12.5, color=INK,
        )  # fmt: skip
        return save(figure, out, "figure-5-distance")


def _bands(axes: Axes, measured: Sequence[Distance], x: Sequence[float]) -> None:
    pairs = sorted(zip(x, measured, strict=True), key=lambda pair: pair[0])
    for trained, colour, label in ((True, BLUE, "trained on digits"), (False, ORANGE, "random (He)")):
        rows = [(at, m) for at, m in pairs if m.trained == trained]
        at = [a for a, _ in rows]
        low, middle, high = zip(*(m.scaled for _, m in rows), strict=True)
        axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(at, middle, "o-", color=colour, markersize=5, label=label)
    axes.plot([a for a, _ in pairs], [m.needed for _, m in pairs], color=INK, linewidth=1.4, linestyle=(0, (4, 2)))


def balls_figure(out: Path, balls: Balls) -> str:
    """Figure 6: how many inputs have a ball free of adversarial points, of which radius, and what ranks them."""
    with style():
        figure = Figure(figsize=(11.5, 4.6), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.7, 1, 1))
        curves = (
            (balls.rho, GREEN, r"free ball: radius $\rho_x$, proved"),
            (balls.theorem, GREY, f"$p\\leq 10^{{{round(math.log10(DELTA))}}}$ by Theorem 4.2"),
            (balls.cell, BLUE, f"$p\\leq 10^{{{round(math.log10(DELTA))}}}$ by exact caps"),
            (balls.adversarial, ORANGE, "misclassified point found"),
        )
        count = len(balls.rho)
        for values, colour, label in curves:
            at = np.sort(values[values > 0].numpy())[::-1]
            left.step(at, 100 * np.arange(1, len(at) + 1) / count, where="post", color=colour, label=label)
        left.set(xscale="log", ylim=(0, 102), xlabel="distance from the input, or size of the noise")
        left.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        left.legend(loc="lower left")
        title(left, "Share of test inputs with at least this much room")
        ranking = balls.ranking()
        for axes, values, name, label in (
            (middle, balls.rho, "rho_x", r"nearest hyperplane: $\rho_x$"),
            (right, balls.output_distance, "output hyperplane", "nearest output hyperplane"),
        ):
            axes.plot(values, balls.adversarial, "o", color=ORANGE, markersize=3, alpha=0.45, markeredgewidth=0)
            axes.set(xscale="log", yscale="log", xlabel=label)
            ends = np.array([balls.rho.min(), 1.5])
            axes.plot(ends, ends, color=GREY, linewidth=1.0, zorder=0)
            title(axes, f"rank correlation {ranking[name]:+.2f}".replace("-", "−"))
            axes.set_xlim(0.7 * float(values.min()), 1.5)
            axes.set_ylim(0.7 * float(balls.adversarial.min()), 1.5)
        middle.set_ylabel("distance of misclassified point found")
        return save(figure, out, "figure-6-balls")


def patterns_figure(out: Path, balls: Balls, chosen: Sequence[Beside], side: int, seed: int) -> str:
    """Figure 7: inputs, the misclassified points found near them, and random noise of the same size."""
    columns = ("input", "point found", "random noise,\nsame size", "found $-$ input", "random $-$ input")
    with style():
        figure = Figure(figsize=(9.4, 1.95 * len(chosen) + 0.5), layout="constrained")
        grid = figure.subplots(len(chosen), len(columns), squeeze=False)
        for k, (row, b) in enumerate(zip(grid, chosen, strict=True)):
            witness, x = balls.witnesses[b.index], balls.subject.x[b.index]
            assert witness is not None
            generator = torch.Generator().manual_seed(seed + b.index)
            noise = Sphere(b.eps).sample(1, len(x), generator)[0]
            heard = int(balls.subject.network.predict((x + noise)[None]))
            pictures = (x, witness.point, x + noise, witness.point - x, noise)
            answers = (f"“{b.predicted}”", f"“{b.answer}”", f"“{heard}”", "", "")
            scale = max(float((witness.point - x).abs().max()), float(noise.abs().max()))
            for j, (axes, picture) in enumerate(zip(row, pictures, strict=True)):
                pixels = picture.reshape(side, side).numpy()
                if j < 3:
                    axes.imshow(pixels, cmap="Greys", vmin=0.0, vmax=1.0)
                else:
                    axes.imshow(pixels, cmap=mpl.colormaps["RdBu_r"], vmin=-scale, vmax=scale)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(visible=True, color=GREY, linewidth=0.5)
                axes.set_xlabel(answers[j], fontsize=13, color=ORANGE if answers[j] == f"“{b.answer}”" else INK)
                if k == 0:
                    axes.set_title(columns[j], fontsize=11, loc="center")
            words = f"$\\varepsilon={b.eps:.2f}$\n{b.misclassified[0]} of {b.samples:,}\nwrong"
            row[0].set_ylabel(words, fontsize=10, rotation=0, ha="right", va="center", labelpad=10)
        return save(figure, out, "figure-7-patterns")
