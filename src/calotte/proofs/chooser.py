"""Chooser: who says what is paid for, and how exponential moments are taken. Not trusted, whatever it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.local.tilted import BoxTilt, ExponentialTails, Pairs
from calotte.proofs.local.violations import Slack, Violations
from calotte.proofs.price import Offer

__all__ = ["Chooser", "Recorded"]


class Chooser(Protocol):
    """Layers are ReLU nodes of a network, or groups of a local one; the margins of the latter come after them."""

    def choose(self, layer: int, offer: Offer) -> Tensor:
        """(B, n), one of FREE, POSITIVE, NEGATIVE, BELOW, ABOVE, BOTH for each unit."""

    def improve(self, layer: int, offer: Offer) -> Tensor:
        """(B, n) the units for which a better offer is wanted, by exponential moments, which are dear: bool."""

    def shapes(self, local: LocalNetwork, mask: tuple[bool, ...], correlation: Tensor, longest: Tensor) -> Tensor:
        """(K, n) positive: what diagonals that dominate the first group's Gram matrix may look like.

        Args:
            mask: the components that are split, and left out; correlation: (n, n) of the units, and longest: (n,)
                their norms, without them.
        """

    def tilt(self, layer: int, moments: ExponentialTails, pairs: Pairs, log_each: Tensor | None) -> BoxTilt:
        """Slopes, diagonals and rates for forms: for levels that fail as seldom as `log_each` (Q,), or for tails."""

    def slack(self, violations: Violations, log_tails: Tensor, rate: Tensor) -> Slack:
        """Which ends are soft, and what they may take from margins whose rows are at most d with probabilities of
        about exp(log_tails + rate d), both (L, C)."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """A chooser that says what was said before.

    Attributes:
        choices, improved: layer -> (B, n).
        known_shapes: components that are split -> (K, n); tilts: layer -> Tilt.
        softened: which ends are soft; None where no margins are bounded.
    """

    choices: Mapping[int, Tensor]
    improved: Mapping[int, Tensor] = field(default_factory=dict)
    known_shapes: Mapping[tuple[bool, ...], Tensor] = field(default_factory=dict)
    tilts: Mapping[int, BoxTilt] = field(default_factory=dict)
    softened: Slack | None = None

    def choose(self, layer: int, offer: Offer) -> Tensor:
        """What was chosen."""
        return self.choices[layer]

    def improve(self, layer: int, offer: Offer) -> Tensor:
        """What was wanted."""
        return self.improved[layer]

    def shapes(self, local: LocalNetwork, mask: tuple[bool, ...], correlation: Tensor, longest: Tensor) -> Tensor:
        """What was proposed."""
        return self.known_shapes[mask]

    def tilt(self, layer: int, moments: ExponentialTails, pairs: Pairs, log_each: Tensor | None) -> BoxTilt:
        """What was decided."""
        return self.tilts[layer]

    def slack(self, violations: Violations, log_tails: Tensor, rate: Tensor) -> Slack:
        """What was decided."""
        assert self.softened is not None, "asked where margins are bounded"
        return self.softened
