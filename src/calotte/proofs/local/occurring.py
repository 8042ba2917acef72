"""Occurring: boxes of the noise in most of which an event occurs, and what its probability is at least.

Where enough forms of a case fail, all of some q of them, the event occurs. The opposite event is that one of these q
holds: its probability in a box, on the good event G, is bounded from above as any other's, and

    p >= sum over boxes B of (P(u in B) - P(one holds, u in B, G)) - P(not G)

for boxes that share no inner point.
"""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.network.margins import Case, Cases, Margins
from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.union import log_difference_down, log_sum_down
from calotte.query import Query

__all__ = ["log_occurring", "opposite"]


def opposite(query: Query, forms: Tensor) -> Query:
    """The query of one input about the event that one of these forms (q,) of its event's margins holds.

    Raises:
        ValueError: where all of them fail the query's event need not occur.
    """
    margins, failing = query.event_margins, torch.zeros(query.event_margins.cases.forms, dtype=torch.bool)
    failing[forms] = True
    if not margins.cases.occurring(failing):
        raise ValueError("the event may not occur where these forms fail")
    rows, constants, ties = margins.rows[:, forms], margins.constants[:, forms], margins.ties[:, forms]
    return query.by_margins(Margins(-rows, -constants, ~ties, Cases((Case(len(forms), 1),))))


def log_occurring(local: LocalNetwork, boxes: Boxes, log_held: Tensor) -> float:
    """A lower bound on log p, rounded down; -inf where nothing is proved.

    Args:
        local: the network of the `opposite` query.
        boxes: L that share no inner point; others are not used.
        log_held: (L,) upper bounds on log P(one holds, u in the box, G).
    """
    gained = log_difference_down(boxes.log_measure_down(local.noise, local.m), log_held)
    best = gained.argsort(descending=True)
    apart = best[boxes[best].apart()]
    missed = torch.tensor([local.log_missed], dtype=torch.float64)
    return log_difference_down(log_sum_down(gained[apart][None]), missed).item()
