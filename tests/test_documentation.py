"""The documentation: what it prints runs, its reference is that of the commands, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from calotte import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and content."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["engineer", "researcher", "assessor"])
def test_tutorials_run_as_printed(
    page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python word for word, and each command with the status 0, in an empty folder."""
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    kinds = []
    for kind, text in blocks((DOCS / f"{page}.md").read_text(encoding="utf-8")):
        kinds.append(kind)
        if kind == "python":
            exec(text, scope)
            continue
        for line in text.splitlines():
            monkeypatch.setattr(sys, "argv", shlex.split(line))
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert stop.value.code == 0, f"{line}: {capsys.readouterr().err}"
    assert set(kinds) == ({"python"} if page == "assessor" else {"python", "sh"})
    if page == "engineer":
        assert (tmp_path / "results" / "report.html").exists()


def test_the_notebook_is_executed_and_whole() -> None:
    notebook = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    shown = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= shown
    for cell in cells:
        compile("".join(cell["source"]), "notebook", "exec")


def test_the_reference_is_that_of_the_commands() -> None:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    page = reference.PAGE.read_text(encoding="utf-8")
    assert reference.put_into(page) == page, "run: python docs/reference.py"


def test_every_page_is_in_the_navigation() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert {page.name for page in PAGES} | {"notebook.ipynb"} == set(
        re.findall(r": (\S+\.(?:md|ipynb))$", site, re.M)
    )


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Pages and headings: what the strict build of the site sees, without the site's tools."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
            assert anchor in known, target


def test_what_the_api_page_names_is_there() -> None:
    for name in re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE):
        module, _, last = name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), last)
        except AttributeError:
            found = importlib.import_module(name)
        assert found.__doc__, name
