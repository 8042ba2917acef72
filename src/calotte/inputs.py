"""Inputs: reading inputs, labels and noise maps from files."""

from __future__ import annotations

import csv
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calotte.errors import InvalidInput

__all__ = ["Inputs", "parse_index", "read_array", "read_inputs"]

FORMATS = ".npy, .npz, .csv, .vnnlib"


@dataclass(frozen=True)
class Inputs:
    """Inputs as read from a file.

    Attributes:
        x: (B, ...) float64, one input a row.
        labels: (B,) true classes, or None.
        index: number of each row in the file.
    """

    x: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    index: list[int]

    def select(self, index: list[int]) -> Inputs:
        """The rows of the given numbers.

        Raises:
            InvalidInput: a number beyond the rows that are there.
        """
        for i in index:
            if not 0 <= i < len(self.x):
                raise InvalidInput(f"index {i} is out of range: the file has inputs 0 to {len(self.x) - 1}")
        return replace(self, x=self.x[index], labels=None if self.labels is None else self.labels[index], index=index)


def parse_index(text: str, rows: int) -> list[int]:
    """Row numbers of '3', '0:20', ':20', '5:', '0:100:10' or a comma-separated list of these.

    Raises:
        InvalidInput: text of another form, or nothing selected.
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(?:(\d+)|(\d*):(\d*)(?::(\d+))?)\s*", part)
        if match is None or match[4] == "0":
            raise InvalidInput(f"index '{text}': expected numbers or ranges such as 3 or 0:20 or 0:100:10")
        if match[1]:
            found.append(int(match[1]))
        else:
            stop = min(int(match[3]), rows) if match[3] else rows
            found.extend(range(int(match[2] or 0), stop, int(match[4] or 1)))
    if not found:
        raise InvalidInput(f"index '{text}' selects none of the {rows} inputs")
    if len(set(found)) != len(found):
        raise InvalidInput(f"index '{text}' names an input twice")
    return found


def read_inputs(path: Path) -> Inputs:
    """Inputs of a .npy, .npz (`x`, optionally `y`), .csv (optional header, a column `label`) or .vnnlib file.

    Raises:
        InvalidInput: the file is missing, empty, damaged or of another kind; the labels do not fit.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv, ".vnnlib": _read_vnnlib}
    check_file(path, "inputs")
    if path.suffix.lower() not in readers:
        raise InvalidInput(f"{path}: cannot read inputs from '{path.suffix}' files; use one of {FORMATS}")
    x, labels = readers[path.suffix.lower()](path)
    if x.ndim == 0 or len(x) == 0:
        raise InvalidInput(f"{path}: no inputs: the file holds no rows")
    if labels is not None and len(labels) != len(x):
        raise InvalidInput(f"{path}: {len(labels)} labels for {len(x)} inputs")
    return Inputs(x, labels, list(range(len(x))))


def read_array(path: Path) -> NDArray[np.float64]:
    """The array of a .npy file (a noise map).

    Raises:
        InvalidInput: the file is missing, damaged or holds no numbers.
    """
    check_file(path, "array")
    if path.suffix.lower() != ".npy":
        raise InvalidInput(f"{path}: expected a .npy file")
    return _read_npy(path)[0]


def check_file(path: Path, what: str) -> None:
    """Refuse a path that is missing, a folder, or an empty file."""
    if not path.exists():
        raise InvalidInput(f"{path}: no such {what} file")
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder: name one {what} file in it")
    if path.stat().st_size == 0:
        raise InvalidInput(f"{path}: the {what} file is empty")


Read = tuple[NDArray[np.float64], NDArray[np.int64] | None]


def _numbers(path: Path, array: NDArray[np.generic], what: str = "inputs") -> NDArray[np.float64]:
    if array.dtype.kind not in "biuf":
        raise InvalidInput(f"{path}: {what} must be real numbers, came {array.dtype}")
    return array.astype(np.float64)


