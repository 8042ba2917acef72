"""The terminal: notices, progress, and results line by line, as they are found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import track

from calotte.inputs import Inputs
from calotte.network.graph import Network

__all__ = ["collect", "notices", "stderr"]

stderr = Console(stderr=True, highlight=False)


def notices(network: Network, data: Inputs) -> None:
    """Say what was loaded, the accuracy where labels are known, and what looks wrong."""
    for notice in network.notices:
        stderr.print(f"notice: {notice}", soft_wrap=True)
    parts = f"{network.hidden_units} ReLUs in {len(network.relus)} layers, {network.decision.comparisons} comparisons"
    stderr.print(f"[dim]N = {network.units}: {parts} of outputs[/dim]")
    x = network.inputs(data.x)
    bytes_like = bool((x.min() >= 0) & (x.max() <= 255) & (x.max() > 2) & (x == x.round()).all())
    if data.labels is not None:
        right = float((network.predict(x).numpy() == data.labels).mean())
        stderr.print(f"accuracy {right:.4f} on {len(x)} labelled inputs")
        if bytes_like and float((network.predict(x / 255).numpy() == data.labels).mean()) >= right:
            stderr.print(
                "warning: inputs are bytes 0 to 255, and x / 255 is answered as well or better: divide them by 255?"
            )
    elif bytes_like:
        stderr.print("warning: inputs look like bytes 0 to 255: divide by 255 if the network expects 0 to 1")
    if network.clipping is not None:
        low, high = network.clipping.low, network.clipping.high
        edge = int(((x == low) | (x == high)).any(1).sum())
        if edge:
            stderr.print(
                f"notice: {edge} of {len(x)} inputs have entries at {low:g} or {high:g}, where the clipping bends: "
                "rungs theorem and cell say nothing about them, the certified radius carries over",
                soft_wrap=True,
            )
        outside = int(((x < low) | (x > high)).any(1).sum())
        if outside:
            stderr.print(f"warning: {outside} of {len(x)} inputs lie outside of the clipping range", soft_wrap=True)
    if len(x) > 1:
        stderr.print("[dim]sampled levels hold for each input separately, not for all together[/dim]")


class Record(Protocol):
    """What a line of output is made from."""

    def to_dict(self) -> dict[str, Any]:
        """The public JSON form."""


R = TypeVar("R", bound=Record)


def collect(each: Iterator[R], total: int, as_json: bool, file: Path | None) -> list[R]:
    """Run through the results, keeping every finished line on standard output or in the file."""
    found: list[R] = []
    stream = None if file is None else file.open("w")
    try:
        for one in progress(each, total):
            line = json.dumps(one.to_dict(), allow_nan=False)
            if as_json:
                print(line, flush=True)
            if stream is not None:
                print(line, file=stream, flush=True)
            found.append(one)
    finally:
        if stream is not None:
            stream.close()
    return found


def progress(each: Iterable[R], total: int) -> Iterable[R]:
    """A progress bar on standard error where that is a terminal."""
    return track(each, total=total, console=stderr, transient=True, disable=not stderr.is_terminal)
