"""Slopes: margins of a network and their gradients at many points, in one pass forward and one back."""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.cells.products import pull_back
from calotte.network.affine import Affine
from calotte.network.footprint import pass_size
from calotte.network.graph import Network
from calotte.network.margins import Margins

__all__ = ["Slopes"]

_PROBES = 4


class Slopes:
    """A network to descend on, in the arithmetic of its coefficients, by the margins of an event at one input."""

    def __init__(self, network: Network, memory_limit: float) -> None:
        """Passes take at most about a quarter of the memory limit, in bytes."""
        self.network = network
        self.feeders = network.feeders
        tensors = (t for node in network.nodes if isinstance(node.op, Affine) for t in vars(node.op).values())
        single = any(isinstance(t, Tensor) and t.dtype == torch.float32 for t in tensors)
        self.dtype = torch.float32 if single else torch.float64
        # half of the memory: masks and the way back take as much again
        self.at_once = pass_size(network, memory_limit / 8, width=4 if single else 8)

    def near(self, other: Slopes) -> bool:
        """Whether outputs at a few Gaussian points are those of another network within a thousandth."""
        x = torch.randn(_PROBES, self.network.d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        ours, theirs = (s.outputs(x).to(torch.float64) for s in (self, other))
        largest = theirs.abs().amax()
        return bool(ours.isfinite().all() and (ours - theirs).abs().amax() <= 1e-3 * largest)

    def outputs(self, points: Tensor) -> Tensor:
        """Outputs (T, K) at points (T, d)."""
        return torch.cat([self.network.forward(part.to(self.dtype)) for part in torch.split(points, self.at_once)])

    def margins(self, points: Tensor, margins: Margins) -> Tensor:
        """Margins (T, C) at points (T, d)."""
        return margins.of(self.outputs(points))

    def level(self, points: Tensor, margins: Margins) -> Tensor:
        """The level (T,) of the event at points (T, d): negative where it occurs."""
        return margins.cases.least(self.margins(points, margins))[0]

    def at(self, points: Tensor, margins: Margins, aims: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The level, and for one of the margins its value and its slope on the cell that each point lies in.

        Args:
            points: (T, d).
            margins: of the event, in this arithmetic.
            aims: (T,) which margin, while it is positive and the event does not occur; the one that has the level
                else, and where aims is None.

        Returns:
            Levels (T, 1), the one (T, 1), its uphill unit vector (T, d), zero where it is flat, and the norm
            of its gradient (T, 1).
        """
        if len(points) <= self.at_once:
            return self._at(points, margins, aims)
        parts = [slice(i, i + self.at_once) for i in range(0, len(points), self.at_once)]
        found = [self._at(points[part], margins, None if aims is None else aims[part]) for part in parts]
        smallest, gap, uphill, steepness = (torch.cat(each) for each in zip(*found, strict=True))
        return smallest, gap, uphill, steepness

    def _at(self, points: Tensor, margins: Margins, aims: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        network, active, feeders = self.network, {}, set(self.feeders.values())
        for i, value in network.values(points.to(self.dtype)):
            if i in feeders:
                active[i] = value > 0
        masks = {i: active[j] for i, j in self.feeders.items()}
        gaps = margins.of(value.flatten(1))
        smallest, aim = (t[:, None] for t in margins.cases.least(gaps))
        if aims is not None:
            reached = (smallest < 0) | (gaps.gather(1, aims[:, None]) < 0)
            aim = torch.where(reached, aim, aims[:, None])
        last = network.last
        cotangents = margins.rows[0][aim[:, 0]].reshape(-1, *network.shape(last))
        slope = pull_back(network, masks, last, cotangents).to(self.dtype)
        largest = slope.abs().amax(1, keepdim=True)  # squares neither overflow nor underflow after scaling
        scaled = slope / torch.where(largest > 0, largest, 1.0)
        norm = scaled.norm(dim=1, keepdim=True).clamp_min(1.0)
        return smallest, gaps.gather(1, aim), scaled / norm, norm * largest
