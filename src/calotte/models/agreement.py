"""Check: a loaded network is compared with its source before it is handed out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.errors import SourceMismatch
from calotte.network.affine import Affine
from calotte.network.decision import Decision
from calotte.network.graph import Network, Original, Relu

__all__ = ["DOUBLE", "SINGLE", "Source", "check", "differences", "probes"]

SINGLE, DOUBLE = 2.0**-24, 2.0**-53


@dataclass(frozen=True)
class Source:
    """What a network came from.

    Attributes:
        run: inputs (n, d) to what the source computes, (n, K).
        name: for messages.
        roundoff: unit roundoff of its arithmetic.
        of_outputs: the network's outputs (n, K) to what the source computes, at most as far apart after as
            before; None where they are the same.
        together: as `run`, all rows in one batch; None in place of outputs where the source does not take them.
            Absent where it has no batch axis.
    """

    run: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    name: str
    roundoff: float = DOUBLE
    of_outputs: Callable[[Tensor], Tensor] | None = None
    together: Callable[[NDArray[np.float64]], NDArray[np.float64] | None] | None = None

    def original(self, decision: Decision, dtype: torch.dtype) -> Original:
        """The source as a model with answers, for a network of this decision; `dtype` is what it computes with."""
        level, slope = 0.0, 1.0
        if decision.rule == "sign" and self.of_outputs is not None:  # a straight line: back to the output itself
            level, one = (self.of_outputs(torch.full((1, 1), v, dtype=torch.float64)).item() for v in (0.0, 1.0))
            slope = one - level
        return Original(Answers(self.run, decision, level, slope), dtype, self.name)


@dataclass(frozen=True)
class Answers:
    """Points (n, d) to the answers (n,) that a source gives, whose outputs are slope z + level."""

    run: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    decision: Decision
    level: float
    slope: float

    def __call__(self, x: Tensor) -> Tensor:
        z = torch.from_numpy(np.array(self.run(x.numpy()), dtype=np.float64))
        return self.decision.decide((z - self.level) * self.slope)


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
    overflow are left out.

    Raises:
        SourceMismatch: they differ by more.
    """
    half = source.roundoff > SINGLE
    judge, second = source, arbiter
    largest, extreme = (3e4, 2.0**4) if half else (1e37, 2.0**20)
    widest = max(math.prod(network.shape(i)) for i in range(len(network.nodes)))
    rows = max(1, 2**22 // widest)  # memory: 32 MiB for the values of a node
    inputs = probes(network.d, extreme)
    for kind, x in ((kind, part) for kind, xs in inputs.items() for part in torch.split(xs, rows)):
        x = x[forward_error(network, x, DOUBLE)[1] < largest]
        if len(x) == 0:
            continue
        what = differences(network, judge, x, max(200.0 * judge.roundoff, 1e-9), bounded=second is None)
        if what and second:
            judge, second = second(), None
            what = differences(network, judge, x, 1e-9, bounded=True)
        if what:
            raise SourceMismatch(
                f"the loaded network and {judge.name} differ at a {kind} input: {what}; please report this model"
            )
    check_rows(source, inputs["Gaussian"][:3], arbiter)


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


def differences(network: Network, source: Source, x: Tensor, relative: float, *, bounded: bool) -> str | None:
    """Where network and source differ by more than `relative`; None if nowhere.

    With `bounded`, what rounding can explain is allowed too.
    """
    ours = network.forward(x)
    theirs = torch.from_numpy(np.array(source.run(x.numpy()), dtype=np.float64))
    if theirs.shape != ours.shape:
        return f"{ours.shape[1]} outputs here, {theirs.shape[1]} there"
    allowed = relative * ours.abs().amax(1, keepdim=True).expand_as(ours)
    if bounded:
        allowed = torch.maximum(allowed, forward_error(network, x, source.roundoff)[0])
    ours = ours if source.of_outputs is None else source.of_outputs(ours)
    wrong = ~((theirs - ours).abs() <= allowed)
    if not wrong.any():
        return None
    row, k = (int(i) for i in wrong.nonzero()[0])
    return (
        f"output {k} is {ours[row, k].item():.9g} here and {theirs[row, k].item():.9g} there, "
        f"rounding explains {allowed[row, k].item():.2g}"
    )


def forward_error(network: Network, x: Tensor, roundoff: float) -> tuple[Tensor, Tensor]:
    """What arithmetic of unit roundoff `roundoff` can get wrong at a batch x (B, d).

    Returns:
        (error, magnitude): bounds on the errors of the outputs (B, K), and the largest sum of absolute values
        that occurs at each input (B,), beyond which arithmetic overflows.
    """
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    largest = x.abs().amax(1)
    error = torch.zeros_like(x)
    for i, value in network.values(x):
        op = network.nodes[i].op
        if isinstance(op, Affine):
            # twice the terms of ours: the source may round where we do not
            nu = (2 * op.terms + 4) * roundoff if op.terms else 0.0
            g = nu / (1.0 - nu) if nu < 1.0 else torch.inf
            below = [kept[j] for j in network.nodes[i].inputs]
            magnitude = op.absolute.linear(*(v.abs() for v, _ in below))
            error = op.absolute.linear(*(e for _, e in below))
            if op.offset is not None:
                magnitude = magnitude + op.offset.abs()
            if g > 0.0:
                error = error + g * (magnitude + error)
            largest = torch.maximum(largest, magnitude.flatten(1).amax(1))
        elif isinstance(op, Relu):
            error = kept[network.nodes[i].inputs[0]][1]
        else:
            error = torch.zeros_like(value)
        kept[i] = (value, error)
        for j in network.nodes[i].inputs:
            if network.last_reader[j] == i:
                kept.pop(j, None)
    return error.reshape(len(x), -1).nan_to_num(nan=torch.inf), largest
