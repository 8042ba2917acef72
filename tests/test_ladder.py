"""The table of proved rungs: the README has it, and what a rung may choose are fields of its class."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from calotte.ladder import PROVED_RUNGS, ladder_table

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_has_the_table() -> None:
    assert ladder_table() in README.read_text()


@pytest.mark.parametrize("name", PROVED_RUNGS)
def test_rungs_are_values(name: str) -> None:
    """Equal where their fields are, hashable, and changed by `replace` only."""
    rung = PROVED_RUNGS[name]
    assert rung == type(rung)()
    assert hash(rung) == hash(type(rung)())
    assert replace(rung, proves="less") != rung
    with pytest.raises(AttributeError):
        rung.name = "other"  # type: ignore[misc]
    assert {f.name for f in fields(rung)} >= {"name", "proves", "source"}
