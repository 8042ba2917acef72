"""Layers behind the first by exponential moments: bounds on their units and margins, the first kept as it is.

A unit behind the first layer is pulled back, through lines where it passes other ReLUs, to a sum of first-layer
activations (`sums`), of which Chernoff's inequality bounds the tails. What is used of these bounds is priced as on
any good event.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.cells.products import row_norms
from calotte.proofs.backward import Relaxation
from calotte.proofs.chooser import Chooser
from calotte.proofs.event import margin_rows
from calotte.proofs.exponents import group_of
from calotte.proofs.first import FirstLayer
from calotte.proofs.float32 import float32_errors
from calotte.proofs.gaussian import GaussianLaw
from calotte.proofs.price import Offer
from calotte.proofs.sums import Sums, Tilt, levels, log_moments
from calotte.proofs.support import Support
from calotte.proofs.union import log_sum_up
from calotte.query import Query
from calotte.rounding import VALUE_SLACK, gamma

__all__ = ["Proposer", "log_bound"]

_WIDEST, _MOST = 1024, 2.0**25  # units that a form of a group reads; entries of the matrices of a node's groups
Proposer = Callable[[Sums, GaussianLaw, float | None], list[Tilt]]
"""Who says with which slopes, rates and exponents forms are bounded: not trusted. Given the forms, the law, and the
logarithm of what a level may fail with (None: the probability of a form <= 0 is wanted). The best answer counts."""


@dataclass(frozen=True)
class Layers:
    """One input's units behind the first layer, on a good event that is made on the way.

    Attributes:
        query: of one input; first: its network's first layer; around: the noise considered; law: of the noise.
        relaxation: with the bounds found so far; value, error: (n,) of the first layer's units at x.
    """

    query: Query
    first: FirstLayer
    around: Support
    law: GaussianLaw
    relaxation: Relaxation
    value: Tensor
    error: Tensor

    def sums(self, node: int, rows: Tensor, constants: Tensor | None = None) -> Sums:
        """Sums of first-layer activations below rows . (values of node) + constants, (1, R, *shape) and (1, R)."""
        network, first = self.query.network, self.first
        kept = {i: torch.ones(network.shape(i), dtype=torch.bool) for i in first.relus}
        form = self.relaxation.forms(node, rows, kept, constants)
        count = rows.shape[1]
        found = [torch.zeros(count, 0, dtype=torch.float64)]
        for i in first.relus:
            none = torch.zeros(1, count, math.prod(network.shape(i)), dtype=torch.float64)
            found.append(form.activations.get(i, none)[0])
        constant = form.constant[0] - form.error[0]
        constant = constant - gamma(4) * (form.constant[0].abs() + form.error[0]) - VALUE_SLACK
        linear: Tensor | None = form.normal[0]
        off = (form.normal_error[0] + form.accuracy * row_norms(form.normal[0])) * (1.0 + gamma(8))
        if first.units and not first.plain and bool(form.normal.any()):
            constant = torch.full_like(constant, -torch.inf)  # in other coordinates than the first layer's rows
        if not form.normal.any():
            linear = None
        direct = self.relus_before(node) <= set(first.relus)
        return Sums(first, self.value, self.error, constant, torch.cat(found, 1), linear, off, direct=direct)

    def range(self, sums: Sums) -> Tensor:
        """Lower bounds (R,) on forms over all noise that is considered."""
        reach = self.around.radius * self.first.longest * (1.0 + gamma(8)) + self.error
        low, high = ((self.value + sign * reach).clamp_min(0.0) for sign in (-1.0, 1.0))
        g = sums.weight
        lowest = g.clamp_min(0.0) @ low + g.clamp_max(0.0) @ high
        doubt = gamma(g.shape[1] + 16) * (g.abs() @ (high + self.value.abs() + reach))
        doubt = doubt + self.around.radius * sums.linear_norm * (1.0 + gamma(8))
        total = sums.constant + lowest - doubt
        total = total - gamma(8) * (sums.constant.abs() + lowest.abs() + doubt)
        return torch.where(total.isnan(), -torch.inf, total)

    def narrowed(self, sums: Sums, node: int, block: slice) -> Sums:
        """The same with what depends on units left out that no form of a block of a node's units reads.

        For nodes that no other ReLUs stand before: what they read is the same for all inputs.
        """
        widest = int((sums.weight != 0).sum(1).max())
        few = 0 < widest < min(self.first.units, _WIDEST) and len(sums.weight) * float(widest) ** 2 <= _MOST
        if sums.linear is not None or not sums.direct or not few:
            return sums
        index = (sums.weight != 0).to(torch.int8).topk(widest, dim=1).indices.sort(1).values
        group = self.query.hyperplanes.once(
            ("group", node, block.start, block.stop), lambda: group_of(self.first, index)
        )
        if not torch.equal(group.index, index):
            return sums
        weight = sums.weight.gather(1, index)
        return Sums(self.first, self.value, self.error, sums.constant, weight, None, sums.linear_error, group)

    def relus_before(self, node: int) -> set[int]:
        """The ReLU nodes that a node depends on."""
        network, before = self.query.network, {node}
        for i in range(node, 0, -1):
            if i in before:
                before.update(network.nodes[i].inputs)
        return before & set(network.relus)

    def best(self, sums: Sums, propose: Proposer, log_each: float | None) -> tuple[Tensor, Tensor]:
        """Lower levels (R,) that fail with probability exp(log_each), and bounds (R,) on log P(form <= 0)."""
        level = torch.full_like(sums.constant, -torch.inf)
        log_p = torch.zeros_like(sums.constant)
        for tilt in propose(sums, self.law, log_each):
            moment = log_moments(sums, self.law, tilt)
            log_p = torch.minimum(log_p, moment)
            if log_each is not None:
                level = torch.maximum(level, levels(moment, tilt.rate, torch.full_like(moment, log_each)))
        return level, log_p

    def bound_units(self, relu: int, propose: Proposer, chooser: Chooser, log_each: float) -> Tensor:
        """Settle a ReLU node behind the first layer; the prices (., ) of what was used, as logarithms."""
        network, query = self.query.network, self.query
        feeder = network.nodes[relu].inputs[0]
        shape = network.shape(feeder)
        size = math.prod(shape)
        free, paid, log_sign = (torch.empty(1, 2, size, dtype=torch.float64) for _ in range(3))
        for block in self.relaxation.blocks(feeder, query.settings.memory_limit, whole=True):
            query.deadline.check(f"at node '{network.nodes[feeder].name}'")
            hot = torch.zeros(block.stop - block.start, size, dtype=torch.float64)
            hot[:, block].fill_diagonal_(1.0)
            for side, sign in enumerate((1.0, -1.0)):
                sums = self.sums(feeder, (sign * hot).reshape(1, -1, *shape))
                free[0, side, block] = self.range(sums)
                level, log_p = self.best(self.narrowed(sums, feeder, block), propose, log_each)
                paid[0, side, block], log_sign[0, side, block] = level, log_p
        offer = Offer(free, torch.maximum(free, paid), log_sign, torch.full_like(free, log_each))
        choice = chooser.choose(relu, offer)
        ends = [t.reshape(1, *shape) for t in (*offer.ends(choice), free[:, 0], -free[:, 1])]
        self.relaxation.settle(relu, *ends)
        return torch.cat([offer.log_signs(choice).amax(1)[0], offer.log_halves(choice).flatten()])

    def bound_first(self, relu: int) -> None:
        """Settle a ReLU node of the first layer by all noise that is considered."""
        network = self.query.network
        start = 0
        for i in self.first.relus:
            size = math.prod(network.shape(i))
            if i == relu:
                some = slice(start, start + size)
                reach = self.around.radius * self.first.longest[some] * (1.0 + gamma(8)) + self.error[some]
                slack = reach + gamma(8) * (reach + self.value[some].abs()) + VALUE_SLACK
                ends = [(self.value[some] + s * slack).reshape(1, *network.shape(i)) for s in (-1.0, 1.0)]
                self.relaxation.settle(relu, *ends, *ends)
            start += size


def log_bound(
    query: Query,
    first: FirstLayer,
    around: Support,
    law: GaussianLaw,
    propose: Proposer,
    chooser: Chooser,
    log_each: float,
) -> tuple[Tensor, Tensor]:
    """An upper bound on log p for one input, whatever is proposed and chosen, and the price of its good event.

    Args:
        around: the noise that is considered; law: what stands in for the noise.
        log_each: logarithm of what each bound on a unit may fail with.

    Raises:
        OutOfTime: the deadline passed.
    """
    network = query.network
    relaxation = Relaxation(query.hyperplanes, query.x, around.radius)
    at_x = [relaxation.at_x[network.nodes[i].inputs[0]] for i in first.relus]
    none = torch.zeros(0, dtype=torch.float64)
    value, error = (
        torch.cat([none, *(t.flatten() for t in part)])
        for part in ([here.value for here in at_x], [here.error for here in at_x])
    )
    layers = Layers(query, first, around, law, relaxation, value, error)
    errors = float32_errors(query, around)
    prices = [torch.full((1,), around.log_missed, dtype=torch.float64)]
    for i in range(len(network.nodes)):
        if i:
            relaxation.reach.bound(i)
        if i in first.relus:
            layers.bound_first(i)
        elif i in network.relus:
            prices.append(layers.bound_units(i, propose, chooser, log_each))
        if errors is not None and i in network.relus:
            errors.settle(i, relaxation.intervals[i][1])
    sums = layers.sums(*margin_rows(query, errors))
    certain = layers.range(sums) > 0
    terms = torch.where(certain, -torch.inf, layers.best(sums, propose, None)[1])
    price = log_sum_up(torch.cat(prices))
    return log_sum_up(torch.cat([query.margins.cases.kept_logs(terms), price[None]])), price
