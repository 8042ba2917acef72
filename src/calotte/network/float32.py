"""Float32: how far the values of a network can be from the exact ones where float32 computes them.

Whatever computes each map by float32 products and sums is covered: in any order, with fused operations or not, with
subnormal numbers or with zeros in their place, inputs and weights rounded to float32 (these twice: a constant may
have been computed of two). Let |v~ - v| <= e before a map
y = A v + b. After it, with u = 2**-24, gamma = n u / (1 - n u) and n the roundings that a term can meet,

    |y~ - y| <= |A| e + gamma s,   s = |A| (|v| + e) + |b|,

of which gamma s can nearly be halved: sums of some of the terms are no larger than all positive or all negative ones
together, (s + |y|) / 2, and each of the n additions is off by u times such a sum. A ReLU makes no error larger, and
where the unit is certainly negative by more than its error there is none. |v| is bounded over all noise that is
considered: by |A| |v|, where bounds on units cap it, and by |A| |v(x)| + ||a_j|| ||v - v(x)||. Errors and differences
are pushed on by entries, |A| e, and by norms, ||A|| ||e||: in deep networks entries lose a factor of some sqrt(n) a
layer.

Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., 2002, chapters 3 and 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calotte.network.affine import Affine, Dense, Diagonal, Inexact, Sum
from calotte.network.enclosure import Enclosure, apply, magnitude_pass, rectified
from calotte.network.extreme import extreme
from calotte.network.graph import Network, Node
from calotte.network.norms import spectral_norm
from calotte.rounding import NORM_SLACK, VALUE_SLACK, dot_error, norm_up, raised

__all__ = ["Bounds", "Float32Errors"]

_UNIT, _TINY, _LARGEST = 2.0**-24, 2.0**-126, 2.0**128 - 2.0**104
_FEW = 16  # float64 roundings in a handful of operations, each rounded up by so many
_SPARSE = 0.5  # share of a matrix's columns below which their own norm is worth finding


@dataclass(frozen=True)
class Bounds:
    """Bounds on vectors, for a batch: on each entry, (B, *shape), and on their Euclidean norms, (B,)."""

    entries: Tensor
    norm: Tensor

    @staticmethod
    def of(entries: Tensor, norm: Tensor) -> Bounds:
        """With the smaller of a norm and that of the entries."""
        return Bounds(entries, torch.minimum(norm, norm_up(entries.flatten(1), 1)))

    def plus(self, local: Tensor) -> Bounds:
        """Those of sums with vectors whose entries are at most `local`, (B, *shape)."""
        norm = raised(self.norm + norm_up(local.flatten(1), 1), _FEW)
        return Bounds.of(raised(self.entries + local, _FEW), norm)

    def capped(self, entries: Tensor) -> Bounds:
        """The same, where entries have other bounds too."""
        return Bounds.of(torch.minimum(self.entries, entries), self.norm)

    def where(self, kept: Tensor) -> Bounds:
        """The same, zero where nothing is kept."""
        return Bounds.of(torch.where(kept, self.entries, 0.0), self.norm)


@dataclass(frozen=True)
class OpenSum:
    """What a program may merge a node's values with what comes next into: the sums that they are.

    Attributes:
        additions: that a term may meet in them.
        coefficient: a bound on the coefficients of their terms.
        read: (B,) a bound on the sums of the absolute values that coefficients are applied to.
    """

    additions: int
    coefficient: float
    read: Tensor


@dataclass(frozen=True)
class State:
    """What is known of a node's values v, for all noise that is considered.

    Attributes:
        at_x: float64 values at x, enclosed.
        sums, sums_at_x: bounds on |v| and |v(x)|, and on the sums of the absolute values of what was added up in
            them since the last ReLU, so that maps in a row may be merged into one.
        moved: bounds on v - v(x); error: on v~ - v.
        open: what may still be merged into them; None where they are numbers of their own.
        ends: of a sum of two, or its ReLU: bounds on how far either of the two moved, and on its error.
    """

    at_x: Enclosure
    sums: Tensor
    sums_at_x: Tensor
    moved: Bounds
    error: Bounds
    open: OpenSum | None = None
    ends: tuple[Tensor, Tensor] | None = None


class Float32Errors:
    """Bounds on what float32 does to the values at x + r, for a batch, found node by node as ReLUs are settled.

    Args:
        network: the network; x: (B, d) float64.
        moved: bounds on the noise r, entries (B, *input shape).
    """

    def __init__(self, network: Network, x: Tensor, moved: Bounds) -> None:
        self._network, self._upper = network, dict[int, Tensor | None]()
        start = x.reshape(-1, *network.input_shape)
        size = raised(start.abs() + moved.entries, _FEW)
        length = raised(norm_up(x, 1) + moved.norm, _FEW)
        entries = raised(_UNIT * size + _TINY, _FEW)
        error = Bounds.of(entries, raised(_UNIT * length + _TINY * math.sqrt(network.d), _FEW))
        at_x = Enclosure(start, torch.zeros_like(start))
        self._sweep = network.sweep(State(at_x, size, start.abs(), moved, error), self._step)
        self._feeders = dict.fromkeys(network.feeders.values(), error)
        self._fits = size.flatten(1).amax(1) <= _LARGEST
        self._done, self._last = -1, error

    def settle(self, relu: int, upper: Tensor | None = None) -> None:
        """Let a ReLU node be passed; upper: (B, *shape) bounds on its pre-activations, where these are known.

        From there on the errors hold for noise at which these do.
        """
        self._upper[relu] = upper

    def at(self, feeder: int) -> Tensor:
        """Bounds (B, *shape) on the errors of what feeds a ReLU node, those before it being settled."""
        self._reach(feeder)
        return self._feeders[feeder].entries

    def outputs(self) -> Bounds:
        """The errors of the outputs, (B, K), all ReLUs being settled; inf where float32 may overflow."""
        self._reach(self._network.last)
        entries, norm = self._last.entries.flatten(1), self._last.norm
        entries, norm = (torch.where(t.isnan(), torch.inf, t) for t in (entries, norm))
        return Bounds(torch.where(self._fits[:, None], entries, torch.inf), torch.where(self._fits, norm, torch.inf))

    def _reach(self, node: int) -> None:
        while self._done < node:
            self._done, here = next(self._sweep)
            self._last = here.error
            if self._done in self._feeders:
                self._feeders[self._done] = here.error

    def _step(self, i: int, node: Node, below: list[State]) -> State:
        if not isinstance(node.op, Affine):
            return through_relu(below[0], self._upper[i])
        found, largest = through(node.op, [replace(s, open=None) for s in below] if node.inner else below)
        self._fits &= largest <= _LARGEST
        one = extreme(self._network, node) if node.inner else None
        ends = None if one is None else below[node.inputs.index(one.relu)].ends
        if ends is not None:  # off by no more than a or b are
            found = replace(found, moved=found.moved.capped(ends[0]), error=found.error.capped(ends[1]))
        return found


def through_relu(below: State, upper: Tensor | None) -> State:
    """The values behind a ReLU, those before it being at most `upper`."""
    value, doubt = below.at_x.value, below.at_x.error
    off = doubt + below.moved.entries
    top = value + off + dot_error(value.abs() + off, 4)
    moved = below.moved.where(~(top <= 0))
    if upper is not None:
        top = torch.minimum(top, upper)
    error = below.error.where(~(top + below.error.entries <= 0))
    sums = torch.minimum(below.sums, top.clamp_min(0.0))
    at_x = rectified(below.at_x)
    return State(at_x, sums, raised(at_x.value + at_x.error, _FEW), moved, error, ends=below.ends)


def through(op: Affine, below: list[State]) -> tuple[State, Tensor]:
    """The values behind an affine map, and the largest magnitude (B,) that float32 meets in it."""
    batch = len(below[0].sums)
    moved, errors = [one.moved for one in below], [read(one.error) for one in below]
    given = ((s.sums, s.sums_at_x, s.moved.entries, e.entries) for s, e in zip(below, errors, strict=True))
    passed = magnitude_pass(op, VALUE_SLACK, *(torch.cat(tensors) for tensors in given))
    sums, sums_at_x, *entries = torch.split(passed, batch)
    moved_on, error = (push(op, some, one) for some, one in zip((moved, errors), entries, strict=True))
    at_x = apply(op, *(one.at_x for one in below))
    offset = torch.zeros((), dtype=torch.float64) if op.offset is None else op.offset.abs()
    sums = raised(torch.minimum(sums, sums_at_x + moved_on.entries) + offset, _FEW)
    sums_at_x = raised(sums_at_x + offset, _FEW)
    met = raised(sums + error.entries, _FEW)
    operands = [raised(s.sums + e.entries, 4) for s, e in zip(below, errors, strict=True)]
    opened, largest = merged(op, below, operands), met.flatten(1).amax(1)
    if op.terms:
        far = raised(at_x.value.abs() + at_x.error + moved_on.entries + error.entries, _FEW)
        error = rounded(op, error, met, torch.minimum(far, met), operands)
        joined = joining(op, below, operands)
        if joined is not None:
            error = error.plus(raised(joined, _FEW))
        largest = raised((1.0 + gamma32(opened.additions + 2)) * largest, 4).clamp_min(opened.coefficient)
    ends = None
    if isinstance(op, Sum) and len(below) == 2:
        ends = torch.maximum(*(t.entries for t in moved)), torch.maximum(*(s.error.entries for s in below))
    return State(at_x, sums, sums_at_x, moved_on, error, opened, ends), largest


def joins(op: Affine) -> bool:
    """Whether a map may be merged into the sums that it reads: it multiplies entries, adds to them or moves them."""
    return op.terms == 0 or isinstance(op, Diagonal | Sum)


def merged(op: Affine, below: list[State], operands: list[Tensor]) -> OpenSum:
    """The sums that a map's results are, those that it reads being merged with it where it joins."""
    into = [s.open for s in below if s.open is not None] if joins(op) else []
    reads = torch.stack([t.flatten(1).amax(1) for t in operands]).amax(0)
    reach = math.inf if by_zero(op) else op.absolute.row_sum
    read_here = raised(op.support.row_sum * reads, 4)
    if not into:
        return OpenSum(op.terms, reach, read_here)
    additions, reads_before = [o.additions for o in into], torch.stack([o.read for o in into])
    if isinstance(op, Sum):
        return OpenSum(
            sum(additions) + op.terms,
            max(reach, *(o.coefficient for o in into)),
            raised(read_here + reads_before.sum(0), len(into) + 4),
        )
    coefficient = max(o.coefficient for o in into)
    return OpenSum(
        max(additions) + op.terms,
        max(reach, raised(reach * coefficient, 4)),
        torch.maximum(read_here, reads_before.amax(0)),
    )


