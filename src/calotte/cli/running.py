"""Running through inputs: results go on at once, into the folder of the run and to standard output."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import typer

from calotte.cli.opening import event_file
from calotte.errors import Interrupted
from calotte.inputs import Inputs
from calotte.network.graph import Network
from calotte.report.folder import RunFolder, describe
from calotte.terminal import Record, Watch, collect, print_line, say, stderr

__all__ = ["open_folder", "run_through"]

R = TypeVar("R", bound=Record)
_NO_OPTIONS = ("model", "inputs", "map", "out", "as_json", "wide")  # files have hashes; the others change no result


def open_folder(context: typer.Context, network: Network, name: str) -> RunFolder | None:
    """The folder that --out asks for, with its run.json; None without --out.

    Args:
        context: of the command, whose options the results depend on.
        network: that they are about.
        name: of the file of lines.
    """
    given: dict[str, Any] = context.params
    if given["out"] is None:
        return None
    options = {key: _value(given[key]) for key in sorted(given) if key not in _NO_OPTIONS}
    command = shlex.join(["calotte", *sys.argv[1:]])
    files = {"inputs": given["inputs"], "map": given.get("map"), "event": event_file(given["event"])}
    return RunFolder(given["out"], name, describe(command, network, files, {"command": context.info_name} | options))


def run_through(
    start: Callable[[Inputs, Watch], Iterator[R]],
    data: Inputs,
    folder: RunFolder | None,
    as_json: bool,
    read: Callable[[Mapping[str, Any]], R],
    keep: Callable[[R], R],
) -> list[R]:
    """The results for all inputs, in order: those that the folder holds, then the others as they are found.

    Args:
        start: (inputs, watch) to their results, one by one.
        data: all inputs; folder: of the run, if any.
        as_json: whether lines go to standard output.
        read: a result from its line; keep: what is done with a new one before its line is written.

    Raises:
        Interrupted: with what is finished, where it is and how to go on.
    """
    kept = [] if folder is None else [line for line in folder.finished if line["index"] in data.index]
    if folder is not None and kept:
        say(stderr, f"{len(kept)} of {len(data.index)} inputs are finished in {folder.path}")
    if as_json:
        for line in kept:
            print_line(json.dumps(line, allow_nan=False))
    found = [read(line) for line in kept]
    done = {line["index"] for line in kept}
    places = [place for place, number in enumerate(data.index) if number not in done]
    takers = [*([folder.append] if folder else []), *([print_line] if as_json else [])]
    watch = Watch(len(data.index), len(kept), bar=not (as_json and sys.stdout.isatty()))
    try:
        if places:
            found += collect(start(data.taken(places), watch), watch, takers, keep)
    except KeyboardInterrupt:
        raise Interrupted(_interrupted(watch, folder, as_json)) from None
    return found


def _interrupted(watch: Watch, folder: RunFolder | None, as_json: bool) -> str:
    said = f"interrupted: {watch.done} of {watch.total} inputs are finished"
    if folder is not None:
        return f"{said} and kept in {folder.path}; the same command goes on from there"
    return f"{said}{' and printed' if as_json else ', and lost'}; with --out DIR a run can go on where it stopped"


def _value(option: Any) -> Any:
    """An option's value as JSON knows it."""
    if isinstance(option, Enum):
        return option.value
    return option.name if isinstance(option, Path) else option
