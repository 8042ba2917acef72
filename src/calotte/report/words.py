"""Words under a table: what a run found, why a rung says nothing, and what to do about it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal

from calotte.assessment import Assessment
from calotte.bound import Bound
from calotte.plan import Plan
from calotte.printing import number, plain, probability_text

__all__ = ["plan_remarks", "remarks", "summary"]

_RISK = 1e-3  # a sampled bound above it is counted, where no delta is asked about
_REMEDIES = (
    ("time limit", "give it more --time-limit"),
    ("memory", "give it more --memory-limit"),
    ("too slow", "the other rungs apply"),
)
"""What to do, by what the reason of a skipped rung speaks of."""


def summary(assessments: Iterable[Assessment]) -> str:
    """One sentence on a whole run, of at least one input."""
    total = told = certain = 0
    worst, samples = -math.inf, _Samples()
    for one in assessments:
        total += 1
        if one.best is not None:
            told += one.best.log_misclassification < 0.0
            certain += one.best.certain
            worst = max(worst, one.best.log_misclassification)
        samples.add(one.bounds)
    plural = "" if total == 1 else "s"
    return (
        f"{total} input{plural}: p = 0 proved for {certain}, a bound below 1 for {told}, "
        f"largest proved bound {probability_text(worst if told else 0.0)}{samples}"
    )


class _Samples:
    """What samples say about the risk of the inputs, and whether they were enough to say less."""

    def __init__(self) -> None:
        self.first: Bound | None = None
        self.total = self.above = 0

    def add(self, bounds: Iterable[Bound]) -> None:
        """One more input."""
        for bound in bounds:
            if bound.rung == "sampling" and bound.skipped is None:
                self.first = self.first or bound
                self.total += 1
                self.above += bound.log_misclassification > math.log(self.risk)

    @property
    def risk(self) -> float:
        """The probability that sampled bounds are held against."""
        return _RISK if self.first is None or self.first.delta is None else self.first.delta

    def __str__(self) -> str:
        if self.first is None:
            return ""
        said = f"; {self.above} of {self.total} with a sampled bound above {Decimal(repr(self.risk)).normalize():e}"
        draws, confidence = self.first.samples, self.first.confidence
        if self.above and draws and confidence and not self.first.delta:
            least = -math.expm1(math.log1p(-confidence) / draws)  # the bound where none of the draws is misclassified
            if least > self.risk:
                said += f" ({draws} samples cannot show less than {number(least, 'up', 2)}: raise --samples)"
        return said


class _Speech:
    """How often a rung was skipped or cut short, and whether it said anything about the others.

    Attributes:
        skipped, cut_short: reasons, each with the number of inputs; spoken: inputs that it was not skipped at.
        silent: whether it said nothing about any of those.
        on_hyperplane: whether all of them lie on one; units: whose hyperplanes these are.
    """

    def __init__(self) -> None:
        self.skipped, self.cut_short, self.spoken = Counter[str](), Counter[str](), 0
        self.silent = self.on_hyperplane = True
        self.units: set[str] = set()

    def add(
        self, skipped: str | None, cut_short: str | None, says: bool, distance: float | None, unit: str | None
    ) -> None:
        """One more input."""
        if cut_short is not None:
            self.cut_short[cut_short] += 1
        if skipped is not None:
            self.skipped[skipped] += 1
            return
        self.spoken += 1
        self.silent &= not says
        self.on_hyperplane &= distance == 0
        if self.silent and self.on_hyperplane and unit is not None:
            self.units.add(plain(unit))


def remarks(assessments: Iterable[Assessment]) -> list[str]:
    """A line for each rung that is skipped or cut short somewhere, or that says nothing about any input."""
    speech, distances = defaultdict[str, _Speech](_Speech), _Speech()
    noise, arithmetic = "", "real"
    for one in assessments:
        noise, arithmetic = one.noise, one.arithmetic
        for b in one.bounds:
            speech[b.rung].add(b.skipped, b.cut_short, b.log_misclassification < 0, one.distance, one.nearest_unit)
        distances.add(one.distance_skipped, None, True, None, None)
    found: list[str] = []
    silent: dict[tuple[str, str | None], list[str]] = {}  # rungs by inputs and reason
    for rung, said in speech.items():
        found += _not_said(rung, said)
        if said.spoken and said.silent:
            silent.setdefault((_all(said.spoken), _vacuous(rung, said, arithmetic)), []).append(rung)
    for (inputs, why), rungs in silent.items():
        executed = "" if arithmetic == "real" else f" --arithmetic {arithmetic}; where 0, rounding is too much"
        why = why or (
            "too much noise; the largest that works is told by calotte plan --delta 1e-3 --noise "
            f"{noise} --rungs {','.join(rungs)}{executed}"
        )
        found.append(f"{', '.join(rungs)}: 1 for {inputs}: {why}")
    return found + _not_said("distance", distances)


def plan_remarks(plans: Iterable[Plan]) -> list[str]:
    """A line for each rung that is skipped or cut short somewhere, or that bears no noise at any input."""
    speech, distances = defaultdict[str, _Speech](_Speech), _Speech()
    for one in plans:
        for rung in rungs_of(one):
            says = one.largest_eps.get(rung) != 0
            speech[rung].add(one.skipped.get(rung), one.cut_short.get(rung), says, one.distance, None)
        distances.add(one.distance_skipped, None, True, None, None)
    found: list[str] = []
    silent: dict[tuple[str, str], list[str]] = {}  # rungs by inputs and reason
    for rung, said in speech.items():
        found += _not_said(rung, said)
        if said.spoken and said.silent:
            on = _on_hyperplane(rung, said)
            why = on or "p <= delta was proved at no size that was tried; it may be for a larger --delta"
            silent.setdefault((_all(said.spoken), why), []).append(rung)
    if distances.spoken:  # else there is no column of distances
        found += _not_said("distance", distances)
    return found + [f"{', '.join(rungs)}: 0 for {inputs}: {why}" for (inputs, why), rungs in silent.items()]


def rungs_of(plan: Plan) -> list[str]:
    """The rungs that a plan speaks of, or skips, in the order of the ladder."""
    return list(dict.fromkeys((*plan.largest_eps, *plan.skipped)))


def _all(count: int) -> str:
    return "the input" if count == 1 else f"all {count} inputs"


def _some(count: int, total: int) -> str:
    return _all(total) if count == total else f"{count} of {total} inputs"


def _not_said(rung: str, said: _Speech) -> list[str]:
    """A line for each reason for which a rung was skipped or cut short."""
    total = said.spoken + said.skipped.total()
    lines = []
    for reason, count in said.skipped.items():
        remedies = [] if "--" in reason else [f"; {remedy}" for word, remedy in _REMEDIES if word in reason]
        lines.append(f"{rung}: - for {_some(count, total)}: {plain(reason)}{''.join(remedies[:1])}")
    return lines + [
        f"* {rung}: cut short for {_some(count, total)}: {plain(reason)}; what is printed holds, more time "
        "or memory may give more"
        for reason, count in said.cut_short.items()
    ]


def _vacuous(rung: str, said: _Speech, arithmetic: str) -> str | None:
    """Why a rung bounds p by 1 for all these inputs, where it is not for too much noise alone."""
    if rung == "sampling" and arithmetic == "float32":
        return (
            "at nearly every draw noise changes the answer, or float32's rounding may: --arithmetic real tells "
            "which, and less noise helps against the first"
        )
    if rung == "sampling":
        return "noise changes nearly every sampled answer: take less"
    if rung == "isoperimetry":
        return "samples show too many errors, or errors too near: take less noise"
    return _on_hyperplane(rung, said)


def _on_hyperplane(rung: str, said: _Speech) -> str | None:
    """What to say of the rungs about cells where all inputs lie on the boundaries of theirs."""
    if rung not in ("theorem", "cell") or not said.on_hyperplane:
        return None
    unit = f" (of unit {next(iter(said.units))})" if len(said.units) == 1 else ""
    return (
        f"the distance is 0, the input lies on a hyperplane{unit}: ties of max pooling do this, and zeros in front "
        "of a ReLU; average pooling or strides in place of max pooling help, and the other rungs look beyond the cell"
    )
