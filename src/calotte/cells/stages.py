"""Stages: which normals are found by columns and which by rows, in which parts and blocks, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from calotte.network.affine import Affine
from calotte.network.convolution import Convolution, TransposedConvolution
from calotte.network.graph import Network

__all__ = ["RATE", "Cost", "Plan", "Stage", "make_plan", "work"]

COPY = 8  # an entry that is moved, masked or added takes as long as so many multiplications
LARGEST = 2**24  # bytes of the largest value in a block of columns: larger ones are slower, their memory fetched anew
ROWS = 2**27  # bytes that a block of rows takes: weights that are read once for each block want many
SHARE = 4  # what is carried into a stage, what is carried on, and a block get this part of the memory each
RATE = 2e9  # operations a second that one thread does at least, measured with convolutions of few channels
GROWTH = 1.1  # a new stage is worth its copies where columns grow by this factor


@dataclass(frozen=True)
class Stage:
    """A part of the network that is passed with the columns that its end needs.

    Attributes:
        nodes: what is computed, in order, on the way to the targets and to what is carried on.
        targets: the nodes whose norms are taken here.
        reads: the nodes whose entries come from the stage before, and the input where it is read here.
        carries: those whose entries go to the next stage.
        widths: of the widest field along each axis of the input, or the number of inputs of a noise map.
        block: columns taken at once.
    """

    nodes: tuple[int, ...]
    targets: tuple[int, ...]
    reads: tuple[int, ...]
    carries: tuple[int, ...]
    widths: tuple[int, ...]
    block: int

    @property
    def columns(self) -> int:
        """Number of products."""
        return math.prod(self.widths)


@dataclass(frozen=True)
class Plan:
    """How the norms of all normals of some nodes are found on one cell.

    Attributes:
        stages: of the first nodes, by columns.
        rows: the other nodes, by one transposed product for each unit; block: rows taken at once.
        operations: multiplications and what takes as long, about.
        bytes: of values, entries and copies, about.
    """

    stages: tuple[Stage, ...]
    rows: tuple[int, ...]
    block: int
    operations: float
    bytes: float


@dataclass(frozen=True)
class Cost:
    """What the distances of one input take, estimated: mostly above, seldom more than ten times.

    Attributes:
        hyperplanes: their number N.
        operations: multiplications, and what takes as long.
        bytes: of memory, beside the network.
    """

    hyperplanes: int
    operations: float
    bytes: float

    @property
    def seconds(self) -> float:
        """Seconds on one thread, at RATE operations a second."""
        return self.operations / RATE

    def __str__(self) -> str:
        unit, name = next(
            (unit, name)
            for unit, name in ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
            if self.seconds >= 2 * unit or unit == 1.0
        )
        return f"about {max(self.seconds / unit, 1):.0f} {name} for {self.hyperplanes:,} hyperplanes"


def make_plan(
    network: Network,
    targets: Mapping[int, int],
    widths: Mapping[int, tuple[int, ...]],
    memory: float,
) -> Plan:
    """The cheaper way for each node: columns up to one of them, rows from there on.

    Args:
        network: the network.
        targets: node -> number of its normals.
        widths: of the fields of every node.
        memory: bytes to keep to; a single column or row takes what it takes.
    """
    order = sorted(targets)
    rows = [targets[t] * sum(work(network, i) for i in ancestors(network, [t])) for t in order]
    _, columns = split(network, order, widths, memory)
    costs = [columns[k] + sum(rows[k:]) for k in range(len(order) + 1)]
    best = min(range(len(costs)), key=costs.__getitem__)
    stages, _ = split(network, order[:best], widths, memory)
    _, peak = sizes(network, ancestors(network, order), (0,))
    block = max(1, int(min(ROWS, memory / SHARE) / peak))
    most, before = peak * min(block, max((targets[t] for t in order[best:]), default=0)), 0.0
    for stage in stages:
        after = 8.0 * stage.columns * sum(size(network, j) for j in stage.carries)
        most = max(most, before + after + stage.block * sizes(network, stage.nodes, stage.reads)[1])
        before = after
    return Plan(tuple(stages), tuple(order[best:]), block, costs[best], most)


def split(
    network: Network, order: Sequence[int], widths: Mapping[int, tuple[int, ...]], memory: float
) -> tuple[list[Stage], list[float]]:
    """Stages for the nodes `order`, and what the first k of these cost, for k = 0, 1, ...

    A stage ends where the next node needs more columns and what is to be carried on fits the memory.
    """
    needed = ancestors(network, order)
    last = {j: i for i in needed for j in network.nodes[i].inputs}
    stages: list[Stage] = []
    costs, closed, begin = [0.0], 0.0, 0
    nodes: list[int] = []
    carried: list[int] = []
    for k, t in enumerate(order):
        nodes += [i for i in needed if (nodes[-1] if nodes else begin) < i <= t]
        mine = [i for i in order[: k + 1] if i > begin]
        entering = {j for i in nodes for j in network.nodes[i].inputs} - set(nodes)
        wide = widest(widths[i] for i in mine)
        each = sum(work(network, i) for i in nodes) + 2 * COPY * sum(size(network, j) for j in carried)
        costs.append(closed + math.prod(wide) * each)
        if k + 1 == len(order):
            carries: list[int] = []
        else:
            carries = [j for j in (*carried, *nodes) if last.get(j, 0) > t]
            wide = widest([wide, *(widths[j] for j in carries)])
            kept = 8.0 * math.prod(wide) * sum(size(network, j) for j in carries)
            after = math.prod(widest([wide, widths[order[k + 1]]]))
            if kept > memory / SHARE or after < GROWTH * math.prod(wide):
                continue
        reads = sorted(entering.union(carried))
        largest, peak = sizes(network, nodes, reads)
        block = max(1, min(math.prod(wide), int(min(LARGEST / largest, memory / SHARE / peak))))
        stages.append(Stage(tuple(nodes), tuple(mine), tuple(reads), tuple(carries), wide, block))
        closed += math.prod(wide) * each
        begin, nodes, carried = t, [], carries
    return stages, costs


def ancestors(network: Network, targets: Sequence[int]) -> list[int]:
    """The nodes that the targets depend on, these and not the input, in order."""
    needed = set(targets)
    for i in range(max(targets, default=0), 0, -1):
        if i in needed:
            needed.update(network.nodes[i].inputs)
    return sorted(needed - {0})


def widest(several: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """The largest width along each axis."""
    return tuple(map(max, zip(*several, strict=True)))


def size(network: Network, i: int) -> int:
    """Number of entries of a node."""
    return network.size(i)


def work(network: Network, i: int) -> float:
    """Multiplications, and what takes as long, of a node's linear map at one input."""
    op = network.nodes[i].op
    if isinstance(op, TransposedConvolution):
        return float(op.forward.terms * math.prod(op.forward.output_shape) + COPY * size(network, i))
    return float(((op.terms if isinstance(op, Affine) else 0) + COPY) * size(network, i))


def sizes(network: Network, nodes: Sequence[int], present: Sequence[int]) -> tuple[float, float]:
    """Bytes of the largest value on the way through `nodes`, and of all that are there at once, for one input."""
    last = {j: i for i in nodes for j in network.nodes[i].inputs}
    alive = sum(size(network, j) for j in present)
    largest, most = max((size(network, j) for j in present), default=1), 4 * alive  # dealt out anew, with places
    for i in nodes:
        op, here = network.nodes[i].op, size(network, i)
        windows = 0
        if isinstance(op, Convolution):
            windows = op.kernel[0].numel() * op.groups * math.prod(op.output_shape[1:])
        largest, most = max(largest, windows, here), max(most, alive + windows + 2 * here)
        alive += here if i in last else 0
        alive -= sum(size(network, j) for j in set(network.nodes[i].inputs) if last[j] == i)
    return 8.0 * largest, 8.0 * most