def _labels(path: Path, array: NDArray[np.generic]) -> NDArray[np.int64]:
    values = _numbers(path, array, "labels").ravel()
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        raise InvalidInput(f"{path}: labels must be whole numbers")
    return values.astype(np.int64)


def _read_npy(path: Path) -> Read:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InvalidInput(f"{path}: not a readable .npy file ({_first_line(error)})") from None
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{path}: an archive named .npy: rename it to .npz")
    return _numbers(path, array), None


def _read_npz(path: Path) -> Read:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            if "x" not in names:
                raise InvalidInput(
                    f"{path}: expected an array 'x' (and labels 'y'), found {', '.join(names) or 'none'}"
                )
            x = _numbers(path, archive["x"])
            return x, _labels(path, archive["y"]) if "y" in names else None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path}: not a readable .npz file ({_first_line(error)})") from None


def _read_csv(path: Path) -> Read:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path}: not a readable text file ({_first_line(error)})") from None
    header: list[str] = []
    if lines and not all(_is_number(cell) for cell in lines[0]):
        header, lines = [cell.strip().lower() for cell in lines[0]], lines[1:]
    if not lines:
        raise InvalidInput(f"{path}: no rows of numbers")
    width = len(lines[0])
    for i, row in enumerate(lines):
        if len(row) != width or (header and len(row) != len(header)):
            raise InvalidInput(f"{path}: row {i} has {len(row)} columns, expected {len(header) or width}")
    try:
        table = np.array(lines, dtype=np.float64)
    except ValueError as error:
        raise InvalidInput(f"{path}: {_first_line(error)}: every cell must be a number") from None
    if "label" not in header:
        return table, None
    column = header.index("label")
    return np.delete(table, column, axis=1), _labels(path, table[:, column])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


_BOUND = re.compile(r"\(assert\s*\(\s*(<=|>=)\s+X_(\d+)\s+([-+\d.eE]+)\s*\)\s*\)")
_DECLARED = re.compile(r"\(declare-const\s+([XY])_(\d+)\s+Real\s*\)")
_RIVAL = re.compile(r"\(and\s*\(\s*>=\s+Y_(\d+)\s+Y_(\d+)\s*\)\s*\)")


def _read_vnnlib(path: Path) -> Read:
    """The centre of the input box of a VNN-LIB 1.0 property, and the label where its output constraint names one."""
    try:
        text = re.sub(r";[^\n]*", "", path.read_text())
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: not a text file") from None
    declared = set(_DECLARED.findall(text))
    size = sum(kind == "X" for kind, _ in declared)
    if size == 0:
        raise InvalidInput(f"{path}: no '(declare-const X_i Real)': not a VNN-LIB 1.0 property")
    low, high = np.full(size, np.nan), np.full(size, np.nan)
    for relation, index, number in _BOUND.findall(text):
        side = high if relation == "<=" else low
        if int(index) >= size:
            raise InvalidInput(f"{path}: X_{index} is not declared")
        side[int(index)] = float(number)
    missing = np.flatnonzero(np.isnan(low) | np.isnan(high))
    if len(missing):
        raise InvalidInput(
            f"{path}: X_{missing[0]} has no box '(assert (<= X_i number))' and '(assert (>= X_i number))'"
        )
    if (low > high).any():
        raise InvalidInput(f"{path}: the box of X_{np.flatnonzero(low > high)[0]} is empty")
    return (low + (high - low) / 2)[None], _vnnlib_label(text, sum(kind == "Y" for kind, _ in declared))


def _vnnlib_label(text: str, outputs: int) -> NDArray[np.int64] | None:
    """The class l of 'or over all k != l of Y_k >= Y_l': the property is violated where l is not the largest."""
    rivals = [(int(k), int(label)) for k, label in _RIVAL.findall(text)]
    labels = {label for _, label in rivals}
    if len(labels) != 1 or text.count("Y_") != outputs + 2 * len(rivals):
        return None
    label = labels.pop()
    others = sorted(k for k, _ in rivals)
    return np.array([label]) if others == [k for k in range(outputs) if k != label] else None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
