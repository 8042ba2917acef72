"""Regions: where the noise is taken to be, boxes or balls; what rows of a local network are there, and how likely.

A region bounds some part of the noise u and leaves a part v of it free: a row a.u + c is at least `least` + a'.v, a'
the part of a that v meets. All that is proved of units and margins over a region follows from that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from calotte.proofs.local.boxes import Boxes, log_tail_up
from calotte.proofs.local.network import LocalNetwork, Products
from calotte.proofs.relaxation.triangular import UnitRows
from calotte.rounding import NORM_SLACK, UNIT_ROUNDOFF, VALUE_SLACK, dot_error, lowered, raised

__all__ = ["InBalls", "InBoxes", "Region", "Rest"]


@dataclass(frozen=True)
class Rest:
    """What L regions leave of R rows: values of at least least + a'.v.

    Attributes:
        least: (L, R) rounded down; shortest, longest: (L, R) bounds on ||a'||.
        components: (L, R, K) of the rows along the directions of boxes, as computed.
    """

    least: Tensor
    shortest: Tensor
    longest: Tensor
    components: Tensor

    def less(self, taken: Tensor) -> Rest:
        """The same of values less than these by `taken` (L, R)."""
        least = self.least - taken
        least = least - dot_error(self.least.abs() + taken, 4)
        return replace(self, least=torch.where(least.isnan(), -torch.inf, least))

    def lowest(self, reach: Tensor) -> Tensor:
        """Lower bounds (L, R) on values where a'.v >= -reach ||a'||, reach broadcast to (L, R); rounded down."""
        value = self.least - raised(reach * self.longest, 8)
        value = value - dot_error(self.least.abs() + value.abs(), 8) - VALUE_SLACK
        return torch.where(value.isnan(), -torch.inf, value)


class Region(Protocol):
    """L regions of the noise near an input, in units of its size.

    Attributes:
        local: the network there.
        farthest: (L,) bound on ||v||; inf where there is none.
    """

    @property
    def local(self) -> LocalNetwork: ...

    @property
    def farthest(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def rest(self, rows: UnitRows) -> Rest:
        """What is left of rows."""

    def log_tail(self, rest: Rest) -> Tensor:
        """Upper bounds (L, R) on log P(value <= 0), given the region."""

    def log_beyond(self, height: Tensor) -> Tensor:
        """Upper bounds, as height (L, ...), on log P(e.v >= height), e of length 1, given the region."""

    def log_measure(self) -> Tensor:
        """Upper bounds (L,) on the logarithm of the probability of the region."""


@dataclass(frozen=True)
class InBoxes:
    """Boxes: v is the noise across the directions that they bound."""

    local: LocalNetwork
    boxes: Boxes

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def radii(self) -> tuple[Tensor, Tensor]:
        """Bounds (L,) on the radius of v; 1 and 1 for a Gaussian."""
        return self.boxes.radii(self.local.noise)

    @cached_property
    def left(self) -> Tensor:
        """(L,) dimensions of v."""
        return self.boxes.left(self.local.m)

    @property
    def farthest(self) -> Tensor:
        largest = self.radii[1]
        return largest if self.local.noise.bounded else torch.full_like(largest, torch.inf)

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """The lower and upper ends (L, K) of the boxes on G; 0 where not split."""
        split, span = self.boxes.split, self.local.span
        low, high = (torch.where(split, t.clamp(-span, span), 0.0) for t in (self.boxes.low, self.boxes.high))
        return low, high

    @cached_property
    def half_widths(self) -> Tensor:
        """(L, K) half of the boxes' widths; 0 where not split."""
        a, b = self.ends
        return raised((b - a) / 2, 8)

    def rest(self, rows: UnitRows) -> Rest:
        return self.rest_of(rows.constant, self.local.products(rows))

    def rest_of(self, constant: Tensor, products: Products) -> Rest:
        """What is left of functions a.u + c, from constants (L, R), rounded down, and the products of the a."""
        local, components, spread = self.local, products.components, products.spread
        split = self.boxes.split.to(torch.float64)[:, None]
        squared = products.squared - (components * components * split).sum(2)
        error = raised(local.accuracy * spread * spread, len(local.constant) + 8)
        largest = (squared.clamp_min(0.0) + 4.0 * error).sqrt() * (1.0 + 4 * UNIT_ROUNDOFF) + NORM_SLACK
        largest = torch.where(squared.isfinite(), largest, torch.inf)
        smallest = (squared - 4.0 * error).clamp_min(0.0).sqrt() * (1.0 - 4 * UNIT_ROUNDOFF) - NORM_SLACK
        smallest = torch.where(squared.isfinite(), smallest.clamp_min(0.0), 0.0)
        a, b = (t[:, None] for t in self.ends)
        moved = torch.minimum(components * a, components * b)
        far = torch.maximum(a.abs(), b.abs())
        added = dot_error((components.abs() * far).sum(2), self.boxes.low.shape[1] + 8)
        slack = local.accuracy * spread * far.sum(2) + added + VALUE_SLACK * far.sum(2)
        least = constant + moved.sum(2)
        least = least - 2.0 * slack - dot_error(constant.abs() + least.abs(), 8) - VALUE_SLACK
        return Rest(torch.where(least.isnan(), -torch.inf, least), smallest, largest, components)

    def log_tail(self, rest: Rest) -> Tensor:
        positive = rest.least >= 0
        heights = rest.least / torch.where(positive, rest.longest, rest.shortest)
        heights = torch.where(positive, lowered(heights, 8), -raised(-heights, 8))
        heights = torch.where(heights.isnan(), -torch.inf, heights)
        return log_tail_up(self.local.noise, heights, *self.radii, self.left)

    def log_beyond(self, height: Tensor) -> Tensor:
        return log_tail_up(self.local.noise, height, *self.radii, self.left)

    def log_measure(self) -> Tensor:
        return self.boxes.log_measure(self.local.noise, self.local.m)


@dataclass(frozen=True)
class InBalls:
    """Balls around points: v is what the noise is away from the point, and its law is not asked for.

    Attributes:
        points: (L, n) in the system of `local.normal`; farthest: (L,) radii. Both in units of the noise's size.
    """

    local: LocalNetwork
    points: Tensor
    farthest: Tensor

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def values(self) -> Tensor:
        """(L, N + C) a_i.y at the points y."""
        return self.points @ self.local.normal.t()

    def rest(self, rows: UnitRows) -> Rest:
        local, values, products = self.local, self.values, self.local.products(rows)
        everywhere = InBoxes(local, Boxes.whole(local.directions.shape[1]).repeated(len(self)))
        whole = everywhere.rest_of(rows.constant, products)
        n, m = rows.linear.shape[2], self.points.shape[1]
        moved = (rows.linear @ values[:, :n, None])[:, :, 0] + rows.sign * values[:, rows.own]
        far = raised(self.points.norm(dim=1)[:, None], m + 4)
        moved = moved - raised(dot_error(products.spread, n + m + 16) * far, n + 8)
        moved = moved - dot_error(whole.least.abs() + moved.abs(), 4)
        return Rest(whole.least + moved, whole.shortest, whole.longest, whole.components)

    def log_tail(self, rest: Rest) -> Tensor:
        return torch.where(rest.lowest(self.farthest[:, None]) > 0, -torch.inf, 0.0)

    def log_beyond(self, height: Tensor) -> Tensor:
        return torch.where(height > self.farthest.reshape(-1, *[1] * (height.ndim - 1)), -torch.inf, 0.0)

    def log_measure(self) -> Tensor:
        return torch.zeros_like(self.farthest)
