"""Back-substitution: rows of values of a node, taken back through a network by the lines of the ReLUs on the way.

What is rounded is an error in a coefficient: times a bound on the value that it multiplies it is added to an error of
the whole. So the coefficients that arrive are exact. What rows meet, and what that costs, is asked for node by node,
for one input or for many regions of the noise at once; a chain of dense layers is taken a layer at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from calotte.network.affine import Affine
from calotte.network.graph import Network, Relu
from calotte.proofs.relaxation.dense import Step
from calotte.proofs.relaxation.windows import Fields, Pulled, Rows, Whole
from calotte.rounding import NORM_SLACK, VALUE_SLACK, dot_error

__all__ = ["Met", "both", "inflation", "pull_back"]


class Met(Protocol):
    """What rows (S, N, ...) meet at the nodes of a network: all the same, or each of S = L sides its own.

    Attributes:
        network: the network; stop: the node whose values rows end in.
    """

    @property
    def network(self) -> Network: ...

    @property
    def stop(self) -> int: ...

    def fields(self, i: int) -> Fields:
        """Of a ReLU its lines, of a map its offset, where there is one."""

    def prices(self, i: int) -> Tensor:
        """Bounds on the magnitudes of a node's values, as prices of errors in coefficients."""

    def through_layer(self, i: int, rows: Rows, without: Tensor | None, mirrored: bool) -> tuple[int, Step] | None:
        """Rows, all sides as one, through a ReLU and the layer before it at once, and that layer; None: not here."""


def pull_back(
    met: Met,
    node: int,
    rows: Rows,
    constant: Tensor,
    kept: Mapping[int, Tensor | None],
    mirrored: bool = False,
    told: Callable[[int, Rows, Fields], None] | None = None,
    parallel: bool = False,
) -> Pulled:
    """Rows . (values of node) + constant (S, N), in terms of the values of the node where rows end.

    Args:
        kept: ReLU node -> bool (*shape): units whose activations stay; None where nothing passes.
        mirrored: whether to add a second side, minus the first, for which all is met the same.
        told: is shown the rows of each ReLU, and what they meet.
        parallel: whether ReLUs are met as slope z + half, give or take half: so the rows of a value, negated, are
            those of its negative. The third of their fields is what that and rounding cost.
    """
    cotangents, activations, ends = {node: rows}, dict[int, Tensor](), dict[int, Rows]()
    network, stop, error = met.network, met.stop, torch.full_like(constant, VALUE_SLACK)
    inflated = inflation(network)
    for i in range(node, stop - 1, -1):
        step, twice = network.nodes[i], mirrored
        if mirrored and (i == stop or i in kept or isinstance(step.op, Relu)):  # till then one side is all
            cotangents = {j: rows.both() for j, rows in cotangents.items()}
            constant, error, mirrored = both(constant), torch.cat([error, error]), False
        if i == stop or i not in cotangents:
            continue
        here, some = cotangents.pop(i), kept.get(i)
        if some is not None:
            activations[i] = here.whole().entries[:, :, some]
        elif i in kept:
            ends[i] = here.inside()
            continue
        if (taken := met.through_layer(i, here, some, twice and not mirrored)) is not None:
            if told is not None and isinstance(step.op, Relu):
                told(i, here, met.fields(i))
            shape, (layer, found) = constant.shape, taken
            bend, moved, *doubts = (t.reshape(shape) for t in (found.bend, found.moved, *found.doubts.unbind(1)))
            before, constant = constant + bend, constant + bend + moved
            error = error + doubts[0] + dot_error(before.abs() + constant.abs(), 4)
            rows = Whole(found.rows.reshape(*shape, -1))
            read = network.nodes[layer].inputs if layer > stop else ()
            error = (error + VALUE_SLACK * sum(met.prices(j).sum() for j in (layer, *read))) * inflated
            if layer == stop:
                return Pulled(rows, constant, error, activations, ends, doubts[1] * inflated + NORM_SLACK)
            cotangents[read[0]] = rows
            continue
        fields = met.fields(i)
        if isinstance(step.op, Relu):
            if told is not None:
                told(i, here, fields)
            if some is not None:
                here = Whole(torch.where(some, 0.0, here.whole().entries))
            if parallel:
                slope, half, off = here.at(fields)
                constant = constant + here.sums(here.entries, half)
                cost = here.sums(here.entries.abs(), off)
                parts: tuple[Rows, ...] = (here.times(here.entries * slope),)
            else:
                below, above, intercept = here.at(fields)
                negative = here.entries.clamp_max(0.0)
                constant, cost = constant + here.sums(negative, intercept), here.cost(fields.prices)
                parts = (here.times(here.entries.clamp_min(0.0).mul_(below).addcmul_(negative, above)),)
        else:
            assert isinstance(step.op, Affine)
            here = here.inside()
            if step.op.offset is not None:
                constant = constant + here.offset(fields)
            parts, cost = here.through(step.op), here.cost(fields.prices)
        error = error + cost
        for j, part in zip(step.inputs, parts, strict=True):
            if j in cotangents:
                part = cotangents[j].plus(part)
                error = error + dot_error(part.cost(met.prices(j)), 2)
            cotangents[j] = part
        error = (error + fields.lost + dot_error(constant.abs(), 4)) * inflated
    if stop not in cotangents:
        cotangents[stop] = Whole(constant.new_zeros(*constant.shape, *network.shape(stop)))
    return Pulled(cotangents[stop].inside(), constant, error, activations, ends)


def inflation(network: Network) -> float:
    """Makes up for sums of bounds on errors, which are rounded too."""
    return 1.0 + dot_error(4.0, network.widest + 16)


def both(t: Tensor) -> Tensor:
    """A second side, minus the first."""
    return torch.cat([t, -t])
