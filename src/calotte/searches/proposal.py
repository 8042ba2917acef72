"""Proposal: Proofs for a batch of inputs, and the bounds that they were seen to give."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.proofs.event import OnGoodEvent
from calotte.proofs.half_spaces import GoodHalfSpaces
from calotte.proofs.proof import Proof

__all__ = ["Proposal"]


@dataclass(frozen=True)
class Proposal:
    """B Proofs, and upper bounds (B,) on log p by them."""

    log_bound: Tensor
    proofs: tuple[Proof, ...]

    @staticmethod
    def on_event(tail: float, heights: Tensor, found: OnGoodEvent) -> Proposal:
        """What gave bounds on a good event, its heights being (B,)."""
        rows = enumerate(heights.tolist())
        proofs = (GoodHalfSpaces(tail, h, {n: c[i] for n, c in found.choices.items()}) for i, h in rows)
        return Proposal(found.log_bound, tuple(proofs))

    def better(self, other: Proposal) -> Proposal:
        """For each input the Proof with the smaller bound."""
        pairs = zip(self.proofs, other.proofs, (other.log_bound < self.log_bound).tolist(), strict=True)
        proofs = tuple(second if smaller else first for first, second, smaller in pairs)
        return Proposal(torch.minimum(self.log_bound, other.log_bound), proofs)
