"""The files that a campaign leaves beside its store: lines of results and of failures, and the witnesses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from calotte.adversary import Witness
from calotte.campaign.store import Store
from calotte.report.files import write_whole
from calotte.report.witnesses import save_witnesses

__all__ = ["FAILURES", "write_files"]

FAILURES = "failures.jsonl"


def write_files(store: Store, numbers: Iterable[int], folder: Path, name: str) -> None:
    """What the store holds as files, each written whole or not at all.

    Args:
        store: of the campaign.
        numbers: of its inputs, in their order.
        folder: where the files go; name: of the lines of results. `failures.jsonl` is there where there are any, and
            `witnesses.npz` where there are results that may have some.

    Raises:
        CannotWrite: the disk refuses.
    """
    failed, there = store.failed(), store.finished()
    results = [number for number in numbers if number in there and number not in failed]
    write_lines(store, results, folder / name)
    if failed:
        write_lines(store, [number for number in numbers if number in failed], folder / FAILURES)
    else:
        (folder / FAILURES).unlink(missing_ok=True)
    index, predicted, d = [], [], 0
    for line in map(json.loads, store.lines(results)):
        if "adversarial_distance" not in line:  # a campaign that looks for none
            return
        d = line["input_dimension"]
        if line["adversarial_distance"] is not None:
            index.append(line["index"])
            predicted.append(line["predicted"])

    def witness(number: int) -> Witness:
        found = store.witness(number)
        assert found is not None
        return found

    save_witnesses(folder, index, predicted, d, witness)


def write_lines(store: Store, numbers: Iterable[int], path: Path) -> None:
    """The lines of these inputs as a file."""

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in store.lines(numbers))

    write_whole(path, write)
