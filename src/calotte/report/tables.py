"""Tables for the terminal: assessments ranked by risk, plans, cells.

A table is made for a width. Where the full names do not fit they are shortened, never broken; then columns are left
out, those first that say nothing. Numbers are never cut.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text
from torch import Tensor

from calotte.assessment import Assessment, Sizes, by_risk
from calotte.bound import Bound
from calotte.cells.cell import Cell
from calotte.plan import Plan
from calotte.printing import lower_text, number, plain, probability_down_text, probability_text
from calotte.report.words import rungs_of
from calotte.sampling.estimate import Event

__all__ = ["SHORT", "assessment_table", "cell_table", "plan_table"]

SHORT = {
    "answer": "ans.",
    "theorem": "theor.",
    "moments": "momen.",
    "relaxation": "relax.",
    "concentration": "conc.",
    "branching": "branch.",
    "isoperimetry": "isoper.",
    "sampling": "samples",
    "distance": "dist.",
}
_ESTIMATES: dict[Event, str] = {"misclassification": "p", "leaving the cell": "leaves"}


@dataclass(frozen=True)
class Column:
    """A column: its name, a second line of its heading, its entries, and whether they say anything."""

    name: str
    entries: list[Text]
    below: str = ""
    needed: bool = False
    telling: bool = True

    def width(self, heading: str) -> int:
        """Cells of the terminal that it takes."""
        return max(len(heading), len(self.below), *(entry.cell_len for entry in self.entries))


def assessment_table(assessments: Iterable[Assessment], width: int | None = 80, rows: int = 30) -> Table:
    """The `rows` riskiest inputs: answer, bounds on p for every rung, certified radius, distance of the witness.

    Args:
        assessments: at least one, with the same rungs; gone through once, and held no more than are shown.
        width: of the terminal in characters; None for all columns under their full names.
        rows: at most so many inputs.
    """
    total, witnesses, sizes = 0, False, Sizes()
    levels, telling = defaultdict[int, set[float]](set), Counter[int]()  # by the place of the rung

    def seen() -> Iterator[Assessment]:
        nonlocal total, witnesses
        for one in assessments:
            total += 1
            sizes.add(one)
            witnesses |= one.adversarial_distance is not None
            for k, bound in enumerate(one.bounds):
                if bound.confidence is not None:
                    levels[k].add(bound.confidence)
                telling[k] += bound.log_misclassification < 0
            yield one

    shown = by_risk(seen(), rows)
    first = shown[0]
    columns = [
        Column("input", [Text(str(one.index)) for one in shown], needed=True),
        Column("answer", [_answer(one) for one in shown], needed=True),
    ]
    if sizes.eps[0] < sizes.eps[1]:
        columns.append(Column("eps", [Text(f"{one.eps:.4g}") for one in shown], needed=True))
    for k, bound in enumerate(first.bounds):
        below = f"at {min(levels[k]):g}" if levels[k] else "" if bound.guarantee == "confidence" else "proved"
        entries = [_bound(one, one.bounds[k]) for one in shown]
        columns.append(Column(bound.rung, entries, below, telling=telling[k] > 0))
    if any(one.best_lower for one in shown):
        columns.append(Column("at least", [Text(_lower(one)) for one in shown], "proved"))
    for event in dict.fromkeys(estimate.event for estimate in first.estimates):
        columns.append(Column(_ESTIMATES[event], [Text(_sharpest(one, event)) for one in shown], "estimate"))
    columns.append(Column("radius", [Text(lower_text(one.certified_radius)) for one in shown], "proved", needed=True))
    if witnesses:
        distances = [one.adversarial_distance for one in shown]
        entries = [Text("-" if distance is None else number(distance, "up")) for distance in distances]
        columns.append(Column("wrong at", entries, "found"))
    what = "Misclassification probability" if first.event == "change" else f"Probability of {plain(first.event)}"
    return fitting(
        f"{what}, {first.noise} noise: {sizes}",
        columns,
        _shown(total, rows)
        + "upper bounds, rounded up"
        + (", at least: a lower one, rounded down" if any(c.name == "at least" for c in columns) else "")
        + "; no input within the radius is answered differently, rounded down",
        width,
    )


def _answer(one: Assessment) -> Text:
    """The answer, red with the label where it is not the label."""
    return Text(f"{one.predicted}≠{one.label}", style="red") if one.correct is False else Text(str(one.predicted))


def _lower(one: Assessment) -> str:
    """The largest lower bound on p, rounded down."""
    return "-" if one.best_lower is None else probability_down_text(one.best_lower.log_misclassification)


def _bound(one: Assessment, bound: Bound) -> Text:
    """A bound on p: bold where it is the best, * where it was cut short."""
    if bound.skipped is not None:
        return Text("-")
    text = probability_text(bound.log_misclassification) + ("*" if bound.cut_short is not None else "")
    best = bound is one.best and bound.log_misclassification < 0
    return Text(f"{text} {bound.decision}" if bound.decision else text, style="bold" if best else "")


def _sharpest(one: Assessment, event: Event) -> str:
    """The estimate of an event that has the smallest relative error; the others are in the JSON line."""
    known = [e for e in one.estimates if e.event == event and e.log_probability is not None]
    best = min(known, key=lambda e: e.relative_error or 0.0, default=None)
    return "-" if best is None or best.log_probability is None else f"≈{probability_text(best.log_probability)}"


def plan_table(plans: Iterable[Plan], width: int | None = 80, rows: int = 30) -> Table:
    """The `rows` inputs that bear the least noise: the largest eps, or sigma of a Gaussian, that each rung allows.

    Args:
        plans: at least one, with the same rungs; gone through once; width, rows: as of `assessment_table`.
    """

    def largest(one: Plan) -> dict[str, float | None]:
        return one.largest_sigma if one.noise == "gaussian" else one.largest_eps

    def most(one: Plan) -> float:
        return max((float("inf") if eps is None else eps) for eps in (*one.largest_eps.values(), 0.0))

    def entry(one: Plan, name: str) -> Text:
        if name in one.skipped or name not in largest(one):
            return Text("-")
        return Text(lower_text(largest(one)[name]) + ("*" if name in one.cut_short else ""))

    total, distances, telling = 0, False, dict[str, bool]()  # rungs by name

    def seen() -> Iterator[Plan]:
        nonlocal total, distances
        for one in plans:
            total += 1
            distances |= one.distance_skipped is None
            for name in rungs_of(one):
                telling[name] = telling.get(name, False) or largest(one).get(name, 0.0) != 0.0
            yield one

    shown = nsmallest(rows, seen(), key=most)
    first = shown[0]
    columns = [
        Column("input", [Text(str(one.index)) for one in shown], needed=True),
        Column("answer", [Text(str(one.predicted)) for one in shown], needed=True),
    ]
    for name, tells in telling.items():
        columns.append(Column(name, [entry(one, name) for one in shown], telling=tells))
    if distances:
        entries = [Text("-" if one.distance_skipped else lower_text(one.distance)) for one in shown]
        columns.append(Column("distance", entries, needed=True))
    which = "sigma" if first.noise == "gaussian" else "eps"
    return fitting(
        f"Largest {which} of {first.noise} noise with p <= {first.delta!r} proved{first.said}",
        columns,
        _shown(total, rows) + "rounded down",
        width,
    )


def cell_table(cell: Cell, faces: Tensor, rows: int = 20) -> Table:
    """The `rows` nearest hyperplanes of a cell."""
    known = int(cell.has_hyperplane.sum())
    undecided = int((faces == -1).sum())
    count = f"{int((faces == 1).sum())} faces" + (f" found, {undecided} undecided in time" if undecided else "")
    names, words = cell.names, {1: "yes", 0: "no", -1: "?"}
    nearest = cell.distances.argsort()[: min(rows, known)].tolist()
    columns = [
        Column("unit", [Text(plain(names[i])) for i in nearest], needed=True),
        Column("distance", [Text(f"{cell.distances[i].item():.4g}") for i in nearest], needed=True),
        Column("face", [Text(words[int(faces[i])]) for i in nearest], needed=True),
    ]
    table = fitting(
        f"Cell of the input, answer {cell.predicted}: {known} hyperplanes of {len(faces)} units, {count}",
        columns,
        _shown(known, rows) + "nearest first",
        None,
    )
    table.columns[0].justify = "left"
    return table


def fitting(title: str, columns: list[Column], caption: str, width: int | None) -> Table:
    """A table without frames that fits the width.

    First with full names, then with short ones, then with narrow gaps, then without columns: those that say nothing
    first, then from the left. What was done is said in the caption.
    """

    def full(column: Column) -> str:
        return column.name

    def short(column: Column) -> str:
        return SHORT.get(column.name, column.name)

    if width is None or _width(columns, full, 2) <= width:
        return _table(title, columns, full, 2, caption, width)
    gap = 2 if _width(columns, short, 2) <= width else 1
    left_out = []
    spare = [column for column in columns if not column.needed]
    for column in sorted(spare, key=lambda column: column.telling)[: max(len(spare) - 1, 0)]:
        if _width(columns, short, gap) <= width:
            break
        columns = [other for other in columns if other is not column]
        left_out.append(column.name)
    shortened = [column.name for column in columns if column.name in SHORT]
    if shortened:
        caption += f"; {', '.join(SHORT[name] for name in shortened)}: {', '.join(shortened)}"
    if left_out:
        caption += f"; left out to fit: {', '.join(left_out)} (--wide shows them)"
    return _table(title, columns, short, gap, caption, width)


def _width(columns: list[Column], heading: Callable[[Column], str], gap: int) -> int:
    return sum(column.width(heading(column)) + gap for column in columns) - gap


def _table(
    title: str, columns: list[Column], heading: Callable[[Column], str], gap: int, caption: str, width: int | None
) -> Table:
    table = Table(
        title=Text(title),
        caption=Text(caption),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0, 0, gap - 1),
        pad_edge=False,
        min_width=min(len(title), 78 if width is None else width),
    )
    two_lines = any(column.below for column in columns)
    for column in columns:
        name = heading(column)
        header = Text.assemble(name, "\n", (column.below, "dim")) if two_lines else Text(name)
        table.add_column(header, justify="right", no_wrap=True, min_width=column.width(name))
    for row in zip(*(column.entries for column in columns), strict=True):
        table.add_row(*row)
    return table


def _shown(total: int, rows: int) -> str:
    return f"{rows} of {total}, " if total > rows else ""
