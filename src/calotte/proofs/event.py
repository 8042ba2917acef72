"""The good event of a network: bounds on all its units that hold on half-spaces which are paid for.

Unit j is taken to satisfy a_j.r >= -s eps ||a_j|| for its lower and upper linear bounds, which each fail with
probability T(s), or to keep one sign. On the intersection of the half-spaces all bounds hold, layer by layer, and
outside of it one of them is violated: every half-space used is paid for once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calotte.independent import Independent
from calotte.network.float32 import Float32Errors
from calotte.network.margins import Margins
from calotte.proofs.chooser import Chooser
from calotte.proofs.float32 import float32_errors, lowered_constants
from calotte.proofs.forms import Forms
from calotte.proofs.price import NEGATIVE, Offer, known
from calotte.proofs.relaxation.backward import Relaxation
from calotte.proofs.support import Support
from calotte.proofs.union import log_sum_up
from calotte.query import Query
from calotte.rounding import dot_error, raised

__all__ = ["Budget", "GoodEvent", "OnGoodEvent", "margin_rows", "on_good_event", "relaxed_margins", "relaxed_units"]


@dataclass(frozen=True)
class GoodEvent:
    """Bounds on all units of a network on a good event.

    Attributes:
        relaxation: with the bounds on every ReLU node.
        log_price: (B,) the logarithm of what the event costs, rounded up.
        choices: ReLU node -> (B, units) what was paid for (`price`): with `Recorded` they give the same event again.
        errors: what float32 does to values on it; None in real arithmetic.
    """

    relaxation: Relaxation
    log_price: Tensor
    choices: dict[int, Tensor]
    errors: Float32Errors | None


@dataclass(frozen=True)
class OnGoodEvent:
    """Bounds on a batch by the margins on a good event.

    Attributes:
        log_bound: (B,) upper bounds on log p, rounded up.
        log_price, log_margins: (B,) its two parts: what the good event costs, and what the margins do on it.
        choices: as of the GoodEvent.
    """

    log_bound: Tensor
    log_price: Tensor
    log_margins: Tensor
    choices: dict[int, Tensor]


@dataclass(frozen=True)
class Budget:
    """What a good event may be made of.

    Attributes:
        reach: (B,) distance of the half-spaces that bound a unit.
        chooser: says what is paid for.
    """

    reach: Tensor
    chooser: Chooser

    @staticmethod
    def within(around: Support, heights: Tensor | float, chooser: Chooser | None) -> Budget | None:
        """Half-spaces at heights, in units of the noise's sizes, no farther than the support; None without a
        chooser: nothing is paid for."""
        if chooser is None:
            return None
        return Budget(torch.minimum(raised(heights * around.sizes, 4), around.farthest), chooser)


def relaxed_units(query: Query, around: Support, budget: Budget | None = None) -> GoodEvent:
    """Bounds on all units on a good event, whatever is chosen; over the whole support where there is no budget."""
    network, x = query.network, query.x
    relaxation, errors = Relaxation(query.hyperplanes, x, around.farthest), float32_errors(query, around)
    log_each = torch.full((len(x), 1), -torch.inf, dtype=torch.float64)
    if budget is not None:
        log_each = around.log_beyond(budget.reach)[:, None]
    halves, signs = torch.zeros_like(log_each), [log_each]
    choices: dict[int, Tensor] = {}
    for i, node in enumerate(network.nodes):
        if i:
            relaxation.reach.bound(i)
        if i not in network.relus:
            continue
        feeder = node.inputs[0]
        size = network.size(feeder)
        off = None if errors is None else errors.at(feeder).flatten(1)
        free, paid, log_sign = (torch.empty(len(x), 2, size, dtype=torch.float64) for _ in range(3))
        for block in relaxation.blocks(feeder, query.settings.memory_limit):
            query.deadline.check(f"at node '{network.nodes[feeder].name}'")
            linear = relaxation.unit_forms(feeder, block)
            sides = (len(x), 2, block.stop - block.start)
            free[:, :, block] = around.lowest(linear).reshape(sides)
            if budget is not None:
                paid[:, :, block] = linear.lowest(budget.reach[:, None]).reshape(sides)
                log_sign[:, :, block] = around.log_tail(linear).reshape(sides)
                if off is not None:  # what is paid for is that float32 finds the unit inactive too
                    inactive = linear.lowered(torch.cat([torch.zeros_like(off[:, block]), off[:, block]], 1))
                    log_sign[:, 1, block] = around.log_tail(inactive).reshape(sides)[:, 1]
        low, high = free[:, 0], -free[:, 1]
        usable = low, high
        if budget is not None:
            offer = Offer(free, paid, log_sign, log_each[:, None].expand(-1, 2, size))
            choices[i] = choice = known(budget.chooser.choose(i, offer))
            signs.append(offer.log_signs(choice).amax(1))  # no unit pays for two
            halves = halves + offer.log_halves(choice).isfinite().sum((1, 2))[:, None]
            usable = offer.ends(choice)
            if off is not None:
                usable = usable[0], torch.where(choice == NEGATIVE, torch.minimum(usable[1], -off), usable[1])
        ends = [t.reshape(-1, *network.shape(feeder)) for t in (*usable, low, high)]
        relaxation.settle(i, *ends)
        if errors is not None:
            errors.settle(i, relaxation.intervals[i][1])
    total = log_each + halves.log() + dot_error(1.0 + log_each.abs(), 8)
    signs[0] = torch.where(halves > 0, total, -torch.inf)
    return GoodEvent(relaxation, log_sum_up(torch.cat(signs, 1)), choices, errors)


def relaxed_margins(query: Query, around: Support, budget: Budget | None = None) -> tuple[Forms, GoodEvent]:
    """Linear lower bounds on the margins on the good event of `relaxed_units`, and that."""
    event = relaxed_units(query, around, budget)
    last, rows, constants = margin_rows(query, event.errors)
    kept = query.margins.ties & query.margins.plain & (constants == 0)
    kept &= event.relaxation.never_negative(last, rows)
    return replace(event.relaxation.forms(last, rows, {}, constants), ties=kept), event


def margin_rows(
    query: Query, errors: Float32Errors | None, margins: Margins | None = None
) -> tuple[int, Tensor, Tensor]:
    """The output node, rows (B, C, *shape) and constants (B, C): products with its values, and these, are margins.

    Or below them, by `errors` of float32. margins: those of the query, or others.
    """
    network, margins = query.network, query.margins if margins is None else margins
    last = network.last
    rows = margins.rows.reshape(len(query.x), -1, *network.shape(last))
    return last, rows, lowered_constants(margins, errors)


def on_good_event(query: Query, sizes: Tensor, tail: float, heights: Tensor, chooser: Chooser | None) -> OnGoodEvent:
    """Bound p by linear bounds on the margins that hold on a good event, whatever is chosen.

    Args:
        sizes: (B,) of the noise; tail: of its `Support`.
        heights: (B,) of the half-spaces that bound units, in units of the noise's size, 0 or more.
        chooser: says what is paid for; None: nothing is, and the bounds hold over the whole support.
    """
    around = Support.of(query, sizes, tail)
    margins, event = relaxed_margins(query, around, Budget.within(around, heights, chooser))
    missed = torch.full_like(event.log_price, around.log_missed)
    paid = [missed] if chooser is None else [event.log_price, missed]
    log_bound, log_margins = (paid_for(query, around, margins, logs) for logs in (paid, []))
    return OnGoodEvent(log_bound, event.log_price, log_margins, event.choices)


def paid_for(query: Query, around: Support, margins: Forms, logs: list[Tensor]) -> Tensor:
    """log of sum_k P(a_k.r + c_k <= 0) plus probabilities given as logarithms, rounded up, (B,).

    Over the margins that a bound counts: the likeliest are left out where it takes several to fail.
    """
    noise, terms = query.noise, around.log_tail(margins)
    if isinstance(noise, Independent):
        tails = noise.log_tails(margins.normal, margins.normal_errors, margins.lower, around.sizes)
        terms = torch.minimum(terms, tails)
    terms = query.margins.cases.kept_logs(terms)
    return log_sum_up(torch.cat([terms, *(log[:, None] for log in logs)], 1))
