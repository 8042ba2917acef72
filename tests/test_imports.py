"""Imports flow one way: in the order below, and without circles inside a room, under TYPE_CHECKING too."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "calotte"
ORDER = [
    "errors", "assumptions", "checks", "lines", "rounding", "printing", "notebook", "deadline", "settings", "streams",
    "sphere", "normal",
    "network", "models", "noise", "independent", "laws", "cells", "theorems", "shallow", "adversary",
    "query", "proofs", "lower", "bound", "searches", "ladder", "sampling", "result", "assessment", "requirement",
    "arguments", "known", "assess", "plan", "frame", "paper", "inputs", "plot", "report", "campaign", "terminal",
    "cli", "__main__",
]  # fmt: skip
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.stem != "__init__")


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def module_of(path: Path, source: Path) -> str:
    return ".".join(("calotte", *path.relative_to(source).with_suffix("").parts)).removesuffix(".__init__")


def imported(path: Path, modules: set[str]) -> set[str]:
    """The modules of calotte that a file names, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= names or {node.module} & modules
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & modules
    return found


def circle(source: Path) -> list[str]:
    """Modules that import each other in a ring; [] where there are none."""
    files = {module_of(path, source): path for path in source.rglob("*.py") if path != source / "__init__.py"}
    try:
        TopologicalSorter({name: imported(path, set(files)) for name, path in files.items()}).prepare()
    except CycleError as found:
        return list(found.args[1])
    return []


def test_no_modules_import_each_other() -> None:
    assert circle(SOURCE) == []


@pytest.mark.parametrize(
    "line", ["from calotte.room.a import A", "from calotte.room import a", "import calotte.room.a"]
)
def test_a_circle_is_found_under_type_checking_too(tmp_path: Path, line: str) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").write_text("")
    (room / "a.py").write_text("from calotte.room.b import B")
    (room / "b.py").write_text("B = 1")
    assert circle(tmp_path) == []
    (room / "b.py").write_text(f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {line}")
    assert set(circle(tmp_path)) == {"calotte.room.a", "calotte.room.b"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_what_stands_before_it(path: Path) -> None:
    rank = ORDER.index(part(path))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("calotte"):
            assert node.module != "calotte", "name the module that defines it"
            assert ORDER.index(node.module.split(".")[1]) <= rank, f"{path.name} imports {node.module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_say_what_they_are_and_stay_short(path: Path) -> None:
    text = path.read_text()
    module = ast.parse(text)
    assert ast.get_docstring(module)
    assert len(text.splitlines()) <= 400
    names = {target.id for node in module.body if isinstance(node, ast.Assign) for target in node.targets
             if isinstance(target, ast.Name)}  # fmt: skip
    registry = path.parent.name == "operators"  # its modules fill a table, nothing is imported from them by name
    assert path.stem == "__init__" or registry or "__all__" in names
