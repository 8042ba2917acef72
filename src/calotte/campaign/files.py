"""The files that a campaign leaves beside its store: lines of results and of failures, and the witnesses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from calotte.adversary import Witness
from calotte.campaign.outcome import Key
from calotte.campaign.store import Store
from calotte.report.files import write_whole
from calotte.report.witnesses import save_witnesses

__all__ = ["FAILURES", "write_files"]

FAILURES = "failures.jsonl"


def write_files(store: Store, keys: Sequence[Key], folder: Path, name: str) -> None:
    """What the store holds as files, each written whole or not at all.

    Args:
        store: of the campaign.
        keys: of its outcomes, in their order.
        folder: where the files go; name: of the lines of results. `failures.jsonl` is there where there are any, and
            `witnesses.npz` where there are results that may have some: one an input, as no size changes it.

    Raises:
        CannotWrite: the disk refuses.
    """
    failed, there = store.failed(), store.finished()
    results = [key for key in keys if key in there and key not in failed]
    write_lines(store, results, folder / name)
    if failed:
        write_lines(store, [key for key in keys if key in failed], folder / FAILURES)
    else:
        (folder / FAILURES).unlink(missing_ok=True)
    nearest: dict[int, tuple[float, int, Key]] = {}
    d = 0
    for key, line in zip(results, map(json.loads, store.lines(results)), strict=True):
        if "adversarial_distance" not in line:  # a campaign that looks for none
            return
        d = line["input_dimension"]
        distance = line["adversarial_distance"]
        if distance is not None and (key[0] not in nearest or distance < nearest[key[0]][0]):
            nearest[key[0]] = distance, line["predicted"], key

    def witness(number: int) -> Witness:
        found = store.witness(nearest[number][2])
        assert found is not None
        return found

    save_witnesses(folder, list(nearest), [predicted for _, predicted, _ in nearest.values()], d, witness)


def write_lines(store: Store, keys: Iterable[Key], path: Path) -> None:
    """The lines of these outcomes as a file."""

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in store.lines(keys))

    write_whole(path, write)
