"""What a campaign's results depend on: the files by their hashes, options, versions, threads and machine."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from calotte.network.graph import Network

__all__ = ["describe", "differences", "sha256_of"]

_PACKAGES = ("calotte", "numpy", "onnx", "onnxruntime", "scipy", "torch")
_OTHERWISE = ("command",)  # what may differ between two runs that give the same results


def describe(
    command: str,
    network: Network,
    files: Mapping[str, Path | None],
    options: Mapping[str, Any],
    threads: int,
    outcomes: int,
) -> dict[str, Any]:
    """What results depend on, for `run.json`.

    Args:
        command: as it was typed.
        network: as loaded, with the hashes of its files.
        files: the others by what they are for ("inputs", "map"); None for none.
        options: by name, of those that change results.
        threads: that PyTorch computes with.
        outcomes: how many there will be.
    """
    return {
        "command": command,
        "model": {"sha256": network.sha256, "files": dict(network.files)},
        **{
            kind: None if path is None else {"file": path.name, "sha256": sha256_of(path)}
            for kind, path in files.items()
        },
        "options": dict(options),
        "outcomes": outcomes,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "threads": threads,
        "machine": {
            "system": platform.system(), "machine": platform.machine(), "processor": platform.processor(),
        },
    }  # fmt: skip


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """What keeps two descriptions from being of one campaign, in words; None where nothing does."""
    old = dict(_flat({key: value for key, value in there.items() if key not in _OTHERWISE}))
    new = dict(_flat({key: value for key, value in here.items() if key not in _OTHERWISE}))
    differing = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if not differing:
        return None
    said = ", ".join(f"{key} was {_short(old.get(key))}, is {_short(new.get(key))}" for key in differing[:3])
    return said + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")


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
