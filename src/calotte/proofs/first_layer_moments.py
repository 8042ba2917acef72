"""Moments of the whole first layer as a Proof: what is paid for behind it; slopes, rates and exponents of forms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from calotte.deadline import NEVER
from calotte.errors import InvalidInput
from calotte.noise import Bounded, Gaussian
from calotte.proofs.chooser import Recorded
from calotte.proofs.half_spaces import check_choices, check_fit, check_heights
from calotte.proofs.local.violations import Slack
from calotte.proofs.moments.ends import Peaks
from calotte.proofs.moments.exponents import Exponents, Group, verified, verified_each
from calotte.proofs.moments.first import FirstLayer, first_layer
from calotte.proofs.moments.gaussian import GaussianLaw
from calotte.proofs.moments.layers import Place
from calotte.proofs.moments.shortfalls import Settled
from calotte.proofs.moments.summed import log_bound
from calotte.proofs.moments.sums import Sums, Tilt
from calotte.proofs.proof import Proof, digits, floats, hexadecimal, integers
from calotte.proofs.support import Support
from calotte.query import Query

__all__ = ["FirstLayerMoments", "Tilted", "in_255ths", "short"]

_MOST = 2**31  # numbers of one part that are read


@dataclass(frozen=True, eq=False)
class Tilted:
    """What is decided on R forms of n units.

    Attributes:
        slopes: (R, n) uint8, in 255ths; rates: (K, R), each is tried; rows of zeros: nothing is said of a form.
        exponents: which of the Proof's.
    """

    slopes: Tensor
    rates: Tensor
    exponents: int


@dataclass(frozen=True, eq=False)
class FirstLayerMoments(Proof, kind="moments"):
    """Exponential moments of sums over the whole first layer, on a good event behind it that is paid for.

    Attributes:
        tail: under a Gaussian all noise of norm sigma (sqrt(m) + tail) is considered; of no account else.
        log_each: logarithm of what each bound on a unit may fail with.
        aside: how many deviations below 0 units of the first layer are set aside (`moments.aside`); inf for none.
        choices: ReLU node behind the first layer -> (units,) int8, what is paid for each unit (`proofs.price`).
        peaks: how maxima of first-layer activations are bounded.
        exponents: of all units (n,), or of forms of a group (Q, n), short floats (`short`): they are verified.
        tilts: which forms -> what is decided on them.
        slack: which ends of units behind the first layer are soft, as of one box; None: none may be.
        rooms: of their ends (`moments.shortfalls`), node by node (2, n), short floats.
    """

    tail: float
    log_each: float
    aside: float
    choices: Mapping[int, Tensor]
    peaks: Peaks
    exponents: tuple[Tensor, ...]
    tilts: Mapping[Place, Tilted]
    slack: Slack | None = None
    rooms: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        check_heights(self.tail, 0.0)
        if not (isinstance(self.log_each, float) and -math.inf < self.log_each <= 0.0):
            raise InvalidInput(f"proof: log_each must be a finite number, 0 or less, came {self.log_each!r}")
        if not (isinstance(self.aside, float) and self.aside >= 0.0):
            raise InvalidInput(f"proof: aside must be a number of deviations, 0 or more, came {self.aside!r}")
        check_choices(self.choices)
        threshold, winner = self.peaks.threshold, self.peaks.winner
        fits = threshold.shape == winner.shape and winner.dtype == torch.int64 and bool((winner >= 0).all())
        if not (fits and bool((threshold.isfinite() & (threshold >= 0)).all())):
            raise InvalidInput("proof: maxima need a threshold, 0 or more, and a winner each")
        for place, tilt in self.tilts.items():
            shaped = tilt.slopes.ndim == tilt.rates.ndim == 2 and tilt.rates.shape[1] == len(tilt.slopes)
            if not (shaped and tilt.slopes.dtype == torch.uint8 and 0 <= tilt.exponents < len(self.exponents)):
                raise InvalidInput(f"proof: slopes, rates and exponents of {place} do not belong together")

    def log_bound(self, query: Query) -> float:
        if not isinstance(query.noise, Bounded | Gaussian):
            raise InvalidInput(
                f"proof: for noise that is alike in all directions, which {query.noise.kind} noise is not"
            )
        first = first_layer(query.hyperplanes, NEVER)
        if first is None:
            return 0.0
        check_fit(self.choices, query.network, set(query.network.relus).difference(first.ends.deep))
        windows, members = first.ends.windows, len(first.ends.window)
        if len(self.peaks.winner) != windows or bool((self.peaks.winner >= members).any()):
            raise InvalidInput(f"proof: made for another network: it has {windows} maxima of {members} units")
        self._check_slack(query, [query.network.size(i) for i in first.ends.deep])
        around = Support.of(query, query.sizes, self.tail)
        law = GaussianLaw.of(query.noise, query.sizes.item(), query.m)
        chooser = Recorded({i: choice[None] for i, choice in self.choices.items()}, softened=self.slack)
        given, soft = (query, first, around, law, _Said(self), chooser), self.slack is not None
        return log_bound(*given, self.log_each, self.aside, soft).log_bound.item()

    def _check_slack(self, query: Query, sizes: list[int]) -> None:
        if self.slack is None:
            return
        if query.arithmetic != "real":
            raise InvalidInput("proof: ends may be soft in real arithmetic only")
        margins, soft = query.margins.rows.shape[1], self.slack.soft
        fits = self.slack.margins.shape == (1, margins) and soft.shape == (1, 2, sum(sizes))
        if not (fits and soft.dtype == torch.bool and [(2, n) for n in sizes] == [t.shape for t in self.rooms]):
            raise InvalidInput(f"proof: made for another network: soft ends or room for others than {sizes} units")

    def _written(self) -> dict[str, Any]:
        forms = [
            {
                "node": place.node,
                "block": place.block,
                "side": place.side,
                "exponents": tilt.exponents,
                "rates": hexadecimal(tilt.rates),
                "slopes": rows(tilt.slopes),
            }
            for place, tilt in self.tilts.items()
        ]
        return {
            "tail": self.tail.hex(),
            "log_each": self.log_each.hex(),
            "aside": self.aside.hex(),
            "choices": {str(i): digits(choice) for i, choice in sorted(self.choices.items())},
            "thresholds": hexadecimal(self.peaks.threshold),
            "winners": self.peaks.winner.tolist(),
            "exponents": [rows(halves(power)) | {"all": power.ndim == 1} for power in self.exponents],
            "forms": forms,
            "slack": self.slack and {"margins": hexadecimal(self.slack.margins), "soft": digits(self.slack.soft)},
            "rooms": [rows(halves(room)) for room in self.rooms],
        }

    @classmethod
    def _read(cls, written: Mapping[str, Any]) -> Self:
        tail, log_each, aside = (float.fromhex(written[name]) for name in ("tail", "log_each", "aside"))
        choices = {int(i): integers(choice) for i, choice in written["choices"].items()}
        winners = torch.tensor([int(w) for w in written["winners"]], dtype=torch.int64)
        peaks = Peaks(floats(written["thresholds"]), winners)
        exponents = tuple(whole(numbers(part, 2), bool(part["all"])) for part in written["exponents"])
        tilts = {}
        for form in written["forms"]:
            place = Place(*(int(form[name]) for name in ("node", "block", "side")))
            slopes = torch.from_numpy(numbers(form["slopes"], 1))
            tilts[place] = Tilted(slopes, floats(form["rates"]), int(form["exponents"]))
        slack = written["slack"]
        slack = slack and Slack(floats(slack["margins"]), integers(slack["soft"]).to(torch.bool))
        rooms = tuple(whole(numbers(part, 2), False) for part in written["rooms"])
        return cls(tail, log_each, aside, choices, peaks, exponents, tilts, slack, rooms)


@dataclass(frozen=True)
class _Said:
    """A proposer that says what a Proof does."""

    proof: FirstLayerMoments
    known: dict[tuple[int, Group | None], Exponents | None] = field(default_factory=dict)

    def peaks(self, first: FirstLayer, value: Tensor, law: GaussianLaw) -> Peaks:
        return self.proof.peaks

    def room(self, settled: Settled) -> Tensor:
        return self.proof.rooms[sorted(self.proof.choices).index(settled.relu)]

    def __call__(self, place: Place, sums: Sums, law: GaussianLaw, log_each: float | None) -> list[Tilt]:
        tilt = self.proof.tilts.get(place)
        if tilt is None:
            return []
        if tilt.slopes.shape != sums.weight.shape:
            came, expected = tuple(tilt.slopes.shape), tuple(sums.weight.shape)
            raise InvalidInput(
                f"proof: made for another network, or under another memory limit: {came} slopes of {place}, "
                f"it has {expected}"
            )
        key = tilt.exponents, sums.group
        if key not in self.known:
            self.known[key] = exponents_of(self.proof.exponents[tilt.exponents], sums)
        found = self.known[key]
        slope = tilt.slopes.to(torch.float64) / 255.0
        return [] if found is None else [Tilt(slope, rate, found) for rate in tilt.rates]


def exponents_of(power: Tensor, sums: Sums) -> Exponents | None:
    """Exponents of forms as proposed, verified; None where they are for others."""
    if sums.group is None:
        return verified(sums.first, power) if power.ndim == 1 else None
    places, n = sums.group.index.shape
    runs = len(power) if power.ndim == 2 and power.shape[1] == n else 0
    if runs == 0 or runs % places or len(sums.weight) % runs:
        return None
    return verified_each(sums.first, sums.group, power)


def in_255ths(slopes: Tensor) -> Tensor:
    """Slopes in [0, 1] as a Proof says them: uint8, to the nearest 255th; NaN as 0."""
    return (slopes.nan_to_num(0.0).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def short(power: Tensor) -> Tensor:
    """Numbers >= 0 rounded up by a relative 2^-7 at most, so that two bytes hold them."""
    bits = power.clamp(0.0, 1e38).to(torch.float32).view(torch.int32)
    up = (bits & ~0xFFFF) + 0x10000
    return torch.where(power > 0, up, 0).to(torch.int32).view(torch.float32).to(torch.float64)


def halves(power: Tensor) -> Tensor:
    """The two bytes of short numbers (Q, n), or (n,) as one row: int16."""
    bits = power.to(torch.float32).view(torch.int32) >> 16
    return bits.to(torch.int16).reshape(1 if power.ndim == 1 else len(power), -1)


def whole(bytes_: np.ndarray, one_row: bool) -> Tensor:
    """What `halves` took apart."""
    power = torch.from_numpy(bytes_.astype(np.int32) << 16).view(torch.float32).to(torch.float64)
    return power[0] if one_row else power


def rows(values: Tensor) -> dict[str, Any]:
    """Rows of integers (R, n) as hexadecimal digits of their bytes, those of zeros as nothing."""
    found = values.numpy().astype(f">u{values.element_size()}")
    return {"width": found.shape[1], "rows": [row.tobytes().hex() if row.any() else "" for row in found]}


def numbers(written: Mapping[str, Any], size: int) -> np.ndarray:
    """The rows that `rows` wrote, of `size` bytes a number."""
    width = int(written["width"])
    if width * len(written["rows"]) > _MOST:
        raise ValueError(f"rows of {width} numbers are too many")
    found = np.zeros((len(written["rows"]), width), f"u{size}")
    for here, text in zip(found, written["rows"], strict=True):
        if text:
            here[:] = np.frombuffer(bytes.fromhex(text), f">u{size}")
    return found
