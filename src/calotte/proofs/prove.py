"""Prove: from the decisions of a Proof to a true bound. Nothing is chosen here, and nothing is searched for."""

from __future__ import annotations

import math

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.cells.hyperplanes import Hyperplanes
from calotte.checks import kind
from calotte.errors import InvalidInput
from calotte.network.arithmetic import check_arithmetic
from calotte.network.event import OutputEvent, as_event
from calotte.network.graph import Network
from calotte.noise import Noise, quotient_down
from calotte.proofs.chooser import Recorded
from calotte.proofs.event import on_good_event
from calotte.proofs.float32 import executed
from calotte.proofs.proof import GoodHalfSpaces, OverCell, Proof
from calotte.proofs.union import cell_bound, log_sum_up, theorem_bound
from calotte.query import Query
from calotte.settings import Settings

__all__ = ["one_input", "over_cell", "prove"]


def prove(
    network: Network,
    x: ArrayLike | Tensor,
    noise: Noise,
    proof: Proof,
    event: OutputEvent | str = "change",
    arithmetic: str = "real",
) -> float:
    """An upper bound on log p, rounded up: a theorem about the network with its weights as they are.

    Args:
        network: the network; x: one input, (d,) or of the network's input shape.
        noise: the noise.
        proof: decisions, from whomever; event: what p is the probability of; arithmetic: as for `assess`.

    Returns:
        At most 0; -inf where p = 0 is proved.

    Raises:
        InvalidInput: the Proof is for another network, or x no single input at which the network has an answer.
    """
    query = one_input(network, x, noise, Settings(), event, arithmetic)
    if query.predicted.item() < 0:
        raise InvalidInput("the network's outputs at x are not finite numbers: there is no answer to prove")
    if isinstance(proof, OverCell):
        return over_cell(query, query.sizes, proof.exact).item()
    if isinstance(proof, GoodHalfSpaces):
        proof.fits(network)
        choices = {i: choice[None] for i, choice in proof.choices.items()}
        chooser = Recorded(choices) if choices else None
        heights = torch.full((1,), proof.height, dtype=torch.float64)
        return on_good_event(query, query.sizes, proof.tail, heights, chooser).log_bound.item()
    raise InvalidInput(f"expected a Proof, came {type(proof).__name__}")


def one_input(
    network: Network,
    x: ArrayLike | Tensor,
    noise: Noise,
    settings: Settings,
    event: OutputEvent | str,
    arithmetic: str = "real",
) -> Query:
    """The query that a Proof is about.

    Raises:
        InvalidInput: arguments of the wrong kind, or several inputs.
    """
    if not isinstance(network, Network):
        raise InvalidInput(f"network: expected a calotte Network (calotte.load gives one), came {kind(network)}")
    if not isinstance(noise, Noise):
        raise InvalidInput(f"noise: expected calotte.Sphere(eps), Ball(eps) or Gaussian(sigma), came {kind(noise)}")
    rows = network.inputs(x)
    if len(rows) != 1:
        raise InvalidInput(f"a Proof is about one input, came {len(rows)}")
    hyperplanes = Hyperplanes(network, noise.map, settings.memory_limit, noise.isotropic)
    known = check_arithmetic(arithmetic, network)
    return Query(hyperplanes, rows, [0], noise, settings, event=as_event(event, network), arithmetic=known)


def over_cell(query: Query, sizes: Tensor, exact: bool) -> Tensor:
    """Upper bounds (B,) on log p by the hyperplanes of the cells, the noise being of these sizes (B,).

    Args:
        exact: the sum of exact caps, and never more than N times Kůrková's bound on the largest; else the latter.

    Raises:
        InvalidInput: the latter on sphere or ball in one dimension, of which it says nothing.
    """
    plane = query.m >= 2 or query.noise.kind not in ("sphere", "ball")
    if not plane and not exact:
        raise InvalidInput(f"Theorem 4.2 needs dimension d >= 2, the noise has {query.m}")
    logs = torch.zeros(len(query.x), dtype=torch.float64)
    margins, log_missed = executed(query, sizes)
    query = query.by_margins(margins)
    if plane:
        heights = quotient_down(query.distances.rho, sizes)
        logs = theorem_bound(query.noise, heights, query.m, query.units)
    if exact:  # never above the other in real arithmetic: rounding must not turn that round
        caps = cell_bound(query.noise, quotient_down(query.distances.lower, sizes[:, None]), query.m)
        logs = torch.minimum(caps, logs)
    if log_missed == -math.inf:
        return logs
    return log_sum_up(torch.stack([logs, torch.full_like(logs, log_missed)], 1))
