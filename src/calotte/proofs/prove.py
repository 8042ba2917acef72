"""Prove: from the decisions of a Proof to a true bound. Nothing is chosen here, and nothing is searched for."""

from __future__ import annotations

from numpy.typing import ArrayLike
from torch import Tensor

from calotte.cells.hyperplanes import Hyperplanes
from calotte.checks import kind
from calotte.errors import InvalidInput
from calotte.network.arithmetic import check_arithmetic
from calotte.network.event import OutputEvent, as_event
from calotte.network.graph import Network
from calotte.noise import Noise
from calotte.proofs.cell import OverCell
from calotte.proofs.first_layer_moments import FirstLayerMoments
from calotte.proofs.half_spaces import GoodHalfSpaces
from calotte.proofs.halvings import Halvings
from calotte.proofs.partition import Partition
from calotte.proofs.proof import Proof
from calotte.query import Query
from calotte.settings import Settings

__all__ = ["FirstLayerMoments", "GoodHalfSpaces", "Halvings", "OverCell", "Partition", "Proof", "one_input", "prove"]


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

    Examples:
        >>> import torch, calotte
        >>> network = calotte.random_network((20, 30, 3), torch.Generator().manual_seed(0))
        >>> proof = calotte.propose(network, torch.ones(20), calotte.Sphere(0.5), rung="cell")
        >>> calotte.prove(network, torch.ones(20), calotte.Sphere(0.5), proof) <= 0.0
        True
    """
    query = one_input(network, x, noise, Settings(), event, arithmetic)
    if query.predicted.item() < 0:
        raise InvalidInput("the network's outputs at x are not finite numbers: there is no answer to prove")
    if not isinstance(proof, Proof):
        raise InvalidInput(f"expected a Proof, came {type(proof).__name__}")
    return proof.log_bound(query)


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
