"""Cluster: the tasks of a campaign done by an existing Ray cluster.

The job goes into the object store once, each process of the cluster fetches it once, and Ray itself tries the tasks
of lost workers again. calotte must be installed there in the same version.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import torch

from calotte.assess import Watch
from calotte.campaign.outcome import Job, Outcome, Task
from calotte.errors import InvalidInput

__all__ = ["on_ray"]

_IN_FLIGHT = 2  # tasks for each processor of the cluster: one at work, one that waits there
_RETRIES = 3


def on_ray(job: Job, tasks: Iterable[Task], watch: Watch, address: str) -> Iterator[Outcome]:
    """The outcomes of all tasks by the cluster at an address, in the order in which they are found.

    Args:
        job, tasks: what is to be done.
        address: of the cluster as Ray takes it, such as "auto" or "host:6379"; "local" starts one on this machine.
        watch: called with the number of each input that is handed on.

    Raises:
        InvalidInput: Ray is not installed, or no cluster answers there.
    """
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError:
        raise InvalidInput("--ray needs Ray: pip install 'calotte[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
    try:
        ray.init(address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InvalidInput(f"no Ray cluster answers at {address!r}: {error}") from None
    try:
        packed = ray.put(pickle.dumps(job))
        worker = ray.remote(num_cpus=1, max_retries=_RETRIES)(work)
        most = _IN_FLIGHT * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        flying: dict[Any, Task] = {}
        rest = iter(tasks)
        while True:
            while len(flying) < most and (task := next(rest, None)) is not None:
                watch(task.index, f"{len(flying) + 1} on Ray")
                flying[worker.remote([packed], task)] = task
            if not flying:
                return
            ((landed,), _) = ray.wait(list(flying), num_returns=1)
            task = flying.pop(landed)
            try:
                yield from pickle.loads(ray.get(landed))
            except RayError as error:
                said = str(error).strip().splitlines()[0]
                for size in task.sizes:
                    yield job.failed((task.index, size), "lost", f"Ray gave it up, after {_RETRIES} retries: {said}")
    finally:
        ray.shutdown()


def work(reference: list[Any], task: Task) -> bytes:
    """One task, in a process of the cluster; the job comes as a reference in a list, so that Ray leaves it there."""
    return pickle.dumps(list(_job(reference[0])(task)))


@lru_cache(maxsize=1)
def _job(reference: Any) -> Job:
    """The job, fetched once for each process."""
    import ray

    torch.set_num_threads(1)
    job: Job = pickle.loads(ray.get(reference))
    return job
