"""The union bound over the hyperplanes of a cell as a Proof: nothing is decided but how the hyperplanes count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.noise import quotient_down
from calotte.proofs.float32 import executed
from calotte.proofs.proof import Proof
from calotte.proofs.union import cell_bound, log_sum_up, theorem_bound
from calotte.query import Query

__all__ = ["OverCell", "over_cell"]


@dataclass(frozen=True, eq=False)
class OverCell(Proof, kind="cell"):
    """The union bound over the hyperplanes of the cell of x.

    Attributes:
        exact: whether each counts by its own cap, as in rung `cell`, or all by the nearest, as in rung `theorem`.
    """

    exact: bool

    def log_bound(self, query: Query) -> float:
        return over_cell(query, query.sizes, self.exact).item()

    def _written(self) -> dict[str, Any]:
        return {"exact": self.exact}

    @classmethod
    def _read(cls, written: Mapping[str, Any]) -> Self:
        return cls(bool(written["exact"]))


def over_cell(query: Query, sizes: Tensor, exact: bool) -> Tensor:
    """Upper bounds (B,) on log p by the hyperplanes of the cells, the noise being of these sizes (B,).

    Args:
        exact: the sum of exact caps, and never more than N times Kůrková's bound on the largest; else the latter.

    Raises:
        InvalidInput: the latter on sphere or ball in one dimension, of which it says nothing.
    """
    plane = query.m >= 2 or query.noise.kind not in ("sphere", "ball")
    if not plane and not exact:
        raise InvalidInput(f"Theorem 4.2 needs dimension d >= 2, the noise has {query.m}")
    logs = torch.zeros(len(query.x), dtype=torch.float64)
    margins, log_missed = executed(query, sizes, query.margins)
    query = query.by_margins(margins)
    if plane:
        heights = quotient_down(query.distances.rho, sizes)
        logs = theorem_bound(query.noise, heights, query.m, query.units)
    if exact:  # never above the other in real arithmetic: rounding must not turn that round
        caps = cell_bound(query.noise, quotient_down(query.distances.lower, sizes[:, None]), query.m)
        logs = torch.minimum(caps, logs)
    if log_missed == -math.inf:
        return logs
    return log_sum_up(torch.stack([logs, torch.full_like(logs, log_missed)], 1))
