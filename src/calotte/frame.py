"""Frame: results as a table of pandas, one row for each input."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from calotte.assessment import Assessment
from calotte.checks import kind
from calotte.errors import InvalidInput
from calotte.plan import Plan

if TYPE_CHECKING:
    import pandas

__all__ = ["record", "to_frame"]


def record(one: Assessment | Plan) -> dict[str, Any]:
    """One result as a flat row: the entries of its line, what a rung says under "RUNG.ENTRY".

    Where a null of the line stands for a number, that is here: the logarithm of 0 is -inf, no limit is inf.
    """
    line = one.to_dict()
    row: dict[str, Any] = {}
    for key, value in line.items():
        if key in ("bounds", "lower", "estimates"):
            continue
        if isinstance(value, dict):
            row |= {f"{rung}.{key}": math.inf if said is None else said for rung, said in value.items()}
        else:
            row[key] = value
    if isinstance(one, Assessment):
        row["certified_radius"] = math.inf if one.certified_radius is None else one.certified_radius
        for entry in (*line["bounds"], *line["estimates"]):
            name = entry.pop("rung", None) or entry.pop("method")
            row |= {f"{name}.{key}": -math.inf if said is None else said for key, said in entry.items()}
        row |= {f"{bound.rung}.log_lower": bound.log_misclassification for bound in one.lower}
    return row


def to_frame(results: Iterable[Assessment | Plan]) -> pandas.DataFrame:
    """What `assess` or `plan` gives as a DataFrame: a row for each result, its columns as of `record`.

    Raises:
        InvalidInput: pandas is not there; something else than Assessments and Plans.
    """
    try:
        import pandas
    except ImportError:
        raise InvalidInput("a DataFrame needs pandas: pip install pandas") from None
    rows = list(results) if isinstance(results, Iterable) else [results]
    for one in rows:
        if not isinstance(one, Assessment | Plan):
            raise InvalidInput(f"results: expected Assessments or Plans, came {kind(one)}")
    return pandas.DataFrame([record(one) for one in rows])
