"""Running through inputs: outcomes go on at once, into the store of the campaign and to standard output."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import typer

from calotte.arguments import check_labels
from calotte.campaign.description import describe
from calotte.campaign.files import FAILURES, write_files
from calotte.campaign.keys import Key, Keys
from calotte.campaign.outcome import Job, Outcome, Task
from calotte.campaign.store import Store
from calotte.cli.opening import event_file
from calotte.errors import CannotWrite, Failed, Interrupted
from calotte.inputs import Inputs
from calotte.network.graph import Network
from calotte.report.files import save_evidence
from calotte.terminal import Watch, print_line, say, stderr

__all__ = ["Doing", "finish", "open_store", "run_through", "tasks_of"]

Doing = Callable[[Job, Iterator[Task], Watch], Iterator[Outcome]]
"""Who does the work: this process, others, a cluster."""
_NO_OPTIONS = ("model", "inputs", "map", "out", "as_json", "wide", "workers", "ray", "require")
"""Options that change no result; files have hashes."""


def open_store(context: typer.Context, network: Network, keys: Keys, threads: int | None = None) -> Store:
    """The store in the folder that --out asks for; one that nothing is left of without --out.

    Args:
        context: of the command, whose options the results depend on.
        network: that they are about; keys: of all outcomes.
        threads: that work on one input; those of this process by default.
    """
    given: dict[str, Any] = context.params
    if given["out"] is None:
        return Store.for_now()
    options = {key: _value(given[key]) for key in sorted(given) if key not in _NO_OPTIONS}
    command = shlex.join(["calotte", *sys.argv[1:]])
    files = {"inputs": given["inputs"], "map": given.get("map"), "event": event_file(given["event"])}
    files |= {name: Path(given[name]) for name in ("mean", "std") if (given[name] or "").lower().endswith(".npy")}
    named = {"command": context.info_name} | options
    described = describe(command, network, files, named, threads or torch.get_num_threads(), len(keys))
    return Store.in_folder(given["out"], described)


def tasks_of(data: Inputs, network: Network, keys: Keys) -> Callable[[Store], Iterator[Task]]:
    """The inputs as tasks, at those of their sizes at which a store has no outcome of them; checked at once.

    Raises:
        InvalidInput: labels that are no classes of the network.
    """
    labels = check_labels(data.labels, len(data.x), network.decision.classes)

    def tasks(store: Store) -> Iterator[Task]:
        for i, (number, places) in enumerate(keys.each()):
            left = tuple(size for size in places if (number, size) not in store)
            if left:
                (x,) = network.inputs(data.x[i : i + 1])
                yield Task(number, x, None if labels is None else labels[i], left)

    return tasks


def run_through(
    job: Job,
    tasks: Callable[[Store], Iterator[Task]],
    keys: Keys,
    store: Store,
    name: str,
    as_json: bool,
    do: Doing,
) -> None:
    """Work on all inputs that the store has no outcome of; with --json, print all lines in the order of the inputs.

    Args:
        job: the work; tasks: without what the store has; do: who does it.
        keys: of all outcomes; store: that outcomes go into; name: of the file of lines beside it.

    Raises:
        Interrupted: with what is finished, where it is and how to go on.
    """
    done = len(store)
    if done:
        say(stderr, f"{keys.counted(done)} are finished in {store.path}")
    printer = Printer(store, keys if as_json else ())
    printer.first()
    watch = Watch(len(keys), done, bar=not (as_json and sys.stdout.isatty()), what=keys.what)
    try:
        if done < len(keys):
            with watch:
                for outcome in do(job, tasks(store), watch):
                    store.put(_with_evidence(outcome, store))
                    printer.first()
                    watch.finished()
    except KeyboardInterrupt:
        printer.rest()
        if store.path is not None:
            with suppress(CannotWrite):  # the store has it all
                write_files(store, keys, store.path.parent, name)
        raise Interrupted(_interrupted(keys.counted(len(store)), store, as_json)) from None
    if store.path is not None:
        write_files(store, keys, store.path.parent, name)


class Printer:
    """Prints the lines of a store in the order of the keys.

    Args:
        store: that they are in; keys: of the lines to print.
    """

    def __init__(self, store: Store, keys: Iterable[Key]) -> None:
        self.store, self.keys = store, iter(keys)
        self.next = next(self.keys, None)

    def first(self) -> None:
        """Print those that there are, up to the first that there is not."""
        while self.next is not None and self.next in self.store:
            for line in self.store.lines([self.next]):
                print_line(line)
            self.next = next(self.keys, None)

    def rest(self) -> None:
        """Print all that there are."""
        if self.next is not None:
            for line in self.store.lines(chain([self.next], self.keys)):
                print_line(line)


def finish(store: Store, keys: Keys) -> None:
    """End as the inputs without a result ask for.

    Raises:
        Failed: there are some.
    """
    count, first = 0, None
    worst = ("contradiction", "defect", "refused", "lost").index
    for text in store.lines(keys, failed=True):
        line, count = json.loads(text), count + 1
        if first is None or worst(line["failed"]) < worst(first["failed"]):
            first = line
    if first is None:
        return
    said = {
        "contradiction": f"contradiction, a defect of calotte: {first['reason']}; please report it with "
        f"{first.get('evidence')}",
        "defect": f"input {first['index']}: a defect of calotte, please report it: {first['reason']}",
        "refused": first["reason"],
        "lost": f"input {first['index']}: {first['reason']}",
    }[first["failed"]]
    if count > 1:
        where = "" if store.path is None else f" (see {store.path.with_name(FAILURES)})"
        said += f"; {keys.counted(count)} have no result{where}"
    raise Failed(said, 1 if first["failed"] in ("contradiction", "defect") else 2)


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
