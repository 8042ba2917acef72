"""Lines: linear bounds on the margins of an event over many cuboids of the noise, pulled back through the network.

With t in [-1, 1]^m the place within a cuboid, margin >= a.t + c and -margin >= a'.t + c'. Ranges of the units come
from zonotopes; rows are pulled back for all cuboids at once (`proofs.relaxation`), to the inputs and from these to t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from calotte.network.affine import Affine
from calotte.network.enclosure import magnitude_pass
from calotte.network.graph import Network
from calotte.network.margins import Margins
from calotte.proofs.cuboids.zonotopes import Swept
from calotte.proofs.relaxation.lines import relaxed_lines
from calotte.proofs.relaxation.pulling import pull_back
from calotte.proofs.relaxation.reach import doubts_of_map, doubts_of_relu
from calotte.proofs.relaxation.windows import Fields, Pulled, Rows, Whole, by_channel, offsets, weighed
from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["Lines", "margin_lines"]


@dataclass(frozen=True)
class Lines:
    """Functions normal . t + constant of the place t within L cuboids, below C margins and their negatives.

    Attributes:
        normal: (L, 2, C, m), exact; constant: (L, 2, C); NaN where nothing is known.
        shares: (L, C, m) what the coordinates of the noise contribute to the distance between both sides, roughly.
    """

    normal: Tensor
    constant: Tensor
    shares: Tensor


@dataclass(frozen=True)
class OverCuboids:
    """What rows meet in a network swept over L cuboids, as `relaxation.pulling.Met`; they end at its inputs."""

    network: Network
    swept: Swept
    stop: int = 0

    @cached_property
    def bounds(self) -> Mapping[int, Tensor]:
        """node -> (L, *shape) bounds on the magnitudes of its values."""
        return {i: t.reshape(-1, *self.network.shape(i)) for i, t in self.swept.magnitude.items()}

    def prices(self, i: int) -> Tensor:
        return by_channel(self.bounds[i], 1)

    def fields(self, i: int) -> Fields:
        op, read = self.network.nodes[i].op, [self.bounds[j] for j in self.network.nodes[i].inputs]
        if isinstance(op, Affine):
            values = tuple(t.expand(read[0].shape[:1] + t.shape) for t in offsets(op))
            return Fields(values, doubts_of_map(op, magnitude_pass(op, VALUE_SLACK, *read)), read, sides=True)
        low, high = (t.reshape(read[0].shape) for t in (self.swept.bent[i].low, self.swept.bent[i].high))
        lines = relaxed_lines(low, high)
        doubts = doubts_of_relu(lines[2], high, read[0], self.network.size(i))
        return Fields(lines, doubts, read, sides=True)

    def through_layer(self, *_: object) -> None:
        """As of `Met`: cuboids have lines of their own."""


def margin_lines(network: Network, margins: Margins, swept: Swept) -> Lines:
    """Linear bounds on margins, from both sides, over the cuboids that a network was swept over."""
    rows, constants = margins.rows[0], margins.constants[0]
    count, sides, m = len(swept.start.centre), 2 * len(rows), len(swept.start.generators)
    each = (
        torch.cat([rows, -rows])
        .reshape(sides, *network.shape(network.last))
        .expand(count, sides, *network.shape(network.last))
    )
    constant = torch.cat([constants, -constants]).expand(count, sides)
    shares = torch.zeros(count, sides, m, dtype=torch.float64)

    def told(i: int, rows: Rows, fields: Fields) -> None:
        intercept = fields.values[2].flatten(1)
        shares.add_((rows.entries.flatten(2).abs() * intercept[:, None]) @ directions(swept.bent[i].directions))

    met = OverCuboids(network, swept)
    return at_places(pull_back(met, network.last, Whole(each), constant, {}, told=told), swept, shares)


def at_places(pulled: Pulled, swept: Swept, shares: Tensor) -> Lines:
    """From rows (L, 2 C, *shape) of the inputs to functions of the place; shares: (L, 2 C, m)."""
    before, (count, sides) = pulled.constant, pulled.constant.shape
    centre, generators = swept.start.centre.flatten(1), swept.start.generators.flatten(2)
    flat = pulled.rows.entries.flatten(2)
    constant = before + weighed(flat, centre)
    normal = flat @ generators.permute(1, 2, 0)
    met = dot_error(centre.abs() + swept.start.spread.flatten(1), centre.shape[1] + len(generators) + 8)
    lost = VALUE_SLACK * (1.0 + swept.magnitude[0].sum(1, keepdim=True))
    error = pulled.error + weighed(flat.abs(), swept.start.error.flatten(1) + met) + lost
    error = raised(error + dot_error(before.abs() + constant.abs(), 4), centre.shape[1] + 16)
    constant = constant - raised(error, 4)
    below, above = shares.reshape(count, 2, sides // 2, -1).unbind(1)
    return Lines(
        normal.reshape(count, 2, sides // 2, -1),
        torch.nextafter(constant, torch.full_like(constant, -torch.inf)).reshape(count, 2, -1),
        below + above,
    )


def directions(each: Tensor) -> Tensor:
    """(L, n, m) the shares of coordinates in what moves each unit, of (m, L, n)."""
    size = each.abs().permute(1, 2, 0)
    return size / size.sum(2, keepdim=True).clamp_min(1e-300)
