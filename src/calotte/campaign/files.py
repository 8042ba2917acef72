"""The files that a campaign leaves beside its store: lines of results and of failures, and the witnesses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from calotte.adversary import Witness
from calotte.campaign.keys import Keys
from calotte.campaign.store import Store
from calotte.report.files import write_whole
from calotte.report.witnesses import save_witnesses

__all__ = ["FAILURES", "write_files"]

FAILURES = "failures.jsonl"


def write_files(store: Store, keys: Keys, folder: Path, name: str) -> None:
    """What the store holds as files, each written whole or not at all.

    Args:
        store: of the campaign.
        keys: of its outcomes, in their order.
        folder: where the files go; name: of the lines of results. `failures.jsonl` is there where there are any, and
            `witnesses.npz` where there are results that may have some: one an input, as no size changes it.

    Raises:
        CannotWrite: the disk refuses.
    """
    write_lines(store.lines(keys, failed=False), folder / name)
    if any(True for _ in store.lines(keys, failed=True)):
        write_lines(store.lines(keys, failed=True), folder / FAILURES)
    else:
        (folder / FAILURES).unlink(missing_ok=True)
    nearest: dict[int, tuple[float, int, int]] = {}  # number -> distance, answer at the input, size
    d = 0
    for (number, size), line in store.results(keys):
        if "adversarial_distance" not in line:  # a campaign that looks for none
            return
        d, distance = line["input_dimension"], line["adversarial_distance"]
        if distance is not None and (number not in nearest or distance < nearest[number][0]):
            nearest[number] = distance, line["predicted"], size

    def witness(number: int) -> Witness:
        found = store.witness((number, nearest[number][2]))
        assert found is not None
        return found

    save_witnesses(folder, list(nearest), [answer for _, answer, _ in nearest.values()], d, witness)


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Lines as a file."""

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)

    write_whole(path, write)
