"""Files of results: written whole or not at all, and refused before the work where they cannot be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from calotte.errors import CannotWrite

__all__ = ["check_place", "make_folder", "save_evidence", "write_whole", "writing"]


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """What goes wrong on the disk in this block is said in one line about that path.

    Raises:
        CannotWrite: in place of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from None


def make_folder(folder: Path) -> None:
    """Make the folder where it is missing, and see that files can be made in it.

    Raises:
        CannotWrite: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CannotWrite(f"{folder} is a file: name a folder for the results") from None
    except OSError as error:
        raise CannotWrite(f"cannot make the folder {folder}: {error.strerror or error}") from None
    check_place(folder / "results")


def check_place(path: Path) -> None:
    """See that a file of that name can be made.

    Raises:
        CannotWrite: its folder is missing or cannot be written to, or the name is that of a folder.
    """
    if path.is_dir():
        raise CannotWrite(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise CannotWrite(f"cannot write {path}: there is no folder {path.parent}; make it first")
    with writing(path), tempfile.TemporaryFile(dir=path.parent) as file:
        file.write(b"calotte")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then give it that name: what was there before stays until then.

    Raises:
        CannotWrite: the disk refuses; nothing of the new file is left then.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with writing(path):
        try:
            write(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def save_evidence(key: tuple[int, int], evidence: Mapping[str, Any], folder: Path | None) -> Path:
    """Save what is needed to see a contradiction again: in the folder, else here, else elsewhere.

    Args:
        key: number of the input, and place of the size of the noise among several; evidence: arrays, numbers, texts.
        folder: of the results, None for none.

    Raises:
        CannotWrite: the disk refuses.
    """
    index, size = key
    name = f"contradiction-{index}{f'-{size}' if size else ''}.npz"
    places = [folder] if folder is not None else [Path.cwd(), Path(tempfile.gettempdir())]
    for place in places:
        try:
            write_whole(place / name, lambda part: np.savez_compressed(part, **evidence))
            return place / name
        except CannotWrite:
            if place is places[-1]:
                raise
    raise AssertionError("there is always a place")
