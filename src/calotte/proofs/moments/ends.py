"""Where pull-backs to the first layer end: at its ReLUs, and at entries that are the largest of some of them.

The largest of ReLUs, as max pooling has it, is a tournament max(a, b) = b + relu(a - b) of ReLUs behind ReLUs. Seen
as a whole it lies between sums of ReLUs of affine functions: for every t >= 0 and every member w of the window

    relu(z_w) <= max(0, z_1, ..., z_s) <= t + sum_i relu(z_i - t).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from calotte.cells.hyperplanes import Hyperplanes
from calotte.network.affine import Affine, Reshape
from calotte.network.extreme import extreme
from calotte.network.graph import Network, Relu
from calotte.network.rearrange import Select

__all__ = ["Ends", "Maxima", "Peaks", "ends_of"]


@dataclass(frozen=True, eq=False)
class Maxima:
    """A node with K entries max(0, z_i, ...), the largest of entries z_i of an affine node.

    Attributes:
        node, source: the two nodes; windows: K.
        member: (n,) entries of `source`; window: (n,) that entry of `node` in which each of them takes part.
    """

    node: int
    source: int
    windows: int
    member: Tensor
    window: Tensor


@dataclass(frozen=True, eq=False)
class Ends:
    """Where pull-backs from the output end, all paths cut.

    Attributes:
        relus: ReLU nodes that no ReLU stands before; maxima: the largest of such.
        deep: the ReLU nodes that are passed before; those that neither names are read by maxima alone.
    """

    relus: tuple[int, ...]
    maxima: tuple[Maxima, ...]
    deep: tuple[int, ...]

    @property
    def nodes(self) -> tuple[int, ...]:
        """All nodes where pull-backs end."""
        return (*self.relus, *(one.node for one in self.maxima))

    def parts(self, network: Network) -> list[tuple[int, Tensor]]:
        """The units that are met there: affine nodes, and which of their entries."""
        feeders = [network.feeders[i] for i in self.relus]
        whole = [(i, torch.arange(network.size(i))) for i in feeders]
        return whole + [(one.source, one.member) for one in self.maxima]

    def read(self, hyperplanes: Hyperplanes, node: int) -> float:
        """About how many of these units each form of a unit of a node reads, by its field; all where maxima are."""
        units = sum(len(some) for _, some in self.parts(hyperplanes.network))
        share = 1.0 if self.maxima else math.prod(hyperplanes.widths[node]) / hyperplanes.m
        return units * min(1.0, share)

    @property
    def windows(self) -> int:
        """Entries of all maxima together."""
        return sum(one.windows for one in self.maxima)

    @cached_property
    def window(self) -> Tensor:
        """(n,) the entry, of all maxima one after the other, for each member of a window."""
        start, found = 0, [torch.zeros(0, dtype=torch.int64)]
        for one in self.maxima:
            found.append(one.window + start)
            start += one.windows
        return torch.cat(found)


@dataclass(frozen=True, eq=False)
class Peaks:
    """What is proposed for the K entries of all maxima.

    Attributes:
        threshold: (K,) t, 0 or more; winner: (K,) int64, a member of the window each, counted among all members.
    """

    threshold: Tensor
    winner: Tensor


@dataclass(frozen=True)
class Held:
    """Entries that are the largest of entries of an affine node.

    Attributes:
        source: that node; member: (K, s) its entries, -1 for none.
        floor: whether 0 is among what they are the largest of; without it every entry has a member.
    """

    source: int
    member: Tensor
    floor: bool


def ends_of(network: Network, first_nodes: Sequence[int]) -> Ends:
    """Where pull-backs of a network end; first_nodes: those that feed a ReLU and have none before them."""
    held = largest(network)
    relus, maxima, deep = list[int](), list[Maxima](), list[int]()
    read = {network.last}
    for i in range(network.last, 0, -1):
        if i not in read:
            continue
        one = held.get(i)
        if one is not None and one.floor and one.member.shape[1] > 1:
            window, place = (one.member >= 0).nonzero().unbind(1)
            maxima.append(Maxima(i, one.source, len(one.member), one.member[window, place], window))
        elif network.feeders.get(i) in first_nodes:
            relus.append(i)
        else:
            if i in network.feeders:
                deep.append(i)
            read.update(network.nodes[i].inputs)
    return Ends(tuple(relus[::-1]), tuple(maxima[::-1]), tuple(deep[::-1]))


def largest(network: Network) -> dict[int, Held]:
    """The nodes of which it is known that their entries are the largest of entries of an affine node."""
    held: dict[int, Held] = {}
    affine = {0}
    for i, node in enumerate(network.nodes[1:], start=1):
        below = [held.get(j) for j in node.inputs]
        found = below[0]
        if isinstance(node.op, Relu):
            found = found and Held(found.source, found.member, floor=True)
        elif isinstance(node.op, Reshape):
            pass
        elif isinstance(node.op, Select):
            found = found and selected(found, node.op)
        elif all(j in affine for j in node.inputs):
            found = None
        else:
            found = tournament(network, held, i)
        if isinstance(node.op, Affine) and all(j in affine for j in node.inputs):
            affine.add(i)
            found = found or Held(i, torch.arange(math.prod(network.shape(i)))[:, None], floor=False)
        if found is not None:
            held[i] = found
    return held


def selected(found: Held, op: Select) -> Held | None:
    """Entries that are copied, or 0."""
    member = found.member[op.index]
    if len(op.zero) and not found.floor:
        return None
    member[op.zero] = -1
    return Held(found.source, member, found.floor)


def tournament(network: Network, held: Mapping[int, Held], i: int) -> Held | None:
    """max(a, b) of two such nodes, over the same affine one."""
    one = extreme(network, network.nodes[i])
    first, second = (None, None) if one is None or one.sign != 1 else (held.get(one.a), held.get(one.b))
    if first is None or second is None or first.source != second.source:
        return None
    return Held(first.source, torch.cat([first.member, second.member], 1), first.floor or second.floor)
