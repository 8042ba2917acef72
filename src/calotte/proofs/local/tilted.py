"""Tails of forms over the first group's activations, by exponential moments, for many boxes of the noise at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.network import LocalNetwork, Products
from calotte.proofs.local.regions import InBoxes
from calotte.proofs.moments.tails import correlations, dominating_diagonals, gaussian_comparison, log_moment
from calotte.proofs.relaxation.triangular import UnitRows
from calotte.rounding import dot_error, raised

__all__ = ["BoxTilt", "ExponentialTails", "Pairs", "Shapes", "TiltedForms"]

_AT_ONCE = 2**14  # coefficients of forms

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
        # what the z_j may be away from `centre` in the box; how far their norms are known at most, by `kind`
        self.moved = raised(self.spread, 16) + dot_error(self.centre.abs(), 16)
        self.gaps = torch.stack([(self.longest - self.shortest)[self.kind == k].amax(0) for k in range(len(kinds))])

    def pairs(self, rows: UnitRows, box: Tensor, row: Tensor) -> Pairs:
        """What does not depend on slopes in the forms of (box, row) pairs (Q,)."""
        local, n0 = self.local, self.first.stop
        g = rows.read[box, row, :n0]
        linear = rows.linear[box, row, n0:][:, None]
        own = (rows.own.expand(rows.middle.shape)[box, row])[:, None]
        sign = (rows.sign.expand(rows.middle.shape)[box, row])[:, None]
        before = rows.before[box, row]
        size = g.abs()
        doubt = rows.doubt[box, row] + (size * self.doubt[box]).sum(1)
        doubt = doubt + dot_error(2.0, n0 + 8) * (size @ local.magnitude[:n0])
        bare = UnitRows(before, before, doubt, linear, linear, own, sign)
        products = local.products(bare, n0)
        inner = linear[:, 0] @ local.gram[n0 : n0 + linear.shape[2], :n0] + sign * local.gram[own[:, 0], :n0]
        constant = before - raised(doubt, n0 + 8)
        return Pairs(box, g, constant, products, inner)

    def power(self, box: Tensor, which: Tensor) -> Tensor:
        """(Q, n0) exponents p for forms over boxes (Q,), of the diagonals `which` (Q,)."""
        tables = self.powers
        if len(tables) == 1:
            return tables[0][which.clamp(0, len(tables[0]) - 1)]
        power = torch.empty(len(box), self.first.stop, dtype=torch.float64)
        for k, table in enumerate(tables):
            here = self.kind[box] == k
            power[here] = table[which[here].clamp(0, len(table) - 1)]
        return power

    @cached_property
    def powers(self) -> list[Tensor]:
        """For each kind of boxes (K, n0) exponents, of all its diagonals."""
        longest = (self.longest[self.kind == k].amin(0) for k in range(len(self.diagonals)))
        return [raised(known / least**2, 8) for known, least in zip(self.diagonals, longest, strict=True)]

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
        inner = pairs.inner + along - (components[:, 0] * boxes.split) @ local.components[:n0].t()
        return TiltedForms(pairs, alpha, rest.least[:, 0], rest.longest[:, 0], inner, spread[:, 0])

    def _log_moment(self, form: TiltedForms, power: Tensor, rate: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """log kappa E exp(-rate F), rounded up, (Q,)."""
        box, g, alpha, local = form.pairs.box, form.pairs.g, form.alpha, self.local
        n0, deviation, variance = self.first.stop, self.deviation[box], self.sigma[box] ** 2
        moved = rate * variance
        mean = self.centre[box] - moved[:, None] * form.inner
        # how far means may be off or move in the box, |a.a_j| <= ||a|| ||a_j||: by errors of products and norms too
        off = raised(moved * (4.0 * local.accuracy * form.spread + dot_error(2.0, 32) * form.norm), 8)
        half = self.moved[box] + off[:, None] * local.length[:n0]
        half = half + raised(moved * form.norm, 8)[:, None] * self.gaps[self.kind[box]]
        theta = g * -rate[:, None] * power
        rising = g < 0
        value, slope = log_moment(theta, alpha, torch.where(rising, mean + half, mean), deviation)
        value = torch.where(rising, value, (value + raised(slope * half, 16)).clamp_max(0.0)).flatten()
        some = rising.flatten().nonzero()[:, 0]
        a, mean = alpha.take(some), (mean - half).take(some)
        other = log_moment(theta.take(some), a, mean, deviation.take(some))[0]
        place = box[some // max(n0, 1)] * low.shape[1] + some % max(n0, 1)
        most = torch.maximum((1.0 - a) * high.take(place), -a * low.take(place)).clamp_min(0.0)
        most = raised((rate[:, None] * g).take(some).abs() * most, 8) * power.take(some)
        value[some] = torch.minimum(torch.maximum(value[some], other).nan_to_num(torch.inf), most)
        value = value.reshape(power.shape) / power
        linear = -rate * form.least + 0.5 * (rate * form.norm) ** 2 * variance
        size = (rate * form.least).abs() + (rate * form.norm) ** 2 * variance + value.abs().sum(1)
        total = linear + value.sum(1) + self.log_kappa[box] + dot_error(size + 1.0, n0 + 64)
        return torch.where(total.isnan(), torch.inf, total)

    def tails(self, pairs: Pairs, tilt: BoxTilt, low: Tensor, high: Tensor) -> Tensor:
        """log kappa E exp(-rate F), rounded up, (Q,): upper bounds on log P(form <= 0), which are above 0 for some;
        inf where what was decided makes no sense."""
        moment = torch.empty_like(tilt.rate)
        for rows in torch.split(torch.arange(len(moment)), pairs.at_once):
            some, rate = pairs[rows], tilt.rate[rows]
            form = self.form(some, tilt.alpha[rows].nan_to_num(0.0).clamp(0.0, 1.0))
            moment[rows] = self._log_moment(form, self.power(some.box, tilt.which[rows]), rate, low, high)
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

    @property
    def at_once(self) -> int:
        """How many are looked at together, so that what is known of them stays in a cache."""
        return max(1, _AT_ONCE // max(1, self.g.shape[1]))

    def __getitem__(self, rows: Tensor) -> Pairs:
        products = Products(
            *(t[rows] for t in (self.products.squared, self.products.components, self.products.spread))
        )
        return Pairs(self.box[rows], self.g[rows], self.constant[rows], products, self.inner[rows])


@dataclass(frozen=True)
class TiltedForms:
    """Q forms F = least + a.v + sum_j g_j e_j(z_j) over boxes.

    Attributes:
        alpha: (Q, n0) slopes of the e_j.
        least: (Q,) constants, rounded down; norm: (Q,) bounds on ||a||.
        inner: (Q, n0) a.a_j, as computed; spread: (Q,) the lengths added up in a.
    """

    pairs: Pairs
    alpha: Tensor
    least: Tensor
    norm: Tensor
    inner: Tensor
    spread: Tensor


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
