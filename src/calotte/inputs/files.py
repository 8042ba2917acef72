"""Files of inputs, of labels and of noise maps."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calotte.errors import InvalidInput
from calotte.inputs.inputs import SIZES, Inputs, whole
from calotte.inputs.table import read_table
from calotte.inputs.vnnlib import read_vnnlib

__all__ = ["check_file", "read_array", "read_inputs"]


def read_inputs(path: Path) -> Inputs:
    """Inputs of a .npy, .npz (`x`, optionally `y`, `eps` or `sigma`), .csv (header, `label`) or .vnnlib file.

    Raises:
        InvalidInput: the file is missing, empty, damaged or of another kind; the labels do not fit.
    """
    check_file(path, "inputs")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        unpack = "unpack it first, or " if path.suffix.lower() in (".gz", ".zip", ".bz2", ".xz") else ""
        raise InvalidInput(
            f"{path}: cannot read inputs from '{path.suffix}' files; {unpack}use one of {', '.join(READERS)}"
        )
    try:
        data = reader(path)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror or error}") from None
    if data.x.ndim == 0 or data.x.size == 0:
        raise InvalidInput(f"{path}: no inputs: the file holds an array of shape {data.x.shape}")
    if data.labels is not None and len(data.labels) != len(data.x):
        raise InvalidInput(f"{path}: {len(data.labels)} labels for {len(data.x)} inputs: one for each is needed")
    return data


def read_array(path: Path) -> NDArray[np.float64]:
    """The array of a .npy file (a noise map).

    Raises:
        InvalidInput: the file is missing, damaged or holds no numbers.
    """
    check_file(path, "array")
    if path.suffix.lower() != ".npy":
        raise InvalidInput(f"{path}: expected a .npy file")
    return _read_npy(path).x


def check_file(path: Path, what: str) -> None:
    """Refuse a path that is missing, a folder, or an empty file."""
    if not path.exists():
        raise InvalidInput(f"{path}: no such {what} file")
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder: name one {what} file in it")
    if path.stat().st_size == 0:
        raise InvalidInput(f"{path}: the {what} file is empty")


def _numbers(path: Path, array: NDArray[np.generic], what: str = "inputs") -> NDArray[np.float64]:
    if array.dtype.kind not in "biuf":
        raise InvalidInput(f"{path}: {what} must be real numbers, came {array.dtype}")
    return array.astype(np.float64, copy=False)


def _labels(path: Path, array: NDArray[np.generic]) -> NDArray[np.int64]:
    """Class numbers (B,) of an array (B,), (B, 1) or one-hot (B, classes)."""
    values = _numbers(path, array, "labels")
    if not whole(values):
        raise InvalidInput(f"{path}: labels must be whole numbers")
    if values.ndim == 2 and values.shape[1] > 1:
        if not (((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()):
            raise InvalidInput(
                f"{path}: labels of shape {values.shape}: expected one number for each input, "
                "or a single 1 in each row"
            )
        values = values.argmax(1)
    return values.ravel().astype(np.int64)


def _read_npy(path: Path) -> Inputs:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # float64 is read when it is needed
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{path}: not a readable .npy file ({_first_line(error)})") from None
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{path}: an archive named .npy: rename it to .npz")
    x = _numbers(path, array)
    return Inputs(x, None, list(range(len(x) if x.ndim else 0)))


def _read_npz(path: Path) -> Inputs:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            if "x" not in names:
                save = f"; save it with np.savez(..., x={names[0]})" if names else ""
                raise InvalidInput(
                    f"{path}: expected an array 'x' (and labels 'y'), found {', '.join(names) or 'none'}{save}"
                )
            x, y = _numbers(path, archive["x"]), archive["y"] if "y" in names else None
            sizes = {name: _numbers(path, archive[name], name) for name in SIZES if name in names}
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path}: not a readable .npz file ({_first_line(error)})") from None
    if any(one.ndim == 0 for one in (y, *sizes.values()) if one is not None):
        x = x[None]  # one label belongs to one input, and so does one size
    if len(sizes) > 1:
        raise InvalidInput(f"{path}: 'eps' and 'sigma': one size for each input's noise is enough")
    found = Inputs(x, None if y is None else _labels(path, y), list(range(len(x) if x.ndim else 0)))
    try:
        for name, values in sizes.items():
            found = found.sized(name, values.ravel())
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


READERS: dict[str, Callable[[Path], Inputs]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": read_table,
    ".vnnlib": read_vnnlib,
}
