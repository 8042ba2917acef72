"""Behaviour: how rho_x and sqrt(d) rho_x / eps vary with d, N and depth, and how many cells lines meet.

The bound of Theorem 4.2 (Kůrková, arXiv:2602.18674) is small only where sqrt(d) rho_x / eps exceeds
sqrt(2 ln(N / delta)), about 5: what the theorem promises rests on how rho_x itself behaves. It is measured here at
eps = SHARE ||x||, so that networks on inputs of any dimension and scale can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from calotte.cells.cell import Cell
from calotte.cells.hyperplanes import Hyperplanes
from calotte.network.graph import Network
from calotte.paper.networks import Subject
from calotte.paper.report import Table
from calotte.printing import number
from calotte.theorems import largest_eps, log_target, theorem_4_2

__all__ = [
    "DELTA",
    "SHARE",
    "Distance",
    "Lines",
    "count_cells",
    "count_faces",
    "distance_table",
    "exponent",
    "lines_table",
    "measure_distance",
    "measure_lines",
]

DELTA = 1e-3
"""Misclassification probability that the tables ask for."""
SHARE = 0.1
"""Size of the noise that the tables look at, eps / ||x||."""


@dataclass(frozen=True)
class Distance:
    """How far the inputs of one subject are from the boundaries of their cells.

    Attributes:
        rho: 10 %, 50 % and 90 % quantiles of rho_x, rounded down.
        scaled: the same of sqrt(d) rho_x / eps, eps = SHARE ||x||; needed: its least value with p <= DELTA proved.
        proved: share of the inputs with p <= DELTA proved by Theorem 4.2 at that eps.
        reach: median of the largest eps / ||x|| with p <= DELTA proved, rounded down.
    """

    name: str
    d: int
    N: int
    layers: int
    trained: bool
    accuracy: float | None
    rho: tuple[float, float, float]
    scaled: tuple[float, float, float]
    needed: float
    proved: float
    reach: float


def measure_distance(subject: Subject) -> Distance:
    """Measure rho_x over the inputs of a subject."""
    d, N = subject.network.d, subject.network.units
    rho = Hyperplanes(subject.network).distances(subject.x).rho
    eps = SHARE * subject.x.norm(dim=1)
    reach = [
        largest_eps(r, d, N, log_delta=log_target(DELTA)) / e * SHARE if r > 0 else 0.0
        for r, e in zip(rho.tolist(), eps.tolist(), strict=True)
    ]
    proved = [
        r > 0 and theorem_4_2(r, e, d, N).log_misclassification <= math.log(DELTA)
        for r, e in zip(rho.tolist(), eps.tolist(), strict=True)
    ]
    return Distance(
        name=subject.name,
        d=d,
        N=N,
        layers=subject.layers,
        trained=subject.trained,
        accuracy=subject.accuracy,
        rho=_quantiles(rho),
        scaled=_quantiles(math.sqrt(d) * rho / eps),
        needed=math.sqrt(2 * math.log(N / DELTA)),
        proved=float(np.mean(proved)),
        reach=float(np.quantile(reach, 0.5, method="lower")),
    )


def _quantiles(values: Tensor) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values.numpy(), [0.1, 0.5, 0.9], method="lower").tolist()
    return low, middle, high


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """The power b of the least-squares fit y = a x^b."""
    return float(np.polyfit(np.log(np.asarray(x, float)), np.log(np.asarray(y, float)), 1)[0])


def distance_table(title: str, measured: Sequence[Distance]) -> Table:
    """Distances as a table, rounded down."""
    columns = (
        "network", "N", "accuracy", "rho_x, 10 %", "50 %", "90 %", "sqrt(d) rho_x / eps, 50 %", "needed",
        "inputs proved", "eps / norm proved, 50 %",
    )  # fmt: skip
    rows = tuple(
        (
            m.name,
            str(m.N),
            "-" if m.accuracy is None else number(100 * m.accuracy, "down") + " %",
            *(number(r, "down") for r in m.rho),
            number(m.scaled[1], "down"),
            number(m.needed, "up"),
            number(100 * m.proved, "down") + " %",
            number(m.reach, "down"),
        )
        for m in measured
    )
    note = (
        f"eps is {SHARE:.0%} of the norm of x. needed: sqrt(d) rho_x / eps for p <= {DELTA:g} by Theorem 4.2. "
        f"eps / norm proved: the largest relative noise with p <= {DELTA:g} proved."
    )
    return Table(title, columns, rows, note)


@dataclass(frozen=True)
class Lines:
    """Cells met along segments between inputs, and faces of the cells that the segments start in.

    Attributes:
        cells: of each segment; hyperplanes: of each cell looked at, at most N; faces: those of them that bound it.
    """

    name: str
    N: int
    layers: int
    cells: tuple[int, ...]
    hyperplanes: tuple[int, ...]
    faces: tuple[int, ...]


def measure_lines(name: str, network: Network, layers: int, ends: Tensor, looked_at: int) -> Lines:
    """Count the cells on segments (n, 2, d), and the faces of the cells of the first few starting points."""
    hyperplanes = Hyperplanes(network)
    cells = [Cell(network, x, hyperplanes) for x in ends[:looked_at, 0]]
    return Lines(
        name=name,
        N=network.units,
        layers=layers,
        cells=tuple(count_cells(network, a, b) for a, b in ends),
        hyperplanes=tuple(int(cell.has_hyperplane.sum()) for cell in cells),
        faces=tuple(count_faces(cell) for cell in cells),
    )


def count_cells(network: Network, a: Tensor, b: Tensor) -> int:
    """How many cells the segment from a to b, (d,) each, runs through.

    On the segment every value is a continuous piecewise linear function of one variable t. Its breakpoints are
    found node by node: between those of the nodes before, a pre-activation is linear and changes sign at most once.
    Cells are convex, so each fills one interval of t, and neighbouring intervals with different signs or answers
    are different cells. Exact up to the rounding of the breakpoints.
    """
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)

    def at(t: Tensor, node: int) -> Tensor:
        for i, value in network.values(a + t[:, None] * (b - a)):
            if i == node:
                return value.flatten(1)
        raise AssertionError(f"no node {node}")

    for i in network.relus:
        t = _with_roots(t, at(t, network.nodes[i].inputs[0]))
    z = at(t, len(network.nodes) - 1)
    pairs = torch.combinations(torch.arange(z.shape[1])) if z.shape[1] > 1 else None
    t = _with_roots(t, z if pairs is None else z[:, pairs[:, 0]] - z[:, pairs[:, 1]])
    middles = a + ((t[:-1] + t[1:]) / 2)[:, None] * (b - a)
    codes = torch.cat([network.pattern(middles).to(torch.int64), network.predict(middles)[:, None]], 1)
    return 1 + int((codes[1:] != codes[:-1]).any(1).sum())


def _with_roots(t: Tensor, values: Tensor) -> Tensor:
    """Points t (p,) and the zeros between them of functions that are linear there, values (p, n) at t; sorted."""
    low, high = values[:-1], values[1:]
    crossed = (low * high) < 0
    share = (low / (low - high))[crossed]
    step = (t[1:] - t[:-1])[:, None].expand_as(low)[crossed]
    t = torch.cat([t, t[:-1, None].expand_as(low)[crossed] + share * step]).sort().values
    return torch.cat([t[:1], t[1:][t.diff() > 1e-12]])


def count_faces(cell: Cell) -> int:
    """How many of the cell's hyperplanes carry one of its faces, by one linear programme for each.

    Hyperplane i carries a face exactly where dropping its constraint lets the cell grow beyond it. In units of
    distance: minimise n_i.r over n_j.r >= -rho_j for all j != i and n_i.r >= -rho_i - 1; a face where less than
    -rho_i is reached. Hyperplanes that coincide are counted as one.
    """
    own = cell.has_hyperplane
    normals = (cell.normals * cell.signs[:, None])[own]
    lengths = normals.norm(dim=1)
    limits = (cell.values * cell.signs)[own].abs() / lengths
    planes = torch.cat([-normals / lengths[:, None], limits[:, None]], 1).numpy()
    _, first = np.unique(planes.round(9), axis=0, return_index=True)
    A, limits = planes[first, :-1], planes[first, -1]
    faces = 0
    for i, limit in enumerate(limits):
        relaxed = limits.copy()
        relaxed[i] += 1.0
        found = linprog(-A[i], A_ub=A, b_ub=relaxed, bounds=(None, None), method="highs")
        faces += bool(found.status == 0 and found.fun < -limit - 1e-7)
    return faces


def lines_table(measured: Sequence[Lines]) -> Table:
    """Cells along lines beside the faces of one cell, as a table."""
    columns = ("network", "hidden layers", "N", "cells on a segment, 50 %", "most", "hyperplanes of a cell, most",
               "faces of a cell, most")  # fmt: skip
    rows = tuple(
        (
            m.name,
            str(m.layers),
            str(m.N),
            f"{np.median(m.cells):g}",
            str(max(m.cells)),
            str(max(m.hyperplanes)),
            str(max(m.faces)),
        )
        for m in measured
    )
    return Table("Cells met on segments between two inputs, and faces of one cell", columns, rows)
