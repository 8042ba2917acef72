"""The table of a page: every input, riskiest first, as plain data that the page's script shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from calotte.assessment import Assessment
from calotte.bound import Bound
from calotte.printing import lower_text, number, plain, probability_text
from calotte.report.originals import Originals
from calotte.report.standing import is_proved, is_sampled
from calotte.report.thumbnails import sheets
from calotte.theorems import log_target

__all__ = ["inventory"]

_PROVED, _SAMPLED, _RISK, _WRONG = 1, 2, 4, 8
_MOVED = 3  # features named

Cell = tuple[str, float | None]
"""What is shown, and the number that it is sorted by; None comes last."""


def inventory(ranked: Sequence[Assessment], delta: float, originals: Originals | None) -> dict[str, Any]:
    """Columns, rows and thumbnails, for JSON.

    Args:
        ranked: at least one, in the order of the rows.
        delta: the probability that bounds are held against; originals: the inputs themselves, where known.
    """
    target = log_target(delta)
    rungs = list(dict.fromkeys(b.rung for one in ranked for b in one.bounds))
    columns = ["input", "answer", *(["label"] if any(one.label is not None for one in ranked) else []), *rungs]
    columns += ["radius", "distance", "wrong at"]
    images = originals is not None and originals.shape is not None
    if originals is not None and not images:
        columns.append("what moves most")
    rows = []
    for one in ranked:
        bounds = {b.rung: b for b in one.bounds}
        cells: list[Cell] = [(str(one.index), one.index), (str(one.predicted), one.predicted)]
        if "label" in columns:
            cells.append(("-", None) if one.label is None else (str(one.label), one.label))
        cells += [_bound(bounds.get(rung)) for rung in rungs]
        cells += [_lower(one.certified_radius), _distance(one), _found(one)]
        if originals is not None and not images:
            cells.append(_moved(one, originals))
        rows.append([_flags(one, target), one.predicted if one.label is None else one.label, *cells])
    return {"columns": columns, "rows": rows, "sheets": _thumbnails(ranked, originals) if images else None}


def _flags(one: Assessment, target: float) -> int:
    proved, sampled = is_proved(one, target), is_sampled(one, target)
    flags = (proved and _PROVED) | (sampled and _SAMPLED) | (not (proved or sampled) and _RISK)
    return flags | (one.correct is False and _WRONG)


def _bound(bound: Bound | None) -> Cell:
    if bound is None or bound.skipped is not None:
        return "-", None
    text = probability_text(bound.log_misclassification) + ("*" if bound.cut_short is not None else "")
    return text, _key(bound.log_misclassification)


def _key(x: float) -> float:
    """A number to sort by, as JSON knows it."""
    return float(f"{x:.6g}") if math.isfinite(x) else math.copysign(1e308, x)


def _lower(x: float | None) -> Cell:
    return lower_text(x), _key(math.inf if x is None else x)


def _distance(one: Assessment) -> Cell:
    return ("-", None) if one.distance_skipped is not None else _lower(one.distance)


def _found(one: Assessment) -> Cell:
    if one.adversarial_distance is None:
        return "-", None
    answer = "" if one.witness is None else f" → {one.witness.answer}"
    return number(one.adversarial_distance, "up") + answer, _key(one.adversarial_distance)


def _moved(one: Assessment, originals: Originals) -> Cell:
    """The features that the nearest misclassified point moves most, from what to what."""
    x = originals.x.get(one.index)
    if one.witness is None or x is None:
        return "-", None
    point = one.witness.point.numpy()
    change = np.abs(point - x)
    said = [
        f"{plain(originals.features[k]) if originals.features else f'x{k}'} {x[k]:.3g} → {point[k]:.3g}"
        for k in np.argsort(-change, kind="stable")[:_MOVED]
        if change[k] > 0
    ]
    return ", ".join(said), _key(float(change.max(initial=0.0)))


def _thumbnails(ranked: Sequence[Assessment], originals: Originals | None) -> dict[str, Any] | None:
    if originals is None or any(one.index not in originals.x for one in ranked):
        return None
    made = sheets(
        np.stack([originals.image(originals.x[one.index]) for one in ranked]),
        [None if one.witness is None else originals.image(one.witness.point.numpy()) for one in ranked],
    )
    return {"width": made.width, "height": made.height, "rows": made.rows, "count": made.count, "images": made.images}
