"""A network near one input: its unstable units only, and bounds on its margins over many boxes of the noise.

On a good event G of probability close to 1 most units keep their sign. What is left is a small network,

    z_i(u) = a_i.u + c_i + sum_{k < i} b_ik relu(z_k(u))    (up to e_i),

of the unstable units i and, after them, the margins; exact on G but for an enclosed error e_i. Relaxed bounds on all
z_i over a box of the noise, on a good event of their own that is paid for, cost a fraction of a pass through the
network: only the inner products a_i.a_j and the components of the a_i along the box's directions are needed.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from calotte.bounds.boxes import Boxes, log_tail_up
from calotte.bounds.concentration import margin_rows, relaxed_units, support
from calotte.bounds.ladder import Problem
from calotte.bounds.moments import dominating_diagonal, gaussian_comparison, log_moment
from calotte.bounds.relaxation import relaxed_lines
from calotte.bounds.union import log_sum_up
from calotte.noise import Noise, quotient_down
from calotte.rounding import NORM_SLACK, UNIT_ROUNDOFF, VALUE_SLACK, gamma

__all__ = ["Evaluation", "Local", "localise"]


@dataclass(frozen=True)
class Evaluation:
    """Bounds over L boxes, and hints where they could be improved.

    Attributes:
        log_bound: (L,) upper bounds on log P(error, u in the box, G).
        log_margins, log_price: (L,) its two parts, the half-spaces of the margins and the good event of the box.
        impact: (L, 2, N) what more height for the lower and upper bounds of each unit takes from the worst margin.
        gain: (L, K) what cutting along each direction could give it back.
    """

    log_bound: Tensor
    log_margins: Tensor
    log_price: Tensor
    impact: Tensor
    gain: Tensor


@dataclass(frozen=True)
class _Rows:
    """Linear functions w.(a_i) . u + constant below R values, for L boxes.

    Attributes:
        middle: (L, R) the constant as computed; doubt: (L, R) bound on its error and that of the coefficients.
        linear: (L, R, N) coefficients w of the units' a_i; own: (R,) the form that each row starts from, sign (R,).
        read: (L, R, N) coefficients of the units' activations met on the way.
        before: (L, R) `middle` had the first group not been relaxed.
    """

    middle: Tensor
    before: Tensor
    doubt: Tensor
    linear: Tensor
    read: Tensor
    own: Tensor
    sign: Tensor

    @property
    def constant(self) -> Tensor:
        """(L, R) rounded down."""
        return self.middle - self.doubt


@dataclass(frozen=True)
class _Units:
    """Bounds on all units over L boxes.

    Attributes:
        low, high: (L, N); lines: (3, L, N) of `relaxed_lines`.
        log_each: (L, 2 N) logarithms of the prices of half-spaces that were used, given the box.
        moments: of the boxes.
        forms: for each group what its rows take from earlier units' activations (L, 2 n, .), their components
            (L, n, K) and norms (L, n).
    """

    low: Tensor
    high: Tensor
    lines: Tensor
    log_each: Tensor
    moments: _Moments
    forms: list[tuple[Tensor, Tensor, Tensor]]

    def log_price(self, log_box: Tensor) -> Tensor:
        """(L,) log P(u in the box, a half-space used is violated), rounded up."""
        price = log_box[:, None] + self.log_each
        price = torch.where(price.isfinite(), price + gamma(8) * (1.0 + price.abs()), -torch.inf)
        return log_sum_up(torch.cat([price, torch.full_like(log_box, -torch.inf)[:, None]], 1))


@dataclass(frozen=True)
class Local:
    """The unstable units of a network near one input, N of them, followed by its C margins.

    Attributes:
        noise, m: the law of u.
        groups: slices of the units of one ReLU node each, in order.
        normal: (N + C, n) a_i in an orthonormal system; constant, error: (N + C,) c_i and e_i.
        weight: (N + C, N) b_ik.
        low, high: (N,) bounds on the units on G; radius: bound on ||u|| there.
        log_missed: log P(not G), rounded up.
        directions: (n, K) orthonormal up to rounding: the axes of boxes; span: bound on the components of u along
            them on G, in units of the noise's size.
    """

    noise: Noise
    m: int
    groups: tuple[slice, ...]
    normal: Tensor
    constant: Tensor
    error: Tensor
    weight: Tensor
    low: Tensor
    high: Tensor
    radius: float
    log_missed: float
    directions: Tensor
    span: float

    @property
    def units(self) -> int:
        """N."""
        return len(self.low)

    @property
    def sigma(self) -> float:
        """Standard deviation of a component of u."""
        return self.noise.sigma(self.m)

    @cached_property
    def gram(self) -> Tensor:
        """(N + C, N + C) inner products a_i.a_j."""
        return self.normal @ self.normal.t()

    @cached_property
    def length(self) -> Tensor:
        """(N + C,) upper bounds on ||a_i||."""
        return self.normal.norm(dim=1) * (1.0 + gamma(self.normal.shape[1] + 4)) + NORM_SLACK

    @cached_property
    def magnitude(self) -> Tensor:
        """(N + C,) four times a bound on everything that is added up in z_i, the unit itself included."""
        active = self.high.clamp_min(0.0)
        return 4.0 * (self.weight.abs() @ active + self.constant.abs() + self.length * self.radius + self.error)

    @cached_property
    def components(self) -> Tensor:
        """(N + C, K) components of the a_i along the directions."""
        return self.normal @ self.directions

    @cached_property
    def accuracy(self) -> float:
        """Relative error of inner products of rows with each other and with directions, in the sum of lengths.

        The exact directions are V (V'V)^(-1/2), within ||V'V - I|| of V in the spectral norm.
        """
        n, k = self.directions.shape
        lack = (self.directions.t() @ self.directions - torch.eye(k, dtype=torch.float64)).norm().item()
        terms = 4 * (len(self.constant) + self.units + n + k) + 64
        return (2.0 * lack + 4.0 * k * gamma(n + 4) + gamma(terms)) * (1.0 + gamma(k * k + 8))

    def evaluate(self, boxes: Boxes, reach: Tensor) -> Evaluation:
        """Bound the margins over boxes, each unit's linear bounds taken to hold up to a height that is paid for.

        Args:
            boxes: L regions of the noise.
            reach: (L, 2, N) heights s of the half-spaces of the good event, for lower and for upper bounds, in units
                of the noise's size, for the part of the noise that the box leaves free; inf for none.
        """
        units = self._relaxed(boxes, reach)
        rows = self._pull_back(self.margins, torch.ones(len(self.margins), dtype=torch.float64), units.lines)
        log_box = boxes.log_measure(self.noise, self.m)
        over = self.over(boxes, rows)
        inside = log_box[:, None] + self._log_tail(*over[:3], *boxes.radii(self.noise), boxes.left(self.m))
        everywhere = Boxes.whole(boxes.low.shape[1]).repeated(len(boxes))
        beyond = self._log_tail(*self.over(everywhere, rows)[:3], *everywhere.radii(self.noise), everywhere.left(self.m))
        parts = torch.minimum(inside, beyond)
        parts = torch.minimum(parts, log_box[:, None] + units.moments.tails(rows, units.low, units.high))
        price = units.log_price(log_box)
        log_bound = torch.minimum(log_sum_up(torch.cat([parts, price[:, None]], 1)), log_box)
        impact, gain = self._hints(boxes, units, rows, over[3], parts.argmax(1))
        return Evaluation(log_bound, log_sum_up(parts), price, impact, gain)

    def restricted(self, box: Boxes, height: float) -> Local:
        """The network over one box: what its units' linear bounds, up to a height, leave unstable there.

        The half-spaces, paid for with the measure of the box, join G; the result speaks of noise in the box only.
        """
        one = torch.ones(1, dtype=torch.float64)
        log_each = log_tail_up(self.noise, height * one, one, one, torch.tensor([self.m]))
        left = max(int(box.left(self.m)), 1)  # the same price in the dimensions that the box leaves
        height = (self.noise.standard_quantile(log_each, left, rounding="up") * box.radii(self.noise)[1]).item()
        reach = torch.full((1, 2, self.units), height, dtype=torch.float64)
        units = self._relaxed(box, reach)
        low, high = units.low[0], units.high[0]
        kept = (low < 0) & (high > 0)
        lines = torch.where(kept, 0.0, units.lines)
        parts = [kept[group].nonzero()[:, 0] + group.start for group in self.groups]
        parts = [part for part in parts if len(part)]
        forms = []
        for own in [*parts, self.margins]:
            rows = self._pull_back(own, torch.ones(len(own), dtype=torch.float64), lines)
            n = rows.linear.shape[2]
            linear = rows.linear[0]
            spread = linear.abs() @ self.length[:n] + self.length[own]
            weight = torch.zeros(len(own), len(low), dtype=torch.float64)
            weight[:, :n] = rows.read[0]
            doubt = rows.doubt[0] + gamma(n + 8) * spread * self.radius * (1.0 + gamma(n + 8))
            forms.append((linear @ self.normal[:n] + self.normal[own], rows.middle[0], doubt, weight[:, kept]))
        counts = [len(part) for part in parts]
        groups = tuple(slice(end - n, end) for n, end in zip(counts, itertools.accumulate(counts), strict=True))
        normal, constant, error, weight = (torch.cat(t) for t in zip(*forms, strict=True))
        missed = units.log_price(box.log_measure(self.noise, self.m)).item()
        return replace(
            self,
            groups=groups,
            normal=normal,
            constant=constant,
            error=error,
            weight=weight,
            low=low[kept],
            high=high[kept],
            log_missed=missed,
        )

    @property
    def margins(self) -> Tensor:
        """Positions of the margins."""
        return torch.arange(self.units, len(self.constant))

    def _relaxed(self, boxes: Boxes, reach: Tensor) -> _Units:
        """Bounds on all units over boxes, on their good events."""
        count, n_units, size = len(boxes), self.units, self.noise.size
        smallest, largest = boxes.radii(self.noise)
        whole = largest if not math.isinf(self.noise.radius) else torch.full_like(largest, torch.inf)
        whole = whole[:, None, None]
        height = torch.minimum(reach, whole)
        log_each = log_tail_up(self.noise, height, smallest, largest, boxes.left(self.m))
        low, high = (t.expand(count, -1).clone() for t in (self.low, self.high))
        lines = torch.zeros(3, count, n_units, dtype=torch.float64)
        price = torch.full((count, 2, n_units), -torch.inf, dtype=torch.float64)
        forms = []
        moments = _Moments(self, boxes)
        for group in self.groups:
            own = torch.arange(group.start, group.stop)
            n = len(own)
            rows = self._pull_back(own.repeat(2), torch.tensor([1.0, -1.0]).double().repeat_interleave(n), lines)
            least, _, norm, components = self.over(boxes, rows)
            forms.append((-rows.read.clamp_max(0.0), components[:, :n], norm[:, :n]))
            least, norm = least.reshape(count, 2, n), norm.reshape(count, 2, n) * size * (1.0 + gamma(4))
            free = torch.stack([low[:, group], -high[:, group]], 1)
            free = torch.maximum(free, lowest(least, norm, whole))
            paid = torch.maximum(free, lowest(least, norm, height[:, :, group]))
            if group.start:
                undecided = (paid < 0).all(1) & (height[:, :, group] < whole).any(1)
                box, row = undecided.repeat(1, 2).nonzero(as_tuple=True)
                better = torch.full((count, 2 * n), -torch.inf, dtype=torch.float64)
                better[box, row] = moments.levels(rows, box, row, low, high, log_each[:, :, group].flatten(1))
                paid = torch.maximum(paid, better.reshape(count, 2, n))
            stable = (free >= 0).any(1, keepdim=True)
            active = ~stable & (paid[:, :1] >= 0)
            inactive = ~stable & (paid[:, 1:] >= 0) & ~active
            use = (paid > free) & ~stable & torch.cat([~inactive, ~active], 1)
            ends = torch.where(use, paid, free)
            price[:, :, group] = torch.where(use, log_each[:, :, group], -torch.inf)
            low[:, group], high[:, group] = ends[:, 0], -ends[:, 1]
            lines[:, :, group] = torch.stack(relaxed_lines(low[:, group], high[:, group]))
        return _Units(low, high, lines, price.flatten(1), moments, forms)

    def _hints(
        self, boxes: Boxes, units: _Units, rows: _Rows, components: Tensor, worst: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`impact` and `gain` of an Evaluation, for the margin `worst` (L,) of each box."""
        count = len(boxes)
        read = rows.read[torch.arange(count), worst]
        low, high = units.low, units.high
        loss = torch.where(read < 0, -read * units.lines[2], read * torch.minimum(high, -low))
        loss = torch.where((low < 0) & (high > 0), loss / (high - low), 0.0)
        influence = -read.clamp_max(0.0)
        impact = torch.zeros(count, 2, self.units, dtype=torch.float64)
        half = self.half_widths(boxes)
        gain = components[torch.arange(count), worst].abs() * half
        for group, (taken, along, norm) in reversed(list(zip(self.groups, units.forms, strict=True))):
            a, b = low[:, group], high[:, group]
            width = (b - a).clamp_min(1e-300)
            share = torch.stack([(b / width).clamp(0.0, 1.0) ** 2, (a / width).clamp(-1.0, 0.0) ** 2], 1)
            effect = influence[:, None, group] * share
            influence[:, : group.start] += (effect.flatten(1)[:, None] @ taken)[:, 0]
            impact[:, :, group] = effect * norm[:, None]
            free = 2.0 * self.sigma * along**2 / norm[:, :, None].clamp_min(1e-300)
            moved = torch.where(boxes.split[:, None], along.abs() * half[:, None], free)
            gain = gain + (loss[:, group, None] * moved).sum(1)
        return impact, gain

    def _pull_back(self, own: Tensor, sign: Tensor, lines: Tensor) -> _Rows:
        """Linear functions below sign * z_own (R,), given the lines (3, L, N) of the units before them.

        Rounding: coefficients are taken as the exact floats that were computed. What that is off, times what they
        multiply, is below gamma(terms) times the magnitudes added up, and is taken off the constant.
        """
        count = lines.shape[1]
        n = min(int(own[0]), self.units)
        below, above, intercept = (t[:, None, :n] for t in lines)
        read = (sign[:, None] * self.weight[own, :n]).expand(count, -1, -1).clone()
        linear = torch.zeros_like(read)
        constant = (sign * self.constant[own]).expand(count, -1).clone()
        before = constant
        for k, group in reversed([(k, g) for k, g in enumerate(self.groups) if g.stop <= n]):
            if k == 0:
                before = constant.clone()
            here = read[:, :, group]
            negative = here.clamp_max(0.0)
            through = here.clamp_min(0.0) * below[:, :, group] + negative * above[:, :, group]
            constant += (negative @ intercept[:, 0, group, None]).squeeze(2)
            constant += through @ self.constant[group]
            linear[:, :, group] = through
            for earlier in self.blocks[k]:
                read[:, :, earlier] += through @ self.weight[group, earlier]
        terms = gamma(4 * n + 64)
        met = read.abs() @ self.magnitude[:n] + self.magnitude[own]
        doubt = linear.abs() @ self.error[:n] + self.error[own]
        size = torch.maximum(constant.abs(), before.abs())
        underflow = VALUE_SLACK * (1.0 + self.magnitude[:n].sum() + self.high[:n].clamp_min(0.0).sum())
        doubt = (doubt + terms * (met + size)) * (1.0 + gamma(n + 16)) + underflow
        return _Rows(constant, before, doubt, linear, read, own, sign)

    @cached_property
    def blocks(self) -> list[list[slice]]:
        """For every group the earlier groups that it reads."""
        return [[h for h in self.groups[:k] if self.weight[g, h].any()] for k, g in enumerate(self.groups)]

    def over(self, boxes: Boxes, rows: _Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The rows over boxes: lowest constant (L, R), bounds on the norm of what is left, components (L, R, K)."""
        n, size = rows.linear.shape[2], self.noise.size
        split = boxes.split.to(torch.float64)[:, None]
        flat = rows.linear.flatten(0, 1)
        shape = rows.linear.shape[:2]
        own = rows.sign[..., None] * self.components[rows.own]
        components = (flat @ self.components[:n]).reshape(*shape, self.components.shape[1]) + own
        spread = rows.linear.abs() @ self.length[:n] + self.length[rows.own]
        if n <= self.normal.shape[1]:
            squared = ((flat @ self.gram[:n, :n]).reshape(rows.linear.shape) * rows.linear).sum(2)
            cross = (rows.linear * (rows.sign[..., None] * self.gram[rows.own, :n])).sum(2)
            squared = squared + 2.0 * cross + self.gram[rows.own, rows.own]
        else:
            normal = (flat @ self.normal[:n]).reshape(*shape, self.normal.shape[1]) + rows.sign[..., None] * self.normal[rows.own]
            squared = (normal * normal).sum(2)
        squared = squared - (components * components * split).sum(2)
        error = self.accuracy * spread * spread * (1.0 + gamma(n + 8))
        largest = (squared.clamp_min(0.0) + 4.0 * error).sqrt() * (1.0 + 4 * UNIT_ROUNDOFF) + NORM_SLACK
        largest = torch.where(squared.isfinite(), largest, torch.inf)
        smallest = (squared - 4.0 * error).clamp_min(0.0).sqrt() * (1.0 - 4 * UNIT_ROUNDOFF) - NORM_SLACK
        smallest = torch.where(squared.isfinite(), smallest.clamp_min(0.0), 0.0)
        a, b = (torch.where(boxes.split, t.clamp(-self.span, self.span), 0.0)[:, None] for t in (boxes.low, boxes.high))
        a, b = a * size, b * size
        moved = torch.minimum(components * a, components * b)
        far = torch.maximum(a.abs(), b.abs())
        slack = self.accuracy * spread * far.sum(2) + gamma(boxes.low.shape[1] + 8) * (components.abs() * far).sum(2)
        slack = slack + VALUE_SLACK * far.sum(2)
        constant = rows.constant + moved.sum(2)
        constant = constant - 2.0 * slack - gamma(8) * (rows.constant.abs() + constant.abs()) - VALUE_SLACK
        return torch.where(constant.isnan(), -torch.inf, constant), smallest, largest, components

    def half_widths(self, boxes: Boxes) -> Tensor:
        """(L, K) half of the boxes' widths, in real units; 0 where not split."""
        a, b = (torch.where(boxes.split, t.clamp(-self.span, self.span), 0.0) for t in (boxes.low, boxes.high))
        return (b - a) / 2 * self.noise.size * (1.0 + gamma(8))

    def over_middle(self, boxes: Boxes, rows: _Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `over`, but the constant at the middle of the boxes, not rounded."""
        least, shortest, longest, components = self.over(boxes, rows)
        a, b = (torch.where(boxes.split, t.clamp(-self.span, self.span), 0.0) for t in (boxes.low, boxes.high))
        return rows.constant + (components * ((a + b) / 2 * self.noise.size)[:, None]).sum(2), shortest, longest, components

    def diagonal(self, mask: tuple[bool, ...]) -> Tensor:
        """(n0,) P of `dominating_diagonal` for the first group, the split directions left out; inf where unknown."""
        if mask not in self.diagonals:
            first = self.groups[0] if self.groups else slice(0, 0)
            along = self.components[first] * torch.tensor(mask, dtype=torch.float64)
            gram = self.gram[first, first] - along @ along.t()
            # the units are taken as long as `longest`: A becomes A + H, and its Gram matrix at most
            # (1 + t) A A' + (1 + 1/t) H H', t = 1e-9
            shortest, longest = self._norms(mask)
            squares = (self.length[first] ** 2).sum() * (8.0 * self.accuracy + 1.1e-9)
            doubt = (squares + 1.1e9 * ((longest - shortest) ** 2).sum()).item()
            norm = gram.diagonal().clamp_min(1e-300).sqrt() * self.noise.size / math.sqrt(self.m)
            x = self.constant[first] / norm
            weight = (self.weight[:, first] ** 2).sum(0) * norm**2 * torch.exp(-0.5 * x * x)
            found = dominating_diagonal(gram, weight, doubt) if len(x) else None
            self.diagonals[mask] = torch.full_like(x, torch.inf) if found is None else found
        return self.diagonals[mask]

    def _norms(self, mask: tuple[bool, ...]) -> tuple[Tensor, Tensor]:
        """(n0,) bounds on the norms of the first group's units, the split directions left out."""
        n0 = self.groups[0].stop if self.groups else 0
        end = torch.where(torch.tensor(mask, dtype=torch.bool), 0.0, torch.inf).double()[None]
        _, shortest, longest, _ = self.over(Boxes(-end, end), self._bare(n0, 1))
        return shortest[0], longest[0]

    def _bare(self, n0: int, count: int) -> _Rows:
        """The first n0 units, as they are, over `count` boxes."""
        one = torch.ones(n0, dtype=torch.float64)
        empty = torch.zeros(count, n0, 0, dtype=torch.float64)
        bare = self.constant[:n0].expand(count, -1)
        return _Rows(bare, bare, torch.zeros_like(bare), empty, empty, torch.arange(n0), one)

    @cached_property
    def diagonals(self) -> dict[tuple[bool, ...], Tensor]:
        """What `diagonal` has found."""
        return {}

    def _log_tail(
        self, least: Tensor, shortest: Tensor, longest: Tensor, smallest: Tensor, largest: Tensor, left: Tensor
    ) -> Tensor:
        """Upper bounds on log P(a.v <= -least), ||a|| between two bounds, v the rest of the noise."""
        norm = torch.where(least >= 0, longest, shortest) * self.noise.size
        heights = least / norm * torch.where(least >= 0, 1.0 - gamma(8), 1.0 + gamma(8))
        heights = torch.where(heights.isnan(), -torch.inf, heights)
        return log_tail_up(self.noise, heights, smallest, largest, left)

    def along(self, directions: Tensor, height: float) -> Local:
        """The same with other axes (n, K) for boxes; |v.u| <= height size joins G for each, and is paid for."""
        ends = torch.full((1, 2 * directions.shape[1]), height, dtype=torch.float64)
        one = torch.ones(1, dtype=torch.float64)
        price = log_tail_up(self.noise, ends, one, one, torch.tensor([self.m]))
        missed = log_sum_up(torch.cat([price, torch.tensor([[self.log_missed]], dtype=torch.float64)], 1)).item()
        return replace(self, directions=directions, span=height * (1.0 + gamma(4)), log_missed=missed)


def lowest(least: Tensor, norm: Tensor, height: Tensor) -> Tensor:
    """least - height norm, rounded down; -inf where that is undefined."""
    value = least - height * norm * (1.0 + gamma(8))
    value = value - gamma(8) * (least.abs() + value.abs()) - VALUE_SLACK
    return torch.where(value.isnan(), -torch.inf, value)


class _Moments:
    """Tails of forms that keep the first group's units as they are, over L boxes."""

    def __init__(self, local: Local, boxes: Boxes) -> None:
        self.local, self.boxes = local, boxes
        self.first = local.groups[0] if local.groups else slice(0, 0)
        n0 = self.first.stop
        smallest, largest = boxes.radii(local.noise)
        sigma, self.log_kappa = gaussian_comparison(local.noise, n0 + 1, boxes.left(local.m), smallest, largest)
        self.sigma = sigma * local.noise.size
        ordinary = (self.sigma > 1e-140) & (self.sigma < 1e140)  # squares neither overflow nor underflow
        self.log_kappa = torch.where(ordinary, self.log_kappa, torch.inf)
        split = boxes.split
        rows = local._bare(n0, len(boxes))
        self.centre, self.shortest, self.longest, self.components = local.over_middle(boxes, rows)
        self.half = local.half_widths(boxes)
        self.spread = (self.components.abs() * self.half[:, None]).sum(2)
        # the centres are rounded, and may have cancelled
        far = torch.where(split, torch.maximum(boxes.low.abs(), boxes.high.abs()).clamp_max(local.span), 0.0)
        far = far[:, None] * local.noise.size
        terms = gamma(boxes.low.shape[1] + 16)
        rounded = terms * ((self.components.abs() * far).sum(2) + local.constant[:n0].abs())
        self.spread = self.spread + rounded + 2.0 * local.accuracy * local.length[:n0] * far.sum(2)
        self.deviation = self.longest * self.sigma[:, None]
        self.alpha = torch.special.ndtr(self.centre / self.deviation).clamp(0.0, 1.0)
        # the units with their exact norms differ from those with norms `longest` by this much on G
        ratio = self.longest / self.shortest
        self.doubt = local.error[:n0] + (self.longest - self.shortest) * ratio * local.radius * (1.0 + gamma(8))
        self.diagonal = torch.full((len(boxes), n0), torch.inf, dtype=torch.float64)
        masks = [tuple(row) for row in split.tolist()]
        for mask in set(masks):
            self.diagonal[[i for i, other in enumerate(masks) if other == mask]] = local.diagonal(mask)
        self.power = self.diagonal / (self.longest * self.longest) * (1.0 + gamma(8))

    def _variance(self) -> Tensor:
        """(L, n0) variances of e_j(z_j), about."""
        x = self.centre / self.deviation
        density = torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
        cdf = torch.special.ndtr(x)
        mean = x * cdf + density
        return ((x * x + 1.0) * cdf + x * density - mean * mean - self.alpha**2).clamp_min(0.0) * self.deviation**2

    def _form(self, rows: _Rows, box: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        """The forms of (box, row) pairs (Q,): constants, norms, coefficients g (Q, n0), inner products with units."""
        local, n0 = self.local, self.first.stop
        g = rows.read[box, row, :n0]
        linear = rows.linear[box, row][:, None]
        linear[:, 0, :n0] = g * self.alpha[box]
        own = (rows.own.expand(rows.middle.shape)[box, row])[:, None]
        sign = (rows.sign.expand(rows.middle.shape)[box, row])[:, None]
        middle = (rows.before[box, row] + linear[:, 0, :n0] @ local.constant[:n0])[:, None]
        met = g.abs() @ local.magnitude[:n0]
        doubt = rows.doubt[box, row] + (g.abs() * self.doubt[box]).sum(1) + gamma(n0 + 8) * met
        boxes = self.boxes[box]
        form = _Rows(middle, middle, doubt[:, None] * (1.0 + gamma(n0 + 8)), linear, linear, own, sign)
        least, _, norm, components = local.over(boxes, form)
        n = linear.shape[2]
        inner = linear[:, 0] @ local.gram[:n, :n0] + sign * local.gram[own[:, 0], :n0]
        inner = inner - (components * self.components[box] * boxes.split[:, None]).sum(2)
        spread = linear[:, 0].abs() @ local.length[:n] + local.length[own[:, 0]]
        off = 4.0 * local.accuracy * spread[:, None] * local.length[:n0]
        off = off + norm * (self.longest - self.shortest)[box]
        return least[:, 0], norm[:, 0], g, inner, off

    def _log_moment(
        self, form: tuple[Tensor, ...], box: Tensor, rate: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        """log kappa E exp(-rate F), rounded up, (Q,)."""
        least, norm, g, inner, off = form
        n0 = self.first.stop
        alpha, deviation, power = self.alpha[box], self.deviation[box], self.power[box]
        variance = (self.sigma[box] ** 2)[:, None]
        moved = rate[:, None] * variance
        mean = self.centre[box] - moved * inner
        half = (self.spread[box] + moved * off) * (1.0 + gamma(16)) + gamma(16) * (mean.abs() + moved * inner.abs())
        theta = -power * rate[:, None] * g
        rising = g < 0
        first, _ = log_moment(theta, alpha, torch.where(rising, mean - half, mean), deviation)
        second, slope = log_moment(theta, alpha, torch.where(rising, mean + half, mean), deviation)
        value = torch.where(rising, torch.maximum(first, second), second + slope.abs() * half * (1.0 + gamma(16)))
        value = value / power * torch.where(value > 0, 1.0 + gamma(8), 1.0 - gamma(8))
        most = torch.maximum((1.0 - alpha) * high[box, :n0], -alpha * low[box, :n0]).clamp_min(0.0)
        most = torch.where(rising, rate[:, None] * g.abs() * most, 0.0) * (1.0 + gamma(8))
        value = torch.minimum(torch.where(value.isnan(), torch.inf, value), most)
        linear = -rate * least + 0.5 * (rate * norm) ** 2 * variance[:, 0]
        size = (rate * least).abs() + (rate * norm) ** 2 * variance[:, 0] + value.abs().sum(1)
        total = linear + value.sum(1) + self.log_kappa[box] + gamma(n0 + 32) * (size + 1.0)
        return torch.where(total.isnan(), torch.inf, total)

    def levels(
        self, rows: _Rows, box: Tensor, row: Tensor, low: Tensor, high: Tensor, log_each: Tensor
    ) -> Tensor:
        """Lower bounds (Q,) on forms, each failing with probability at most `log_each` (L, R)."""
        form = self._form(rows, box, row)
        log_each = log_each[box, row]
        deviation = self._deviation(form, box)
        best = torch.full_like(deviation, -torch.inf)
        for factor in (0.75, 1.0):
            rate = factor * (-2.0 * log_each).sqrt() / deviation
            moment = self._log_moment(form, box, rate, low, high)
            level = (log_each - moment) / rate
            level = level - gamma(8) * ((log_each.abs() + moment.abs()) / rate) - VALUE_SLACK
            best = torch.maximum(best, torch.where(level.isnan(), -torch.inf, level))
        return best

    def _deviation(self, form: tuple[Tensor, ...], box: Tensor) -> Tensor:
        """Standard deviations (Q,) of forms, about."""
        _, norm, g, _, _ = form
        noise = (g * g * self.power[box] * self._variance()[box]).sum(1)
        return (norm * norm * self.sigma[box] ** 2 + noise).sqrt().clamp_min(1e-290)

    def tails(self, rows: _Rows, low: Tensor, high: Tensor) -> Tensor:
        """Upper bounds on log P(form <= 0), (L, R)."""
        shape = rows.middle.shape
        box, row = torch.ones(shape, dtype=torch.bool).nonzero(as_tuple=True)
        form = self._form(rows, box, row)
        deviation = self._deviation(form, box)
        least, _, g, _, _ = form
        x = self.centre / self.deviation
        mean_e = self.deviation * (x * torch.special.ndtr(x) + torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)) - self.alpha * self.centre
        mean = least + (g * mean_e[box]).sum(1)
        best = torch.zeros_like(deviation)
        for factor in (0.5, 0.7, 0.85, 1.0):
            rate = factor * mean.clamp_min(1e-9 * deviation) / deviation**2
            best = torch.minimum(best, self._log_moment(form, box, rate, low, high))
        return best.reshape(shape)


def localise(problem: Problem, size: Tensor, height: float, t: float) -> Local | None:
    """The network near one input, on the event that the units' linear bounds hold up to a height.

    Args:
        problem: of one input; size: (1,) eps or sigma.
        height: in units of the size; t: of the Gaussian's support.

    Returns:
        None where the bounds overflow.
    """
    noise, network = problem.noise.resized(size.item()), problem.network
    around = support(problem, size, t)
    reach = torch.minimum(height * size * (1.0 + gamma(4)), around.radius)
    relaxation, used = relaxed_units(problem, around, reach)
    price = noise.standard_log_tail(quotient_down(reach, size), problem.m, rounding="up") + used.log()
    price = torch.where((used > 0) & price.isfinite(), price + gamma(8) * (1.0 + price.abs()), -torch.inf)
    missed = log_sum_up(torch.stack([price, torch.full_like(price, around.log_missed)], 1)).item()
    unstable = {i: (low < 0) & (high > 0) for i, (low, high) in relaxation.intervals.items()}
    kept = {i: mask[0] for i, mask in unstable.items() if mask.any()}
    counts = [int(mask.sum()) for mask in kept.values()]
    total = sum(counts)
    groups = tuple(slice(end - n, end) for n, end in zip(counts, itertools.accumulate(counts), strict=True))
    place = dict(zip(kept, groups, strict=True))
    forms = []
    for i, mask in kept.items():
        feeder = network.nodes[i].inputs[0]
        rows = torch.eye(mask.numel(), dtype=torch.float64)[mask.flatten()]
        forms.append(relaxation.forms(feeder, rows.reshape(1, -1, *network.shape(feeder)), kept))
    forms.append(relaxation.forms(*margin_rows(problem), kept))
    weight = torch.zeros(total + forms[-1].constant.shape[1], total, dtype=torch.float64)
    for form, rows in zip(forms, [*groups, slice(total, len(weight))], strict=True):
        for i, coefficients in form.activations.items():
            weight[rows, place[i]] = coefficients[0]
    normal = torch.cat([form.normal[0] for form in forms])
    norm = normal.norm(dim=1) * (1.0 + gamma(normal.shape[1] + 4))
    doubt = torch.cat([form.normal_error[0] + form.accuracy * n for form, n in zip(forms, norm.split([len(f.constant[0]) for f in forms]), strict=True)])
    radius = around.radius.item()
    error = (torch.cat([form.error[0] for form in forms]) + doubt * radius) * (1.0 + gamma(8))
    ends = [torch.cat([relaxation.intervals[i][k][0][mask] for i, mask in kept.items()]) if kept else torch.zeros(0).double() for k in (0, 1)]
    local = Local(noise, problem.m, groups, normal, torch.cat([form.constant[0] for form in forms]), error, weight, *ends, radius, missed, torch.zeros(normal.shape[1], 0).double(), 0.0)
    known = all(t.isfinite().all() for t in (local.magnitude, local.gram, local.length))
    return local if known else None
