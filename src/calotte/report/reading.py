"""Reading results back: what `to_dict` wrote, as the dataclass that it came from; and a folder of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from calotte.adversary import Witness
from calotte.assessment import Assessment
from calotte.bound import Bound
from calotte.errors import InvalidInput
from calotte.ladder import PROVED_RUNGS
from calotte.plan import Plan
from calotte.report.witnesses import load_witnesses
from calotte.sampling.estimate import Estimate

__all__ = ["Kept", "read_assessment", "read_folder", "read_plan"]

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """What a folder of `assess --out` holds.

    Attributes:
        folder: where; about: what `run.json` says; run: its SHA-256.
        assessments: of the inputs that have one, in the order of the file.
        failures: number of the input -> why it has none.
    """

    folder: Path
    about: Mapping[str, Any]
    run: str
    assessments: tuple[Assessment, ...]
    failures: Mapping[int, str]


def read_folder(folder: Path) -> Kept:
    """Read what `assess --out` left.

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
    found, failures = [], {}
    with lines.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                if entry["run"] != run:
                    raise ValueError("it belongs to another run.json")
                if "failed" in entry:
                    failures[int(entry["index"])] = f"{entry['failed']}: {entry['reason']}"
                else:
                    found.append(read_assessment(entry, witnesses.get(entry["index"])))
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidInput(f"{lines}: line {number} is damaged ({error}): run assess again") from None
    if not found:
        raise InvalidInput(f"{lines} holds no assessment yet")
    return Kept(folder, described, run, tuple(found), failures)


def read_assessment(line: Line, witness: Witness | None = None) -> Assessment:
    """The Assessment of a line, with its witness, whose point lines do not hold.

    Raises:
        KeyError, TypeError: it is no such line.
    """
    found = known(Assessment, line) | {
        "bounds": tuple(read_bound(entry) for entry in line["bounds"]),
        "estimates": tuple(read_estimate(entry) for entry in line["estimates"]),
        "clip": None if line["clip"] is None else tuple(line["clip"]),
        "witness": witness,
    }
    return Assessment(**found)


def read_plan(line: Line) -> Plan:
    """The Plan of a line.

    Raises:
        KeyError, TypeError: it is no such line.
    """
    return Plan(**known(Plan, line) | {"clip": None if line["clip"] is None else tuple(line["clip"])})


def read_bound(entry: Line) -> Bound:
    """The Bound of an entry of `bounds`."""
    guarantee = entry.get("guarantee", "proved" if entry["rung"] in PROVED_RUNGS else "confidence")
    log = 0.0 if "skipped" in entry else entry["log_misclassification"]
    return Bound(
        **known(Bound, entry) | {"guarantee": guarantee, "log_misclassification": -math.inf if log is None else log}
    )


def read_estimate(entry: Line) -> Estimate:
    """The Estimate of an entry of `estimates`."""
    low, high = entry.get("interval", (None, None))
    missing = {"log_probability": None, "relative_error": None}
    interval = (
        None if "skipped" in entry else (-math.inf if low is None else low, -math.inf if high is None else high)
    )
    return Estimate(**missing | known(Estimate, entry) | {"interval": interval, "reason": entry.get("skipped")})


def known(kind: type[Any], line: Line) -> dict[str, Any]:
    """The entries of a line that are fields of a dataclass."""
    return {field.name: line[field.name] for field in fields(kind) if field.name in line}
