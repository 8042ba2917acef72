"""`calotte export` and `calotte compare`: what campaigns have found, for other programs and side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from calotte.cli.options import Json, Wide

__all__ = ["compare", "export"]

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an assess --out DIR.", show_default=False)]


def export(
    folder: Folder,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="FILE.csv, FILE.parquet or FILE.tex.", show_default=False)
    ],
) -> None:
    """Write the results of a campaign as CSV, Parquet or a LaTeX table, headed by what they claim."""
    from calotte.campaign.export import export as write
    from calotte.campaign.store import Store
    from calotte.report.files import check_place
    from calotte.terminal import output, say, stderr

    check_place(file)
    with Store.to_read(folder) as store:
        count, unfinished = write(store, file), store.unfinished
    if unfinished:
        say(stderr, f"notice: {unfinished}")
    say(output(False), f"wrote {count} row{'' if count == 1 else 's'} to {file}")


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="DIR1", help="Folder of an assess --out DIR1.", show_default=False)
    ],
    second: Annotated[
        Path, typer.Argument(metavar="DIR2", help="Folder of another one, on the same inputs.", show_default=False)
    ],
    as_json: Json = False,
    wide: Wide = False,
) -> None:
    """Set two campaigns on the same inputs side by side: which bounds fell or rose, and by how much."""
    from calotte.campaign.compare import comparison_table, pairs, words
    from calotte.campaign.store import Store
    from calotte.terminal import output, print_line, print_table, say, stderr

    with Store.to_read(first) as before, Store.to_read(second) as after:
        found = pairs(before, after)
        for unfinished in (before.unfinished, after.unfinished):
            if unfinished:
                say(stderr, f"notice: {unfinished}")
        if as_json:
            for pair in found:
                print_line(json.dumps(pair.to_dict(), allow_nan=False))
        console = output(as_json)
        print_table(console, lambda width: comparison_table(found, width), wide)
        for line in words(found, before, after):
            say(console, line)
