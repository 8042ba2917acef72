"""Kept: what a campaign holds about one size of the noise, as a page takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotte.assessment import Assessment

__all__ = ["Kept"]


@dataclass(frozen=True)
class Kept:
    """What a campaign holds about one size of the noise.

    Attributes:
        folder: where; about: what `run.json` says; run: its SHA-256.
        assessments: of the inputs that have one at this size, in the order of their numbers.
        failures: of all sizes: the input that has no result, at which eps where that is said, and why.
    """

    folder: Path
    about: Mapping[str, Any]
    run: str
    assessments: tuple[Assessment, ...]
    failures: tuple[str, ...]
