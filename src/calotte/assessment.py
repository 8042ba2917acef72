"""Assessment: what is known about one input under one noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from math import inf
from typing import Any, Self

from calotte.adversary import Witness
from calotte.bound import Bound
from calotte.errors import InvalidInput
from calotte.lines import Line, entries
from calotte.lower import LowerBound
from calotte.notebook import html_table
from calotte.printing import lower_text, number, probability_text, span
from calotte.result import Result
from calotte.sampling.estimate import Estimate

__all__ = ["Assessment", "Sizes", "by_risk", "by_size", "risk"]

_SHOWN = 30  # rows in a notebook


@dataclass(frozen=True, kw_only=True, repr=False)
class Assessment(Result):
    """What is known about one input under one noise; what it is about is said by `Result`.

    Attributes:
        eps, sigma: of the noise, its norm and its standard deviation per coordinate.
        nearest_unit: the unit whose hyperplane is at the `distance`.
        distance_skipped: why `distance` is not known, where it was not asked for and would have taken too long.
        certified_radius: no input closer than this is answered differently; proved, None where unlimited.
        adversarial_distance: of the nearest point found that certainly is answered differently, rounded up; None
            where none was found. witness: that point, None too where it was not kept.
        bounds: what each rung says about the misclassification probability.
        lower: what the rungs that bound it from below say.
        estimates: what rare-event methods say about it, or about the probability of leaving the cell; no bounds.
        seed: of all draws.
    """

    eps: float
    sigma: float
    nearest_unit: str | None
    certified_radius: float | None
    bounds: tuple[Bound, ...]
    seed: int
    adversarial_distance: float | None = None
    witness: Witness | None = None
    estimates: tuple[Estimate, ...] = ()
    lower: tuple[LowerBound, ...] = ()
    distance_skipped: str | None = None

    @property
    def best(self) -> Bound | None:
        """The smallest proved bound (the first of equals), or None where no proved rung was asked."""
        proved = [bound for bound in self.bounds if bound.guarantee == "proved" and bound.skipped is None]
        return min(proved, key=lambda bound: bound.log_misclassification, default=None)

    @property
    def best_lower(self) -> LowerBound | None:
        """The largest proved lower bound (the first of equals), or None where nothing is proved from below."""
        proved = [bound for bound in self.lower if bound.log_misclassification > -math.inf]
        return max(proved, key=lambda bound: bound.log_misclassification, default=None)

    def __repr__(self) -> str:
        return f"<Assessment: {self}>"

    def __str__(self) -> str:
        best = "nothing proved" if self.best is None else str(self.best)
        best += "" if self.best_lower is None else f", {self.best_lower}"
        radius = "no limit" if self.certified_radius is None else lower_text(self.certified_radius)
        what = f"{self.noise} noise of eps {self.eps:.4g}"
        return f"input {self.index}, answer {self.predicted}, {what}: {best}; certified radius {radius}"

    def to_dict(self, *, points: bool = False) -> dict[str, Any]:
        """The public JSON form.

        Args:
            points: whether the witness is in it, under "witness": d numbers, where the rest is a few hundred bytes.
        """
        found: dict[str, Any] = {
            **({} if self.distance_skipped is None else {"distance_skipped": self.distance_skipped}),
            "nearest_unit": self.nearest_unit,
            "certified_radius": self.certified_radius,
            "bounds": [bound.to_dict() for bound in self.bounds],
            "lower": [bound.to_dict() for bound in self.lower],
            "best": self.best.rung if self.best else None,
            "estimates": [estimate.to_dict() for estimate in self.estimates],
            "adversarial_distance": self.adversarial_distance,
        }
        if points:
            found["witness"] = None if self.witness is None else self.witness.to_dict()
        return self.line({"eps": self.eps, "sigma": self.sigma}, found | {"seed": self.seed})

    @classmethod
    def html(cls, results: Sequence[Self]) -> str:
        """The riskiest of them as a table for a notebook: bounds rounded up, radii down."""
        ranked = by_risk(results)
        shown, first = ranked[:_SHOWN], ranked[0]
        rungs = list(dict.fromkeys(bound.rung for one in shown for bound in one.bounds))
        rows = []
        for one in shown:
            said = {b.rung: "-" if b.skipped else probability_text(b.log_misclassification) for b in one.bounds}
            answer = f"{one.predicted} (label {one.label})" if one.correct is False else str(one.predicted)
            found = "-" if one.adversarial_distance is None else number(one.adversarial_distance, "up")
            bounds = [said.get(rung, "-") for rung in rungs]
            rows.append([str(one.index), answer, *bounds, lower_text(one.certified_radius), found])
        what = "the answer changes" if first.event == "change" else first.event
        statistical = [b for b in first.bounds if b.confidence is not None]
        levels = "".join(f"; {b.rung}: at confidence {b.confidence:g} for each input" for b in statistical)
        more = f"{len(shown)} of {len(ranked)}, riskiest first; " if len(ranked) > len(shown) else ""
        return html_table(
            f"p ≤ …, the probability that {what}: {first.noise} noise, {Sizes(ranked)}",
            ["input", "answer", *rungs, "certified radius", "wrong at"],
            rows,
            f"{more}bounds rounded up, radii down{levels}",
        )

    @classmethod
    def from_dict(cls, line: Line, witness: Witness | None = None) -> Self:
        """What `to_dict` wrote; seconds as rounded there.

        Args:
            line: the object of JSON; what else stands in it is passed over.
            witness: its witness, where that is kept elsewhere (`witnesses.npz`) and not in the line.

        Raises:
            InvalidInput: it is no such line.
        """
        found = entries(cls, line)
        for name, kind in (("bounds", Bound), ("lower", LowerBound), ("estimates", Estimate)):
            if not isinstance(found.get(name, []), list | tuple):
                raise InvalidInput(f"{name}: expected a list, came {type(found[name]).__name__}")
            found[name] = tuple(kind.from_dict(entry) for entry in found.get(name, []))
        kept = found.get("witness")
        return cls(**found | {"witness": witness if kept is None else Witness.from_dict(kept)})


def risk(one: Assessment) -> tuple[float, float, float]:
    """What sorts the riskiest first: the best proved bound, then what sampling says, then the certified radius."""
    sampled = max((b.log_misclassification for b in one.bounds if b.guarantee == "confidence"), default=0.0)
    proved = one.best.log_misclassification if one.best else 0.0
    return -proved, -sampled, float("inf") if one.certified_radius is None else one.certified_radius


def by_risk(assessments: Iterable[Assessment], most: int | None = None) -> list[Assessment]:
    """Riskiest first, all or so many at `most`; no others are held then."""
    return sorted(assessments, key=risk) if most is None else nsmallest(most, assessments, key=risk)


class Sizes:
    """The sizes of the noise of results that are added one by one.

    Attributes:
        eps, sigma: least and largest.
    """

    def __init__(self, assessments: Iterable[Assessment] = ()) -> None:
        self.eps = self.sigma = inf, 0.0
        self._said = ""
        for one in assessments:
            self.add(one)

    def add(self, one: Assessment) -> None:
        """One more."""
        self.eps = min(self.eps[0], one.eps), max(self.eps[1], one.eps)
        self.sigma = min(self.sigma[0], one.sigma), max(self.sigma[1], one.sigma)
        self._said = one.said

    def __str__(self) -> str:
        """Size or range, with the unit and the arithmetic where these are not the usual ones."""
        return f"eps {span(self.eps)}, sigma {span(self.sigma)}{self._said}"


def by_size(assessments: Iterable[Assessment]) -> list[list[Assessment]]:
    """Those of each size of the noise, in the order in which sizes are met; all together where no input met two."""
    groups: dict[float, list[Assessment]] = {}
    every = list(assessments)
    if len({one.index for one in every}) == len(every):
        return [every] if every else []
    for one in every:
        groups.setdefault(one.eps, []).append(one)
    return list(groups.values())
