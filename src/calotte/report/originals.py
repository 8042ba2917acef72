"""The inputs that results are about, found again by their hashes, as the pixels or the features that they are."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotte.assessment import Assessment
from calotte.errors import CalotteError, InvalidInput
from calotte.inputs import read_inputs
from calotte.plot.images import image_shape
from calotte.report.kept import Kept

__all__ = ["Originals", "find_inputs", "originals"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Originals:
    """Inputs in the network's order of numbers.

    Attributes:
        x: number of the input -> (d,) its numbers.
        shape: of one as an image, (height, width), (channels, height, width) or (height, width, channels); None where
            it is none.
        features: names of the numbers, where the file has them.
    """

    x: Mapping[int, NDArray[np.float64]]
    shape: Shape | None
    features: Sequence[str] = ()

    def image(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers (d,) as an image (height, width, channels)."""
        assert self.shape is not None
        image = numbers.reshape(self.shape)
        if image.ndim == 2:
            return image[:, :, None]
        return image if image.shape[2] in (1, 3) else image.transpose(1, 2, 0)


def find_inputs(kept: Kept) -> Path | None:
    """The file of inputs that a run was made from: where its command named it, beside the results, or here."""
    file: Mapping[str, Any] | None = kept.about.get("inputs")
    if file is None:
        return None
    name, sha = str(file["file"]), file["sha256"]
    words = [Path(word) for word in shlex.split(str(kept.about.get("command", ""))) if Path(word).name == name]
    for path in (*words, *(place / name for place in (kept.folder, kept.folder.parent, Path()))):
        try:
            with path.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").hexdigest() == sha:
                    return path
        except OSError:
            continue
    return None


def originals(path: Path, assessments: Sequence[Assessment], shape: Shape | None) -> Originals:
    """Read the inputs back, in the order in which the network took them.

    Args:
        path: of the file; assessments: at least one; shape: of an image, None to tell by the file.

    Raises:
        InvalidInput: the file cannot be read, its inputs are others, or their size does not fit the shape.
    """
    try:
        data = read_inputs(path).narrowed(assessments[0].input_dimension)
    except CalotteError as error:
        raise InvalidInput(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    first = assessments[0]
    rows = data.x[None] if data.x.size == first.input_dimension else data.x
    order = rows.shape[1:]
    turned = [rows, *([rows.transpose(0, 3, 1, 2), rows.transpose(0, 2, 3, 1)] if rows.ndim == 4 else [])]
    for view in turned:
        if first.index < len(view) and _hash(view[first.index]) == first.input_sha256:
            rows, order = view, view.shape[1:]
            break
    else:
        raise InvalidInput(f"{path} does not hold the inputs that were assessed: name their file with --inputs")
    if shape is not None and math.prod(shape) != first.input_dimension:
        raise InvalidInput(
            f"--shape {'x'.join(map(str, shape))} has {math.prod(shape)} numbers, an input {first.input_dimension}"
        )
    if shape is None and not data.columns:
        shape = image_shape(order)
    x = {one.index: rows[one.index].reshape(-1) for one in assessments if one.index < len(rows)}
    return Originals(x, shape, data.columns)


def _hash(numbers: NDArray[np.float64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(numbers).astype("<f8").tobytes()).hexdigest()
