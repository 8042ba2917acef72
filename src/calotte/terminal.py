"""The terminal: notices, tables, progress, and lines on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from calotte.errors import CannotWrite
from calotte.printing import number, plain

__all__ = [
    "PLAIN",
    "Terminal",
    "Watch",
    "output",
    "print_line",
    "print_table",
    "say",
    "seconds_text",
    "stderr",
]

PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
"""No text of the user's, nor of a model, is read as markup."""
CLOSED = "standard output was closed before the end"
_FIRST_LINE, _LINES_APART = 10.0, 30.0  # seconds to the first line of progress in a log, and between lines


class Terminal(Console):
    """A console whose end is an error like others."""

    def on_broken_pipe(self) -> None:
        """Nobody reads any more."""
        raise CannotWrite(CLOSED)


stderr = Terminal(stderr=True, **PLAIN)


def output(as_json: bool) -> Console:
    """Where tables go: standard output, or standard error where that is for JSON."""
    return stderr if as_json else Terminal(**PLAIN)


def print_table(console: Console, make: Callable[[int | None], Table], wide: bool) -> None:
    """Print a table made for the width of the console, or a `wide` one for none; its lines are never broken."""
    table = make(None if wide else console.width)
    unbounded = console.options.update(max_width=10_000)
    console.print(table, crop=False, width=max(console.width, console.measure(table, options=unbounded).maximum))


def say(console: Console, text: str) -> None:
    """A line of text without control characters: broken between words on a terminal, never in a file."""
    console.print(plain(text), soft_wrap=not console.is_terminal)


class Watch:
    """Progress on standard error: a bar on a terminal, a line every so often in a log.

    Called with the number of the input and the name of the step that begins.

    Args:
        total: inputs in all; done: how many of them were finished before.
        bar: whether a bar may be drawn where standard error is a terminal; what: is counted.
    """

    def __init__(self, total: int, done: int = 0, bar: bool = True, what: str = "inputs") -> None:
        self.total, self.done, self.before, self.what = total, done, done, what
        self.start = time.monotonic()
        self.next_line = self.start + _FIRST_LINE
        self._progress = Progress(
            TextColumn("{task.fields[now]}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("{task.fields[left]}", markup=False),
            console=stderr, transient=True, disable=not (bar and stderr.is_terminal), redirect_stdout=False,
            redirect_stderr=False,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=total, completed=done, now="", left="")

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, index: int, step: str) -> None:
        now = f"input {index}: {step}"
        self._progress.update(self._task, now=now, left=self.left(), completed=self.done)
        if self._progress.disable and time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + _LINES_APART
            elapsed = seconds_text(time.monotonic() - self.start)
            print(
                f"{self.done} of {self.total} {self.what} in {elapsed}{self.left(', ')}; now {now}", file=sys.stderr
            )

    def finished(self) -> None:
        """One more input is."""
        self.done += 1

    def left(self, before: str = "") -> str:
        """Inputs a second, and the time left if the others take as long; nothing before one is finished."""
        new, elapsed = self.done - self.before, time.monotonic() - self.start
        if new == 0 or elapsed <= 0.0:
            return ""
        each = elapsed / new
        return f"{before}{number(1 / each, digits=2)}/s, about {seconds_text(each * (self.total - self.done))} left"


def seconds_text(seconds: float) -> str:
    """A duration for people."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def print_line(line: str) -> None:
    """One line on standard output, at once.

    Raises:
        CannotWrite: standard output does not take it.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise CannotWrite(CLOSED) from None
    except OSError as error:
        raise CannotWrite(f"cannot write to standard output: {error.strerror or error}") from None
