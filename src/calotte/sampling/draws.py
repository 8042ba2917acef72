"""Draws: noise on one input, and what the network says there.

In a chain of dense layers only the first pre-activations W_1 (x + r) + b see the noise: it is drawn in the span of
W_1's rows, the norm of all of it that the network does not see as one variable, so that no d normals are needed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from calotte.network.footprint import pass_size
from calotte.network.single import converted
from calotte.proofs.float32 import executed
from calotte.query import Query
from calotte.streams import Stream, generator

__all__ = ["Draws", "Noisy", "chunk_size"]

_CHUNK, _ENTRIES = 1024, 2**22  # draws, and numbers, that share a generator at most


def chunk_size(seen: int) -> int:
    """Draws that share a generator where each has `seen` coordinates: a power of two, part of what a seed means."""
    return min(_CHUNK, 1 << max(0, (_ENTRIES // seen).bit_length() - 1))


class Noisy:
    """Input i of a query under noise, as a function of the coordinates of the noise that the network sees.

    Attributes:
        seen: the number k of these: m, those of u, or in a chain of dense layers those in the span of the first
            layer's rows.
        at_once: draws in a pass.
        deadline: of the query.
    """

    def __init__(self, query: Query, i: int, *, reduced: bool = True) -> None:
        """With `reduced` false the coordinates are those of u in a chain of dense layers too."""
        self.noise, self.deadline, self.base = query.noise, query.deadline, query.x[i : i + 1]
        self.network, self.start, self.seen = query.network, 0, query.m
        self.rows: Tensor | None = None
        chain = query.hyperplanes.chain
        if reduced and chain is not None and self.noise.isotropic:
            self.start = chain.ends[0]
            values = query.network.values(self.base)
            self.base = next(value.flatten(1) for node, value in values if node == self.start)
            self.rows = query.hyperplanes.space.rows.t().contiguous()
            self.seen = len(self.rows)
        self.at_once = pass_size(self.network, query.settings.memory_limit / 4, self.start)

    def on(self, device: str) -> Noisy:
        """The same, evaluated on a device."""
        if device != "cpu":
            self.network, self.base = converted(self.network, torch.float64, device), self.base.to(device)
            self.rows = None if self.rows is None else self.rows.to(device)
        return self

    def outputs(self, u: Tensor) -> Tensor:
        """Outputs (n, K) in float64 under noise of coordinates u (n, k)."""
        parts = list(self.passes(u))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def passes(self, u: Tensor) -> Iterator[Tensor]:
        """The outputs, pass by pass: each holds at most about a quarter of the memory limit.

        Raises:
            OutOfTime: before a pass that would begin too late.
        """
        for part in torch.split(u, self.at_once):
            self.deadline.check("while sampling")
            if self.rows is not None:
                here = torch.addmm(self.base, part.to(self.base.device), self.rows)
            else:
                here = self.base + self.noise.apply_map(part, self.network.d).to(self.base.device)
            yield self.network.forward(here, self.start).cpu()


class Draws:
    """Independent draws of the noise on input i of a query, in one stream of random numbers.

    They come in chunks, each with a generator seeded by the seed, the index of the input and the number of the
    chunk, so that draws depend on these alone.
    """

    def __init__(self, query: Query, i: int, stream: Stream) -> None:
        self.query, self.stream, self.index = query, stream, query.index[i]
        self.noisy = Noisy(query, i).on(query.settings.device)
        # of float32 a draw counts as wrong where it may be, and so would one outside of the ball that bounds speak
        # of: such draws are not met in e^800
        self.margins = executed(query, query.sizes, query.event_margins)[0][i : i + 1]
        self.chunk = chunk_size(self.noisy.seen)

    def noise(self, count: int) -> Iterator[Tensor]:
        """The coordinates (n, k) of the first `count` draws, chunk by chunk."""
        for number, first in enumerate(range(0, count, self.chunk)):
            chosen = generator(self.stream, self.query.settings.seed, self.index, number)
            drawn = self.query.noise.project(self.chunk, self.noisy.seen, self.query.m, chosen)
            yield drawn[: count - first]

    def wrong(self, noise: Tensor) -> Iterator[Tensor]:
        """Where the event occurs at draws of coordinates (n, k), as float64 says: bool, pass by pass.

        Outputs that are not finite are no answer: they count as wrong.

        Raises:
            OutOfTime: before a pass that would begin too late.
        """
        for outputs in self.noisy.passes(noise):
            yield self.margins.occurs(outputs)
