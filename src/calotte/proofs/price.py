"""What the good event of a layer may pay for, and what that costs: priced here alone, and decided elsewhere.

A unit has two sides, z and -z. It may be *free*: nothing is paid, and it is bounded by all noise considered. Its
*sign* may be paid for, z >= 0 or -z >= 0, with the probability of the half-space where that fails; or, for one side
or both, the *half-space* that bounds the side, at the height that is offered. Whatever is chosen, the bounds hold
where nothing that was paid for fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ABOVE", "BELOW", "BOTH", "FREE", "NEGATIVE", "POSITIVE", "Offer", "halves", "known", "signs"]

FREE, POSITIVE, NEGATIVE, BELOW, ABOVE, BOTH = range(6)  # nothing; a sign; the half-space of z, of -z, of both


@dataclass(frozen=True)
class Offer:
    """The two sides, z and -z, of n units, for B inputs or boxes.

    Attributes:
        free: (B, 2, n) lower ends of the sides that cost nothing.
        paid: (B, 2, n) those in the half-spaces.
        log_sign: (B, 2, n) upper bounds on log P(side < 0); log_half: (B, 2, n) on that of leaving its half-space.
    """

    free: Tensor
    paid: Tensor
    log_sign: Tensor
    log_half: Tensor

    def ends(self, choice: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds (B, n), low and high, on units for which `choice` (B, n) is paid; another number is FREE.

        Where no noise is left they may cross: then what was paid is 1 or more.
        """
        half = torch.where(halves(choice), self.paid, self.free)
        low, high = torch.where(signs(choice), self.free.clamp_min(0.0), half).unbind(1)
        return low, -high

    def log_signs(self, choice: Tensor) -> Tensor:
        """(B, 2, n) the prices of the signs that are chosen, as logarithms, at most one for each unit."""
        return torch.where(signs(choice), self.log_sign, -torch.inf)

    def log_halves(self, choice: Tensor) -> Tensor:
        """(B, 2, n) the prices of the half-spaces that are chosen."""
        return torch.where(halves(choice), self.log_half, -torch.inf)


def known(choice: Tensor) -> Tensor:
    """Choices as int8, numbers that mean nothing as FREE."""
    return torch.where((choice >= FREE) & (choice <= BOTH), choice, FREE).to(torch.int8)


def signs(choice: Tensor) -> Tensor:
    """The sides (B, 2, n) whose sign is paid for."""
    return torch.stack([choice == POSITIVE, choice == NEGATIVE], 1)


def halves(choice: Tensor) -> Tensor:
    """The sides (B, 2, n) whose half-space is paid for."""
    both = choice == BOTH
    return torch.stack([(choice == BELOW) | both, (choice == ABOVE) | both], 1)
