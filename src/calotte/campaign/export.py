"""Export: the results of a campaign as CSV, Parquet or a LaTeX table, with what they claim in one sentence."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from calotte.assessment import Assessment, risk
from calotte.bound import Bound
from calotte.campaign.store import Store
from calotte.campaign.stored import Stored
from calotte.errors import InvalidInput
from calotte.frame import record
from calotte.printing import lower_text, number, plain, probability_text, span
from calotte.report.files import write_whole

__all__ = ["SUFFIXES", "claim", "export"]

SUFFIXES = (".csv", ".parquet", ".tex")
_AT_ONCE = 1000  # rows of a Parquet file that are held in memory
_FEW = 8  # sizes of the noise that a sentence can hold


def export(store: Store, path: Path) -> int:
    """Write the results, and the inputs that have none, to a file whose suffix says how: a row each.

    A row holds what `record` says of an Assessment, and each bound as a probability too, rounded up. The LaTeX table
    holds what the terminal shows, riskiest first; it needs the packages longtable and booktabs. The claim is the
    comment at the head of a CSV file, `claim` in the metadata of a Parquet file, the caption of a table.

    Returns:
        How many rows it has: of each input at each size of the noise.

    Raises:
        InvalidInput: another suffix, nothing to export, or pyarrow is missing.
        CannotWrite: the disk refuses; nothing of the new file is left then.
    """
    if path.suffix not in SUFFIXES:
        raise InvalidInput(f"{path}: the name must end in one of {', '.join(SUFFIXES)}")
    firsts = first_of_each_size(store)
    if not firsts:
        raise InvalidInput(f"{store.path} holds no result of assess yet")
    said = claim(firsts, *counted(store))
    if store.missing:
        said += f" Not complete: {store.missing} results are still to come."
    if path.suffix == ".csv":
        write_whole(path, lambda part: _csv(store, said, part))
    elif path.suffix == ".parquet":
        try:
            import pyarrow.parquet
        except ImportError:
            raise InvalidInput("a Parquet file needs pyarrow: pip install 'calotte[parquet]'") from None
        write_whole(path, lambda part: _parquet(store, said, part, pyarrow))
    else:
        names = [bound.rung for bound in firsts[0].bounds]
        write_whole(path, lambda part: _tex(store, said, part, names, len(firsts) > 1))
    return len(store)


def first_of_each_size(store: Store) -> list[Assessment]:
    """The first result at each size of the noise that has one."""
    found: dict[int, dict[str, Any]] = {}
    for (_, size), line in store.results():
        found.setdefault(size, line)
    return [assessment(store, found[size]) for size in sorted(found)]


def counted(store: Store) -> tuple[int, int]:
    """How many inputs have a result at some size of the noise, and how many failures there are."""
    numbers = (number for (number, _), _ in store.results())
    return sum(1 for _ in groupby(numbers)), sum(1 for _ in store.lines(failed=True))


def claim(firsts: Sequence[Assessment], inputs: int, failed: int = 0) -> str:
    """What the numbers of a campaign are, in one sentence.

    Args:
        firsts: a result of each size of the noise; inputs: how many have one; failed: results that are missing.
    """
    first, sizes = firsts[0], len(firsts)
    eps, sigma = (listed([getattr(one, name) for one in firsts]) for name in ("eps", "sigma"))
    what = "changes the answer" if first.event == "change" else f"leads to {plain(first.event)}"
    model = "" if first.model_sha256 is None else f" {first.model_sha256[:12]}"
    kinds = []
    proved = [bound.rung for bound in first.bounds if bound.guarantee == "proved"]
    if proved:
        kinds.append(f"proved for {', '.join(proved)}")
    for confidence in dict.fromkeys(b.confidence for b in first.bounds if b.confidence is not None):
        names = ", ".join(bound.rung for bound in first.bounds if bound.confidence == confidence)
        kinds.append(f"at confidence {confidence:g} for each input separately for {names}")
    missing = f"{failed} results missing" if sizes > 1 else f"{failed} more have no result"
    without = f" ({missing})" if failed else ""
    return (
        f"Upper bounds on the probability p that {first.noise} noise of eps {eps} (sigma {sigma}{first.unit_said}) "
        f"{what} of the network{model}{first.arithmetic_said} at {inputs} input{'' if inputs == 1 else 's'}"
        f"{without}, {' and '.join(kinds)}; bounds and distances of misclassified points are rounded up, radii and "
        f"distances of hyperplanes down; calotte {first.version}."
    )


def listed(sizes: Sequence[float]) -> str:
    """Each of some numbers, or their range where they are many."""
    return ", ".join(f"{size:.4g}" for size in sizes) if len(sizes) <= _FEW else span(sizes)


def assessments(store: Store) -> Iterator[Assessment]:
    """The results, in the order of the inputs' numbers, then of the sizes of the noise."""
    return (assessment(store, line) for _, line in store.results())


