"""Reading lines of results back: what `to_dict` wrote, as the dataclass that it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from calotte.adversary import Witness
from calotte.assessment import Assessment
from calotte.bound import Bound
from calotte.ladder import PROVED_RUNGS
from calotte.plan import Plan
from calotte.sampling.estimate import Estimate

__all__ = ["read_assessment", "read_plan"]

Line = Mapping[str, Any]


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
