"""The folder of a run: `run.json`, which says all that its results depend on, and one line for each finished input.

The same run goes on where it stopped; another run is refused, so that no line is lost and no two runs are mixed.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from calotte.errors import InvalidInput
from calotte.network.graph import Network
from calotte.report.files import make_folder, write_whole, writing

__all__ = ["RunFolder", "describe", "sha256_of"]

_PACKAGES = ("calotte", "numpy", "onnx", "onnxruntime", "scipy", "torch")
_OTHERWISE = ("command",)  # what may differ between two runs that give the same results


def describe(
    command: str, network: Network, files: Mapping[str, Path | None], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What results depend on: the files by their hashes, options, versions, threads, machine; for `run.json`.

    Args:
        command: as it was typed.
        network: as loaded, with the hashes of its files.
        files: the others by what they are for ("inputs", "map"); None for none.
        options: by name.
    """
    return {
        "command": command,
        "model": {"sha256": network.sha256, "files": dict(network.files)},
        **{
            kind: None if path is None else {"file": path.name, "sha256": sha256_of(path)}
            for kind, path in files.items()
        },
        "options": dict(options),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "threads": torch.get_num_threads(),
        "machine": {
            "system": platform.system(), "machine": platform.machine(), "processor": platform.processor(),
        },
    }  # fmt: skip


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RunFolder:
    """A folder that takes the lines of one run.

    Args:
        folder: made where it is missing.
        name: of the file of lines.
        description: of the run, for `run.json`; see `describe`.

    Attributes:
        run: SHA-256 of `run.json`; it stands in every line.
        finished: the lines that were there already, in their order.

    Raises:
        CannotWrite: the folder cannot be made or written to.
        InvalidInput: it holds another run, or lines that are damaged.
    """

    def __init__(self, folder: Path, name: str, description: Mapping[str, Any]) -> None:
        self.folder, self.path = folder, folder / name
        make_folder(folder)
        about = folder / "run.json"
        if about.exists():
            self._refuse_another(about, description)
        elif any((folder / lines).exists() for lines in ("assessments.jsonl", "plans.jsonl")):
            raise InvalidInput(
                f"{folder} holds results without the run.json that says what they are about: name another folder, or "
                "move them away"
            )
        else:
            text = json.dumps(description, indent=1, allow_nan=False) + "\n"
            write_whole(about, lambda part: part.write_text(text, encoding="utf-8"))
        self.run = sha256_of(about)
        self.finished = self._lines()

    def _refuse_another(self, about: Path, description: Mapping[str, Any]) -> None:
        try:
            there = json.loads(about.read_text(encoding="utf-8"))
            old = dict(_flat({key: value for key, value in there.items() if key not in _OTHERWISE}))
        except (OSError, ValueError, AttributeError) as error:
            raise InvalidInput(f"{about} cannot be read ({error}): name another folder, or move it away") from None
        here = json.loads(json.dumps(description, allow_nan=False))
        new = dict(_flat({key: value for key, value in here.items() if key not in _OTHERWISE}))
        differing = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if differing:
            said = ", ".join(f"{key} was {_short(old.get(key))}, is {_short(new.get(key))}" for key in differing[:3])
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise InvalidInput(
                f"{self.folder} holds another run ({said}{more}): name another folder, or move its run.json and "
                f"{self.path.name} away to start anew"
            )

    def _lines(self) -> list[dict[str, Any]]:
        """The finished lines; what an interruption left of one more is cut off."""
        if not self.path.exists():
            return []
        with writing(self.path), self.path.open("r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
        found = []
        for number, text in enumerate(content[:whole].splitlines(), start=1):
            try:
                line = json.loads(text)
                fits = line["run"] == self.run and isinstance(line["index"], int)
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                raise InvalidInput(
                    f"{self.path}: line {number} is damaged or of another run: move the file away to start anew"
                )
            found.append(line)
        return found

    def append(self, text: str) -> None:
        """Keep one more line.

        Raises:
            CannotWrite: the disk refuses; the lines before it stay.
        """
        with writing(self.path), self.path.open("ab") as file:
            file.write(text.encode() + b"\n")


def _flat(entries: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dictionaries, under names such as 'options.eps'."""
    for key, value in entries.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:12]}...{text[-6:]}"
