"""Small networks: what is left of a network over a cuboid where few units may change sign, for all cuboids within it.

There every other unit is affine or zero, so that with t in [-1, 1]^m the place in the cuboid, and z_1, z_2, ... the
units that may change sign, each divided by the largest value that it may have,

    z_v = c_v + g_v . t + sum over u < v of w_vu relu(z_u),    and margins likewise,

but for what is rounded. All factors lie in [-1, 1], so that an error in a coefficient counts as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.network.affine import Affine, Dense
from calotte.network.graph import Node
from calotte.proofs.cuboids.cuboids import Cuboids
from calotte.proofs.cuboids.lines import Lines
from calotte.proofs.cuboids.zonotopes import Swept, Zonotopes, through
from calotte.proofs.relaxation.lines import relaxed_lines
from calotte.proofs.relaxation.triangular import Triangular, sums
from calotte.query import Query
from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["SmallNetworks", "reduced", "within"]


@dataclass(frozen=True)
class SmallNetworks:
    """K networks of at most U units and C margins, in rows one after the other.

    Attributes:
        cuboids: K, over which they hold; units: (K,) how many each has.
        coefficient: (K, U + C, m + U) of t and of the units' activations.
        constant, error: (K, U + C), the latter what a row may be off by.
    """

    cuboids: Cuboids
    units: Tensor
    coefficient: Tensor
    constant: Tensor
    error: Tensor

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, some: Tensor) -> SmallNetworks:
        parts = (self.units, self.coefficient, self.constant, self.error)
        return SmallNetworks(self.cuboids[some], *(t[some] for t in parts))

    @staticmethod
    def joined(each: Sequence[SmallNetworks]) -> SmallNetworks:
        """Those of all, one after the other."""
        cuboids = Cuboids(torch.cat([one.cuboids.low for one in each]), torch.cat([one.cuboids.high for one in each]))
        parts = zip(*((one.units, one.coefficient, one.constant, one.error) for one in each), strict=True)
        return SmallNetworks(cuboids, *(torch.cat(part) for part in parts))


def reduced(query: Query, found: Swept, cuboids: Cuboids, most: int) -> SmallNetworks:
    """The small networks of cuboids over which a network was swept and at most so many units may change sign."""
    network, margins = query.network, query.margins
    count, m = len(cuboids), cuboids.low.shape[1]
    rows = most + len(margins.rows[0])
    coefficient = torch.zeros(count, rows, m + most, dtype=torch.float64)
    constant, error = (torch.zeros(count, rows, dtype=torch.float64) for _ in range(2))
    units = torch.zeros(count, dtype=torch.int64)

    def note(values: Zonotopes, at: tuple[Tensor, ...], row: Tensor, limit: Tensor) -> None:
        """Divide values (cuboid, unit) `at` by their limits, and write them in rows."""
        given = values.generators.flatten(2)[:, at[0], at[1]]
        middle, off = values.centre.flatten(1)[at], values.error.flatten(1)[at]
        met = (middle.abs() + given.abs().sum(0)) / limit
        coefficient[at[0], row, : len(given)] = (given / limit).t()
        constant[at[0], row] = middle / limit
        error[at[0], row] = raised(off / limit + dot_error(met, m + most + 8) + VALUE_SLACK, 8)

    def step(i: int, node: Node, below: list[Zonotopes]) -> Zonotopes:
        if isinstance(node.op, Affine):
            return through(node.op, *below)
        x, bent = below[0].padded(m + most), found.bent[i]
        loose, active = bent.loose, (bent.low >= 0).reshape(below[0].centre.shape)
        at = loose.nonzero(as_tuple=True)
        row = (units[:, None] + loose.cumsum(1) - 1)[at]
        units.add_(loose.sum(1))
        note(x, at, row, bent.high[at])
        generators = torch.where(active, x.generators, 0.0).flatten(2)
        generators[m + row, *at] = bent.high[at]
        centre, off = (torch.where(active, t, 0.0) for t in (x.centre, x.error))
        return Zonotopes(centre, generators.reshape(x.generators.shape), off)

    last = network.swept(found.start, step)
    outputs = Zonotopes(last.centre.flatten(1), last.generators.flatten(2), last.error.flatten(1))
    forms = through(Dense(margins.rows[0], margins.constants[0]), outputs)
    every = torch.ones_like(forms.centre, dtype=torch.bool).nonzero(as_tuple=True)
    note(forms, every, most + every[1], torch.ones(len(every[0]), dtype=torch.float64))
    return SmallNetworks(cuboids, units, coefficient, constant, error)


def places_within(cuboids: Cuboids, parts: Cuboids) -> tuple[Tensor, Tensor, Tensor]:
    """Middle, half-width and what both are off by together (m, K), of parts of cuboids, in places of these."""
    width = cuboids.high - cuboids.low
    middle = ((parts.low + parts.high) - (cuboids.low + cuboids.high)) / width
    half = (parts.high - parts.low) / width
    met = parts.low.abs() + parts.high.abs() + cuboids.low.abs() + cuboids.high.abs()
    off = dot_error(raised(met, 8) / width + middle.abs() + half, 16)
    return middle.t(), half.t(), off.t()


def within(small: SmallNetworks, parts: Cuboids) -> Lines:
    """Linear bounds on the margins of small networks over one part of each of their cuboids, from both sides.

    K varies fastest in memory.
    """
    m, most = parts.low.shape[1], small.coefficient.shape[2] - parts.low.shape[1]
    n, margins = int(small.units.max()), small.coefficient.shape[1] - most
    rows = torch.cat([torch.arange(n), torch.arange(most, most + margins)])
    coefficient = small.coefficient[:, rows, : m + n].permute(1, 2, 0).contiguous()
    constant, error = (t[:, rows].t() for t in (small.constant, small.error))
    of_place, weight = coefficient[:, :m], coefficient[:, m:]
    middle, half, off = places_within(small.cuboids, parts)
    met = constant.abs() + (of_place.abs() * (middle.abs() + half)).sum(1) + weight.abs().sum(1)
    error = error + (of_place.abs() * off).sum(1) + dot_error(met, 2 * (m + n) + 16)
    error, met = raised(error, m + n + 16) + VALUE_SLACK, raised(met + error, m + n + 16)
    middles, spans = constant + (of_place * middle).sum(1), of_place * half
    low, high, generators = ranges(n, middles, spans, weight, error)
    lines = torch.stack(relaxed_lines(low, high))
    one, each = torch.ones(margins, dtype=torch.float64), [slice(v, v + 1) for v in range(n)]
    units = Triangular(
        each, [[slice(0, v)] for v in range(n)], weight.permute(2, 0, 1), middles.t(), error.t(), 4.0 * met.t()
    )
    found = units.pull_back(torch.arange(n, n + margins).repeat(2), torch.cat([one, -one]), lines.transpose(1, 2))
    normal, shares = torch.cat([spans[n:], -spans[n:]]), torch.zeros(2 * margins, m, len(parts), dtype=torch.float64)
    read, linear = (t.permute(1, 2, 0) for t in (found.read, found.linear))
    for v in range(n):
        normal += linear[:, v, None] * spans[v]
        shares += (read[:, v].abs() * lines[2, v])[:, None] * generators[v]
    size = sums(found.linear.abs(), met[:n].t()) + met[n:].t().repeat(1, 2)
    level = found.constant - raised(dot_error(size, 4 * (n + 4)) + VALUE_SLACK, 8)
    level = torch.nextafter(level, torch.full_like(level, -torch.inf))
    count = len(parts)
    normal, level = normal.permute(2, 0, 1).reshape(count, 2, margins, m), level.reshape(count, 2, margins)
    return Lines(normal, level, shares.permute(2, 0, 1).reshape(count, 2, margins, m).sum(1))


def ranges(n: int, middles: Tensor, spans: Tensor, weight: Tensor, error: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ends (n, K) between which n units lie, found forwards by zonotopes; (n, m, K) what coordinates do there."""
    m, count = spans.shape[1:]
    centre, off, size = (torch.zeros(n, count, dtype=torch.float64) for _ in range(3))
    generators = torch.zeros(n, m + n, count, dtype=torch.float64)
    low, high, shares = torch.zeros_like(centre), torch.zeros_like(centre), torch.zeros(n, m, count).double()
    for v in range(n):
        w = weight[v, :v]
        here = middles[v] + (w * centre[:v]).sum(0)
        given = (w[:, None] * generators[:v]).sum(0)
        given[:m] += spans[v]
        spread = given.abs().sum(0)
        met = middles[v].abs() + spread + (w.abs() * size[:v]).sum(0)
        doubt = error[v] + (w.abs() * off[:v]).sum(0)
        doubt = raised(doubt + dot_error(raised(met, m + 2 * n + 16), m + 2 * n + 16), m + 2 * n + 16)
        wide = raised(spread + doubt, m + n + 8)
        wide = wide + dot_error(here.abs() + wide, 4) + VALUE_SLACK
        low[v], high[v] = here - wide, here + wide
        loose = ~((low[v] >= 0) | (high[v] <= 0))
        slope = torch.where(loose, (high[v] / (high[v] - low[v])).clamp(0.0, 1.0), (low[v] >= 0).double())
        gap = torch.maximum(-slope * low[v], (1.0 - slope) * high[v]) / 2
        gap = torch.where(loose, raised(gap, 4) + VALUE_SLACK, 0.0)
        centre[v] = torch.where(slope == 0, 0.0, slope * here) + gap
        generators[v] = torch.where(slope == 0, 0.0, slope * given)
        generators[v, m + v] = gap
        rounded = torch.where(loose, dot_error(here.abs() + spread + gap, 16) + VALUE_SLACK, 0.0)
        off[v] = raised(torch.where(slope == 0, 0.0, slope * doubt) + rounded, 4)
        size[v] = centre[v].abs() + raised(generators[v].abs().sum(0), m + n + 8) + off[v]
        shares[v] = given[:m].abs() / given[:m].abs().sum(0).clamp_min(1e-300)
    return low, high, shares
