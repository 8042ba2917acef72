"""Settings: what makes no sense is refused when they are made."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from calotte.errors import InvalidInput
from calotte.settings import Settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples"),
        ({"samples": 1e4}, "samples must be a whole number, came float 10000.0"),
        ({"samples": True}, "samples must be a whole number"),
        ({"boxes": 0}, "boxes"),
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": 0.0}, "confidence"),
        ({"confidence": math.nan}, "confidence"),
        ({"confidence": "0.9"}, "confidence must be a number"),
        ({"seed": -1}, "seed"),
        ({"time_limit": 0.0}, "time limit"),
        ({"time_limit": math.nan}, "time limit"),
        ({"memory_limit": -1.0}, "memory limit"),
        ({"memory_limit": math.nan}, "memory limit"),
        ({"memory_limit": math.inf}, "memory limit"),
        ({"delta": 1.0}, "delta"),
        ({"delta": math.nan}, "delta"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(options: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Settings(**options)


def test_errors_of_bounds_at_once_add_up_to_no_more_than_is_allowed() -> None:
    for confidence in (0.5, 0.9, 0.999, 1 - 1e-9):
        for statements in (1, 2, 3, 7, 10_000, 10**6):
            each = Settings(confidence=confidence).simultaneous(statements).confidence
            errors = statements * (1 - Fraction(each))
            assert errors <= 1 - Fraction(confidence)
            assert errors >= (1 - Fraction(confidence)) * Fraction(9, 10) or statements > 10**5
    with pytest.raises(InvalidInput, match="no level below 1"):
        Settings(confidence=1 - 1e-9).simultaneous(10**9)
    with pytest.raises(InvalidInput, match="statements"):
        Settings().simultaneous(2.5)  # type: ignore[arg-type]
