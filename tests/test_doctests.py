"""The examples in docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import calotte

SOURCE = Path(calotte.__file__).parent
SHOWN = sorted(path for path in SOURCE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
WITH_EXAMPLES = (
    "assess", "assess_each", "plan", "largest_noise", "load", "from_torch", "random_network", "Cell", "propose",
    "prove", "Event", "Sphere", "Ball", "Gaussian", "Box", "Truncated",
)  # fmt: skip


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_examples_give_what_they_say(path: Path) -> None:
    name = ".".join(["calotte", *path.relative_to(SOURCE).with_suffix("").parts])
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_what_users_call_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(calotte, name).__doc__ or "")
