"""Tails of forms over the first group's activations, by exponential moments, for many boxes of the noise at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.network import LocalNetwork, Products
from calotte.proofs.local.regions import InBoxes
from calotte.proofs.moments.tails import correlations, dominating_diagonals, gaussian_comparison, log_moment
from calotte.proofs.relaxation.triangular import UnitRows
from calotte.rounding import VALUE_SLACK, dot_error, lowered, raised

__all__ = ["BoxTilt", "ExponentialTails", "Pairs", "Shapes", "TiltedForms"]

Shapes = Callable[[LocalNetwork, tuple[bool, ...], Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class BoxTilt:
    """What is decided about Q forms: whatever it is, the bounds that come of it are true.

    Attributes:
        alpha: (Q, n0) slopes of the first group's units, between 0 and 1.
        which: (Q,) long, the diagonal that gives the exponents; rate: (Q,) lambda, positive.
    """

    alpha: Tensor
    which: Tensor
    rate: Tensor


class ExponentialTails:
    """Tails of forms that keep the first group's units as they are, over L boxes.

    Attributes:
        sigma, log_kappa: (L,) of the Gaussian that dominates the noise there.
        centre, deviation: (L, n0) mean and standard deviation of the first group's units, about.
        longest: (L, n0) upper bounds on their norms, the split directions left out.
        kind: (L,) which of the sets of `diagonals` (K, n0) is the box's; shapes: they were made of, by the
            components that are split.
    """

    def __init__(self, region: InBoxes, shapes: Shapes) -> None:
        self.region, self.local, boxes = region, region.local, region.boxes
        local = self.local
        self.first = local.groups[0] if local.groups else slice(0, 0)
        n0 = self.first.stop
        self.sigma, self.log_kappa = gaussian_comparison(local.noise, n0 + 1, region.left, *region.radii)
        self.log_kappa = torch.where(region.left > 0, self.log_kappa, torch.inf)
        split = boxes.split
        rows = bare_units(local, n0, len(boxes))
        rest, (a, b) = region.rest(rows), region.ends
        self.shortest, self.longest, self.components = rest.shortest, rest.longest, rest.components
        self.centre = rows.constant + (self.components * ((a + b) / 2)[:, None]).sum(2)
        self.half = region.half_widths
        self.spread = (self.components.abs() * self.half[:, None]).sum(2)
        # the centres are rounded, and may have cancelled
        far = torch.where(split, torch.maximum(boxes.low.abs(), boxes.high.abs()).clamp_max(local.span), 0.0)
        far = far[:, None]
        met = (self.components.abs() * far).sum(2) + local.constant[:n0].abs()
        rounded = dot_error(met, boxes.low.shape[1] + 16)
        self.spread = self.spread + rounded + 2.0 * local.accuracy * local.length[:n0] * far.sum(2)
        self.deviation = self.longest * self.sigma[:, None]
        # the units with their exact norms differ from those with norms `longest` by this much on G
        self.doubt = local.error[:n0] + raised((self.longest - self.shortest) * local.radius, 8)
        masks = [tuple(row) for row in split.tolist()]
        kinds = sorted(set(masks))
        self.kind = torch.tensor([kinds.index(mask) for mask in masks])
        found = {mask: diagonals(local, mask, shapes) for mask in kinds}
        self.shapes = {mask: proposed for mask, (proposed, _) in found.items()}
        self.diagonals = [known for _, known in found.values()]

    def pairs(self, rows: UnitRows, box: Tensor, row: Tensor) -> Pairs:
        """What does not depend on slopes in the forms of (box, row) pairs (Q,)."""
        local, n0 = self.local, self.first.stop
        g = rows.read[box, row, :n0]
        linear = rows.linear[box, row][:, None]
        linear[:, 0, :n0] = 0.0
        own = (rows.own.expand(rows.middle.shape)[box, row])[:, None]
        sign = (rows.sign.expand(rows.middle.shape)[box, row])[:, None]
        before = rows.before[box, row]
        doubt = rows.doubt[box, row] + (g.abs() * self.doubt[box]).sum(1)
        doubt = doubt + dot_error(2.0, n0 + 8) * (g.abs() @ local.magnitude[:n0])
        bare = UnitRows(before, before, doubt, linear, linear, own, sign)
        products = local.products(bare)
        n = linear.shape[2]
        inner = linear[:, 0] @ local.gram[:n, :n0] + sign * local.gram[own[:, 0], :n0]
        constant = before - raised(doubt, n0 + 8)
        return Pairs(box, g, constant, products, inner)

    def power(self, box: Tensor, which: Tensor) -> Tensor:
        """(Q, n0) exponents p for forms over boxes (Q,), of the diagonals `which` (Q,)."""
        power = torch.empty(len(box), self.first.stop, dtype=torch.float64)
        for k, known in enumerate(self.diagonals):
            here = self.kind[box] == k
            choice = which[here].clamp(0, len(known) - 1)
            power[here] = raised(known[choice] / self.longest[box[here]] ** 2, 8)
        return power

    def form(self, pairs: Pairs, alpha: Tensor) -> TiltedForms:
        """The forms with slopes alpha (Q, n0)."""
        local, n0, box = self.local, self.first.stop, pairs.box
        linear = pairs.g * alpha
        along = linear @ local.gram[:n0, :n0]
        squared = pairs.products.squared + (linear * (2.0 * pairs.inner + along)).sum(1, keepdim=True)
        components = pairs.products.components + (linear @ local.components[:n0])[:, None]
        spread = pairs.products.spread + (linear.abs() @ local.length[:n0])[:, None]
        constant = pairs.constant + linear @ local.constant[:n0]
        boxes = self.region.boxes[box]
        rest = InBoxes(local, boxes).rest_of(constant[:, None], Products(squared, components, spread))
        least, norm = rest.least[:, 0], rest.longest[:, 0]
        inner = pairs.inner + along
        inner = inner - ((components * boxes.split[:, None]) * self.components[box]).sum(2)
        off = 4.0 * local.accuracy * spread * local.length[:n0]
        off = off + norm[:, None] * (self.longest - self.shortest)[box]
        return TiltedForms(pairs, alpha, least, norm, inner, off)

    def _log_moment(self, form: TiltedForms, power: Tensor, rate: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """log kappa E exp(-rate F), rounded up, (Q,)."""
        box, g, alpha, n0 = form.pairs.box, form.pairs.g, form.alpha, self.first.stop
        deviation = self.deviation[box]
        variance = (self.sigma[box] ** 2)[:, None]
        moved = rate[:, None] * variance
        mean = self.centre[box] - moved * form.inner
        half = self.spread[box] + moved * form.off
        half = raised(half, 16) + dot_error(mean.abs() + moved * form.inner.abs(), 16)
        theta = -power * rate[:, None] * g
        rising = g < 0
        value, slope = log_moment(theta, alpha, torch.where(rising, mean + half, mean), deviation)
        other = [t[rising] for t in (theta, alpha, mean - half, deviation)]
        value = torch.where(rising, value, value + raised(slope.abs() * half, 16))
        value[rising] = torch.maximum(value[rising], log_moment(*other)[0])
        value = value / power
        value = torch.where(value > 0, raised(value, 8), -lowered(-value, 8))
        most = torch.maximum((1.0 - alpha) * high[box, :n0], -alpha * low[box, :n0]).clamp_min(0.0)
        most = raised(torch.where(rising, rate[:, None] * g.abs() * most, 0.0), 8)
        value = torch.minimum(torch.where(value.isnan(), torch.inf, value), most)
        linear = -rate * form.least + 0.5 * (rate * form.norm) ** 2 * variance[:, 0]
        size = (rate * form.least).abs() + (rate * form.norm) ** 2 * variance[:, 0] + value.abs().sum(1)
        total = linear + value.sum(1) + self.log_kappa[box] + dot_error(size + 1.0, n0 + 32)
        return torch.where(total.isnan(), torch.inf, total)

    def levels(self, log_each: Tensor, moment: Tensor, tilt: BoxTilt) -> Tensor:
        """Lower bounds (Q,) on forms that fail with probability at most `log_each` (Q,), given their `tails`."""
        level = (log_each - moment) / tilt.rate
        level = level - dot_error((log_each.abs() + moment.abs()) / tilt.rate, 8) - VALUE_SLACK
        level = torch.where(moment < torch.inf, level, -torch.inf)
        return torch.where(level.isnan(), -torch.inf, level)

    def log_shortfalls(self, ends: Tensor, moment: Tensor, tilt: BoxTilt) -> Tensor:
        """Upper bounds (Q,) on log E (end - form)+, given the forms' `tails`: x+ <= exp(rate x - 1) / rate."""
        moved = tilt.rate * ends
        total = moved + moment - 1.0 - tilt.rate.log()
        total = total + dot_error(1.0 + moved.abs() + moment.abs() + tilt.rate.log().abs(), 8)
        return torch.where(total.isnan() | (moment == torch.inf), torch.inf, total)

    def tails(self, pairs: Pairs, tilt: BoxTilt, low: Tensor, high: Tensor) -> Tensor:
        """log kappa E exp(-rate F), rounded up, (Q,): upper bounds on log P(form <= 0), which are above 0 for some;
        inf where what was decided makes no sense."""
        form = self.form(pairs, tilt.alpha.nan_to_num(0.0).clamp(0.0, 1.0))
        moment = self._log_moment(form, self.power(pairs.box, tilt.which), tilt.rate, low, high)
        return torch.where((tilt.rate > 0) & tilt.rate.isfinite(), moment, torch.inf)


