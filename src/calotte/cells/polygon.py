"""Plane: the cells of a network with two inputs, as polygons inside a square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from calotte.cells.cell import Cell
from calotte.cells.hyperplanes import Hyperplanes
from calotte.network.graph import Network

__all__ = ["Piece", "cell_edges", "cells_in_square", "roomiest_cell"]

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Piece:
    """The part of a cell inside a square: its corners (k, 2) in order, and the answer there."""

    corners: Points
    answer: int


def cells_in_square(network: Network, low: float, high: float) -> list[Piece]:
    """All cells of a network with decision `sign` on [low, high]^2.

    Each piece is cut in two by a hyperplane of the cell of its centre until none cuts it. The units come in the
    order of the layers, and the first that cuts is taken: no unit before it changes sign on the piece, so its
    hyperplane is valid on all of it, and both sides are in different cells.
    """
    hyperplanes = Hyperplanes(network)
    square = np.array([[low, low], [high, low], [high, high], [low, high]], dtype=np.float64)
    pending, done = [square], []
    while pending:
        corners = pending.pop()
        cell = Cell(network, corners.mean(0), hyperplanes)
        values = _signed(cell, corners)
        cuts = np.flatnonzero(values.min(0) < -1e-9)
        if len(cuts) == 0:
            done.append(Piece(corners, cell.predicted))
            continue
        value = values[:, cuts[0]]
        pending += [part for part in (_half(corners, value), _half(corners, -value)) if len(part) > 2]
    return done


def cell_edges(cell: Cell, low: float, high: float) -> tuple[Points, dict[int, Points]]:
    """Corners (k, 2) of a cell inside a square, and its edges: unit -> end points (2, 2)."""
    corners = np.array([[low, low], [high, low], [high, high], [low, high]], dtype=np.float64)
    for k in range(len(cell.names)):
        corners = _half(corners, _signed(cell, corners)[:, k])
    on = np.abs(_signed(cell, corners)) < 1e-9
    edges = {}
    for unit in np.flatnonzero(on.sum(0) == 2).tolist():
        edges[unit] = corners[on[:, unit]]
    return corners, edges


def roomiest_cell(network: Network, low: float, high: float) -> torch.Tensor:
    """The middle (2,) of the roomiest cell of five corners or more, well inside a square: a good one to picture."""
    inner = 2 / 3 * np.array([low, high])
    best, room = torch.zeros(2, dtype=torch.float64), -1.0
    for piece in cells_in_square(network, low, high):
        middle = torch.from_numpy(piece.corners.mean(0))
        inside = inner[0] < piece.corners.min() and piece.corners.max() < inner[1]
        if inside and len(piece.corners) >= 5 and (rho := Cell(network, middle).distance or 0.0) > room:
            best, room = middle, rho
    return best


def _signed(cell: Cell, points: Points) -> Points:
    """Signed distances of points (p, 2) to the N hyperplanes of a cell, positive on its side; inf where none."""
    own = cell.has_hyperplane
    values = (torch.from_numpy(points) @ cell.normals.t() + cell.offsets) * cell.signs
    return torch.where(own, values / cell.normals.norm(dim=1), torch.inf).numpy()


def _half(corners: Points, value: Points) -> Points:
    """The part of a convex polygon (k, 2) where a linear function with these values at the corners is positive."""
    kept = []
    for a, b, va, vb in zip(corners, np.roll(corners, -1, 0), value, np.roll(value, -1), strict=True):
        if va >= 0:
            kept.append(a)
        if (va > 1e-12 and vb < -1e-12) or (va < -1e-12 and vb > 1e-12):
            kept.append(a + va / (va - vb) * (b - a))
    return np.array(kept).reshape(-1, 2)
