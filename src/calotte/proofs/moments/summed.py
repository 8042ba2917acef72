"""Bounds on p by moments: units behind the first layer on a good event made layer by layer, then the margins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.network.enclosure import evaluate
from calotte.proofs.chooser import Chooser
from calotte.proofs.float32 import float32_errors
from calotte.proofs.local.violations import Slack
from calotte.proofs.moments.first import FirstLayer
from calotte.proofs.moments.gaussian import GaussianLaw
from calotte.proofs.moments.layers import Layers, Place, Proposer
from calotte.proofs.moments.shortfalls import Settled, violations
from calotte.proofs.moments.sums import log_moments
from calotte.proofs.moments.tails import at_most
from calotte.proofs.relaxation.backward import Relaxation
from calotte.proofs.support import Support
from calotte.proofs.union import log_sum_up
from calotte.query import Query

__all__ = ["Summed", "log_bound"]


@dataclass(frozen=True)
class Summed:
    """A bound by moments of the first layer.

    Attributes:
        log_bound: upper bound on log p, rounded up; log_price: what its good event costs, and what soft ends do.
        choices: ReLU node behind the first layer -> (units,) what was paid for.
        used: which forms of units -> (R,) whether something was paid for that these say.
        slack: which ends of all these units are soft, as of one box; None where none may be.
    """

    log_bound: Tensor
    log_price: Tensor
    choices: dict[int, Tensor]
    used: dict[Place, Tensor]
    slack: Slack | None


def log_bound(
    query: Query,
    first: FirstLayer,
    around: Support,
    law: GaussianLaw,
    propose: Proposer,
    chooser: Chooser,
    log_each: float,
    aside: float = math.inf,
    soft: bool = False,
) -> Summed:
    """An upper bound on log p for one input, whatever is proposed and chosen.

    Args:
        around: the noise that is considered; law: what stands in for the noise.
        log_each: logarithm of what each bound on a unit may fail with.
        aside: how many deviations below 0 units of the first layer are set aside (`aside`); inf for none.
        soft: whether ends may be soft (`shortfalls`); in real arithmetic only.

    Raises:
        OutOfTime: the deadline passed.
    """
    network, errors = query.network, float32_errors(query, around)
    assert errors is None or not soft, "what float32 does rests on ends that hold"
    relaxation = Relaxation(query.hyperplanes, query.x, around.farthest)
    sources = [one.source for one in first.ends.maxima]
    at_x = evaluate(network, query.x, also=sources) if sources else relaxation.at_x
    value, error = first.units_of(network, at_x)
    peaks = propose.peaks(first, value, law)
    layers = Layers(query, first, around, law, relaxation, value, error, peaks, aside, soft)
    settled = list[Settled]()
    for i in layers.relus():
        if i in first.ends.deep:
            settled.append(layers.bound_units(i, propose, chooser, log_each))
        if errors is not None:
            errors.settle(i, relaxation.intervals[i][1])
    sums, below = layers.margins(errors)
    tilts = propose(Place(-1, 0, 0), sums, law, None)
    none = torch.full_like(sums.constant, torch.inf)
    moments = torch.stack([none, *(log_moments(sums, law, tilt) for tilt in tilts)])
    rates = torch.stack([torch.ones_like(none), *(tilt.rate for tilt in tilts)])
    cases, slack, level = query.margins.cases, None, torch.zeros_like(none)
    hard = torch.cat([torch.zeros(2, 0, dtype=torch.float64), *(one.log_each for one in settled)], 1)
    prices = [torch.full((1,), around.log_missed, dtype=torch.float64)]
    if soft and settled:
        rooms = [propose.room(one) for one in settled]
        left = violations(settled, rooms, {i: part[0] for i, part in below.items()}, len(none))
        best = moments.min(0)
        rate = rates.gather(0, best.indices[None])
        slack = chooser.slack(left, cases.kept_logs(best.values)[None], rate).sensible()
        level = slack.margins[0]
        if slack.soft.any():  # ends that have room rest on what others take of it: they are soft, or not to be had
            hard = torch.where(slack.soft[0], -torch.inf, left.log_each[0])
    terms = torch.where(layers.range(sums) > level, -torch.inf, at_most(level, moments, rates).amin(0))
    parts = cases.kept_logs(terms)
    if slack is not None:
        prices.append(left.log_price(slack, ~((terms > -torch.inf) & (parts == -torch.inf))[None]))
    price = log_sum_up(torch.cat([*prices, hard.flatten()]))
    total = log_sum_up(torch.cat([parts, price[None]]))
    return Summed(total, price, layers.choices, layers.used, slack)
