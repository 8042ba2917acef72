"""The store of a campaign: one SQLite file that takes each outcome in a transaction of its own.

What was stored stays, whatever stops the process; what was not stored is worked on again. The store belongs to one
campaign, which it describes, and to one process at a time. Each row carries a hash of what it holds, as SQLite does
not notice a bit that flips: a damaged number must not pass for a proved one.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calotte.adversary import Witness
from calotte.campaign.description import differences
from calotte.campaign.keys import Key
from calotte.campaign.outcome import Outcome
from calotte.errors import CalotteError, CannotWrite, InvalidInput
from calotte.report.files import make_folder, write_whole

__all__ = ["LAYOUT", "NAME", "Store"]

NAME, _LOCK, _LINES = "campaign.sqlite", ".campaign.lock", ("assessments.jsonl", "plans.jsonl")
LAYOUT = 2
"""Number of the layout of the tables, kept as the database's `user_version`."""
_TABLES = (
    "CREATE TABLE campaign (description TEXT NOT NULL)",
    "CREATE TABLE outcomes (number INTEGER NOT NULL, size INTEGER NOT NULL, line TEXT NOT NULL, failure TEXT,"
    " answer INTEGER, point BLOB, digest BLOB NOT NULL, PRIMARY KEY (number, size))",
)
_ROW = "SELECT number, size, line, failure, answer, point, digest FROM outcomes"
_DISK = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_AUTH,
}  # fmt: skip
"""Errors that speak of the place; all others mean that the file is not as it was written."""
Row = tuple[int, int, str, str | None, int | None, bytes | None, bytes]


