"""`calotte report`: one page about what `assess --out` left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calotte.cli.options import FILES, OUTPUT
from calotte.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calotte.report.kept import Kept
    from calotte.report.originals import Originals

__all__ = ["report"]


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...",
            help="Folders of assess --out: the page is about the largest noise of the first; other sizes, there or "
            "in other folders, add curves.",
            show_default=False,
        ),
    ],
    delta: Annotated[
        float | None,
        typer.Option(
            help="Probability that bounds are held against. Default: that of the run, or 1e-3.", show_default=False
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="The file of inputs, where it is no longer where the run found it.",
            rich_help_panel=FILES,
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="SHAPE",
            help="Shape of an input as an image, such as 28x28 or 3x32x32. Default: told by the file.",
            rich_help_panel=FILES,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page. Default: report.html in the first folder.", rich_help_panel=OUTPUT, show_default=False
        ),
    ] = None,
) -> None:
    """Write one HTML page about assessed inputs; it needs no network."""
    size = None if shape is None else parse_shape(shape)

    from calotte.campaign.reading import read_campaign
    from calotte.campaign.store import Store
    from calotte.report.files import check_place, write_whole
    from calotte.report.page import page
    from calotte.terminal import say, stderr

    runs, unfinished = [], []
    for folder in folders:
        with Store.to_read(folder) as store:
            runs += read_campaign(folder, store)
            unfinished += [store.unfinished] if store.unfinished else []
    check_alike(runs)
    path = folders[0] / "report.html" if out is None else out
    check_place(path)
    if delta is None:
        delta = runs[0].about["options"].get("delta") or 1e-3
    originals, notices = open_originals(runs[0], inputs, size)
    notices += unfinished
    text = page(runs, delta, originals, notices)
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
    for notice in notices:
        say(stderr, f"notice: {notice}")
    say(stderr, f"wrote {path}")


def parse_shape(text: str) -> tuple[int, ...]:
    """'3x32x32' as numbers.

    Raises:
        InvalidInput: it is no shape of an image.
    """
    sizes = text.lower().split("x")
    if all(size.isdecimal() and int(size) > 0 for size in sizes):
        shape = tuple(int(size) for size in sizes)
        if len(shape) == 2 or (len(shape) == 3 and {shape[0], shape[2]} & {1, 3}):
            return shape
    raise InvalidInput(f"--shape {text}: expected HEIGHTxWIDTH, or three sizes of which the first or last is 1 or 3")


def check_alike(runs: Sequence[Kept]) -> None:
    """See that runs are about the same question.

    Raises:
        InvalidInput: they are not.
    """
    first = runs[0].assessments[0]
    for run in runs[1:]:
        one = run.assessments[0]
        for what, here, there in (
            ("model", one.model_sha256, first.model_sha256),
            ("noise", one.noise, first.noise),
            ("noise map", one.map_sha256, first.map_sha256),
            ("event", one.event, first.event),
            ("decision", one.decision, first.decision),
        ):
            if here != there:
                raise InvalidInput(
                    f"{run.folder} is about another {what} than {runs[0].folder}: report on each alone"
                )


def open_originals(run: Kept, path: Path | None, shape: tuple[int, ...] | None) -> tuple[Originals | None, list[str]]:
    """The inputs of a run, or the notice that they were not found."""
    from calotte.report.originals import find_inputs, originals

    found = find_inputs(run) if path is None else path
    if found is None:
        return None, ["the file of inputs was not found: no pictures or features; name it with --inputs"]
    return originals(found, run.assessments, shape), []
