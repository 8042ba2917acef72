"""Cell: the convex set of inputs around x on which a network is one affine map (Kůrková, Theorem 4.1)."""

from __future__ import annotations

import math
import time
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import linprog
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.geometry import Distances, Geometry
from calotte.network.enclosure import evaluate
from calotte.network.graph import Network
from calotte.normals import one_hot_blocks, pull_back

__all__ = ["Cell"]

_NEAREST = 200  # hyperplanes tried by the foot of their perpendicular
_LARGEST_SPAN = 2000  # normals (or dimensions) up to which the linear programmes are put in coordinates of the span


class Cell:
    """The cell of one input: at most N half-spaces `sign_i (normal_i . y + offset_i) >= 0`.

    The N units come in the order of the network's nodes, the output comparisons last; `names` names them. A unit
    that is constant on the cell has no hyperplane: normal zero, distance inf, `has_hyperplane` false.

    Args:
        network: the network.
        x: one input, shape (d,) or the network's input shape.
        geometry: of that network, to share its preparation over many cells.

    Raises:
        InvalidInput: x is not exactly one input, or not finite.
    """

    def __init__(self, network: Network, x: ArrayLike | Tensor, geometry: Geometry | None = None) -> None:
        rows = network.inputs(x)
        if len(rows) != 1:
            raise InvalidInput(f"a cell belongs to one input, came {len(rows)}: pass a single row")
        self.network, self.x = network, rows[0]
        self._geometry = geometry or Geometry(network)
        self.pattern = network.pattern(rows)[0]
        self.predicted = int(network.predict(rows)[0])

    @cached_property
    def _measured(self) -> Distances:
        return self._geometry.distances(self.x[None])

    @property
    def names(self) -> list[str]:
        """Name of each of the N units."""
        return self.network.unit_names(self.predicted)

    @property
    def distances(self) -> Tensor:
        """Distances of x to the N hyperplanes (N,), as computed; inf where there is none."""
        return self._measured.nearest[0]

    @property
    def distance(self) -> float | None:
        """rho_x, the distance of x to the boundary of its cell, rounded down; None where it has no boundary."""
        rho = self._measured.rho[0].item()
        return None if math.isinf(rho) else rho

    @property
    def nearest_unit(self) -> int | None:
        """The unit whose hyperplane is nearest, or None."""
        return None if self.distance is None else int(self._measured.unit[0])

    @cached_property
    def signs(self) -> Tensor:
        """+1 or -1 for each unit (N,): the side of its hyperplane that holds the cell."""
        hidden = torch.where(self.pattern, 1.0, -1.0).to(torch.float64)
        return torch.cat([hidden, torch.ones(self.network.decision.comparisons, dtype=torch.float64)])

    @cached_property
    def normals(self) -> Tensor:
        """Normals (N, d) of the hyperplanes in input space; rows of zeros where there is none."""
        network = self.network
        masks = {i: mask[0] for i, mask in network.masks(self.pattern[None]).items()}
        rows = []
        for i in network.relus:
            feeder = network.nodes[i].inputs[0]
            for _, hot in one_hot_blocks(network, feeder, self._geometry.memory_limit):
                rows.append(pull_back(network, masks, feeder, hot))
        last = len(network.nodes) - 1
        comparison = network.decision.comparison(torch.tensor([self.predicted]))[0]
        rows.append(pull_back(network, masks, last, comparison.reshape(-1, *network.shape(last))))
        return torch.cat(rows) * self.has_hyperplane[:, None]

    @cached_property
    def values(self) -> Tensor:
        """Values at x of the N affine functions (N,): pre-activations, then output margins."""
        network = self.network
        inside = evaluate(network, self.x[None], network.masks(self.pattern[None]))
        hidden = [inside[network.nodes[i].inputs[0]].value.flatten() for i in network.relus]
        comparison = network.decision.comparison(torch.tensor([self.predicted]))[0]
        return torch.cat([*hidden, comparison @ inside[-1].value[0]])

    @cached_property
    def offsets(self) -> Tensor:
        """Offsets (N,): unit i is `normals[i] . y + offsets[i]` for y in the cell."""
        return self.values - self.normals @ self.x

    @cached_property
    def has_hyperplane(self) -> Tensor:
        """Whether each unit has a hyperplane on the cell (N,) bool."""
        return ~torch.isinf(self.distances)

    def contains(self, y: ArrayLike | Tensor) -> bool:
        """Whether y lies in this cell: all hidden signs and the answer agree with those of x."""
        rows = self.network.inputs(y)
        if len(rows) != 1:
            raise InvalidInput(f"one input is either in the cell or not, came {len(rows)}: pass a single row")
        same = torch.equal(self.network.pattern(rows)[0], self.pattern)
        return same and int(self.network.predict(rows)[0]) == self.predicted

    def faces(self, time_limit: float = math.inf) -> Tensor:
        """Which hyperplanes carry a face of the cell, not just touch it from afar: (N,) int64.

        1: a face, 0: redundant (or no hyperplane, or the same as an earlier one), -1: undecided at the time limit.
        Hyperplane i is redundant iff no point within the other half-spaces lies beyond it: one linear programme
        each, nearest first, in coordinates of the span of the normals. The nearest is always a face.

        Args:
            time_limit: seconds.
        """
        deadline = time.perf_counter() + time_limit
        found = torch.where(self.has_hyperplane, -1, 0)
        order = [i for i in self.distances.argsort().tolist() if found[i] == -1]
        if not order:
            return found
        normals, distances = self.normals[order], self.distances[order]
        outward = -self.signs[order, None] * normals / normals.norm(dim=1, keepdim=True)
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
            if time.perf_counter() > deadline:
                break
            if found[i] == 1:
                continue
            earlier = same[:row][kept[:row]]
            if bool(((earlier - same[row]).abs().amax(1) < 1e-12 * (1.0 + distances[row])).any()):
                found[i], kept[row] = 0, False
                continue
            limits[row] += 1.0
            left = {} if math.isinf(time_limit) else {"time_limit": max(deadline - time.perf_counter(), 0.01)}
            solved = linprog(
                -a[row], A_ub=a[kept], b_ub=limits[kept], bounds=(None, None), method="highs", options=left
            )
            limits[row] -= 1.0
            if solved.status == 0:
                found[i] = int(-solved.fun > limits[row] + 1e-9 * (1.0 + limits[row]))
                kept[row] = bool(found[i])
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cell) or other.network is not self.network:
            return NotImplemented if not isinstance(other, Cell) else False
        return torch.equal(self.pattern, other.pattern) and self.predicted == other.predicted

    def __hash__(self) -> int:
        return hash((id(self.network), self.pattern.numpy().tobytes(), self.predicted))
