"""Bounds over boxes: on the units of a local network, on good events of their own, and on errors there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calotte.proofs.chooser import Chooser, Recorded
from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.network import LocalNetwork, consecutive
from calotte.proofs.local.regions import InBoxes, Region
from calotte.proofs.local.tilted import BoxTilt, ExponentialTails
from calotte.proofs.local.violations import Violations, weights
from calotte.proofs.moments.tails import at_most, levels, log_shortfalls
from calotte.proofs.price import Offer, known
from calotte.proofs.relaxation.lines import relaxed_lines
from calotte.proofs.relaxation.triangular import UnitRows
from calotte.proofs.union import log_sum_up
from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["Evaluation", "Units", "evaluate", "relaxed", "restricted"]


@dataclass(frozen=True)
class Evaluation:
    """Bounds over L boxes.

    Attributes:
        log_bound: (L,) upper bounds on log P(error, u in the box, G).
        log_margins, log_price: (L,) its two parts: the margins, and the good event of the box with what soft ends are
            missed by.
        units: the bounds on the units; rows: (L, C) below the margins, components (L, C, K) of them.
        worst: (L,) the margins that cost most.
        chosen: everything that was decided: it gives the same bits again.
    """

    log_bound: Tensor
    log_margins: Tensor
    log_price: Tensor
    units: Units
    rows: UnitRows
    components: Tensor
    worst: Tensor
    chosen: Recorded


@dataclass(frozen=True)
class Units:
    """Bounds on all units over L boxes.

    Attributes:
        low, high: (L, N); lines: (3, L, N) of `relaxed_lines`.
        log_each: (L, 2, N) logarithms of the prices of half-spaces that were used, given the box; log_mean: upper
            bounds on log E of what rows fall short of these ends by, inf where none is known.
        choices, improved: group -> (L, n) what was paid for, and offered by moments; tilts: group -> how.
        forms: for each group what its rows take from earlier units' activations (L, 2 n, .), their components
            (L, n, K) and norms (L, n).
    """

    low: Tensor
    high: Tensor
    lines: Tensor
    log_each: Tensor
    log_mean: Tensor
    choices: dict[int, Tensor]
    improved: dict[int, Tensor]
    tilts: dict[int, BoxTilt]
    forms: list[tuple[Tensor, Tensor, Tensor]]

    def log_price(self, log_box: Tensor, soft: Tensor | None = None) -> Tensor:
        """(L,) log P(u in the box, a half-space used is violated), but for those of `soft` ends, rounded up."""
        log_each = (self.log_each if soft is None else torch.where(soft, -torch.inf, self.log_each)).flatten(1)
        price = log_box[:, None] + log_each
        price = torch.where(price.isfinite(), price + dot_error(1.0 + price.abs(), 8), -torch.inf)
        return log_sum_up(torch.cat([price, torch.full_like(log_box, -torch.inf)[:, None]], 1))

    def violations(self, local: LocalNetwork, read: Tensor) -> Violations:
        """What ends would cost margins that read the units by `read` (L, C, N)."""
        taken = [form[0] for form in self.forms]
        found = weights(local, self.lines[1], self.low, self.high, taken, read)
        return Violations(found, self.log_mean, self.log_each, torch.full_like(self.log_mean, VALUE_SLACK))

    def chosen(self, moments: ExponentialTails, margins: dict[int, BoxTilt]) -> Recorded:
        """Everything that was decided, on the margins too."""
        return Recorded(self.choices, self.improved, moments.shapes, self.tilts | margins)


def evaluate(local: LocalNetwork, boxes: Boxes, reach: Tensor, chooser: Chooser) -> Evaluation:
    """Bound the margins over boxes, each unit's linear bounds taken to hold up to a height that is paid for.

    Args:
        boxes: L regions of the noise.
        reach: (L, 2, N) heights s of the half-spaces of the good event, for lower and for upper bounds, in units
            of the noise's size, for the part of the noise that the box leaves free; inf for none.
        chooser: says what is paid for.
    """
    inside, everywhere = (InBoxes(local, b) for b in (boxes, Boxes.whole(boxes.low.shape[1]).repeated(len(boxes))))
    moments = ExponentialTails(inside, chooser.shapes)
    units = relaxed(inside, reach, chooser, moments)
    rows = local.margin_rows(units.lines)
    products, log_box = local.products(rows), inside.log_measure()
    rest, whole = (region.rest_of(rows.constant, products) for region in (inside, everywhere))
    box, row = torch.ones(rest.least.shape, dtype=torch.bool).nonzero(as_tuple=True)
    pairs = moments.pairs(rows, box, row)
    tilt = chooser.tilt(len(local.groups), moments, pairs, None)
    moment = moments.tails(pairs, tilt, units.low, units.high).reshape(rest.least.shape)
    rate = tilt.rate.reshape(moment.shape)
    violations = units.violations(local, rows.read)
    slack = chooser.slack(violations, local.cases.kept_logs(moment), rate).sensible()
    tails = torch.minimum(inside.log_tail(rest.less(slack.margins)), at_most(slack.margins, moment, rate))
    tails = torch.minimum(log_box[:, None] + tails, everywhere.log_tail(whole.less(slack.margins)))
    parts = local.cases.kept_logs(tails)
    soft = violations.log_price(slack, ~((tails > -torch.inf) & (parts == -torch.inf)))
    missed = torch.where(log_box > -torch.inf, log_box + soft, -torch.inf)
    price = log_sum_up(torch.stack([units.log_price(log_box, slack.soft), missed], 1))
    log_bound = torch.minimum(log_sum_up(torch.cat([parts, price[:, None]], 1)), log_box)
    chosen = replace(units.chosen(moments, {len(local.groups): tilt}), softened=slack)
    return Evaluation(log_bound, log_sum_up(parts), price, units, rows, rest.components, parts.argmax(1), chosen)


def relaxed(region: Region, reach: Tensor | None, chooser: Chooser, moments: ExponentialTails | None) -> Units:
    """Bounds on all units over L regions, on their good events, whatever is chosen.

    Args:
        reach: (L, 2, N) as of `evaluate`; None: no half-spaces.
        moments: of the regions; None: no unit is offered a bound by them.
    """
    local, count = region.local, len(region)
    whole = region.farthest[:, None, None]
    height = whole.expand(count, 2, local.units) if reach is None else torch.minimum(reach, whole)
    log_each = torch.full_like(height, -torch.inf)  # what nothing lies beyond is not paid for
    if reach is not None:
        log_each = torch.where(height < whole, region.log_beyond(height), log_each)
    low, high = (t.expand(count, -1).clone() for t in (local.low, local.high))
    lines = torch.zeros(3, count, local.units, dtype=torch.float64)
    price = torch.full((count, 2, local.units), -torch.inf, dtype=torch.float64)
    log_mean = torch.full_like(price, torch.inf)
    forms = []
    choices: dict[int, Tensor] = {}
    improved: dict[int, Tensor] = {}
    tilts: dict[int, BoxTilt] = {}
    for k, group in enumerate(local.groups):
        own = torch.arange(group.start, group.stop)
        n = len(own)
        rows = local.pull_back(own.repeat(2), torch.tensor([1.0, -1.0]).double().repeat_interleave(n), lines)
        rest = region.rest(rows)
        forms.append((-rows.read.clamp_max(0.0), rest.components[:, :n], rest.longest[:, :n]))
        log_sign = region.log_tail(rest).reshape(count, 2, n)
        free = torch.stack([low[:, group], -high[:, group]], 1)
        free = torch.maximum(free, rest.lowest(region.farthest[:, None]).reshape(count, 2, n))
        paid = torch.maximum(free, rest.lowest(height[:, :, group].flatten(1)).reshape(count, 2, n))
        offer = Offer(free, paid, log_sign, log_each[:, :, group])
        if group.start and moments is not None:
            improved[k] = chooser.improve(k, offer)
            box, row = improved[k].repeat(1, 2).nonzero(as_tuple=True)
            pairs, log_half = moments.pairs(rows, box, row), offer.log_half.flatten(1)[box, row]
            tilts[k] = tilt = chooser.tilt(k, moments, pairs, log_half)
            moment = moments.tails(pairs, tilt, low, high)
            offer = by_moments(offer, box, row, levels(moment, tilt.rate, log_half), moment.clamp_max(0.0))
        choices[k] = choice = known(chooser.choose(k, offer))
        price[:, :, group] = torch.maximum(offer.log_signs(choice), offer.log_halves(choice))
        low[:, group], high[:, group] = offer.ends(choice)
        lines[:, :, group] = torch.stack(relaxed_lines(low[:, group], high[:, group]))
        if moments is not None and k in tilts:
            ends = torch.cat([low[:, group], -high[:, group]], 1)
            mean = torch.full_like(ends, torch.inf)
            mean[box, row] = log_shortfalls(ends[box, row], moment, tilt.rate)
            log_mean[:, :, group] = mean.reshape(count, 2, n)
    return Units(low, high, lines, price, log_mean, choices, improved, tilts, forms)


def by_moments(offer: Offer, box: Tensor, row: Tensor, ends: Tensor, logs: Tensor) -> Offer:
    """The offer with other lower ends and prices of signs for some (box, row), each (Q,), where these are better."""
    paid, log_sign = offer.paid.flatten(1).clone(), offer.log_sign.flatten(1).clone()
    paid[box, row] = torch.maximum(paid[box, row], ends)
    log_sign[box, row] = torch.minimum(log_sign[box, row], logs)
    return replace(offer, paid=paid.reshape(offer.paid.shape), log_sign=log_sign.reshape(offer.paid.shape))


def restricted(local: LocalNetwork, box: Boxes, height: float, chooser: Chooser) -> tuple[LocalNetwork, Recorded]:
    """The network over one box: what its units' linear bounds leave unstable there; and what was decided.

    Args:
        height: of the half-spaces, in units of the noise's size, for the part of the noise that the box leaves
            free. Paid for with the measure of the box, they join G; the result speaks of noise in the box only.
        chooser: says which of them are.
    """
    reach = torch.full((1, 2, local.units), height, dtype=torch.float64)
    region = InBoxes(local, box)
    moments = ExponentialTails(region, chooser.shapes)
    units = relaxed(region, reach, chooser, moments)
    low, high = units.low[0], units.high[0]
    kept = (low < 0) & (high > 0)
    lines = torch.where(kept, 0.0, units.lines)
    parts = [kept[group].nonzero()[:, 0] + group.start for group in local.groups]
    parts = [part for part in parts if len(part)]
    forms = []
    for own in [*parts, local.margins]:
        rows = local.pull_back(own, torch.ones(len(own), dtype=torch.float64), lines)
        n = rows.linear.shape[2]
        linear = rows.linear[0]
        spread = linear.abs() @ local.length[:n] + local.length[own]
        weight = torch.zeros(len(own), len(low), dtype=torch.float64)
        weight[:, :n] = rows.read[0]
        doubt = rows.doubt[0] + raised(dot_error(spread, n + 8) * local.radius, n + 8)
        forms.append((linear @ local.normal[:n] + local.normal[own], rows.middle[0], doubt, weight[:, kept]))
    counts = [len(part) for part in parts]
    groups = consecutive(counts)
    normal, constant, error, weight = (torch.cat(t) for t in zip(*forms, strict=True))
    missed = units.log_price(region.log_measure()).item()
    within = replace(
        local,
        groups=groups,
        normal=normal,
        constant=constant,
        error=error,
        weight=weight,
        low=low[kept],
        high=high[kept],
        log_missed=missed,
    )
    return within, units.chosen(moments, {})
