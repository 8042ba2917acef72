"""Compare: two campaigns on the same inputs, such as two models or two sizes of noise, side by side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from calotte.assessment import Assessment
from calotte.campaign.description import differences
from calotte.campaign.export import assessments
from calotte.campaign.store import Store
from calotte.errors import InvalidInput
from calotte.printing import lower_text, number, probability_text
from calotte.report.tables import Column, fitting

__all__ = ["Pair", "comparison_table", "pairs", "words"]


@dataclass(frozen=True)
class Pair:
    """What two campaigns say about one input, each at one size of its noise.

    Attributes:
        index, input_sha256: of the input, the same in both.
        eps: of the noises.
        predicted: the two answers.
        logs: the smallest proved bounds on log p, 0 where nothing is proved.
        radii: the certified radii, inf for no limit.
        rungs: the bounds on log p of the rungs that speak in both, by name.
    """

    index: int
    input_sha256: str | None
    eps: tuple[float, float]
    predicted: tuple[int, int]
    logs: tuple[float, float]
    radii: tuple[float, float]
    rungs: dict[str, tuple[float, float]]

    @property
    def change(self) -> float:
        """The difference of the bounds on log p, second minus first; 0 where both are p = 0."""
        return difference(self.logs)

    def to_dict(self) -> dict[str, Any]:
        """The public JSON form; as in the lines of `assess` null is the logarithm of 0, and no limit of a radius."""
        return {
            "index": self.index,
            "input_sha256": self.input_sha256,
            "eps": list(self.eps),
            "predicted": list(self.predicted),
            "log_misclassification": [finite(log) for log in self.logs],
            "certified_radius": [finite(radius) for radius in self.radii],
            "rungs": {name: [finite(log) for log in logs] for name, logs in self.rungs.items()},
        }


def pairs(first: Store, second: Store) -> list[Pair]:
    """What both campaigns say about the inputs that have results in both: of the same number and the same entries.

    Campaigns of one size each are compared whatever the sizes are; where there are several, at those in common.

    Raises:
        InvalidInput: there are none.
    """
    several = any(size for store in (first, second) for (_, size), _ in store.results())
    known: dict[tuple[int, str | None], list[Summary]] = {}
    for one in assessments(first):
        known.setdefault((one.index, one.input_sha256), []).append(summary_of(one))
    found = []
    for one in assessments(second):
        after = summary_of(one)
        for before in known.get((one.index, one.input_sha256), []):
            if several and before.eps != after.eps and before.sigma != after.sigma:
                continue
            rungs = {name: (log, after.rungs[name]) for name, log in before.rungs.items() if name in after.rungs}
            found.append(
                Pair(
                    one.index, one.input_sha256, (before.eps, after.eps), (before.predicted, after.predicted),
                    (before.log, after.log), (before.radius, after.radius), rungs,
                )
            )  # fmt: skip
    if not found:
        what = "no input at a size of noise" if several else "no input"
        raise InvalidInput(f"{first.path} and {second.path} have results about {what} in common")
    return found


@dataclass(frozen=True)
class Summary:
    """What is compared of an Assessment, of which all may be held at once."""

    eps: float
    sigma: float
    predicted: int
    log: float
    radius: float
    rungs: dict[str, float]


def summary_of(one: Assessment) -> Summary:
    """What is compared of an Assessment."""
    best = 0.0 if one.best is None else one.best.log_misclassification
    radius = math.inf if one.certified_radius is None else one.certified_radius
    rungs = {bound.rung: bound.log_misclassification for bound in one.bounds if bound.skipped is None}
    return Summary(one.eps, one.sigma, one.predicted, best, radius, rungs)


def comparison_table(found: Sequence[Pair], width: int | None = 80, rows: int = 30) -> Table:
    """The inputs whose proved bound rose most, then those whose bound fell most, with the radii; none that stayed.

    Args:
        found: at least one; width: of the terminal, None for no limit; rows: at most so many, half of each kind.
    """
    changed = [pair for pair in found if pair.change != 0] or found
    ranked = sorted(changed, key=lambda pair: -pair.change)
    shown = ranked if len(ranked) <= rows else [*ranked[: rows // 2], *ranked[-(rows // 2) :]]
    columns = [Column("input", [Text(str(pair.index)) for pair in shown], needed=True)]
    if len({pair.eps for pair in found}) > 1:
        columns.append(Column("eps", [Text(sizes_text(pair.eps)) for pair in shown], needed=True))
    columns.append(
        Column("answer", [Text("→".join(map(str, dict.fromkeys(pair.predicted)))) for pair in shown], needed=True)
    )
    for k, name in enumerate(("first", "second")):
        columns.append(Column("p", [Text(probability_text(pair.logs[k])) for pair in shown], name, needed=True))
    columns.append(Column("change", [Text(tens(pair.change)) for pair in shown], "log10 p", needed=True))
    for k, name in enumerate(("first", "second")):
        columns.append(Column("radius", [Text(lower_text(pair.radii[k])) for pair in shown], name))
    some = f"{len(shown)} of {len(found)} {counted(found)}, " if len(shown) < len(found) else ""
    caption = f"{some}smallest proved bounds, rounded up; the bound that rose most comes first"
    return fitting("Two campaigns on the same inputs", columns, caption, width)


def words(found: Sequence[Pair], first: Store, second: Store) -> list[str]:
    """What differs between the campaigns, and for how many inputs each bound fell or rose, and by how much."""
    said = differences(first.description, second.description)
    here, there = (len(store) for store in (first, second))
    names = dict.fromkeys(name for pair in found for name in pair.rungs)
    lines = [
        f"{said or 'the same run'}",
        f"{len(found)} {counted(found)} with results in both, of {here} and {there}; "
        f"{sum(pair.predicted[0] != pair.predicted[1] for pair in found)} are answered differently",
        f"best proved: {moved(pair.logs for pair in found)}",
    ]
    return lines + [f"{name}: {moved(pair.rungs[name] for pair in found if name in pair.rungs)}" for name in names]


def counted(found: Sequence[Pair]) -> str:
    """What there is one pair of each."""
    return "inputs" if len({pair.eps for pair in found}) == 1 else "inputs and sizes"


def sizes_text(eps: tuple[float, float]) -> str:
    """The sizes of two noises, once where they are the same."""
    return "→".join(dict.fromkeys(f"{size:.4g}" for size in eps))


def moved(logs: Iterable[tuple[float, float]]) -> str:
    """How many bounds on log p fell and rose, and by how much in the median."""
    changes = [difference(pair) for pair in logs]
    fell, rose = (sum(sign * change > 0 for change in changes) for sign in (-1, 1))
    same = len(changes) - fell - rose
    middle = statistics.median_low(changes)
    return f"smaller for {fell}, larger for {rose}, the same for {same}; median change of log10 p {tens(middle)}"


def difference(logs: tuple[float, float]) -> float:
    """Second minus first, 0 for equal ones, infinite or not."""
    return 0.0 if logs[0] == logs[1] else logs[1] - logs[0]


def tens(change: float) -> str:
    """A change of log p as powers of ten, with its sign."""
    if math.isinf(change):
        return "to 0" if change < 0 else "from 0"
    return "0" if change == 0 else f"{'+' if change > 0 else '-'}{number(abs(change) / math.log(10), digits=2)}"


def finite(value: float) -> float | None:
    """A number as JSON has it."""
    return value if math.isfinite(value) else None
