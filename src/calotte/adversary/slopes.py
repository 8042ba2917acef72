"""Slopes: margins of a network and their gradients at many points, in one pass forward and one back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from calotte.adversary.witness import margins
from calotte.cells.products import pull_back
from calotte.network.affine import Affine
from calotte.network.graph import Network

__all__ = ["Slopes", "padded"]

_ROWS = 16


class Slopes:
    """A network to descend on, in the arithmetic of its coefficients."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.feeders = {network.nodes[i].inputs[0] for i in network.relus}
        tensors = (t for node in network.nodes if isinstance(node.op, Affine) for t in vars(node.op).values())
        single = any(isinstance(t, Tensor) and t.dtype == torch.float32 for t in tensors)
        self.dtype = torch.float32 if single else torch.float64

    def near(self, other: Slopes) -> bool:
        """Whether outputs at a few Gaussian points are those of another network within a thousandth."""
        x = torch.randn(_ROWS, self.network.d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        ours, theirs = (s.network.forward(x.to(s.dtype)).to(torch.float64) for s in (self, other))
        largest = theirs.abs().amax()
        return bool(ours.isfinite().all() and (ours - theirs).abs().amax() <= 1e-3 * largest)

    def margins(self, points: Tensor, y: Tensor) -> Tensor:
        """Margins (T, comparisons) of the answers y (T,) at points (T, d)."""
        z = self.network.forward(padded(points.to(self.dtype)))[: len(points)]
        return margins(self.network.decision, z, y)

    def at(self, points: Tensor, y: Tensor, aims: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Margins, and for one of them its value and its slope on the cell that each point lies in.

        Args:
            points: (T, d); y: (T,) the answers that the margins are about.
            aims: (T,) which margin, while the answer is y; the smallest one else, and where aims is None.

        Returns:
            Margins (T, comparisons), the one (T, 1), its uphill unit vector (T, d), zero where it is flat, and the
            norm of its gradient (T, 1).
        """
        network, count = self.network, len(points)
        active = {}
        for i, value in network.values(padded(points.to(self.dtype))):
            if i in self.feeders:
                active[i] = value > 0
        z = value.flatten(1)
        gaps = margins(network.decision, z[:count], y)
        smallest, aim = gaps.min(1)
        if aims is not None:
            aim = torch.where(smallest < 0, aim, aims)
        cotangents = torch.zeros_like(z)
        if network.decision.rule == "sign":
            cotangents[:count, 0] = torch.where(y == 1, 1.0, -1.0).to(z.dtype)
        else:
            sign = 1.0 if network.decision.rule == "argmax" else -1.0
            cotangents[:count].scatter_(1, y[:, None], sign)
            cotangents[:count].scatter_(1, network.decision.rivals(y).gather(1, aim[:, None]), -sign)
        last = len(network.nodes) - 1
        masks = {i: active[network.nodes[i].inputs[0]] for i in network.relus}
        slope = pull_back(network, masks, last, cotangents.reshape(-1, *network.shape(last)))[:count]
        slope = slope.to(z.dtype)
        largest = slope.abs().amax(1, keepdim=True)  # squares neither overflow nor underflow after scaling
        scaled = slope / torch.where(largest > 0, largest, 1.0)
        norm = scaled.norm(dim=1, keepdim=True).clamp_min(1.0)
        return gaps, gaps.gather(1, aim[:, None]), scaled / norm, norm * largest


def padded(rows: Tensor) -> Tensor:
    """Rows (n, d) with zeros below, so many that matrix products give each row the same bits whatever the batch."""
    return functional.pad(rows, (0, 0, 0, -len(rows) % _ROWS))
