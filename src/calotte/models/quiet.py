"""Quiet: what another library warns of and logs in this thread is dropped, that of other threads is not."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]


class ThisThread(logging.Filter):
    """Tells this thread from others: as a filter of logging it drops its records, in a warnings filter it matches."""

    def __init__(self) -> None:
        super().__init__()
        self.thread: int | None = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be kept."""
        return record.thread != self.thread

    def match(self, text: str) -> bool:
        """Whether a warning comes from this thread; what `warnings` asks of the pattern of a message."""
        return threading.get_ident() == self.thread


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop the warnings and log records of this thread."""
    here = ThisThread()
    loggers = [logging.root, *(one for one in list(logging.root.manager.loggerDict.values()))]
    handlers = {handler for one in loggers if isinstance(one, logging.Logger) for handler in one.handlers}
    handlers |= {logging.lastResort} if logging.lastResort else set()
    ignored = ("ignore", here, Warning, None, 0)
    for handler in handlers:
        handler.addFilter(here)
    warnings.filters.insert(0, ignored)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        here.thread = None  # where a copy of the filters outlives this block
        with contextlib.suppress(ValueError):
            warnings.filters.remove(ignored)  # type: ignore[attr-defined]
        for handler in handlers:
            handler.removeFilter(here)
