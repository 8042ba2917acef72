"""Report: what `calotte paper` found, as sections of sentences, tables, checks, numbers and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from calotte.printing import number

__all__ = ["Check", "Report", "Section", "Table", "render", "write"]


@dataclass(frozen=True)
class Check:
    """A numbered statement tried on one network.

    Attributes:
        statement, network: what was tried, on what.
        cases: number of pairs of an input and an eps (points, for Theorem 4.1).
        informative: cases where the statement says more than p <= 1; None where it is not about p.
        tight: cases with a bound below 1/e where misclassification was seen in more than one sample in 10^4.
        closest: the largest ratio of the sampled p to its bound (1: reached), among bounds that let one expect more
            than 100 wrong samples; None where there is none.
        violations: what contradicted the statement, in words; empty if it held everywhere.
    """

    statement: str
    network: str
    cases: int
    informative: int | None
    tight: int | None
    closest: float | None
    violations: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether nothing contradicted the statement."""
        return not self.violations


@dataclass(frozen=True)
class Table:
    """A table of finished cells: bounds in it are rounded to the safe side already."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Attributes:
        key: its name in paper.json.
        findings: what was found, in sentences.
        numbers: everything measured, for JSON; NaN and infinity become null there.
        figures: names of the picture files, without suffix.
    """

    key: str
    title: str
    findings: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    checks: tuple[Check, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)
    figures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All sections and the folder that holds paper.json, paper.md and the figures."""

    out: Path
    sections: tuple[Section, ...]
    seed: int

    @property
    def violations(self) -> tuple[str, ...]:
        """Everything that contradicted a statement of the paper, or a bound of ours; empty if all held."""
        checks = [check for section in self.sections for check in section.checks]
        return tuple(f"{c.statement}, {c.network}: {words}" for c in checks for words in c.violations)

    @property
    def held(self) -> bool:
        """Whether every check passed; the command's exit status is 1 otherwise."""
        return not self.violations


def check_table(checks: tuple[Check, ...]) -> Table:
    """The checks of a section as a table."""
    columns = ("statement", "network", "cases", "bound < 1", "tight", "closest p / bound", "held")
    rows = []
    for c in checks:
        closest = "-" if c.closest is None else number(c.closest, "up")
        counts = ("-" if count is None else str(count) for count in (c.cases, c.informative, c.tight))
        held = "yes" if c.held else f"NO ({len(c.violations)})"
        rows.append((c.statement, c.network, *counts, closest, held))
    note = (
        "tight: the bound is below 1/e and more than 1 sample in 10,000 was wrong. closest: the largest sampled "
        "p / bound, where the bound expects more than 100 wrong samples: slightly above 1 by chance."
    )
    return Table("Checks", columns, tuple(rows), note)


def tables(section: Section) -> tuple[Table, ...]:
    """The tables of a section, that of its checks first."""
    return ((check_table(section.checks),) if section.checks else ()) + section.tables


def render(section: Section) -> Group:
    """A section for a terminal, by rich."""
    parts: list[Text | RichTable] = [Text(section.title, style="bold")]
    parts += [Text(f"  {sentence}") for sentence in section.findings]
    parts += [
        Text(f"  FAILED {c.statement}, {c.network}: {words}", style="bold red")
        for c in section.checks
        for words in c.violations[:5]
    ]
    for table in tables(section):
        shown = RichTable(title=table.title, caption=table.note or None, title_justify="left", caption_justify="left")
        for k, column in enumerate(table.columns):
            shown.add_column(column, justify="left" if _wordy(table, k) else "right")
        for row in table.rows:
            shown.add_row(*row)
        parts.append(shown)
    return Group(*parts, Text(""))


def _wordy(table: Table, column: int) -> bool:
    return any(row[column][:1].isalpha() and row[column] not in ("none", "yes", "no") for row in table.rows)


def write(report: Report) -> None:
    """Write paper.json and paper.md into the report's folder."""
    content = _plain(
        {
            "seed": report.seed,
            "held": report.held,
            "violations": report.violations,
            "sections": {s.key: _to_dict(s) for s in report.sections},
        }
    )
    (report.out / "paper.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (report.out / "paper.md").write_text("\n".join(_markdown(report)), encoding="utf-8")


def _plain(value: Any) -> Any:
    """Numbers that JSON knows: null for NaN and infinity."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_dict(section: Section) -> dict[str, Any]:
    checks = [
        {
            "statement": c.statement,
            "network": c.network,
            "cases": c.cases,
            "informative": c.informative,
            "tight": c.tight,
            "closest": c.closest,
            "held": c.held,
            "violations": c.violations,
        }
        for c in section.checks
    ]
    return {"title": section.title, "findings": section.findings, "checks": checks, **section.numbers}


def _markdown(report: Report) -> Iterator[str]:
    yield "# The paper, checked\n"
    yield (
        "V. Kůrková, *Robustness of Deep ReLU Networks to Misclassification of High-Dimensional Data*, "
        "arXiv:2602.18674 (2026): its statements tried by sampling, and what its promise rests on, measured. "
        f"Seed {report.seed}. Proved bounds are rounded to the safe side.\n"
    )
    if report.held:
        yield "**Every check held.**\n"
    else:
        yield f"**{len(report.violations)} contradictions were found:**\n"
        yield from (f"* {words}" for words in report.violations)
    for section in report.sections:
        yield f"\n## {section.title}\n"
        yield from (f"{sentence}\n" for sentence in section.findings)
        for table in tables(section):
            yield f"\n**{table.title}**\n"
            yield "| " + " | ".join(table.columns) + " |"
            yield "|" + " --- |" * len(table.columns)
            yield from ("| " + " | ".join(row) + " |" for row in table.rows)
            if table.note:
                yield f"\n{table.note}"
            yield ""
        yield from (f"![{name}]({name}.png)\n" for name in section.figures)
