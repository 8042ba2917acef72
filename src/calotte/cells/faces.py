"""Faces: which hyperplanes of a cell bound it, and which only touch it from afar, by linear programmes in float64."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from calotte.cells.products import row_norms
from calotte.deadline import Deadline

__all__ = ["faces"]

_NEAREST = 200  # hyperplanes tried by the foot of their perpendicular
_LARGEST_SPAN = 2000  # normals (or dimensions) up to which the linear programmes are put in coordinates of the span


def faces(normals: Tensor, distances: Tensor, deadline: Deadline) -> Tensor:
    """Which of the half-spaces `normal . (y - x) <= ||normal|| distance` around x is no consequence of the others.

    Half-space i is redundant iff no point within the others lies beyond it: one linear programme each, nearest
    first, in coordinates of the span of the normals. The nearest always carries a face.

    Args:
        normals: (N, d), pointing out of the cell.
        distances: (N,) of x to the hyperplanes, inf where there is none.
        deadline: when to stop.

    Returns:
        (N,) int64. 1: a face, 0: redundant (or no hyperplane, or the same as an earlier one), -1: undecided, all of
        them where a normal is too large for a number.
    """
    found = torch.where(torch.isinf(distances), 0, -1)
    order = [i for i in distances.argsort().tolist() if found[i] == -1]
    if not order:
        return found
    normals, distances = normals[order], distances[order]
    outward = normals / row_norms(normals)[:, None]
    if not bool(outward.isfinite().all()):
        return found
    if min(outward.shape) <= _LARGEST_SPAN:
        _, spread, basis = torch.linalg.svd(outward, full_matrices=False)
        a = (outward @ basis[spread > 1e-12 * spread[0]].t()).numpy()
    else:
        a = outward.numpy()
    # the foot of the perpendicular on a near hyperplane often lies inside all others: a face, no programme needed
    feet = outward[:_NEAREST] * distances[:_NEAREST, None]
    room = distances[:, None] - outward @ feet.t()
    room[range(len(feet)), range(len(feet))] = math.inf
    found[order[:_NEAREST]] = torch.where((room > 1e-9 * (1.0 + distances[:, None])).all(0), 1, -1)
    same = torch.cat([outward, distances[:, None]], 1)
    limits, kept = distances.numpy().copy(), np.ones(len(order), dtype=bool)
    for row, i in enumerate(order):
        if deadline.passed:
            break
        if found[i] == 1:
            continue
        earlier = same[:row][kept[:row]]
        if bool(((earlier - same[row]).abs().amax(1) < 1e-12 * (1.0 + distances[row])).any()):
            found[i], kept[row] = 0, False
            continue
        limits[row] += 1.0
        left = {} if math.isinf(deadline.limit) else {"time_limit": max(deadline.left, 0.01)}
        solved = linprog(-a[row], A_ub=a[kept], b_ub=limits[kept], bounds=(None, None), method="highs", options=left)
        limits[row] -= 1.0
        if solved.status == 0:
            found[i] = int(-solved.fun > limits[row] + 1e-9 * (1.0 + limits[row]))
            kept[row] = bool(found[i])
    return found
