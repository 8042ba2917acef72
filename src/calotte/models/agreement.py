"""Check: a loaded network is compared with its source before it is handed out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.errors import SourceMismatch
from calotte.network.affine import Affine
from calotte.network.decision import Decision
from calotte.network.graph import Network, Node, Original

__all__ = ["DOUBLE", "SINGLE", "Source", "check", "check_rows", "differences", "evaluated", "probes"]

SINGLE, DOUBLE = 2.0**-24, 2.0**-53

KINDS = ("Gaussian", "extreme", "uniform", "flat", "zero")
"""Kinds of inputs to compare at, those first that tell most."""

WORK = 2**36
"""Products that the comparison may cost: some 10 s of one core."""


@dataclass(frozen=True)
class Source:
    """What a network came from.

    Attributes:
        run: inputs (n, d) to what the source computes, (n, K).
        name: for messages.
        roundoff: unit roundoff of its arithmetic.
        of_outputs: the network's outputs (n, K) to what the source computes, at most as far apart after as
            before; None where they are the same.
        to_outputs: what the source computes (n, M) to the network's outputs; None where they are the same.
        together: as `run`, all rows in one batch; None in place of outputs where the source does not take them.
            Absent where it has no batch axis.
    """

    run: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    name: str
    roundoff: float = DOUBLE
    of_outputs: Callable[[Tensor], Tensor] | None = None
    to_outputs: Callable[[Tensor], Tensor] | None = None
    together: Callable[[NDArray[np.float64]], NDArray[np.float64] | None] | None = None

    def outputs(self, x: NDArray[np.float64]) -> Tensor:
        """What the source says the network's outputs are, or `of_outputs` of them, at inputs (n, d)."""
        y = torch.from_numpy(np.array(self.run(x), dtype=np.float64))
        return y if self.to_outputs is None else self.to_outputs(y)

    def original(self, decision: Decision, dtype: torch.dtype) -> Original:
        """The source as a model with answers, for a network of this decision; `dtype` is what it computes with."""
        return Original(Answers(self, decision), dtype, self.name)


@dataclass(frozen=True)
class Answers:
    """Points (n, d) to the answers (n,) that a source gives."""

    source: Source
    decision: Decision

    def __call__(self, x: Tensor) -> Tensor:
        return self.decision.decide(self.source.outputs(x.numpy()))


def probes(d: int, extreme: float) -> dict[str, Tensor]:
    """Inputs to compare at, (n, d) each, by kind; all of them are float16 numbers, so that no source rounds them."""
    generator = torch.Generator().manual_seed(0)

    def normal(n: int) -> Tensor:
        return torch.randn(n, d, generator=generator).to(torch.float16).to(torch.float64)

    uniform = torch.rand(3, d, generator=generator).to(torch.float16).to(torch.float64)
    flat = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)[:, None].expand(-1, d)
    return {
        "Gaussian": normal(4),
        "uniform": uniform,
        "flat": flat.contiguous(),
        "zero": torch.zeros(1, d, dtype=torch.float64),
        "extreme": normal(3) * extreme,
    }


def check(network: Network, source: Source, arbiter: Callable[[], Source] | None = None) -> None:
    """Compare a network with its source at Gaussian, uniform, flat, zero and extreme inputs.

    They agree where outputs differ by at most 200 unit roundoffs of the source, relative to the largest output
    (1.2e-5 in float32). A float32 source may lose more by cancellation alone: where it does, the arbiter, the same
    model in float64, has to agree to 1e-9 or to what float64 can lose at most. Inputs at which the source may
    overflow are left out. Of large networks fewer inputs are tried.

    Raises:
        SourceMismatch: they differ by more, or rows of a batch mix.
    """
    half = source.roundoff > SINGLE
    judge, second, alone = source, arbiter, list[Tensor]()
    largest, extreme = (3e4, 2.0**4) if half else (1e37, 2.0**20)
    for kind, x in affordable(network, probes(network.d, extreme)):
        here = evaluated(network, x)
        x, ours = x[here.magnitude < largest], here.outputs[here.magnitude < largest]
        if len(x) == 0:
            continue
        what = differences(network, ours, judge, x, max(200.0 * judge.roundoff, 1e-9), bounded=second is None)
        if what and second:
            judge, second = second(), None
            what = differences(network, ours, judge, x, 1e-9, bounded=True)
        if what:
            raise SourceMismatch(
                f"the loaded network and {judge.name} differ at a {kind} input: {what}; please report this model"
            )
        if kind == "Gaussian":
            alone.append(x)
    if alone:
        check_rows(source, torch.cat([*alone, -0.5 * alone[0]])[:3], arbiter)


