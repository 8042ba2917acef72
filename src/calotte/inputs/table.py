"""Tables: .csv files of numbers, with or without a header, separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calotte.errors import InvalidInput
from calotte.inputs.inputs import LABELS, Inputs

__all__ = ["read_table"]

_SURELY_COLUMNS = 8  # so many numbers 0, 1, 2, ... or more in the first line count columns; fewer may be an input
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*", re.ASCII)

Row = tuple[int, list[str]]  # its line in the file, and its cells


def read_table(path: Path) -> Inputs:
    """The numbers of a .csv file, one input a row; labels from a column named 'label'.

    Raises:
        InvalidInput: no table of numbers; the message gives the row and the column.
    """
    rows, separator = _rows(path)
    notices = [] if separator == "," else [f"columns are separated by {_NAMES[separator]}"]
    if separator != "," and _has_decimal_commas(rows):
        notices.append("numbers are written with decimal commas")
        rows = [(line, [cell.replace(",", ".") for cell in cells]) for line, cells in rows]
    header = _header(path, rows)
    if header:
        rows = rows[1:]
        if all(map(_is_number, header)):
            notices.append(f"the first line, {header[0]} to {header[-1]}, is taken as numbers of columns")
    if not rows:
        raise InvalidInput(f"{path}: no rows of numbers{' below the header' if header else ''}")
    table = _numbers(path, rows, header)
    if header and header[0] == "" and (table[:, 0] == np.arange(len(table))).all():
        notices.append("the first column, without a name, counts the rows and is left out")
        table, header = table[:, 1:], header[1:]
    labels = None
    if "label" in header:
        column = header.index("label")
        classes, table = table[:, column], np.delete(table, column, axis=1)
        header = [*header[:column], *header[column + 1 :]]
        if "label" in header:
            raise InvalidInput(f"{path}: two columns are named 'label'")
        for (line, _), label in zip(rows, classes, strict=True):
            if not label.is_integer():
                raise InvalidInput(
                    f"{path}: row {line} of the file: the label {label:g} is no whole number; "
                    "labels are the numbers of the classes"
                )
        labels = classes.astype(np.int64)
    return Inputs(table, labels, list(range(len(table))), tuple(header), tuple(notices))


_NAMES = {";": "semicolons", "\t": "tabs"}


def _rows(path: Path) -> tuple[list[Row], str]:
    """The rows that are not empty, and what separates their cells."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "")
            separator = next((mark for mark in _NAMES if mark in first.strip()), ",")
            file.seek(0)
            reader = csv.reader(file, delimiter=separator)
            return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)], separator
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path}: not a readable text file ({error})") from None


def _has_decimal_commas(rows: list[Row]) -> bool:
    cells = [cell for _, row in rows for cell in row]
    return any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells) and not any("." in cell for cell in cells)


def _header(path: Path, rows: list[Row]) -> list[str]:
    """The names in the first line, in lower case, or none where it is an input.

    Numbers among them may only count the columns. A line that only counts columns is one where nothing else is
    likely; short ones are, in a file of whole numbers.
    """
    if not rows:
        return []
    names = [cell.strip().lower() for cell in rows[0][1]]
    numbers = [(k, name) for k, name in enumerate(names) if _is_number(name)]
    counts = all(name.isdecimal() for _, name in numbers) and [int(name) for _, name in numbers] in (
        list(range(len(numbers))),
        list(range(1, len(numbers) + 1)),
    )
    if len(numbers) < len(names):
        if not counts:
            bad = next(k for k, name in enumerate(names) if not _is_number(name))
            raise _no_number(path, rows[0], bad, [], "; a header may hold other numbers only to count the columns")
        return names
    if not counts or len(names) < 2:
        return []
    if len(names) < _SURELY_COLUMNS or len(rows) == 1:
        if len(rows) > 1 and not all(cell.strip().isdecimal() for _, row in rows[1:] for cell in row):
            return names
        raise InvalidInput(
            f"{path}: the first line, {names[0]} to {names[-1]}, may be an input or number the columns: put a line "
            "of names above it, or write its numbers with a point (1.0)"
        )
    return names


def _numbers(path: Path, rows: list[Row], header: list[str]) -> NDArray[np.float64]:
    """The cells as numbers.

    Raises:
        InvalidInput: rows of different lengths, or a cell that is no number.
    """
    width = len(header) or len(rows[0][1])
    for line, cells in rows:
        if len(cells) != width:
            than = "the header" if header else f"row {rows[0][0]}"
            raise InvalidInput(f"{path}: row {line} of the file has {len(cells)} columns, {than} has {width}")
    try:
        if not any("_" in cell for _, cells in rows for cell in cells):  # which float() would take
            return np.array([[float(cell) for cell in cells] for _, cells in rows], dtype=np.float64)
    except ValueError:
        pass
    row, k = next((row, k) for row in rows for k, cell in enumerate(row[1]) if not _is_number(cell))
    raise _no_number(path, row, k, header)


def _no_number(path: Path, row: Row, k: int, header: list[str], hint: str = "") -> InvalidInput:
    """What to say of the k-th cell of a row, which is no number."""
    cell = row[1][k].strip()
    if _DECIMAL_COMMA.fullmatch(cell):
        hint = "; write all decimal marks as points"
    elif header and header[k] in ("label", *LABELS):
        hint = "; write the number of the class"
    elif len(cell.split()) > 1 and all(map(_is_number, cell.split())):
        hint = "; separate the numbers by commas"
    name = f" ('{header[k]}')" if header else ""
    return InvalidInput(f"{path}: row {row[0]} of the file, column {k + 1}{name}: '{cell}' is no number{hint}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
