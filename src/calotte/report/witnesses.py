"""Witnesses in a folder of results: `witnesses.npz`."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotte.adversary import Witness
from calotte.report.files import write_whole

__all__ = ["WITNESSES", "save_witnesses"]

WITNESSES = "witnesses.npz"


def save_witnesses(
    folder: Path, index: Sequence[int], predicted: Sequence[int], d: int, witness: Callable[[int], Witness]
) -> None:
    """All nearest misclassified points as `witnesses.npz`, a row for each input that has one.

    index (n,), points (n, d), distances (n,) rounded up, answers (n,) at the points, predicted (n,) at the inputs.

    Args:
        folder: where it is written.
        index, predicted: numbers and answers of the inputs that have one; d: the dimension of all.
        witness: of an input by its number; points go to the disk one by one, as all may be more than memory holds.
    """
    distances, answers = np.empty(len(index)), np.empty(len(index), dtype=np.int64)

    def write(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("index.npy", "w") as file:
                np.lib.format.write_array(file, np.array(index, dtype=np.int64))
            with archive.open("points.npy", "w", force_zip64=True) as file:
                header = {"descr": "<f8", "fortran_order": False, "shape": (len(index), d)}
                np.lib.format.write_array_header_1_0(file, header)
                for row, number in enumerate(index):
                    one = witness(number)
                    distances[row], answers[row] = one.distance, one.answer
                    file.write(one.point.numpy().astype("<f8").tobytes())
            others: dict[str, NDArray[Any]] = {"distances": distances, "answers": answers}
            for name, array in (others | {"predicted": np.array(predicted, dtype=np.int64)}).items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, array)

    write_whole(folder / WITNESSES, write)
