"""Files: witnesses of an assessment, and the evidence of a contradiction."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from calotte.assess import Assessment
from calotte.errors import Contradiction

__all__ = ["save_evidence", "save_witnesses"]


def save_witnesses(assessments: Sequence[Assessment], path: Path) -> None:
    """The nearest misclassified points as an .npz file, a row for each input that has one.

    index (n,), points (n, d), distances (n,) rounded up, answers (n,) at the points, predicted (n,) at the inputs.
    """
    found = [(one, one.witness) for one in assessments if one.witness is not None]
    d = assessments[0].input_dimension if assessments else 0
    np.savez_compressed(
        path,
        index=np.array([one.index for one, _ in found], dtype=np.int64),
        points=np.array([witness.point.numpy() for _, witness in found]).reshape(-1, d),
        distances=np.array([witness.distance for _, witness in found]),
        answers=np.array([witness.answer for _, witness in found], dtype=np.int64),
        predicted=np.array([one.predicted for one, _ in found], dtype=np.int64),
    )


def save_evidence(contradiction: Contradiction, folder: Path | None) -> Path:
    """Save what a contradiction needs to be seen again: in the folder, else here, else among temporary files."""
    name = f"contradiction-{contradiction.index}.npz"
    places = [folder] if folder is not None else [Path.cwd(), Path(tempfile.gettempdir())]
    for place in places:
        try:
            np.savez_compressed(place / name, **contradiction.evidence)
            return place / name
        except OSError:
            if place is places[-1]:
                raise
    raise AssertionError("there is always a place")