def joining(op: Affine, below: list[State], operands: list[Tensor]) -> Tensor | None:
    """What a map's merging into the sums that it reads may add to the error; None where it is not merged.

    Each of the other terms may meet all additions of such a sum, and a coefficient may become subnormal.
    """
    into = [(k, s.open) for k, s in enumerate(below) if s.open is not None]
    if not into or not joins(op):
        return None
    total = torch.zeros(len(operands[0]), *op.output_shape, dtype=torch.float64)
    for k, opened in into:
        late = [t for j, t in enumerate(operands) if j != k] + ([] if op.offset is None else [op.offset.abs()])
        share = opened.additions * _UNIT * (1.0 + gamma32(opened.additions + 2))
        for t in late:
            total = total + raised(share * t, len(late) * len(into) + 8)
        total = total + raised(_TINY * opened.read, 4).reshape(-1, *[1] * len(op.output_shape))
    return total


def push(op: Affine, given: list[Bounds], entries: Tensor) -> Bounds:
    """Bounds on A v for bounded v, `entries` being bounds on |A| |v|."""
    length = given[0].norm if len(given) == 1 else norm_up(torch.stack([one.norm for one in given], 1), 1)
    used = [(one.entries > 0).to(torch.float64) for one in given]
    rows = raised(op.squares.linear(*used).clamp_min(0.0).sqrt(), 4 * op.terms + 8) + NORM_SLACK
    norms = torch.full_like(length, op.norm)
    if isinstance(op, Dense) and len(op.input_shapes[0]) == 1:  # what is zero reads no columns
        for b, here in enumerate(used[0] > 0):
            if here.sum() <= _SPARSE * len(here):
                norms[b] = min(op.norm, spectral_norm(op.weight[:, here]))
    reached = rows * length.reshape(-1, *[1] * len(op.output_shape))
    return Bounds.of(torch.minimum(entries, raised(reached, _FEW)), raised(norms * length, _FEW))


