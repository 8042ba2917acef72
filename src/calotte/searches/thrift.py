"""What a good event should pay for: proposed here, priced and proved in `proofs.price`."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.local.tilted import BoxTilt, ExponentialTails, Pairs
from calotte.proofs.local.violations import Slack, Violations
from calotte.proofs.price import ABOVE, BELOW, BOTH, FREE, NEGATIVE, POSITIVE, Offer
from calotte.searches.diagonals import shapes
from calotte.searches.slack import Slackening
from calotte.searches.slopes import Tilting

__all__ = ["Thrift"]


@dataclass(frozen=True)
class Thrift:
    """The sign of a unit where it is cheap, else the half-spaces that tell something, nothing where it is stable.

    Attributes:
        eager: how much more of log p the sign of a unit may cost than two bounds on it.
        negligible: how much less of log p a sign must cost than such bounds not to be bounded by moments.
        tilting: how exponential moments are taken; slackening: which ends are soft.
    """

    eager: float = 0.5
    negligible: float = 6.0
    tilting: Tilting = field(default_factory=Tilting)
    slackening: Slackening = field(default_factory=Slackening)

    def choose(self, layer: int, offer: Offer) -> Tensor:
        """(B, n) what to pay for."""
        stable, worth = self._worth(offer)
        cheap = ~stable & (offer.log_sign <= worth).any(1)
        used = (offer.paid > offer.free) & (~stable & ~cheap)[:, None]
        below, above = used.unbind(1)
        half = torch.where(below & above, BOTH, torch.where(below, BELOW, torch.where(above, ABOVE, FREE)))
        sign = torch.where(offer.log_sign[:, 0] <= offer.log_sign[:, 1], POSITIVE, NEGATIVE)
        return torch.where(cheap, sign, half).to(torch.int8)

    def improve(self, layer: int, offer: Offer) -> Tensor:
        """(B, n) the units that are not stable, whose signs cost something, and that are bounded by half-spaces."""
        stable, worth = self._worth(offer)
        return ~stable & (offer.log_sign > worth - self.negligible).all(1) & offer.log_half.isfinite().any(1)

    def shapes(self, local: LocalNetwork, mask: tuple[bool, ...], correlation: Tensor, longest: Tensor) -> Tensor:
        """(K, n) the least diagonals for the rows that read the first group."""
        return shapes(local, correlation, longest)

    def tilt(self, layer: int, moments: ExponentialTails, pairs: Pairs, log_each: Tensor | None) -> BoxTilt:
        """Slopes at the tilted law."""
        return self.tilting.tilt(moments, pairs, log_each)

    def slack(self, violations: Violations, log_tails: Tensor, rate: Tensor) -> Slack:
        """What costs least."""
        return self.slackening.slack(violations, log_tails, rate)

    def _worth(self, offer: Offer) -> tuple[Tensor, Tensor]:
        """Stable units (B, n), and (B, 1, n) what a sign is worth: about what bounds on both sides would cost."""
        return (offer.free >= 0).any(1), torch.logsumexp(offer.log_half, 1, keepdim=True) + self.eager