class Store:
    """The outcomes of a campaign. Use one of the functions that make it, and close it.

    Attributes:
        path: of the database, None where it has no name.
        text: the description of the campaign, as `run.json` has it.
        run: SHA-256 of that, which stands in every line; None where there is none.
    """

    def __init__(
        self, database: sqlite3.Connection, path: Path | None, text: str, lock: sqlite3.Connection | None = None
    ) -> None:
        self._database, self.path, self.text, self._lock = database, path, text, lock
        self.run = None if path is None else hashlib.sha256(text.encode()).hexdigest()

    @staticmethod
    def for_now() -> Store:
        """A store that is gone with the process; what is too much for memory goes to a file without a name."""
        database = sqlite3.connect("", isolation_level=None)
        for table in _TABLES:
            database.execute(table)
        return Store(database, None, "")

    @staticmethod
    def in_folder(folder: Path, description: Mapping[str, Any]) -> Store:
        """The store in a folder, made where it is missing, for the campaign described; with its `run.json`.

        Outcomes of inputs whose processes were lost are taken out: they are tried again.

        Raises:
            CannotWrite: the folder cannot be made or written to.
            InvalidInput: it holds another campaign, or results without one; it is damaged; another process uses it.
        """
        make_folder(folder)
        path = folder / NAME
        if not path.exists() and any((folder / name).exists() for name in ("run.json", *_LINES)):
            raise InvalidInput(
                f"{folder} holds results without the {NAME} that they came from: name another folder, or move them "
                "away"
            )
        here = json.loads(json.dumps(description, allow_nan=False))
        store, lock = None, _locked(folder)
        try:
            with _speaking_of(path):
                database = sqlite3.connect(path, isolation_level=None)
                text = _description(database, path)
                if text is None:
                    text = json.dumps(description, indent=1, allow_nan=False) + "\n"
                    _make(database, text)
            store = Store(database, path, text, lock)
            said = differences(store.description, here)
            if said is not None:
                raise InvalidInput(
                    f"{folder} holds another run ({said}): name another folder, or move its {NAME} away to start anew"
                )
            store.check()
            with _speaking_of(path):
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
                database.execute("DELETE FROM outcomes WHERE failure = 'lost'")
            write_whole(folder / "run.json", lambda part: part.write_text(text, encoding="utf-8"))
        except BaseException:
            lock.close() if store is None else store.close()
            raise
        return store

    @staticmethod
    def to_read(folder: Path) -> Store:
        """The store in a folder, only to be read, while a campaign goes on there too.

        Raises:
            InvalidInput: there is none, or it is damaged.
        """
        path = folder / NAME
        if not path.is_file():
            raise InvalidInput(f"{folder} holds no {NAME}: name the folder of an assess --out DIR")
        with _speaking_of(path):
            database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            text = _description(database, path)
        if text is None:
            raise InvalidInput(f"{path} holds no campaign yet")
        store = Store(database, path, text)
        store.check()
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the database, as one file."""
        with suppress(sqlite3.Error):  # somebody reads, the disk is full: the journal stays beside it
            if self._lock is not None:
                self._database.execute("PRAGMA journal_mode = DELETE")
        self._database.close()
        if self._lock is not None:
            self._lock.close()

    @property
    def description(self) -> dict[str, Any]:
        """What the results depend on; see `describe`."""
        with _speaking_of(self.path):
            found: dict[str, Any] = json.loads(self.text)
        return found

    def put(self, outcome: Outcome) -> None:
        """Keep an outcome.

        Raises:
            CannotWrite: the disk refuses; the outcomes before it stay.
        """
        witness = outcome.witness
        line = json.dumps(outcome.line, allow_nan=False)
        answer = None if witness is None else witness.answer
        point = None if witness is None else witness.point.numpy().astype("<f8").tobytes()
        row = (*outcome.key, line, outcome.failure, answer, point)
        with _speaking_of(self.path):
            self._database.execute("INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, _digest(*row)))

    def check(self) -> None:
        """See that everything is there as it was written.

        Raises:
            InvalidInput: something is damaged.
        """
        with _speaking_of(self.path):
            said = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise damaged(self.path, said)
        for _ in self._rows(f"{_ROW} ORDER BY number, size"):
            pass

    def __len__(self) -> int:
        with _speaking_of(self.path):
            (count,) = self._database.execute("SELECT count(*) FROM outcomes").fetchone()
        return int(count)

    def __contains__(self, key: Key) -> bool:
        """Whether there is an outcome."""
        with _speaking_of(self.path):
            question = "SELECT 1 FROM outcomes WHERE number = ? AND size = ?"
            return self._database.execute(question, key).fetchone() is not None

    @property
    def missing(self) -> int:
        """How many outcomes are still to come."""
        return max(int(self.description.get("outcomes", 0)) - len(self), 0)

    @property
    def unfinished(self) -> str | None:
        """What to say to those who read it before the campaign has ended; None where it has."""
        if not self.missing:
            return None
        return (
            f"{self.path} holds {len(self)} of {len(self) + self.missing} results: the same command goes on with it, "
            "and brings the files beside it up to date"
        )

    def lines(self, keys: Iterable[Key] | None = None, *, failed: bool | None = None) -> Iterator[str]:
        """The JSON lines of outcomes, each read when it is asked for.

        Args:
            keys: of outcomes, passed over where there are none; None for all, by number, then size.
            failed: whether failures or results alone are meant; None for both.
        """
        return (line for _, _, line, *_ in self._some(keys, failed))

    def results(self, keys: Iterable[Key] | None = None) -> Iterator[tuple[Key, dict[str, Any]]]:
        """The results with their keys, as `lines` has them."""
        return (((number, size), json.loads(line)) for number, size, line, *_ in self._some(keys, failed=False))

    def witness(self, key: Key) -> Witness | None:
        """The nearest point that was found to be answered differently from an input that has an outcome."""
        ((_, _, line, _, answer, point, _),) = self._some([key])
        if answer is None or point is None:
            return None
        x = torch.from_numpy(np.frombuffer(point, "<f8").astype(np.float64))
        return Witness(x, json.loads(line)["adversarial_distance"], answer)

    def _some(self, keys: Iterable[Key] | None, failed: bool | None = None) -> Iterator[Row]:
        """The rows that `lines` speaks of."""
        if keys is None:
            rows = self._rows(f"{_ROW} ORDER BY number, size")
        else:
            rows = (row for key in keys for row in self._rows(f"{_ROW} WHERE number = ? AND size = ?", *key))
        return (row for row in rows if failed is None or (row[3] is not None) == failed)

    def _rows(self, question: str, *values: Any) -> Iterator[Row]:
        """Rows of outcomes, each as it was written."""
        with _speaking_of(self.path):
            for row in self._database.execute(question, values):
                if _digest(*row[:-1]) != row[-1]:
                    raise damaged(self.path, f"input {row[0]} is not what was written")
                yield row


def damaged(path: Path | None, what: str) -> InvalidInput:
    """The error that a damaged store is."""
    return InvalidInput(f"{path} is damaged ({what}): restore it from a copy, or move it away to start anew")


def _digest(number: int, size: int, line: str, failure: str | None, answer: int | None, point: bytes | None) -> bytes:
    """A hash of all that a row holds."""
    said = repr((number, size, failure, answer, len(line), point is None)).encode()
    return hashlib.sha256(said + line.encode() + (point or b"")).digest()


def _description(database: sqlite3.Connection, path: Path) -> str | None:
    """What the database says that it is about; None where nothing was written to it yet.

    Raises:
        InvalidInput: it is laid out in another way.
    """
    (layout,) = database.execute("PRAGMA user_version").fetchone()
    if layout == LAYOUT:
        (text,) = database.execute("SELECT description FROM campaign").fetchone()
        return str(text)
    if layout == 0 and database.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
        return None
    raise InvalidInput(
        f"{path} has layout {layout}, this version of calotte reads {LAYOUT}: use the version that wrote it, or name "
        "another folder"
    )


def _make(database: sqlite3.Connection, text: str) -> None:
    """Tables and description, all of them or none."""
    database.execute("BEGIN IMMEDIATE")
    for table in _TABLES:
        database.execute(table)
    database.execute("INSERT INTO campaign VALUES (?)", (text,))
    database.execute(f"PRAGMA user_version = {LAYOUT}")
    database.execute("COMMIT")


def _locked(folder: Path) -> sqlite3.Connection:
    """What keeps other processes out until it is closed or this process ends, however that happens.

    Raises:
        InvalidInput: another process is in.
    """
    path = folder / _LOCK
    lock = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise InvalidInput(
                f"another process is at work in {folder}: wait until it ends, or name another folder"
            ) from None
        raise CannotWrite(f"cannot write {path}: {error}") from None
    return lock


@contextmanager
def _speaking_of(path: Path | None) -> Iterator[None]:
    """What goes wrong with the database in this block is said in one line about its path.

    Raises:
        InvalidInput: the file is damaged.
        CannotWrite: the disk refuses.
    """
    try:
        yield
    except CalotteError:
        raise
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK:
            raise CannotWrite(f"the disk refuses {path or 'a temporary file'}: {error}") from None
        raise damaged(path, str(error)) from None
    except (AttributeError, TypeError, ValueError) as error:  # columns that cannot be what was written
        raise damaged(path, str(error)) from None
