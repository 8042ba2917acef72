"""Witnesses in a folder of results: `witnesses.npz`, and one file each until that is written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calotte.adversary import Witness
from calotte.assessment import Assessment
from calotte.report.files import make_folder, write_whole

__all__ = ["load_witnesses", "save_witness", "save_witnesses"]

_PARTS, _ALL = "witnesses", "witnesses.npz"


def save_witness(one: Assessment, folder: Path) -> None:
    """The nearest misclassified point of one input in a file of its own, so that an interruption cannot lose it."""
    if one.witness is not None:
        make_folder(folder / _PARTS)
        _save([one], folder / _PARTS / f"{one.index}.npz")


def save_witnesses(assessments: Iterable[Assessment], folder: Path) -> None:
    """All nearest misclassified points as `witnesses.npz`, a row for each input that has one.

    index (n,), points (n, d), distances (n,) rounded up, answers (n,) at the points, predicted (n,) at the inputs.
    """
    _save(list(assessments), folder / _ALL)
    for part in _parts(folder):
        part.unlink()
    if (folder / _PARTS).is_dir() and not any((folder / _PARTS).iterdir()):
        (folder / _PARTS).rmdir()


def load_witnesses(folder: Path) -> dict[int, Witness]:
    """The points kept in a folder, by the number of the input."""
    found: dict[int, Witness] = {}
    for file in [*([folder / _ALL] if (folder / _ALL).exists() else []), *_parts(folder)]:
        with np.load(file, allow_pickle=False) as saved:
            rows = zip(saved["index"], saved["points"], saved["distances"], saved["answers"], strict=True)
            for index, point, distance, answer in rows:
                found[int(index)] = Witness(torch.from_numpy(np.array(point)), float(distance), int(answer))
    return found


def _parts(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / _PARTS).glob("*.npz") if path.stem.isdecimal())


def _save(assessments: list[Assessment], path: Path) -> None:
    found = [(one, one.witness) for one in assessments if one.witness is not None]
    d = assessments[0].input_dimension if assessments else 0
    arrays: dict[str, Any] = {
        "index": np.array([one.index for one, _ in found], dtype=np.int64),
        "points": np.array([witness.point.numpy() for _, witness in found]).reshape(-1, d),
        "distances": np.array([witness.distance for _, witness in found]),
        "answers": np.array([witness.answer for _, witness in found], dtype=np.int64),
        "predicted": np.array([one.predicted for one, _ in found], dtype=np.int64),
    }
    write_whole(path, lambda part: np.savez_compressed(part, **arrays))
