"""Reading back the folder that a run of `assess --out` left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calotte.adversary import Witness
from calotte.assessment import Assessment, by_size
from calotte.errors import InvalidInput
from calotte.report.witnesses import load_witnesses

__all__ = ["Kept", "read_folder"]


@dataclass(frozen=True)
class Kept:
    """What a folder of `assess --out` holds about one size of the noise.

    Attributes:
        folder: where; about: what `run.json` says; run: its SHA-256.
        assessments: of the inputs that have one at this size, in the order of the file.
        failures: of all sizes: the input that has no result, at which eps where that is said, and why.
    """

    folder: Path
    about: Mapping[str, Any]
    run: str
    assessments: tuple[Assessment, ...]
    failures: tuple[str, ...]


def read_folder(folder: Path) -> list[Kept]:
    """Read what `assess --out` left: one for each size of the noise that has a result, the largest first.

    Raises:
        InvalidInput: it left nothing there, or the files are damaged or of different runs.
    """
    about, lines = folder / "run.json", folder / "assessments.jsonl"
    for path in (about, lines):
        if not path.is_file():
            plans = "; it holds plans, reports are on assessments" if (folder / "plans.jsonl").exists() else ""
            raise InvalidInput(f"{folder} holds no {path.name}: name the folder of an assess --out DIR{plans}")
    text = about.read_bytes()
    run = hashlib.sha256(text).hexdigest()
    try:
        described = json.loads(text)
        described["options"], described["model"]["sha256"], described["versions"]
        witnesses = load_witnesses(folder) if (folder / "witnesses.npz").exists() else {}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InvalidInput(f"{folder}: run.json or witnesses.npz is damaged ({error}): run assess again") from None
    found = [_with_witness(Assessment.from_dict(entry), witnesses) for entry in _entries(lines, run)]
    groups = sorted(by_size(found), key=lambda group: -group[0].eps)
    failed = folder / "failures.jsonl"
    failures = tuple(_failure(entry) for entry in (_entries(failed, run) if failed.exists() else ()))
    if not groups:
        raise InvalidInput(f"{lines} holds no assessment")
    return [Kept(folder, described, run, tuple(group), failures) for group in groups]


def _with_witness(one: Assessment, witnesses: Mapping[int, Witness]) -> Assessment:
    """With the point kept for the input, where it is the one that this line is about."""
    witness = witnesses.get(one.index)
    return replace(one, witness=witness) if witness and witness.distance == one.adversarial_distance else one


def _failure(entry: Mapping[str, Any]) -> str:
    at = f" at eps {entry['eps']:.4g}" if isinstance(entry.get("eps"), float) else ""
    return f"input {entry['index']} has no result{at}: {entry.get('failed')}: {entry.get('reason')}"


def _entries(path: Path, run: str) -> Iterator[dict[str, Any]]:
    """The objects of a file of lines, each seen to be of this run."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                fits = entry["run"] == run and isinstance(entry["index"], int)
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                raise InvalidInput(f"{path}: line {number} is damaged or of another run: run assess again")
            yield entry
