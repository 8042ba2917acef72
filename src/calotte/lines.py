"""Lines: objects of JSON read back as the dataclasses that wrote them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from calotte.errors import InvalidInput

__all__ = ["Line", "check_line", "entries", "log_of"]

Line = Mapping[str, Any]


def check_line(kind: type[Any], line: Any) -> None:
    """Refuse what is no object of JSON."""
    if not isinstance(line, Mapping):
        raise InvalidInput(f"{kind.__name__}: expected a dictionary, as to_dict gives it, came {type(line).__name__}")


def entries(kind: type[Any], line: Any) -> dict[str, Any]:
    """The entries of an object of JSON that are fields of a dataclass; two numbers `clip` as the pair that they are.

    Raises:
        InvalidInput: it is no object, or lacks a field that has no default.
    """
    check_line(kind, line)
    for one in fields(kind):
        if one.name not in line and one.default is MISSING and one.default_factory is MISSING:
            raise InvalidInput(f"{kind.__name__}: the line has no '{one.name}', so it is none")
    found = {one.name: line[one.name] for one in fields(kind) if one.name in line}
    if found.get("clip") is not None:
        if not isinstance(found["clip"], list | tuple) or len(found["clip"]) != 2:
            raise InvalidInput(f"clip: expected two numbers or null, came {found['clip']!r}")
        found["clip"] = tuple(found["clip"])
    return found


def log_of(line: Line, key: str, most: float = math.inf) -> float:
    """A logarithm that stands in a line: null is that of 0.

    Raises:
        InvalidInput: it is not there, no number, NaN or above `most`.
    """
    if key not in line:
        raise InvalidInput(f"the entry {dict(line)} has no '{key}'")
    value = line[key]
    if value is None:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= most:
        raise InvalidInput(f"{key}: expected the logarithm of a probability or null, came {value!r}")
    return float(value)
