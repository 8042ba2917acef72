"""Running through inputs: outcomes go on at once, into the store of the campaign and to standard output."""

from __future__ import annotations

import json
import shlex
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import typer

from calotte.arguments import check_labels
from calotte.campaign.description import describe
from calotte.campaign.files import FAILURES, write_files
from calotte.campaign.outcome import Job, Key, Outcome, Task
from calotte.campaign.store import Store
from calotte.cli.opening import event_file
from calotte.errors import CannotWrite, Failed, Interrupted
from calotte.inputs import Inputs
from calotte.network.graph import Network
from calotte.report.files import save_evidence
from calotte.terminal import Watch, print_line, say, stderr

__all__ = ["Doing", "finish", "keys_of", "open_store", "results", "run_through", "tasks_of"]

Doing = Callable[[Job, Iterator[Task], Watch], Iterator[Outcome]]
"""Who does the work: this process, others, a cluster."""
_NO_OPTIONS = ("model", "inputs", "map", "out", "as_json", "wide", "workers", "ray", "require")
"""Options that change no result; files have hashes."""


def open_store(context: typer.Context, network: Network, threads: int | None = None) -> Store:
    """The store in the folder that --out asks for; one in memory without --out.

    Args:
        context: of the command, whose options the results depend on.
        network: that they are about.
        threads: that work on one input; those of this process by default.
    """
    given: dict[str, Any] = context.params
    if given["out"] is None:
        return Store.in_memory()
    options = {key: _value(given[key]) for key in sorted(given) if key not in _NO_OPTIONS}
    command = shlex.join(["calotte", *sys.argv[1:]])
    files = {"inputs": given["inputs"], "map": given.get("map"), "event": event_file(given["event"])}
    files |= {name: Path(given[name]) for name in ("mean", "std") if (given[name] or "").lower().endswith(".npy")}
    named = {"command": context.info_name} | options
    return Store.in_folder(given["out"], describe(command, network, files, named, threads or torch.get_num_threads()))


Places = Sequence[Sequence[int]]
"""For each input, the sizes of the noise that it meets, by their places among those of the campaign."""


def keys_of(data: Inputs, places: Places) -> list[Key]:
    """What there will be outcomes of, in the order of the lines: each input at each of its sizes."""
    return [(number, size) for number, own in zip(data.index, places, strict=True) for size in own]


def tasks_of(data: Inputs, network: Network, places: Places) -> Callable[[set[Key]], Iterator[Task]]:
    """The inputs at their sizes as tasks, without what has an outcome already; checked at once.

    Raises:
        InvalidInput: labels that are no classes of the network.
    """
    x = network.inputs(data.x)
    labels = check_labels(data.labels, len(x), network.decision.classes)

    def tasks(without: set[Key]) -> Iterator[Task]:
        for i, number in enumerate(data.index):
            left = tuple(size for size in places[i] if (number, size) not in without)
            if left:
                yield Task(number, x[i].clone(), None if labels is None else labels[i], left)

    return tasks


def run_through(
    job: Job,
    tasks: Callable[[set[Key]], Iterator[Task]],
    keys: list[Key],
    store: Store,
    name: str,
    as_json: bool,
    do: Doing,
) -> None:
    """Work on all inputs that the store has no outcome of; with --json, print all lines in the order of the inputs.

    Args:
        job: the work; tasks: without what has an outcome; do: who does it.
        keys: of all outcomes; store: that outcomes go into; name: of the file of lines beside it.

    Raises:
        Interrupted: with what is finished, where it is and how to go on.
    """
    done = store.finished()
    if done:
        say(stderr, f"{_count(len(done), keys)} are finished in {store.path}")
    unprinted = deque(keys if as_json else [])
    _print_first(store, unprinted, done)
    watch = Watch(len(keys), len(done), bar=not (as_json and sys.stdout.isatty()), what=_what(keys))
    try:
        if len(done) < len(keys):
            with watch:
                for outcome in do(job, tasks(done), watch):
                    store.put(_with_evidence(outcome, store))
                    done.add(outcome.key)
                    _print_first(store, unprinted, done)
                    watch.finished()
    except KeyboardInterrupt:
        done = store.finished()
        _print_first(store, deque(key for key in unprinted if key in done), done)
        if store.path is not None:
            with suppress(CannotWrite):  # the store has it all
                write_files(store, keys, store.path.parent, name)
        raise Interrupted(_interrupted(_count(len(done), keys), store, as_json)) from None
    if store.path is not None:
        write_files(store, keys, store.path.parent, name)


def results(store: Store, keys: list[Key]) -> Iterator[dict[str, Any]]:
    """The lines of the outcomes that are results, in order."""
    failed = store.failed()
    return (json.loads(line) for line in store.lines(key for key in keys if key not in failed))


def finish(store: Store, keys: list[Key]) -> None:
    """End as the inputs without a result ask for.

    Raises:
        Failed: there are some.
    """
    failed = store.failed()
    lines = [json.loads(line) for line in store.lines(key for key in keys if key in failed)]
    if not lines:
        return
    first = min(lines, key=lambda line: ("contradiction", "defect", "refused", "lost").index(line["failed"]))
    said = {
        "contradiction": f"contradiction, a defect of calotte: {first['reason']}; please report it with "
        f"{first.get('evidence')}",
        "defect": f"input {first['index']}: a defect of calotte, please report it: {first['reason']}",
        "refused": first["reason"],
        "lost": f"input {first['index']}: {first['reason']}",
    }[first["failed"]]
    if len(lines) > 1:
        where = "" if store.path is None else f" (see {store.path.with_name(FAILURES)})"
        said += f"; {_count(len(lines), keys)} have no result{where}"
    raise Failed(said, 1 if first["failed"] in ("contradiction", "defect") else 2)


def _what(keys: list[Key]) -> str:
    """What there is one of for each key."""
    return "inputs" if len({number for number, _ in keys}) == len(keys) else "inputs and sizes"


def _count(some: int, keys: list[Key]) -> str:
    return f"{some} of {len(keys)} {_what(keys)}"


def _print_first(store: Store, unprinted: deque[Key], done: set[Key]) -> None:
    """Print lines in order as far as there are outcomes."""
    while unprinted and unprinted[0] in done:
        print_line(store.line(unprinted.popleft()))


def _with_evidence(outcome: Outcome, store: Store) -> Outcome:
    """The outcome with the name of the file that its evidence was saved in."""
    if not outcome.evidence:
        return outcome
    folder = None if store.path is None else store.path.parent
    place = save_evidence(outcome.key, outcome.evidence, folder)
    return replace(outcome, line=outcome.line | {"evidence": str(place)})


def _interrupted(done: str, store: Store, as_json: bool) -> str:
    said = f"interrupted: {done} are finished"
    if store.path is not None:
        return f"{said} and kept in {store.path}; the same command goes on from there"
    return f"{said}{' and printed' if as_json else ', and lost'}; with --out DIR a run can go on where it stopped"


def _value(option: Any) -> Any:
    """An option's value as JSON knows it."""
    if isinstance(option, Enum):
        return option.value
    if isinstance(option, tuple) and len(option) == 1:
        return option[0]
    return option.name if isinstance(option, Path) else option
