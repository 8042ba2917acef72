"""Index: which inputs of a file are meant."""

from __future__ import annotations

import re

from calotte.errors import InvalidInput

__all__ = ["parse_index"]


def parse_index(text: str, rows: int) -> list[int]:
    """Row numbers of '3', '0:20', ':20', '5:', '0:100:10' or a comma-separated list of these.

    Raises:
        InvalidInput: text of another form, or nothing selected.
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(?:(\d+)|(\d*):(\d*)(?::(\d+))?)\s*", part, re.ASCII)
        if match is None or (match[4] is not None and int(match[4]) == 0):
            raise InvalidInput(f"index '{text}': expected numbers or ranges such as 3 or 0:20 or 0:100:10")
        if match[1]:
            found.append(int(match[1]))
        else:
            stop = min(int(match[3]), rows) if match[3] else rows
            found.extend(range(int(match[2] or 0), stop, int(match[4] or 1)))
    if not found:
        raise InvalidInput(f"index '{text}' selects none of the {rows} inputs")
    if len(set(found)) != len(found):
        raise InvalidInput(f"index '{text}' names an input twice")
    return found