def rounded(op: Affine, error: Bounds, met: Tensor, far: Tensor, operands: list[Tensor]) -> Bounds:
    """The error of a map's results, what float32 rounds in it added.

    Args:
        error: of the operands, pushed through the map.
        met, far: (B, *shape) bounds on the magnitudes of all that is added up, and on that of the sum.
        operands: bounds on those of the operands.
    """
    share = gamma32(op.terms + 2)  # second-order terms are of this size, relative to the sums
    if isinstance(op, Diagonal | Inexact):  # its roundings are of coefficients, too
        far = met
    each = raised(0.5 * (met + far) + share * met, _FEW)  # no sum of some of the terms is larger
    sums = _UNIT * op.terms * each + _UNIT * (3.0 + 4.0 * share) * met  # additions; weights, products
    flushed = magnitude_pass(op.support, VALUE_SLACK, *operands) + 2.0 * op.terms + 4.0  # weights; results, offset
    local = raised(sums + _TINY * flushed, _FEW)
    if isinstance(op, Sum):  # what zeros alone are added to is exact
        local = torch.where(torch.stack([t != 0 for t in operands]).sum(0) > 1, local, 0.0)
    return error.plus(local)


def by_zero(op: Affine) -> bool:
    """Whether a map divides by numbers that may be taken for zero."""
    if isinstance(op, Inexact):
        return by_zero(op.op)
    if not (isinstance(op, Diagonal) and op.divide and op.weight is not None):
        return False
    return bool((op.weight.abs() < 2.0 * _TINY).any())


def read(error: Bounds) -> Bounds:
    """The error of numbers as they are read: subnormal ones may be taken for zero."""
    count = error.entries[0].numel()
    entries = torch.where(error.entries > 0, raised(error.entries + _TINY, 4), 0.0)
    return Bounds(entries, raised(error.norm + _TINY * math.sqrt(count), 4))


def gamma32(n: int) -> float:
    """n u / (1 - n u) for float32's u, rounded up; inf where it says nothing."""
    nu = n * _UNIT
    return raised(nu / (1.0 - nu), 8) if nu < 0.5 else math.inf
