"""Words under a table: what a run found, why a rung says nothing, and what to do about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
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


def summary(assessments: Sequence[Assessment]) -> str:
    """One sentence on a whole run."""
    best = [one.best for one in assessments]
    told = [bound for bound in best if isinstance(bound, Bound) and bound.log_misclassification < 0.0]
    certain = sum(bound.certain for bound in told)
    worst = max((bound.log_misclassification for bound in best if bound), default=0.0)
    plural = "" if len(assessments) == 1 else "s"
    said = (
        f"{len(assessments)} input{plural}: p = 0 proved for {certain}, a bound below 1 for {len(told)}, "
        f"largest proved bound {probability_text(worst)}"
    )
    bounds = [bound for one in assessments for bound in one.bounds]
    return said + _on_samples([b for b in bounds if b.rung == "sampling" and b.skipped is None])


def _on_samples(bounds: list[Bound]) -> str:
    """What samples say about the risk, and whether they were enough to say less."""
    if not bounds:
        return ""
    risk = bounds[0].delta or _RISK
    above = sum(bound.log_misclassification > math.log(risk) for bound in bounds)
    said = f"; {above} of {len(bounds)} with a sampled bound above {Decimal(repr(risk)).normalize():e}"
    draws, confidence = bounds[0].samples, bounds[0].confidence
    if above and draws and confidence and not bounds[0].delta:
        least = -math.expm1(math.log1p(-confidence) / draws)  # the bound where none of the draws is misclassified
        if least > risk:
            said += f" ({draws} samples cannot show less than {number(least, 'up', 2)}: raise --samples)"
    return said


def remarks(assessments: Sequence[Assessment]) -> list[str]:
    """A line for each rung that is skipped or cut short somewhere, or that says nothing about any input."""
    found: list[str] = []
    silent: dict[tuple[str, str | None], list[str]] = {}  # rungs by inputs and reason
    for k, rung in enumerate(bound.rung for bound in assessments[0].bounds):
        bounds = [one.bounds[k] for one in assessments]
        found += _skipped(rung, [bound.skipped for bound in bounds])
        found += _cut_short(rung, [bound.cut_short for bound in bounds])
        spoken = [(one, bound) for one, bound in zip(assessments, bounds, strict=True) if bound.skipped is None]
        if spoken and all(bound.log_misclassification >= 0 for _, bound in spoken):
            silent.setdefault((_all(len(spoken)), _vacuous(rung, [one for one, _ in spoken])), []).append(rung)
    for (inputs, why), rungs in silent.items():
        why = why or (
            "too much noise; the largest that works is told by calotte plan --delta 1e-3 --noise "
            f"{assessments[0].noise} --rungs {','.join(rungs)}"
        )
        found.append(f"{', '.join(rungs)}: 1 for {inputs}: {why}")
    found += _skipped("distance", [one.distance_skipped for one in assessments])
    return found


def plan_remarks(plans: Sequence[Plan]) -> list[str]:
    """A line for each rung that is skipped or cut short somewhere, or that bears no noise at any input."""
    found: list[str] = []
    silent: dict[tuple[str, str], list[str]] = {}  # rungs by inputs and reason
    for rung in rungs_of(plans):
        found += _skipped(rung, [plan.skipped.get(rung) for plan in plans])
        found += _cut_short(rung, [plan.cut_short.get(rung) for plan in plans])
        spoken = [plan for plan in plans if rung not in plan.skipped]
        if spoken and all(plan.largest_eps.get(rung) == 0 for plan in spoken):
            on = _on_hyperplane(rung, [(plan.distance, None) for plan in spoken])
            why = on or "p <= delta was proved at no size that was tried; it may be for a larger --delta"
            silent.setdefault((_all(len(spoken)), why), []).append(rung)
    if any(plan.distance_skipped is None for plan in plans):  # else there is no column of distances
        found += _skipped("distance", [plan.distance_skipped for plan in plans])
    return found + [f"{', '.join(rungs)}: 0 for {inputs}: {why}" for (inputs, why), rungs in silent.items()]


def rungs_of(plans: Iterable[Plan]) -> list[str]:
    """The rungs that plans speak of, or skip, in the order of the ladder."""
    return list(dict.fromkeys(rung for plan in plans for rung in (*plan.largest_eps, *plan.skipped)))


def _all(count: int) -> str:
    return "the input" if count == 1 else f"all {count} inputs"


def _some(count: int, total: int) -> str:
    return _all(total) if count == total else f"{count} of {total} inputs"


def _skipped(rung: str, reasons: list[str | None]) -> list[str]:
    """A line for each reason that is given."""
    lines = []
    for reason, count in Counter(reason for reason in reasons if reason is not None).items():
        remedy = next((f"; {remedy}" for word, remedy in _REMEDIES if word in reason and remedy not in reason), "")
        lines.append(f"{rung}: - for {_some(count, len(reasons))}: {plain(reason)}{remedy}")
    return lines


def _cut_short(rung: str, reasons: list[str | None]) -> list[str]:
    return [
        f"* {rung}: cut short for {_some(count, len(reasons))}: {plain(reason)}; what is printed holds, more time "
        "or memory may give more"
        for reason, count in Counter(reason for reason in reasons if reason is not None).items()
    ]


def _vacuous(rung: str, assessments: list[Assessment]) -> str | None:
    """Why a rung bounds p by 1 for all these inputs, where it is not for too much noise alone."""
    if rung == "sampling":
        return "noise changes nearly every sampled answer: take less"
    if rung == "isoperimetry":
        return "samples show too many errors, or errors too near: take less noise"
    return _on_hyperplane(rung, [(one.distance, one.nearest_unit) for one in assessments])


def _on_hyperplane(rung: str, nearest: list[tuple[float | None, str | None]]) -> str | None:
    """What to say of the rungs about cells where all inputs, (distance, unit), lie on the boundaries of theirs."""
    if rung not in ("theorem", "cell") or any(distance != 0 for distance, _ in nearest):
        return None
    units = {plain(unit) for _, unit in nearest if unit is not None}
    unit = f" (of unit {units.pop()})" if len(units) == 1 else ""
    return (
        f"the distance is 0, the input lies on a hyperplane{unit}: ties of max pooling do this, and zeros in front "
        "of a ReLU; average pooling or strides in place of max pooling help, and the other rungs look beyond the cell"
    )