def affordable(network: Network, inputs: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Batches of the inputs by kind, as many at once as memory allows; of all kinds one, then the next, as long as
    the products that they cost stay below `WORK`, but two at least.
    """
    sizes = [math.prod(network.shape(i)) for i in range(len(network.nodes))]
    work = sum(
        node.op.terms * size for node, size in zip(network.nodes, sizes, strict=True) if isinstance(node.op, Affine)
    )
    most = max(2, WORK // max(work, 1))
    in_turn = sorted((k, KINDS.index(kind)) for kind, xs in inputs.items() for k in range(len(xs)))
    counts = Counter(KINDS[place] for _, place in in_turn[:most])
    at_once = max(1, 2**22 // max(sizes))  # memory: 32 MiB for the values of a node
    for kind in KINDS:
        for x in torch.split(inputs[kind][: counts[kind]], at_once):
            if len(x):
                yield kind, x


def check_rows(source: Source, x: Tensor, arbiter: Callable[[], Source] | None = None) -> None:
    """Compare what a source says about rows x (n, d) in one batch with what it says about them one by one.

    They agree where outputs differ by at most 200 unit roundoffs, relative to the largest one: else it is the
    arbiter who says, in float64.

    Raises:
        SourceMismatch: what a row gives depends on the other rows.
    """
    together = None if source.together is None else source.together(x.numpy())
    if together is None:
        return
    alone = source.run(x.numpy())
    allowed = max(200.0 * source.roundoff, 1e-9) * np.abs(alone).max()
    if together.shape == alone.shape and (np.abs(together - alone) <= allowed).all():
        return
    second = arbiter() if arbiter else None
    if second and second.together:
        check_rows(second, x)
        return
    raise SourceMismatch(
        f"{source.name} says something else about an input alone than in a batch with others: its rows mix (x - "
        "x.mean(0), or a batch axis that is taken for another one): change it so that each row is treated alone"
    )


def differences(
    network: Network, ours: Tensor, source: Source, x: Tensor, relative: float, *, bounded: bool
) -> str | None:
    """Where the outputs of a network and its source differ by more than `relative`; None if nowhere.

    With `bounded`, what rounding can explain is allowed too.
    """
    theirs = source.outputs(x.numpy())
    if theirs.shape != ours.shape:
        return f"{ours.shape[1]} outputs here, {theirs.shape[1]} there"
    allowed = relative * ours.abs().amax(1, keepdim=True).expand_as(ours)
    mapped = ours if source.of_outputs is None else source.of_outputs(ours)
    wrong = ~((theirs - mapped).abs() <= allowed)
    if bounded and wrong.any():
        allowed = torch.maximum(allowed, evaluated(network, x, source.roundoff).error)
        wrong = ~((theirs - mapped).abs() <= allowed)
    if not wrong.any():
        return None
    row, k = (int(i) for i in wrong.nonzero()[0])
    return (
        f"output {k} is {mapped[row, k].item():.9g} here and {theirs[row, k].item():.9g} there, "
        f"rounding explains {allowed[row, k].item():.2g}"
    )


@dataclass(frozen=True)
class Evaluated:
    """Outputs (B, K) of a network, what arithmetic can get wrong there (B, K), and the largest sum of absolute values
    that occurs at each input (B,), beyond which arithmetic overflows.
    """

    outputs: Tensor
    error: Tensor
    magnitude: Tensor


def evaluated(network: Network, x: Tensor, roundoff: float = 0.0) -> Evaluated:
    """Evaluate a network at a batch x (B, d) in arithmetic of unit roundoff `roundoff`; 0: no errors are asked for.

    Nothing is left in the network that it does not need: not even its maps with |A| in place of A.
    """
    largest = x.abs().amax(1)

    def step(i: int, node: Node, below: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        nonlocal largest
        op, values, errors = node.op, [value for value, _ in below], [error for _, error in below]
        if not isinstance(op, Affine):
            return values[0].clamp_min(0.0), errors[0]
        value, error = op(*values), x.new_zeros(())
        absolute = op.with_coefficients(torch.abs)
        # twice the terms of ours: the source may round where we do not
        nu = (2 * op.terms + 4) * roundoff if op.terms else 0.0
        g = nu / (1.0 - nu) if nu < 1.0 else torch.inf
        magnitude = absolute.linear(*(v.abs() for v in values))
        if op.offset is not None:
            magnitude = magnitude + op.offset.abs()
        if roundoff > 0.0:
            error = absolute.linear(*errors)
            error = error + g * (magnitude + error) if g > 0.0 else error
        largest = torch.maximum(largest, magnitude.flatten(1).amax(1))
        return value, error

    start = x.reshape(-1, *network.input_shape)
    value, error = network.swept((start, torch.zeros_like(start)), step)
    outputs = value.reshape(len(x), -1)
    error = (error if roundoff > 0.0 else torch.zeros_like(value)).reshape(len(x), -1)
    return Evaluated(outputs, error.nan_to_num(nan=torch.inf), largest)
