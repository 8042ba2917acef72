"""Tables for the terminal: assessments ranked by risk, plans, cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text
from torch import Tensor

from calotte.assess import Assessment
from calotte.bounds import Bound
from calotte.cells.cell import Cell
from calotte.plan import Plan
from calotte.printing import lower_text, number, probability_text

__all__ = ["assessment_table", "by_risk", "cell_table", "plan_table", "summary"]


def by_risk(assessments: Iterable[Assessment]) -> list[Assessment]:
    """Riskiest first: by the best proved bound, then what sampling says, then the certified radius."""

    def key(one: Assessment) -> tuple[float, float, float]:
        sampled = max((b.log_misclassification for b in one.bounds if b.guarantee == "confidence"), default=0.0)
        proved = one.best.log_misclassification if one.best else 0.0
        return -proved, -sampled, float("inf") if one.certified_radius is None else one.certified_radius

    return sorted(assessments, key=key)


def assessment_table(assessments: Sequence[Assessment], rows: int = 30) -> Table:
    """The `rows` riskiest inputs: answer, bounds on p for every rung, certified radius, distance of the witness."""
    ranked = by_risk(assessments)
    first = ranked[0]
    table = lean_table(
        f"Misclassification probability, {first.noise} noise: eps {first.eps:.4g}, sigma {first.sigma:.4g}",
        _shown(len(ranked), rows)
        + "upper bounds, rounded up; no input within the radius is answered differently, rounded down",
    )
    table.add_column("input", justify="right")
    table.add_column("answer", justify="right")
    for bound in first.bounds:
        level = "proved" if bound.guarantee == "proved" else f"at {bound.confidence or 0:g}"
        table.add_column(f"{bound.rung}\n[dim]{level}[/dim]", justify="right")
    events = list(dict.fromkeys(estimate.event for estimate in first.estimates))
    for event in events:
        what = "p" if event == "misclassification" else "leaves cell"
        table.add_column(f"{what}\n[dim]estimate[/dim]", justify="right", min_width=8)
    table.add_column("radius\n[dim]proved[/dim]", justify="right")
    searched = any(one.witness for one in ranked)
    if searched:
        table.add_column("wrong at\n[dim]found[/dim]", justify="right")
    for one in ranked[:rows]:
        answer = f"[red]{one.predicted}, not {one.label}[/red]" if one.correct is False else str(one.predicted)
        cells = [str(one.index), answer]
        best = one.best if one.best and one.best.log_misclassification < 0 else None
        for bound in one.bounds:
            text = "-" if bound.skipped else probability_text(bound.log_misclassification)
            text += f" {bound.decision}" if bound.decision else ""
            cells.append(f"[bold]{text}[/bold]" if bound is best else text)
        cells += [_sharpest(one, event) for event in events]
        cells.append(lower_text(one.certified_radius))
        if searched:
            cells.append(number(one.witness.distance, "up") if one.witness else "-")
        table.add_row(*cells)
    return uncut(table)


def _sharpest(one: Assessment, event: str) -> str:
    """The estimate of an event that has the smallest relative error; the others are in the JSON line."""
    known = [e for e in one.estimates if e.event == event and e.log_probability is not None]
    best = min(known, key=lambda e: e.relative_error or 0.0, default=None)
    return "-" if best is None or best.log_probability is None else f"≈{probability_text(best.log_probability)}"


def lean_table(title: str, caption: str) -> Table:
    """A table without frames."""
    return Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        min_width=min(78, len(title)),
    )


def uncut(table: Table) -> Table:
    """The table with columns that are never narrower than their entries: where space is short the headings break."""
    for column in table.columns:
        entries = [Text.from_markup(cell) for cell in column.cells if isinstance(cell, str)]
        column.min_width = max((entry.cell_len for entry in entries), default=1)
        column.overflow = "fold"
    return table


def plan_table(plans: Sequence[Plan], rows: int = 30) -> Table:
    """The `rows` inputs that bear the least noise."""
    names = list(plans[0].largest_eps)

    def most(one: Plan) -> float:
        return max((float("inf") if eps is None else eps) for eps in one.largest_eps.values())

    table = lean_table(
        f"Largest eps of {plans[0].noise} noise with p <= {plans[0].delta:g} proved",
        _shown(len(plans), rows) + "rounded down",
    )
    for name in ("input", "answer", *names, "distance"):
        table.add_column(name, justify="right")
    for one in sorted(plans, key=most)[:rows]:
        values = [lower_text(one.largest_eps[name]) for name in names]
        table.add_row(str(one.index), str(one.predicted), *values, lower_text(one.distance))
    return uncut(table)


def cell_table(cell: Cell, faces: Tensor, rows: int = 20) -> Table:
    """The `rows` nearest hyperplanes of a cell."""
    known = int(cell.has_hyperplane.sum())
    undecided = int((faces == -1).sum())
    count = f"{int((faces == 1).sum())} faces" + (f" found, {undecided} undecided in time" if undecided else "")
    table = lean_table(
        f"Cell of the input, answer {cell.predicted}: {known} hyperplanes of {len(faces)} units, {count}",
        _shown(known, rows) + "nearest first",
    )
    for name in ("unit", "distance", "face"):
        table.add_column(name, justify="left" if name == "unit" else "right")
    names, words = cell.names, {1: "yes", 0: "no", -1: "?"}
    for i in cell.distances.argsort()[: min(rows, known)].tolist():
        table.add_row(names[i], f"{cell.distances[i].item():.4g}", words[int(faces[i])])
    return uncut(table)


def summary(assessments: Sequence[Assessment]) -> str:
    """One sentence on a whole run."""
    best = [one.best for one in assessments]
    told = [bound for bound in best if isinstance(bound, Bound) and bound.log_misclassification < 0.0]
    certain = sum(bound.certain for bound in told)
    worst = max((bound.log_misclassification for bound in best if bound), default=0.0)
    return (
        f"{len(assessments)} inputs: p = 0 proved for {certain}, a bound below 1 for {len(told)}, "
        f"largest proved bound {probability_text(worst)}"
    )


def _shown(total: int, rows: int) -> str:
    return f"{rows} of {total}, " if total > rows else ""
