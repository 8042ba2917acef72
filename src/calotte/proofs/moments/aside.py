"""Units of the first layer that hardly ever switch, set aside by the units that read them.

A unit Y = A + sum_j W_j r_j reads activations r_j >= 0 of units that are set aside; A, its core, is the rest. The
ReLU is subadditive and increasing, so that for every alpha in [0, 1]

    alpha Y <= relu(Y) <= relu(A) + sum_j max(0, W_j) r_j.

Only relu(A) needs a chord, on the interval of A, which is narrow where that of Y is not; r_j stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calotte.network.affine import Affine
from calotte.network.enclosure import magnitude_pass
from calotte.network.graph import Network
from calotte.proofs.relaxation.backward import Relaxation
from calotte.proofs.relaxation.lines import relaxed_lines
from calotte.proofs.relaxation.reach import doubts_of_relu
from calotte.proofs.relaxation.windows import Fields, Pulled
from calotte.rounding import VALUE_SLACK, dot_error, raised

__all__ = ["Aside", "lines_within", "reads"]


def reads(network: Network, relu: int, first: Collection[int]) -> int | None:
    """The ReLU node among `first` that alone, through one map, feeds a ReLU node; None for no such."""
    feeder = network.nodes[network.feeders[relu]]
    below = feeder.inputs if isinstance(feeder.op, Affine) else ()
    return below[0] if len(below) == 1 and below[0] in first else None


def lines_within(lower: Tensor, upper: Tensor, most: Tensor, at_x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lines of ReLUs as of `relaxed_lines` between ends that are no further from 0 than `most`.

    Below, slopes are 1 where a unit of either sign is above 0 at x and 0 where it is not; any in [0, 1] are sound.
    That is near to where its noise has it; which triangle is smaller changes as bounds do, and a margin with it.
    """
    lower, upper = torch.maximum(lower, -most), torch.minimum(upper, most)
    below, above, intercept = relaxed_lines(lower, upper)
    return torch.where((lower < 0) & (upper > 0), (at_x > 0).to(torch.float64), below), above, intercept


@dataclass(frozen=True, eq=False)
class Aside:
    """A ReLU node of one input of which units are split: the way back through it and through the map before it.

    Attributes:
        relu, feeder, first: the node, the affine node that feeds it, and the ReLU node of the first layer before.
        positive: the map with max(0, W) in place of its coefficients W.
        rare: where units of `first` are set aside, as numbers 0 and 1.
        lines: slopes and intercepts of the ReLUs of cores, and of whole units where these are not split; and where
            they are split.
    """

    relu: int
    feeder: int
    first: int
    positive: Affine
    rare: Fields
    lines: Fields

    @staticmethod
    def of(
        relaxation: Relaxation, relu: int, first: int, rare: Tensor, split: Tensor, lower: Tensor, upper: Tensor
    ) -> Aside:
        """What follows from bounds on cores.

        Args:
            rare: (*shape of first) bool, any; split: (*shape) bool.
            lower, upper: (*shape) bounds on the cores of what is split, and on the other units.
        """
        network, reach = relaxation.network, relaxation.reach
        feeder = network.feeders[relu]
        op, size = network.nodes[feeder].op, network.size(feeder)
        assert isinstance(op, Affine)
        most = magnitude_pass(op, VALUE_SLACK, reach.magnitude[first])[0]
        most = raised(most if op.offset is None else most + op.offset.abs(), 4)  # of cores as of whole units
        below, above, intercept = lines_within(lower, upper, most, relaxation.at_x[feeder].value[0])
        doubts = doubts_of_relu(intercept, below + above, most, size) + reach.doubts[feeder][0]
        lines = Fields((below, above, intercept, split.to(torch.float64)), doubts, [most])
        positive = op.with_coefficients(lambda w: w.clamp_min(0.0))
        largest = reach.magnitude[first][0]
        return Aside(relu, feeder, first, positive, Fields([rare.to(torch.float64)], largest, [largest]), lines)

    @property
    def slope(self) -> Tensor:
        """(*shape) of the lines above."""
        return self.lines.values[1]

    def through(self, relaxation: Relaxation, pulled: Pulled) -> Pulled:
        """Rows that were pulled back to this node, pulled back to the first layer."""
        here = pulled.ends[self.relu]
        below, above, intercept, split = here.at(self.lines)
        negative = here.entries.clamp_max(0.0)
        low, high, apart = here.entries.clamp_min(0.0) * below, negative * above, negative * split
        constant = pulled.constant + here.sums(negative, intercept)
        rows, kept = here.times(low + high), {self.first: None}
        found = relaxation.pull_back(0, self.feeder, rows, constant, kept, mirrored=False)
        op = relaxation.network.nodes[self.feeder].op
        assert isinstance(op, Affine)
        (others,) = here.times(low + (high - high * split)).through(op)
        (above_zero,) = here.times(apart).through(self.positive)
        core = found.ends[self.first]
        entries = torch.where(core.at(self.rare)[0] > 0, others.entries + above_zero.entries, core.entries)
        back = core.times(entries)
        error = pulled.error + found.error + here.cost(self.lines.prices) + self.lines.lost + self.rare.lost
        error = error + dot_error(back.cost(self.rare.prices), 4) + dot_error(constant.abs(), 4)
        ends = {i: rows for i, rows in pulled.ends.items() if i != self.relu}
        if self.first in ends:
            back = ends[self.first].plus(back)
            error = error + dot_error(back.cost(self.rare.prices), 4)
        ends[self.first] = back
        return replace(pulled, constant=found.constant, error=error * relaxation.inflation, ends=ends)