def assessment(store: Store, line: dict[str, Any]) -> Assessment:
    """The Assessment of a line of the store.

    Raises:
        InvalidInput: it is a Plan.
    """
    if "bounds" not in line:
        raise InvalidInput(f"{store.path} holds results of plan: only those of assess are exported and compared")
    return Assessment.from_dict(line)


def rows(store: Store) -> Iterator[dict[str, Any]]:
    """A flat row for each input and size of the noise: of results first, then of failures."""
    for one in assessments(store):
        row: dict[str, Any] = {}
        for key, value in record(one).items():
            if isinstance(value, list):  # a range or an interval
                row |= {f"{key}.low": value[0], f"{key}.high": value[1]}
            elif key != "clip":
                row[key] = value
            for bound in one.bounds:
                if key == f"{bound.rung}.log_misclassification":
                    row[f"{bound.rung}.probability"] = bound.probability
        yield row
    for line in store.lines(failed=True):
        yield json.loads(line)


def columns(store: Store) -> dict[str, type]:
    """The columns of all rows and the type of what stands in them, in the order in which they are met."""
    found: dict[str, type] = {}
    for row in rows(store):
        for key, value in row.items():
            known = found.setdefault(key, type(value))
            if known is type(None) or (known is int and isinstance(value, float)):
                found[key] = type(value)
    return found


def _csv(store: Store, said: str, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# {said}\n")
        writer = csv.DictWriter(file, list(columns(store)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows(store))


def _parquet(store: Store, said: str, path: Path, arrow: Any) -> None:
    types = {bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64()}
    fields = [(name, types.get(kind, arrow.string())) for name, kind in columns(store).items()]
    schema = arrow.schema(fields, metadata={"claim": said})
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        held: list[dict[str, Any]] = []
        for row in rows(store):
            held.append(row)
            if len(held) == _AT_ONCE:
                writer.write_table(arrow.Table.from_pylist(held, schema=schema))
                held.clear()
        writer.write_table(arrow.Table.from_pylist(held, schema=schema))


def _tex(store: Store, said: str, path: Path, names: list[str], sizes: bool) -> None:
    found = ((key, Assessment.from_dict(line)) for key, line in store.results())
    ranked = Stored(store, Assessment, [key for _, key in sorted((risk(one), key) for key, one in found)])
    heading = " & ".join(["input", *(["eps"] * sizes), "answer", *map(escaped, names), "radius", "wrong at"])
    aligned = "r" * (heading.count("&") + 1)
    with path.open("w", encoding="utf-8") as file:
        file.write(f"% needs \\usepackage{{longtable,booktabs}}\n\\begin{{longtable}}{{{aligned}}}\n")
        file.write(f"\\caption{{{escaped(said)}}}\\\\\n\\toprule\n{heading} \\\\\n\\midrule\n\\endfirsthead\n")
        file.write(f"\\toprule\n{heading} \\\\\n\\midrule\n\\endhead\n\\bottomrule\n\\endfoot\n")
        for one in ranked:
            distance = one.adversarial_distance
            cells = [
                str(one.index), *([f"{one.eps:.4g}"] * sizes), str(one.predicted),
                *(_bound(bound) for bound in one.bounds),
                power(lower_text(one.certified_radius)), "--" if distance is None else power(number(distance, "up")),
            ]  # fmt: skip
            file.write(f"{' & '.join(cells)} \\\\\n")
        file.write("\\end{longtable}\n")


def _bound(bound: Bound) -> str:
    return "--" if bound.skipped is not None else power(probability_text(bound.log_misclassification))


def power(text: str) -> str:
    """A printed number as LaTeX writes it: 3.1e-05 as a power of ten."""
    if text == "∞":
        return "$\\infty$"
    digits, _, exponent = text.partition("e")
    return f"${digits}\\cdot 10^{{{int(exponent)}}}$" if exponent else f"${digits}$"


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    named = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda match: named.get(match[0], f"\\{match[0]}"), plain(text))
