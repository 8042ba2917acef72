"""Workers: the tasks of a campaign done one by one here, or by several processes of this machine.

A process gets the job once, then one task at a time, and computes with one thread. A process that is lost (killed,
out of memory) is replaced, and its task tried once more. Outcomes come as they are found.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread

import torch

from calotte.assess import Watch
from calotte.campaign.outcome import Job, Outcome, Task
from calotte.errors import InvalidInput

__all__ = ["here", "in_processes"]

_TRIES = 2


def here(job: Job, tasks: Iterable[Task], watch: Watch) -> Iterator[Outcome]:
    """The outcomes of all tasks, one after the other in this process."""
    for task in tasks:
        yield from job(task, watch)


def in_processes(job: Job, tasks: Iterable[Task], watch: Watch, count: int) -> Iterator[Outcome]:
    """The outcomes of all tasks by `count` processes, in the order in which they are found.

    Raises:
        InvalidInput: the processes end before they have begun.
    """
    packed, waiting, lost = pickle.dumps(job), deque[Task](), Counter[int | None]()
    rest = iter(tasks)
    workers = [_Worker() for _ in range(count)]
    try:
        while workers:
            for worker in _heard(workers):
                message = worker.message()
                if message is None:  # lost
                    workers.remove(worker)
                    task, status = worker.task, worker.end()
                    lost[None if task is None else task.index] += 1
                    if lost[None] > count:
                        raise InvalidInput(
                            f"worker processes end before they begin (exit status {status}): is there memory "
                            f"for {count} of them? Take fewer --workers"
                        )
                    if task is not None and lost[task.index] < _TRIES:
                        waiting.appendleft(task)
                    elif task is not None:
                        reason = f"{_TRIES} processes that worked on it were lost (exit status {status})"
                        for size in task.sizes:
                            yield job.failed((task.index, size), "lost", f"{reason}: killed, or out of memory?")
                    if _filled(waiting, rest):
                        workers.append(_Worker())
                    continue
                if worker.task is None:
                    worker.give(packed)
                else:
                    yield from pickle.loads(message)
                if not _filled(waiting, rest):
                    workers.remove(worker)
                    worker.end()
                    continue
                worker.task = waiting.popleft()
                watch(worker.task.index, f"{len(workers)} at work")
                worker.give(pickle.dumps(worker.task))
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that works, the connection to it, and its task."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=serve, args=(theirs,), daemon=True)
        # Ctrl-C reaches all processes of a terminal: those that work leave it to this one
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()
        self.task: Task | None = None

    def message(self) -> bytes | None:
        """What the process says; None where it is no more."""
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def give(self, message: bytes) -> None:
        """Send it something; where it is no more, the next message tells."""
        with suppress(OSError):
            self.connection.send_bytes(message)

    def end(self) -> int | None:
        """Stop it; its exit status."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode


def _filled(waiting: deque[Task], rest: Iterator[Task]) -> bool:
    """Whether a task waits, after one more was taken from the rest where none did."""
    if not waiting:
        waiting.extend(islice(rest, 1))
    return bool(waiting)


def _heard(workers: list[_Worker]) -> list[_Worker]:
    """Those with something to say, at least one."""
    talking = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in talking]


def serve(connection: Connection) -> None:
    """What a process does: takes the job, then tasks, until the other side is no more."""
    Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    try:
        connection.send_bytes(b"ready")
        job: Job = pickle.loads(connection.recv_bytes())
        while True:
            task: Task = pickle.loads(connection.recv_bytes())
            connection.send_bytes(pickle.dumps(list(job(task))))
    except (EOFError, OSError):
        pass


def end_with_parent() -> None:
    """Where the parent is killed, nobody waits for the task any more, however long it may take yet."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
