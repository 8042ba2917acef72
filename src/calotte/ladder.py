"""The proved rungs of the ladder, weakest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import ArrayLike
from torch import Tensor

from calotte.bound import ProvedRung
from calotte.errors import InvalidInput
from calotte.network.event import OutputEvent
from calotte.network.graph import Network
from calotte.noise import Noise
from calotte.proofs.cell import OverCell, over_cell
from calotte.proofs.proof import Proof
from calotte.proofs.prove import one_input
from calotte.query import Query
from calotte.searches.branching import Branching
from calotte.searches.concentration import Concentration
from calotte.searches.moments import ExponentialMoments
from calotte.searches.worst_case import WorstCase
from calotte.settings import Settings

__all__ = ["PROVED_RUNGS", "CellUnion", "Theorem", "ladder_table", "propose"]


@dataclass(frozen=True)
class Theorem(ProvedRung):
    """Rung `theorem`: Kůrková's Theorem 4.2. Nothing is chosen."""

    any_noise: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    needs_plane: ClassVar[bool] = True
    name: str = "theorem"
    proves: str = (
        "p ≤ N exp(−d ρ² / (2 ε²)), ρ the distance to the nearest of the cell's N hyperplanes; p = 0 for ρ ≥ ε"
    )
    source: str = "Kůrková, arXiv:2602.18674, Theorem 4.2"

    def log_bound(self, query: Query, sizes: Tensor) -> Tensor:
        return over_cell(query, sizes, exact=False)

    def propose(self, query: Query) -> Proof:
        return OverCell(exact=False)


@dataclass(frozen=True)
class CellUnion(ProvedRung):
    """Rung `cell`: the union bound over the cell's hyperplanes. Nothing is chosen."""

    any_noise: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    name: str = "cell"
    proves: str = "p ≤ the sum over the cell's hyperplanes of the exact measure of the cap that each cuts off"
    source: str = "Theorem 4.1 with exact caps in place of Ball's bound (3)"

    def log_bound(self, query: Query, sizes: Tensor) -> Tensor:
        return over_cell(query, sizes, exact=True)

    def propose(self, query: Query) -> Proof:
        return OverCell(exact=True)


PROVED_RUNGS: dict[str, ProvedRung] = {
    rung.name: rung
    for rung in (Theorem(), CellUnion(), WorstCase(), Concentration(), ExponentialMoments(), Branching())
}


def propose(
    network: Network,
    x: ArrayLike | Tensor,
    noise: Noise,
    rung: str = "concentration",
    settings: Settings | None = None,
    event: OutputEvent | str = "change",
    arithmetic: str = "real",
) -> Proof:
    """The decisions behind what a proved rung says of one input: `calotte.prove` makes the same bound of them.

    Args:
        network: the network; x: one input, (d,) or of the network's input shape.
        noise: the noise; rung: its name; settings: budgets; event: what p is the probability of.
        arithmetic: as for `assess`.

    Raises:
        InvalidInput: no such rung, it does not apply or says nothing, or several inputs.
        OutOfTime: the time limit passed before anything was found.

    Examples:
        >>> import torch, calotte
        >>> network = calotte.random_network((20, 30, 3), torch.Generator().manual_seed(0))
        >>> proof = calotte.propose(network, torch.ones(20), calotte.Sphere(0.5), rung="concentration")
        >>> (one,) = calotte.assess(network, torch.ones(1, 20), calotte.Sphere(0.5), rungs="concentration")
        >>> calotte.prove(network, torch.ones(20), calotte.Sphere(0.5), proof) == one.best.log_probability
        True
    """
    if rung not in PROVED_RUNGS:
        raise InvalidInput(f"rung '{rung}': choose from {', '.join(PROVED_RUNGS)}")
    query = one_input(network, x, noise, settings or Settings(), event, arithmetic)
    reason = PROVED_RUNGS[rung].refuses(query)
    if reason is not None:
        raise InvalidInput(f"rung '{rung}': {reason}")
    proof = PROVED_RUNGS[rung].propose(query)
    if proof is None:
        raise InvalidInput(f"rung '{rung}': has no proof here: nothing but p <= 1 was found")
    return proof


def ladder_table() -> str:
    """The proved rungs as lines of a table in Markdown, as the README has them."""
    rows = (f"| `{rung.name}` | {rung.proves} | proved | {rung.source} |" for rung in PROVED_RUNGS.values())
    return "\n".join(rows)
