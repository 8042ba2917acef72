"""Imports flow one way: a module may only import modules that stand before it in the order below."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "calotte"
ORDER = [
    "errors", "rounding", "printing", "deadline", "settings", "streams", "sphere",
    "network", "models", "noise", "normals", "geometry", "cells", "cell", "theorems", "shallow",
    "adversary", "bounds", "sampling", "assessment", "arguments", "assess", "plan", "paper",
    "inputs", "report", "terminal", "cli", "__main__",
]  # fmt: skip
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.stem != "__init__")


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


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
