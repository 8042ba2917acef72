"""Halvings: noise in few independent coordinates, halved again and again, as a Proof that says the cuts only."""

from __future__ import annotations

import math
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from calotte.errors import InvalidInput
from calotte.independent import Independent
from calotte.noise import Gaussian
from calotte.proofs.cuboids.tiling import Cuts, Tiling
from calotte.proofs.proof import Proof
from calotte.query import Query

__all__ = ["Halvings"]

_MOST = 2**24  # bytes of an array that are read; 2,000,000 cuboids have as many of axes
_MOST_ROUNDS = 2**16


@dataclass(frozen=True, eq=False)
class Halvings(Proof, kind="halvings"):
    """A tree of cuboids, each inner one halved: which are, across which axis, and when.

    Cuboids are bounded together with those that are cut at the same time: that gives the same bits as before.

    Attributes:
        span: of a Gaussian, the half-width of the cube that is cut, in standard deviations; of no account else.
        kept: ReLUs of each layer that are tracked by themselves.
        axes: (n,) uint8, for each cuboid, numbered as in a Tiling: 0 where it is not cut, else 1 + the axis.
        waits: (k,) uint16, for each that is cut: how many times others are cut between its making and its cut.
    """

    span: float
    kept: int
    axes: Tensor
    waits: Tensor

    def __post_init__(self) -> None:
        if not (isinstance(self.span, float) and 0 <= self.span < math.inf):
            raise InvalidInput(f"proof: span must be a finite number, 0 or more, came {self.span!r}")
        shaped = self.axes.ndim == self.waits.ndim == 1 and self.axes.dtype == torch.uint8
        if not (shaped and self.waits.dtype == torch.uint16 and type(self.kept) is int and self.kept >= 0):
            raise InvalidInput("proof: not what makes halvings")
        cut = int((self.axes != 0).sum())
        if len(self.waits) != cut or len(self.axes) != 1 + 2 * cut:
            raise InvalidInput(f"proof: {cut} cuts make {1 + 2 * cut} cuboids, came {len(self.axes)}")

    @classmethod
    def of(cls, tiling: Tiling, span: float) -> Self:
        """What was cut in a Tiling of that span."""
        axes = torch.zeros(tiling.count, dtype=torch.uint8)
        waits, made, count = torch.zeros(tiling.count, dtype=torch.int64), torch.zeros_like(axes).long(), 1
        for now, cuts in enumerate(tiling.cuts):
            axes[cuts.numbers] = (cuts.axes + 1).to(torch.uint8)
            waits[cuts.numbers] = now - made[cuts.numbers]
            made[count : count + 2 * len(cuts.numbers)] = now + 1
            count += 2 * len(cuts.numbers)
        return cls(span, tiling.kept, axes, waits[axes != 0].clamp_max(2**16 - 1).to(torch.uint16))

    def log_bound(self, query: Query) -> float:
        if not isinstance(query.noise, Independent | Gaussian):
            raise InvalidInput(f"proof: for noise in independent coordinates, which {query.noise.kind} noise has not")
        tiling = Tiling(query, query.sizes.item(), self.span, self.kept)
        axes = self.axes.to(torch.int64) - 1
        waits = torch.full_like(axes, -1)
        waits[axes >= 0] = self.waits.to(torch.int64)
        due: dict[int, list[Tensor]] = {}  # when which are cut
        if waits[0] >= 0:
            due[int(waits[0])] = [torch.zeros(1, dtype=torch.int64)]
        times = list(due)
        while times:
            if len(tiling.cuts) == _MOST_ROUNDS:  # a few bytes could ask for days of work
                raise InvalidInput(f"proof: more than {_MOST_ROUNDS:,} rounds of cuts")
            now = heappop(times)
            numbers = torch.cat(due.pop(now)).sort().values
            made = torch.arange(tiling.count, tiling.count + 2 * len(numbers))
            made = made[waits[made] >= 0]
            for wait in sorted(set(waits[made].tolist())):
                if now + 1 + wait not in due:
                    heappush(times, now + 1 + wait)
                due.setdefault(now + 1 + wait, []).append(made[waits[made] == wait])
            tiling.cut(Cuts(numbers, axes[numbers]))
        return tiling.log_upper

    def _written(self) -> dict[str, Any]:
        return {
            "span": self.span.hex(),
            "kept": self.kept,
            "axes": packed(self.axes.numpy()),
            "waits": packed(self.waits.numpy()),
        }

    @classmethod
    def _read(cls, written: Mapping[str, Any]) -> Self:
        axes, waits = (unpacked(written[name], kind) for name, kind in (("axes", np.uint8), ("waits", np.uint16)))
        return cls(float.fromhex(written["span"]), written["kept"], torch.from_numpy(axes), torch.from_numpy(waits))


def packed(numbers: np.ndarray) -> dict[str, Any]:
    """Integers (n,) as the base64 of their compressed bytes, the larger ones first."""
    found = zlib.compress(numbers.astype(numbers.dtype.newbyteorder(">")).tobytes(), 9)
    return {"length": len(numbers), "zlib": b64encode(found).decode()}


def unpacked(written: Mapping[str, Any], kind: type[np.unsignedinteger[Any]]) -> np.ndarray:
    """The integers that `packed` wrote."""
    size = int(written["length"]) * np.dtype(kind).itemsize
    if not 0 <= size <= _MOST:
        raise ValueError(f"{written['length']} numbers")
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(b64decode(written["zlib"], validate=True), size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(found) != size or not stream.eof:
        raise ValueError(f"{written['length']} numbers in other bytes")
    return np.frombuffer(found, np.dtype(kind).newbyteorder(">")).astype(kind)
