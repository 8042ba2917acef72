"""Cell: the convex set of inputs around x on which a network is one affine map (Kůrková, Theorem 4.1)."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.cells.distances import Distances
from calotte.cells.faces import faces
from calotte.cells.hyperplanes import Hyperplanes
from calotte.cells.products import one_hot_blocks, pull_back
from calotte.checks import kind
from calotte.deadline import Deadline
from calotte.errors import InvalidInput
from calotte.network.enclosure import evaluate
from calotte.network.graph import Network
from calotte.notebook import html_table
from calotte.printing import lower_text, number

__all__ = ["Cell"]

_SHOWN = 10  # hyperplanes in a notebook


class Cell:
    """The cell of one input: at most N half-spaces `sign_i (normal_i . y + offset_i) >= 0`.

    The N units come in the order of the network's nodes, the output comparisons last; `names` names them. A unit
    that is constant on the cell has no hyperplane: normal zero, distance inf, `has_hyperplane` false.

    Args:
        network: the network.
        x: one input, shape (d,) or the network's input shape.
        hyperplanes: of that network, to share its preparation over many cells.

    Raises:
        InvalidInput: no Network; x is not exactly one input, or not finite.

    Examples:
        >>> import torch, calotte
        >>> network = calotte.random_network((20, 30, 3), torch.Generator().manual_seed(0))
        >>> cell = calotte.Cell(network, torch.ones(20))
        >>> len(cell.distances), cell.distance <= cell.distances.min().item(), cell.contains(torch.ones(20))
        (32, True, True)
    """

    def __init__(self, network: Network, x: ArrayLike | Tensor, hyperplanes: Hyperplanes | None = None) -> None:
        if not isinstance(network, Network):
            raise InvalidInput(f"network: expected a calotte Network, came {kind(network)}")
        rows = network.inputs(x)
        if len(rows) != 1:
            raise InvalidInput(f"a cell belongs to one input, came {len(rows)}: pass a single row")
        self.network, self.x = network, rows[0]
        self._geometry = hyperplanes or Hyperplanes(network)
        self.pattern = network.pattern(rows)[0]
        self.predicted = int(network.predict(rows)[0])

    def _repr_html_(self) -> str:
        names, distances = self.names, self.distances
        near = [i for i in distances.argsort().tolist()[:_SHOWN] if not math.isinf(distances[i])]
        return html_table(
            f"The cell of an input, answer {self.predicted}: {self.network.units} units, distance "
            f"{lower_text(self.distance)}",
            ["unit", "distance of its hyperplane"],
            [[names[i], number(distances[i].item(), digits=4)] for i in near],
            "nearest first, as computed",
        )

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
        """Normals (N, d) of the hyperplanes in input space; rows of zeros where there is none.

        Raises:
            InvalidInput: they do not fit the memory limit of the hyperplanes.
        """
        network, limit = self.network, self._geometry.memory_limit
        needed = 2.0 * 8.0 * network.units * network.d
        if needed > limit:
            raise InvalidInput(
                f"the normals of {network.units:,} hyperplanes in {network.d:,} dimensions take "
                f"{needed / 1e9:.1f} GB, the memory limit is {limit / 1e9:g} GB: raise it, or ask for distances only"
            )
        masks = {i: mask[0] for i, mask in network.masks(self.pattern[None]).items()}
        rows = []
        for i in network.relus:
            feeder = network.feeders[i]
            for _, hot in one_hot_blocks(network, feeder, self._geometry.memory_limit):
                rows.append(pull_back(network, masks, feeder, hot))
        last = network.last
        comparison = network.decision.comparison(torch.tensor([self.predicted]))[0]
        rows.append(pull_back(network, masks, last, comparison.reshape(-1, *network.shape(last))))
        return torch.cat(rows) * self.has_hyperplane[:, None]

    @cached_property
    def values(self) -> Tensor:
        """Values at x of the N affine functions (N,): pre-activations, then output margins."""
        network = self.network
        inside = evaluate(network, self.x[None], network.masks(self.pattern[None]))
        hidden = [inside[network.feeders[i]].value.flatten() for i in network.relus]
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
        network, feeders = self.network, set(self.network.feeders.values())
        values = {i: value[0] for i, value in network.values(rows) if i in feeders or i == network.last}
        if not all(bool(value.isfinite().all()) for value in values.values()):
            return False  # a number that overflowed has no sign
        same = all(
            torch.equal(values[network.feeders[i]] > 0, mask[0])
            for i, mask in network.masks(self.pattern[None]).items()
        )
        return same and int(network.decision.decide(values[network.last].reshape(1, -1))) == self.predicted

    def __repr__(self) -> str:
        return f"Cell(N={self.network.units}, d={self.network.d}, predicted={self.predicted})"

    def faces(self, time_limit: float = math.inf) -> Tensor:
        """Which hyperplanes carry a face of the cell, not just touch it from afar: (N,) int64.

        1: a face, 0: redundant (or no hyperplane, or the same as an earlier one), -1: undecided at the time limit.
        Hyperplane i is redundant iff no point within the other half-spaces lies beyond it: one linear programme
        each, nearest first, in coordinates of the span of the normals. The nearest is always a face.

        Args:
            time_limit: seconds.
        """
        outward = -self.signs[:, None] * self.normals
        return faces(outward, self.distances, Deadline.after(time_limit))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cell) or other.network is not self.network:
            return NotImplemented if not isinstance(other, Cell) else False
        return torch.equal(self.pattern, other.pattern) and self.predicted == other.predicted

    def __hash__(self) -> int:
        return hash((id(self.network), self.pattern.numpy().tobytes(), self.predicted))
