"""Violations: how far units leave the ends that their lines hold between, in the mean, and what margins lose by it.

An end may be *soft*: it is not paid for, but what it is missed by counts. Whatever the ends l <= z <= u are, with a
line s z + t above relu(z) between them,

    relu(z) <= s z + t + V,    V = s (l - z)+ + (1 - s) (z - u)+,

so that rows through the lines lose their coefficients times the V of earlier units, and no more. Margin c is then at
least its row less sum_k a_ck D_k, D_k >= 0 what row k falls short of the end k, a_ck what that takes from the margin
on all ways to it. Where margin c fails its row is at most d_c, or the sum is at least d_c; so that

    P(a margin fails) <= sum_c P(row c <= d_c) + sum_k max_c (a_ck / d_c) E D_k,

by Markov's inequality for sum_k max_c (a_ck / d_c) D_k >= 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calotte.proofs.local.network import LocalNetwork
from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["Slack", "Violations"]


@dataclass(frozen=True)
class Slack:
    """What is decided about soft ends over L boxes: whatever it is, the bounds that come of it are true.

    Attributes:
        margins: (L, C) d_c, how much of each margin violations may take.
        soft: (L, 2, N) bool, the ends of z and of -z that are soft.
    """

    margins: Tensor
    soft: Tensor

    def sensible(self) -> Slack:
        """The same, nothing taken where that is no number or negative."""
        return replace(self, margins=self.margins.nan_to_num(0.0, 1e300).clamp_min(0.0))


@dataclass(frozen=True)
class Violations:
    """What ends cost that are soft, or not, over L boxes.

    Attributes:
        weight: (L, C, 2, N) a_ck, rounded up.
        log_mean: (L, 2, N) upper bounds on log E D_k given the box, inf where none is known.
        log_each: (L, 2, N) logarithms of the prices, given the box, of the same ends where they are not soft; -inf
            for those that cost nothing, soft or not.
        least: (L, 2, N) shares max_c (a_ck / d_c) that ends have at least, by what is asked of units as of margins.
    """

    weight: Tensor
    log_mean: Tensor
    log_each: Tensor
    least: Tensor

    def log_price(self, slack: Slack, kept: Tensor) -> Tensor:
        """(L,) upper bounds, given the box, on the log P(sum over soft ends >= 1), margins `kept` (L, C) only."""
        soft = slack.soft & (self.log_each > -torch.inf)
        log_share = self.weight.log() - slack.margins.log()[:, :, None, None]
        log_share = torch.where(kept[:, :, None, None], log_share, -torch.inf).amax(1)
        terms = torch.maximum(log_share, self.least.log()) + self.log_mean
        size = torch.cat([self.weight, self.least[:, None]], 1).log().abs().amax(1)
        terms = terms + dot_error(1.0 + size + self.log_mean.abs() + terms.abs(), 16)
        terms = torch.where(soft, torch.where(terms.isnan(), torch.inf, terms), -torch.inf).flatten(1)
        total = torch.logsumexp(torch.cat([terms, torch.full_like(terms[:, :1], -torch.inf)], 1), 1)
        return torch.where(total.isfinite(), total + dot_error(1.0 + total.abs(), terms.shape[1] + 16), total)


def weights(
    local: LocalNetwork, slope: Tensor, low: Tensor, high: Tensor, taken: list[Tensor], read: Tensor
) -> Tensor:
    """(L, C, 2, N) what a shortfall of 1 of each end takes from each margin at most, rounded up.

    Args:
        slope: (L, N) of the lines above the units; low, high: (L, N) their ends.
        taken: for each group (L, 2 n, .) what its rows, of z and of -z, take from earlier units' activations.
        read: (L, C, N) the margins' coefficients of the units' activations.
    """
    # ends that hold on all of G are not left
    moved = torch.stack([low > local.low, high < local.high], 1)
    part = torch.where(moved, torch.stack([slope, raised(1.0 - slope, 2)], 1), 0.0)
    met = -read.clamp_max(0.0)
    for group, reads in reversed(list(zip(local.groups, taken, strict=True))):
        through = (met[:, :, None, group] * part[:, None, :, group]).flatten(2) + VALUE_SLACK  # may underflow
        met[:, :, : group.start] += through @ reads
    return raised(met[:, :, None] * part[:, None], 4 * local.units + 16) + VALUE_SLACK
