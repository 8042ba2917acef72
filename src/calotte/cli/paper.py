"""`calotte paper`: the theorems checked, the figures drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calotte.cli.options import Seed

__all__ = ["paper"]


def paper(
    out: Annotated[Path, typer.Option(help="Folder for figures, tables and numbers.")] = Path("calotte-paper"),
    seed: Seed = 0,
) -> None:
    """Check the paper's theorems by sampling, measure what its promise rests on, draw its figures (a minute)."""
    import calotte.paper
    from calotte.report.files import make_folder
    from calotte.terminal import output, say, stderr

    make_folder(out)
    console = output(as_json=False)
    console.width = max(console.width, 120)  # the widest tables have ten columns: wrapped lines beat cut numbers
    report = calotte.paper.run(out, seed=seed, done=lambda section: console.print(calotte.paper.render(section)))
    say(stderr, f"wrote {out}: figures as .pdf and .png, paper.md, paper.json")
    if not report.held:
        raise RuntimeError(f"a statement was violated, by sampling: {'; '.join(report.violations)}")
