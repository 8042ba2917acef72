"""Tails of forms over the first group's activations, by exponential moments, for many boxes of the noise at once."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from calotte.bounds.boxes import Boxes
from calotte.bounds.evaluation import Rows
from calotte.bounds.moments import dominating_diagonal, gaussian_comparison, log_moment
from calotte.rounding import VALUE_SLACK, gamma

if TYPE_CHECKING:
    from calotte.bounds.local import Local

__all__ = ["Moments"]


class Moments:
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
        rows = bare_units(local, n0, len(boxes))
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
            self.diagonal[[i for i, other in enumerate(masks) if other == mask]] = diagonal(local, mask)
        self.power = self.diagonal / (self.longest * self.longest) * (1.0 + gamma(8))

    @cached_property
    def bends(self) -> tuple[Tensor, Tensor]:
        """(L, n0) means and variances of e_j(z_j), about."""
        x = self.centre / self.deviation
        density = torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
        cdf = torch.special.ndtr(x)
        mean = x * cdf + density
        variance = (x * x + 1.0) * cdf + x * density - mean * mean - self.alpha**2
        return self.deviation * mean - self.alpha * self.centre, variance.clamp_min(0.0) * self.deviation**2

    def _form(self, rows: Rows, box: Tensor, row: Tensor) -> tuple[Tensor, ...]:
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
        form = Rows(middle, middle, doubt[:, None] * (1.0 + gamma(n0 + 8)), linear, linear, own, sign)
        least, _, norm, components = local.over(boxes, form)
        n = linear.shape[2]
        inner = linear[:, 0] @ local.gram[:n, :n0] + sign * local.gram[own[:, 0], :n0]
        inner = inner - (components * self.components[box] * boxes.split[:, None]).sum(2)
        spread = linear[:, 0].abs() @ local.length[:n] + local.length[own[:, 0]]
        off = 4.0 * local.accuracy * spread[:, None] * local.length[:n0]
        off = off + norm * (self.longest - self.shortest)[box]
        return least[:, 0], norm[:, 0], g, inner, off

    def _log_moment(self, form: tuple[Tensor, ...], box: Tensor, rate: Tensor, low: Tensor, high: Tensor) -> Tensor:
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
        self, rows: Rows, box: Tensor, row: Tensor, low: Tensor, high: Tensor, log_each: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Lower bounds (Q,) on forms that fail with probability at most `log_each` (L, R), and bounds on
        log P(form <= 0)."""
        form = self._form(rows, box, row)
        log_each = log_each[box, row]
        deviation = self._deviation(form, box)
        best, log_sign = torch.full_like(deviation, -torch.inf), torch.zeros_like(deviation)
        for factor in (0.75, 1.0):
            rate = factor * (-2.0 * log_each).sqrt() / deviation
            moment = self._log_moment(form, box, rate, low, high)
            level = (log_each - moment) / rate
            level = level - gamma(8) * ((log_each.abs() + moment.abs()) / rate) - VALUE_SLACK
            best = torch.maximum(best, torch.where(level.isnan(), -torch.inf, level))
            log_sign = torch.minimum(log_sign, moment)
        return best, log_sign

    def _deviation(self, form: tuple[Tensor, ...], box: Tensor) -> Tensor:
        """Standard deviations (Q,) of forms, about."""
        _, norm, g, _, _ = form
        noise = (g * g * self.power[box] * self.bends[1][box]).sum(1)
        return (norm * norm * self.sigma[box] ** 2 + noise).sqrt().clamp_min(1e-290)

    def tails(self, rows: Rows, low: Tensor, high: Tensor) -> Tensor:
        """Upper bounds on log P(form <= 0), (L, R)."""
        shape = rows.middle.shape
        box, row = torch.ones(shape, dtype=torch.bool).nonzero(as_tuple=True)
        form = self._form(rows, box, row)
        deviation = self._deviation(form, box)
        least, _, g, _, _ = form
        mean = least + (g * self.bends[0][box]).sum(1)
        best = torch.zeros_like(deviation)
        for factor in (0.5, 0.7, 0.85, 1.0):
            rate = factor * mean.clamp_min(1e-9 * deviation) / deviation**2
            best = torch.minimum(best, self._log_moment(form, box, rate, low, high))
        return best.reshape(shape)


def diagonal(local: Local, mask: tuple[bool, ...]) -> Tensor:
    """(n0,) P of `dominating_diagonal` for the first group, the split directions left out; inf where unknown."""
    if mask not in local.diagonals:
        first = local.groups[0] if local.groups else slice(0, 0)
        along = local.components[first] * torch.tensor(mask, dtype=torch.float64)
        gram = local.gram[first, first] - along @ along.t()
        # the units are taken as long as `longest`: A becomes A + H, and its Gram matrix at most
        # (1 + t) A A' + (1 + 1/t) H H', t = 1e-9
        shortest, longest = norms(local, mask)
        squares = (local.length[first] ** 2).sum() * (8.0 * local.accuracy + 1.1e-9)
        doubt = (squares + 1.1e9 * ((longest - shortest) ** 2).sum()).item()
        norm = gram.diagonal().clamp_min(1e-300).sqrt() * local.noise.size / math.sqrt(local.m)
        x = local.constant[first] / norm
        weight = (local.weight[:, first] ** 2).sum(0) * norm**2 * torch.exp(-0.5 * x * x)
        found = dominating_diagonal(gram, weight, doubt) if len(x) else None
        local.diagonals[mask] = torch.full_like(x, torch.inf) if found is None else found
    return local.diagonals[mask]


def norms(local: Local, mask: tuple[bool, ...]) -> tuple[Tensor, Tensor]:
    """(n0,) bounds on the norms of the first group's units, the split directions left out."""
    n0 = local.groups[0].stop if local.groups else 0
    end = torch.where(torch.tensor(mask, dtype=torch.bool), 0.0, torch.inf).double()[None]
    _, shortest, longest, _ = local.over(Boxes(-end, end), bare_units(local, n0, 1))
    return shortest[0], longest[0]


def bare_units(local: Local, n0: int, count: int) -> Rows:
    """The first n0 units, as they are, over `count` boxes."""
    one = torch.ones(n0, dtype=torch.float64)
    empty = torch.zeros(count, n0, 0, dtype=torch.float64)
    bare = local.constant[:n0].expand(count, -1)
    return Rows(bare, bare, torch.zeros_like(bare), empty, empty, torch.arange(n0), one)
