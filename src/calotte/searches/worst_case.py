"""Rung `relaxation`: half-space tails of linear lower bounds on the margins, valid over the whole support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from calotte.bound import ProvedRung
from calotte.proofs.below import lower_on_good_event
from calotte.proofs.event import on_good_event
from calotte.proofs.proof import Proof
from calotte.query import Query
from calotte.searches.proposal import Proposal

__all__ = ["WorstCase"]


@dataclass(frozen=True)
class WorstCase(ProvedRung):
    """Rung `relaxation`.

    Attributes:
        tails: under a Gaussian all noise of norm sigma (sqrt(m) + t) is considered, for these t: what is left out
            is 1.5e-8 and 5e-32 at most, below the bounds that are aimed at and far below them.
    """

    any_noise: ClassVar[bool] = True
    from_below: ClassVar[bool] = True
    name: str = "relaxation"
    proves: str = (
        "p ≤ the half-space tails of linear lower bounds on the margins, valid over the whole support of the noise; "
        "where it proves p = 0 it gives the certified radius"
    )
    source: str = "as PROVEN (arXiv:1812.08329), with exact tails"
    tails: tuple[float, ...] = (6.0, 12.0)

    def log_bound(self, query: Query, sizes: Tensor) -> Tensor:
        return self.proposal(query, sizes).log_bound

    def log_lower(self, query: Query, sizes: Tensor) -> Tensor:
        heights = torch.full_like(sizes, torch.inf)
        found = [lower_on_good_event(query, sizes, tail, heights, None) for tail in self._tails(query)]
        return torch.stack(found).amax(0)

    def propose(self, query: Query) -> Proof:
        return self.proposal(query, query.sizes).proofs[0]

    def proposal(self, query: Query, sizes: Tensor) -> Proposal:
        """The Proofs with the smallest bounds, for noise of these sizes (B,)."""
        return query.once((self, *sizes.tolist()), lambda: self._proposal(query, sizes))

    def _proposal(self, query: Query, sizes: Tensor) -> Proposal:
        best, heights = None, torch.full_like(sizes, torch.inf)
        for tail in self._tails(query):
            found = Proposal.on_event(tail, heights, on_good_event(query, sizes, tail, heights, None))
            best = found if best is None else best.better(found)
        assert best is not None
        return best

    def _tails(self, query: Query) -> tuple[float, ...]:
        return self.tails if not query.noise.bounded else self.tails[:1]