@dataclass(frozen=True)
class Pairs:
    """Q pairs of a box and a row.

    Attributes:
        box: (Q,); g: (Q, n0) coefficients of the first group's activations.
        constant, products, inner: of the rows without the first group: constants (Q,), rounded down, products as of
            Q boxes and one row, and inner products (Q, n0) with the first group.
    """

    box: Tensor
    g: Tensor
    constant: Tensor
    products: Products
    inner: Tensor


@dataclass(frozen=True)
class TiltedForms:
    """Q forms F = least + a.v + sum_j g_j e_j(z_j) over boxes.

    Attributes:
        alpha: (Q, n0) slopes of the e_j.
        least: (Q,) constants, rounded down; norm: (Q,) bounds on ||a||.
        inner, off: (Q, n0) a.a_j, and bounds on their errors.
    """

    pairs: Pairs
    alpha: Tensor
    least: Tensor
    norm: Tensor
    inner: Tensor
    off: Tensor


def diagonals(local: LocalNetwork, mask: tuple[bool, ...], shapes: Shapes) -> tuple[Tensor, Tensor]:
    """The shapes that were proposed for the first group, the split directions left out, and `dominating_diagonals`
    of them, (K, n0); inf where unknown."""
    key = shapes, mask
    if key not in local.diagonals:
        first = local.groups[0] if local.groups else slice(0, 0)
        along = local.components[first] * torch.tensor(mask, dtype=torch.float64)
        gram = local.gram[first, first] - along @ along.t()
        # the units are taken as long as `longest`: A becomes A + H, and its Gram matrix at most
        # (1 + t) A A' + (1 + 1/t) H H', t = 1e-9
        shortest, longest = norms(local, mask)
        squares = (local.length[first] ** 2).sum() * (8.0 * local.accuracy + 1.1e-9)
        doubt = (squares + 1.1e9 * ((longest - shortest) ** 2).sum()).item()
        correlation, proposed = correlations(gram), torch.ones(1, len(longest), dtype=torch.float64)
        if len(longest) and correlation.isfinite().all():
            found = shapes(local, mask, correlation, longest)
            if found.ndim == 2 and len(found) and found.shape[1] == len(longest):
                proposed = found
        local.diagonals[key] = proposed, dominating_diagonals(gram, proposed, doubt)
    return local.diagonals[key]


def norms(local: LocalNetwork, mask: tuple[bool, ...]) -> tuple[Tensor, Tensor]:
    """(n0,) bounds on the norms of the first group's units, the split directions left out."""
    n0 = local.groups[0].stop if local.groups else 0
    end = torch.where(torch.tensor(mask, dtype=torch.bool), 0.0, torch.inf).double()[None]
    rest = InBoxes(local, Boxes(-end, end)).rest(bare_units(local, n0, 1))
    return rest.shortest[0], rest.longest[0]


def bare_units(local: LocalNetwork, n0: int, count: int) -> UnitRows:
    """The first n0 units, as they are, over `count` boxes."""
    one = torch.ones(n0, dtype=torch.float64)
    empty = torch.zeros(count, n0, 0, dtype=torch.float64)
    bare = local.constant[:n0].expand(count, -1)
    return UnitRows(bare, bare, torch.zeros_like(bare), empty, empty, torch.arange(n0), one)
