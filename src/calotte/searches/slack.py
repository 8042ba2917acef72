"""Slack: which ends of units are soft, and how much of each margin their violations may take.

All margins are given so much that their rows are at most that with the same probability, a factor `gap` less for
those that are not the worst: what violations cost is the largest share of any margin. That probability is found by
trials. An end is soft where that costs less than to pay for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.proofs.local.violations import Slack, Violations

__all__ = ["Slackening"]


@dataclass(frozen=True)
class Slackening:
    """How slack is chosen. Found on `256x2` and `256x4`.

    Attributes:
        gap: of log p, that margins which are not the worst lie below it.
        first, last, trials: of log p, how far the worst is raised.
    """

    gap: float = 2.0
    first: float = 0.05
    last: float = 40.0
    trials: int = 14

    def slack(self, violations: Violations, log_tails: Tensor, rate: Tensor) -> Slack:
        """As of a `Chooser`."""
        count, margins = log_tails.shape
        paid = violations.log_each > -torch.inf
        soft = paid & violations.log_mean.isfinite() & log_tails.isfinite().any(1)[:, None, None]
        if not soft.any() or not margins:
            return Slack(torch.zeros_like(log_tails), soft & False)
        known = log_tails.clamp(-300.0, 0.0)
        worst = known.amax(1, keepdim=True)
        known = torch.where(known == worst, known, known + self.gap)
        raise_by = torch.logspace(math.log10(self.first), math.log10(self.last), self.trials, dtype=torch.float64)
        to_take = ((worst - known)[:, None] + raise_by[:, None]).clamp_min(1e-12) / rate[:, None]  # (L, T, C)
        tails = torch.where(known == worst, 0.0, -self.gap).exp().sum(1, keepdim=True) * (worst + raise_by).exp()
        mean, price = (t.exp().flatten(1) for t in (violations.log_mean, violations.log_each))
        weight = violations.weight.flatten(2)
        share = torch.stack([(weight / some[:, :, None]).amax(1) for some in to_take.unbind(1)], 1)
        share = torch.maximum(share, violations.least.flatten(1)[:, None])
        cost = torch.where(soft.flatten(1)[:, None], share * mean[:, None], torch.inf)
        total = tails + torch.minimum(cost, price[:, None]).sum(2)
        here, best = torch.arange(count), total.argmin(1)
        worth = total[here, best] < log_tails.clamp_max(0.0).exp().sum(1) + price.sum(1)
        taken = torch.where(worth[:, None], to_take[here, best], 0.0)
        return Slack(taken, (worth[:, None] & (cost[here, best] < price)).reshape(paid.shape))
