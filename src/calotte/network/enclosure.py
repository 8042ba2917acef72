"""Enclosures: what float64 evaluation of a network can have got wrong, bounded.

Two passes over the graph, both batched, both a forward pass with |A| in place of A:

* `evaluate` gives pre-activations and outputs with a bound on their error, either of the network itself or of
  the affine map that the network is on one cell (the ReLUs replaced by a fixed 0/1 mask, as in Theorem 4.1).
* `normal_errors` bounds, in the Euclidean norm, the error of the computed normals. A unit's exact normal is
  n_i = sum_k A_ik D_k n_k, so errors of norm e_k below it and a product rounded to relative gamma add up to
  e_i <= sum_k |A_ik| D_k (e_k + gamma ||n_k||). The same recursion bounds normals that were computed backwards,
  by transposes: unrolled, both are the sum over all paths of gamma times the norm where the rounding happened.

Exact zero stays exactly zero: where everything that a sum reads is exactly zero, its error is zero too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.network.affine import Affine
from calotte.network.graph import Network, Node
from calotte.rounding import NORM_SLACK, VALUE_SLACK, gamma, raised

__all__ = ["Enclosure", "evaluate", "normal_errors", "outputs", "rectified"]


@dataclass(frozen=True)
class Enclosure:
    """Computed values and a bound on their distance from the exact ones, entrywise, same shape."""

    value: Tensor
    error: Tensor


def magnitude_pass(op: Affine, slack: float, *ts: Tensor) -> Tensor:
    """Upper bound on sum_i |A_i| t_i for t >= 0; zero only where every term is exactly zero."""
    y = raised(op.absolute.linear(*ts), 2 * op.terms + 10)
    small = y <= slack  # not where y is NaN: nothing is known there
    if small.any():
        reached = op.support.linear(*((t > 0).to(t.dtype) for t in ts)) > 0
        y = torch.where(small & reached, slack, y)
    return y


def rounded(value: Tensor, error: Tensor, g: float, slack: float) -> Tensor:
    """error + g |value|, with `slack` where that underflows; exactly zero where both are."""
    t = error + g * value.abs()
    return torch.where((value == 0) & (error == 0), 0.0, t.clamp_min(slack))  # NaN stays NaN


def apply(op: Affine, *xs: Enclosure) -> Enclosure:
    """Enclosure of an affine map at enclosed arguments."""
    value = op(*(x.value for x in xs))
    if op.terms == 0:
        return Enclosure(value, op.linear(*(x.error for x in xs)))
    g = gamma(op.terms)
    error = magnitude_pass(op, VALUE_SLACK, *(rounded(x.value, x.error, g, VALUE_SLACK) for x in xs))
    if op.offset is not None:
        error = torch.where(error == 0, 0.0, raised(error + g * op.offset.abs(), 4))
    return Enclosure(value, error)


def rectified(x: Enclosure) -> Enclosure:
    """Enclosure of a ReLU of enclosed values."""
    error = torch.where(x.value + x.error <= 0, 0.0, x.error)  # not where either is NaN
    return Enclosure(x.value.clamp_min(0.0), error)


def evaluate(
    network: Network, x: Tensor, masks: Mapping[int, Tensor] | None = None, also: Collection[int] = ()
) -> dict[int, Enclosure]:
    """Enclose the pre-activations of every ReLU node and the outputs at a batch x (B, d).

    Args:
        network: the network.
        x: (B, d) float64, taken as exact.
        masks: ReLU node -> bool (B, *shape): evaluate the affine map of that activation pattern. None: the
            network itself.
        also: other nodes that are wanted.

    Returns:
        The node that feeds a ReLU, or is wanted -> its values there; -1 -> the outputs, (B, K).
    """

    def step(i: int, node: Node, below: list[Enclosure]) -> Enclosure:
        if isinstance(node.op, Affine):
            return apply(node.op, *below)
        if masks is not None:
            return Enclosure(*(torch.where(masks[i], t, 0.0) for t in (below[0].value, below[0].error)))
        return rectified(below[0])

    start = x.reshape(-1, *network.input_shape)
    wanted, found = {*network.feeders.values(), *also}, dict[int, Enclosure]()
    for i, here in network.sweep(Enclosure(start, torch.zeros_like(start)), step):
        if i in wanted:
            found[i] = here
    found[-1] = Enclosure(here.value.flatten(1), here.error.flatten(1))
    return found


def outputs(network: Network, x: Tensor) -> Enclosure:
    """Enclose the outputs (B, K) of the network at a batch x (B, d)."""
    return evaluate(network, x)[-1]


def backward_underflow(error: Tensor, met: Tensor) -> Tensor:
    """Add what underflow in backward products loses: up to 2**-1040 of every norm (sum `met`) met on the way."""
    lost = (2.0**-1040 * met).reshape(-1, *[1] * (error.ndim - 1))
    return torch.where(error > 0, error + lost, error)


def normal_errors(
    network: Network,
    masks: Mapping[int, Tensor],
    norms: Mapping[int, Tensor],
    coordinates: Enclosure,
    *,
    start: Mapping[int, Tensor] | None = None,
    extra_terms: int = 0,
) -> dict[int, Tensor]:
    """Bound the error of computed normals, in the Euclidean norm.

    Args:
        network: the network.
        masks: ReLU node -> bool (B, *shape), the pattern of each cell.
        norms: upper bounds on the computed norms, for every node that feeds a ReLU (B, *shape).
        coordinates: norm of the normal of each input coordinate with its error, (d,): ones, or the row norms of
            a noise map.
        start: node -> errors (*shape) where they are known already, for the one node that all paths cross.
        extra_terms: additions beyond those of the affine maps (widest layer, or branches that meet).

    Returns:
        The node that feeds a ReLU -> error bounds (B, *shape); -1 -> those of the outputs (B, K), the rounding
        of one more difference included.
    """
    batch = len(next(iter(masks.values()))) if masks else 1  # without ReLUs all inputs share their normals
    begin, found = next(iter(start)) if start else 0, dict[int, Tensor]()
    met = torch.zeros(batch, dtype=torch.float64)  # sum of the norms met so far
    readers = Counter(j for node in network.nodes for j in node.inputs)

    def settled(i: int, error: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal met
        met = met + norm.flatten(1).sum(1)
        if i in norms:
            error = found[i] = backward_underflow(error, met)
            norm = raised(norms[i] + error, 4)
        if readers[i] > 1:  # where branches meet, backward, their parts are added up
            error = rounded(norm, error, gamma(readers[i]), NORM_SLACK)
        return error, norm

    def step(i: int, node: Node, below: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        op = node.op
        if not isinstance(op, Affine):
            error, norm = (torch.where(masks[i], t, 0.0) for t in below[0])
            return settled(i, error, norm)
        terms = max(op.terms, op.adjoint_terms)
        g = gamma(terms + extra_terms) if terms else 0.0
        error = magnitude_pass(op, NORM_SLACK, *(rounded(n, e, g, NORM_SLACK) for e, n in below))
        norm = norms[i] if i in norms else magnitude_pass(op, NORM_SLACK, *(n for _, n in below))
        return settled(i, error, norm)

    if start:
        error = start[begin].expand(batch, *start[begin].shape)
        norm = norms.get(begin, error)
    else:
        norm, error = (
            t.reshape(network.input_shape).expand(batch, *network.input_shape)
            for t in (coordinates.value, coordinates.error)
        )
    error, norm = network.swept(settled(begin, error, norm), step, begin)
    error = backward_underflow(error, met)
    found[-1] = rounded(norm, error, gamma(2), NORM_SLACK).flatten(1)
    return found
