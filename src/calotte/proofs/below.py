"""From below: probabilities with which an event occurs at least, by half-spaces in which enough margins fail.

On a good event G linear functions lie above the margins too, so that margin k fails where a_k.r + c_k > 0, the
negative of such a function. For a case of which q margins must fail, and any q of them,

    p >= P(all of these fail) - P(not G) >= 1 - sum_k P(a_k.r + c_k <= 0) - P(not G).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from calotte.independent import Independent
from calotte.noise import quotient_down
from calotte.proofs.chooser import Chooser
from calotte.proofs.event import Budget, margin_rows, relaxed_units
from calotte.proofs.forms import Forms
from calotte.proofs.support import Support
from calotte.proofs.union import log_complement_down, log_difference_down, log_sum_up
from calotte.query import Query

__all__ = ["failing_margins", "lower_on_good_event"]


def lower_on_good_event(query: Query, sizes: Tensor, tail: float, heights: Tensor, chooser: Chooser | None) -> Tensor:
    """Lower bounds (B,) on log p, rounded down, by what holds on a good event, whatever is chosen.

    Args:
        as of `on_good_event`.

    Returns:
        -inf where nothing is proved.
    """
    around = Support.of(query, sizes, tail)
    event = relaxed_units(query, around, Budget.within(around, heights, chooser))
    opposite = query.event_margins.negated
    last, rows, constants = margin_rows(query, event.errors, opposite)
    failing = event.relaxation.forms(last, rows, {}, constants)
    missed = [torch.full_like(event.log_price, around.log_missed)]
    missed += [] if chooser is None else [event.log_price]
    return log_difference_down(failing_margins(query, failing, sizes), log_sum_up(torch.stack(missed, 1)))


def failing_margins(query: Query, forms: Forms, sizes: Tensor) -> Tensor:
    """Lower bounds (B,) on log P(enough margins of a case fail), margin k where form k is positive, rounded down."""
    noise, m = query.noise, query.m
    nowhere = torch.zeros_like(forms.constant, dtype=torch.bool)  # a form that is zero shows nothing
    heights = quotient_down(replace(forms, ties=nowhere).distances(), sizes[:, None])
    held = noise.standard_log_tail(heights, m, rounding="up")  # of the opposite half-space, its face included
    if isinstance(noise, Independent):
        tails = noise.log_tails(-forms.normal, forms.normal_errors, forms.lower, sizes)
        held = torch.minimum(held, tails)
        fails = log_complement_down(held)
    else:
        above = torch.nextafter(-heights, torch.full_like(heights, torch.inf))  # the face is left out
        fails = torch.maximum(noise.standard_log_tail(above, m, rounding="down"), log_complement_down(held))
    cases = query.event_margins.cases
    each = []
    for case, fail, hold in zip(cases.each, cases.parts(fails), cases.parts(held), strict=True):
        if case.needed == 1:
            each.append(fail.amax(1))
        else:
            each.append(log_complement_down(log_sum_up(hold.topk(case.needed, 1, largest=False).values)))
    return torch.stack(each, 1).amax(1)
