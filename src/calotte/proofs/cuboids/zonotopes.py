"""Zonotopes: what values of a network lie in over many cuboids of the noise, found forwards.

Every value is c + sum_k g_k t_k up to an error e, |t_k| <= 1: a t for each coordinate of the noise, and one for each
of the ReLUs that bend most, as between two lines of one slope (Singh et al., Fast and effective robustness
certification, NeurIPS 2018). What others bend, and what is rounded, is added to e.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from calotte.network.affine import Affine, Dense
from calotte.network.enclosure import magnitude_pass
from calotte.network.graph import Node
from calotte.noise import Noise
from calotte.proofs.cuboids.cuboids import Cuboids
from calotte.query import Query
from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["Bent", "Swept", "Zonotopes", "swept"]


@dataclass(frozen=True)
class Zonotopes:
    """Values over L cuboids.

    Attributes:
        centre: (L, *shape) c; generators: (G, L, *shape) g; error: (L, *shape) e.
    """

    centre: Tensor
    generators: Tensor
    error: Tensor

    @cached_property
    def spread(self) -> Tensor:
        """(L, *shape) sums of |g_k|, rounded up."""
        return raised(self.generators.abs().sum(0), len(self.generators) + 2)

    @property
    def range(self) -> tuple[Tensor, Tensor]:
        """Ends (L, *shape) between which the values lie; NaN where nothing is known."""
        wide = raised(self.spread + self.error, 2)
        wide = wide + dot_error(self.centre.abs() + wide, 4) + VALUE_SLACK
        wide = torch.where(self.centre.isfinite() & wide.isfinite(), wide, torch.nan)
        return self.centre - wide, self.centre + wide

    @property
    def magnitude(self) -> Tensor:
        """(L, n) bounds on the absolute values; NaN where nothing is known."""
        low, high = self.range
        return torch.maximum(-low, high).flatten(1)

    def padded(self, generators: int) -> Zonotopes:
        """The same with as many generators, the new ones zero."""
        more = generators - len(self.generators)
        zero = torch.zeros(more, *self.centre.shape, dtype=torch.float64)
        return Zonotopes(self.centre, torch.cat([self.generators, zero]), self.error) if more else self


@dataclass(frozen=True)
class Bent:
    """What a ReLU node takes over L cuboids: low, high (L, n) ends of each unit's range, NaN where nothing is known.

    Attributes:
        directions: (m, L, n) what the coordinates of the noise add to it, roughly.
    """

    low: Tensor
    high: Tensor
    directions: Tensor

    @property
    def loose(self) -> Tensor:
        """(L, n) the units that may change sign, or of which nothing is known."""
        return ~((self.low >= 0) | (self.high <= 0))


@dataclass(frozen=True)
class Swept:
    """A network over L cuboids.

    Attributes:
        start: its inputs; forms: (L, C) the margins, as zonotopes.
        magnitude: node -> (L, n) bounds on the absolute values there; bent: ReLU node -> what it takes.
    """

    start: Zonotopes
    forms: Zonotopes
    magnitude: Mapping[int, Tensor]
    bent: Mapping[int, Bent]

    @property
    def loose(self) -> Tensor:
        """(L,) how many units may change sign."""
        each = [one.loose.sum(1) for one in self.bent.values()]
        return torch.stack([torch.zeros(len(self.start.centre), dtype=torch.int64), *each]).sum(0)


def at_noise(x: Tensor, noise: Noise, size: float, cuboids: Cuboids) -> Zonotopes:
    """The inputs x (d,) + r, r = S u, over cuboids of u."""
    m = cuboids.low.shape[1]
    columns = noise.apply_map(torch.eye(m, dtype=torch.float64), len(x))  # (m, d), exact
    middle = (cuboids.low + cuboids.high) / 2
    half = raised(torch.maximum(cuboids.high - middle, middle - cuboids.low) * size, 4)
    moved = middle * size
    met = x.abs() + moved.abs() @ columns.abs()
    generators = half.t()[:, :, None] * columns[:, None]
    # t is where u lies exactly, and halves are raised
    error = dot_error(raised(met + generators.abs().sum(0), m + 4), m + 16)
    error = torch.where((columns != 0).any(0), error + VALUE_SLACK, 0.0)
    return Zonotopes(x + moved @ columns, generators, error)


def through(op: Affine, *xs: Zonotopes) -> Zonotopes:
    """An affine map of zonotopes."""
    count = max(len(x.generators) for x in xs)
    xs = tuple(x.padded(count) for x in xs)
    shape = (count, len(xs[0].centre), *op.output_shape)
    generators = op.linear(*(x.generators.flatten(0, 1) for x in xs)).reshape(shape)
    doubts = (raised(x.error + dot_error(x.spread + x.centre.abs(), op.terms + 2), 4) for x in xs)
    error = magnitude_pass(op, VALUE_SLACK, *doubts)
    if op.offset is not None:
        error = raised(error + dot_error(op.offset.abs(), op.terms + 2), 4)
    return Zonotopes(op(*(x.centre for x in xs)), generators, error)


def relu(x: Zonotopes, count: int, kept: int) -> Zonotopes:
    """ReLUs of zonotopes, with `kept` generators for those that bend most, after `count` of them.

    On [l, u] with l < 0 < u, 0 <= relu(z) - a z <= max(-a l, (1 - a) u) for every a in [0, 1].
    """
    low, high = x.range
    loose = ~((low >= 0) | (high <= 0))  # where nothing is known too
    slope = torch.where(loose, (high / (high - low)).clamp(0.0, 1.0), (low >= 0).double())
    gap = torch.maximum(-slope * low, (1.0 - slope) * high) / 2
    gap = torch.where(loose, raised(gap, 4) + VALUE_SLACK, 0.0)
    largest, units = gap.flatten(1).topk(kept, dim=1)
    rest = gap.flatten(1).scatter(1, units, 0.0).reshape(gap.shape)
    shape = (kept, *gap.shape)
    fresh = torch.zeros(kept, *gap.flatten(1).shape, dtype=torch.float64)
    fresh = fresh.scatter(2, units.t()[:, :, None], largest.t()[:, :, None]).reshape(shape)
    x = x.padded(count)
    met = slope * (x.centre.abs() + x.spread)
    off = torch.where(loose, dot_error(raised(met, 4) + gap, 4) + VALUE_SLACK * len(x.generators), 0.0)
    error = raised(torch.where(slope == 0, 0.0, slope * x.error) + rest + off, 4)
    centre, generators = (torch.where(slope == 0, 0.0, slope * t) for t in (x.centre, x.generators))
    return Zonotopes(centre + gap, torch.cat([generators, fresh]), error)


def swept(query: Query, size: float, cuboids: Cuboids, kept: int) -> Swept:
    """The network of a query of one input over cuboids of its noise, of that size.

    Args:
        kept: ReLUs of each layer that keep a generator of their own; any number is sound.
    """
    network, margins, m = query.network, query.margins, cuboids.low.shape[1]
    start = at_noise(query.x[0], query.noise, size, cuboids)
    shape = (len(cuboids), *network.input_shape)
    start = Zonotopes(start.centre.reshape(shape), start.generators.reshape(m, *shape), start.error.reshape(shape))
    magnitude = {0: start.magnitude}
    bent: dict[int, Bent] = {}
    count = m

    def step(i: int, node: Node, below: list[Zonotopes]) -> Zonotopes:
        nonlocal count
        if isinstance(node.op, Affine):
            found = through(node.op, *below)
            magnitude[i] = found.magnitude
            return found
        low, high = (t.flatten(1) for t in below[0].range)
        bent[i] = Bent(low, high, below[0].generators[:m].flatten(2))
        magnitude[i] = magnitude[node.inputs[0]]
        own = min(kept, network.size(i))
        found = relu(below[0], count, own)
        count += own
        return found

    last = network.swept(start, step)
    outputs = Zonotopes(last.centre.flatten(1), last.generators.flatten(2), last.error.flatten(1))
    return Swept(start, through(Dense(margins.rows[0], margins.constants[0]), outputs), magnitude, bent)
