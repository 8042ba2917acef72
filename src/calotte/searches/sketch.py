"""Sketch: how boxes gave a bound; bounding each of them once more, all decisions written down, gives a Proof."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.proofs.chooser import Chooser
from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.evaluate import evaluate, restricted
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.partition import Bounded, Partition, Slab

__all__ = ["Cut", "Sketch"]


@dataclass(frozen=True)
class Cut:
    """Leaves of a tree of boxes.

    Attributes:
        boxes: L of them, reach: (L, 2, N) heights of their half-spaces; at_once: how many are bounded together.
        slab, height: the box that has a network of its own, and the height of the half-spaces that made it; None
            and 0 where the leaves belong to the whole network.
    """

    boxes: Boxes
    reach: Tensor
    at_once: int
    slab: Boxes | None = None
    height: float = 0.0

    def bounded(self, local: LocalNetwork, chooser: Chooser) -> tuple[Bounded, ...]:
        """The leaves with what is decided on them."""
        parts = []
        for some in torch.split(torch.arange(len(self.boxes)), self.at_once):
            boxes, reach = self.boxes[some], self.reach[some]
            parts.append(Bounded(boxes, reach, evaluate(local, boxes, reach, chooser).chosen))
        return tuple(parts)


@dataclass(frozen=True)
class Sketch:
    """Boxes that fill the space of the noise.

    Attributes:
        tail, height: that gave the local network; directions: the axes of the boxes.
        cuts: trees of boxes; given_up: boxes whose whole measure counts.
    """

    tail: float
    height: float
    directions: Tensor
    cuts: tuple[Cut, ...]
    given_up: Boxes

    @staticmethod
    def empty(tail: float, height: float, directions: Tensor) -> Sketch:
        """One without boxes yet."""
        return Sketch(tail, height, directions, (), Boxes.none(directions.shape[1]))

    def written(self, local: LocalNetwork, choices: dict[int, Tensor], chooser: Chooser) -> Partition:
        """The Proof, for the network near the input that the height gave, and the choices that it rests on."""
        local = local.along(self.directions, self.height)
        parts: list[Bounded] = []
        slabs = []
        for cut in self.cuts:
            if cut.slab is None:
                parts += cut.bounded(local, chooser)
            else:
                within, decisions = restricted(local, cut.slab, cut.height, chooser)
                slabs.append(Slab(cut.slab, cut.height, decisions, cut.bounded(within, chooser)))
        flat = {i: choice[0] for i, choice in choices.items()}
        return Partition(self.tail, self.height, flat, self.directions, tuple(parts), tuple(slabs), self.given_up)
