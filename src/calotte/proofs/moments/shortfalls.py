"""Shortfalls: what margins lose where ends of units behind the first layer are soft.

A soft end is not paid for: what it is missed by counts in the mean, as over boxes (`local.violations`, whose
proposition speaks of any rows through lines that hold between the ends). Rows lose by a unit's violation what they
take from its ReLU on the way back, and the ends of units that such rows bound are missed by that: through units that
keep their sign too, layer by layer. So an end may have *room*: its row is to be above it by so much, and no violation
is passed on as long as others take less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.proofs.local.violations import Violations
from calotte.proofs.moments.tails import log_shortfalls
from calotte.proofs.relaxation.windows import Rows
from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["Settled", "Taken", "taken", "violations"]

Taken = dict[int, Tensor]
"""ReLU node behind the first layer -> (..., n) what rows take from its units on the way back, 0 or more."""


@dataclass(frozen=True, eq=False)
class Settled:
    """The n units of a ReLU node behind the first layer, bounded; of z and of -z all (2, n).

    Attributes:
        relu: the node.
        ends: the lower ends that are used, 0 where a unit keeps its sign.
        free: those that rows do not fall short of under any noise considered.
        moment, rate: log E exp(-rate row), rounded up, inf where nothing is known.
        log_each: logarithms of the prices of the ends; -inf for those that cost nothing.
        part: how much of what z leaves its ends by relu(z) may be above its line, at most.
        takes: what the rows take, (2, n, .); of nothing where no ends are soft.
    """

    relu: int
    ends: Tensor
    free: Tensor
    moment: Tensor
    rate: Tensor
    log_each: Tensor
    part: Tensor
    takes: Taken


def taken(rows: Rows) -> Tensor:
    """(S, N, n) what rows take from the activations that they meet: minus their negative coefficients."""
    return -rows.whole().entries.flatten(2).clamp_max(0.0)


def violations(
    settled: Sequence[Settled], rooms: Sequence[Tensor], margins: Mapping[int, Tensor], count: int
) -> Violations:
    """What ends cost if they are soft, of all nodes in order, as over one box.

    Args:
        settled: the nodes, in order; rooms: (2, n) of their ends, other numbers than finite ones above 0: none.
        margins: what the rows below the margins take, (C, n); count: C.
    """
    roomy = [(room > 0) & room.isfinite() & (one.part > 0) for one, room in zip(settled, rooms, strict=True)]
    weights = swept(settled, roomy, margins, count)
    least = [torch.full_like(one.part, VALUE_SLACK) for one in settled]
    means, prices = list[Tensor](), list[Tensor]()
    for k, (one, room, some) in enumerate(zip(settled, rooms, roomy, strict=True)):
        ends = torch.where(some, raised_to(one.ends, room), one.ends)
        kept = some & (ends <= one.free)
        means.append(log_shortfalls(ends, one.moment, one.rate))
        prices.append(torch.where(kept, -torch.inf, torch.where(some, torch.inf, one.log_each)))
        if some.any():
            each = raised(1.0 / room[some], 4)
            least[k][some] = torch.maximum(least[k][some], each)
            met = {i: raised(each[:, None] * takes[some], 4) for i, takes in one.takes.items()}
            for i, weight in enumerate(swept(settled[:k], roomy[:k], met, len(each))):
                least[i] = torch.maximum(least[i], weight.amax(0))
    parts = (torch.cat(each, -1)[None] for each in (weights, means, prices, least))
    return Violations(*parts)


def swept(
    settled: Sequence[Settled], roomy: Sequence[Tensor], begun: Mapping[int, Tensor], count: int
) -> list[Tensor]:
    """(J, 2, n) what a shortfall of 1 of each end takes, on all ways, from J = `count` rows that take `begun` (J, n).

    Args:
        roomy: where ends have room: these pass nothing on.
    """
    met, weights = dict(begun), list[Tensor]()
    for one, held in reversed(list(zip(settled, roomy, strict=True))):
        part = torch.where(held, 0.0, one.part)
        own = met.get(one.relu, torch.zeros(count, part.shape[1], dtype=torch.float64))
        weight = raised(own[:, None] * part, 4) + VALUE_SLACK  # may underflow
        weights.append(weight)
        some = part > 0
        through = weight[:, some]
        for i, takes in one.takes.items():
            reads = raised(through @ takes[some], through.shape[1] + 4)
            met[i] = raised(met[i] + reads, 2) if i in met else reads
    return weights[::-1]


def raised_to(ends: Tensor, room: Tensor) -> Tensor:
    """Ends and their room, rounded up."""
    total = ends + room
    return total + dot_error(ends.abs() + room, 4)
