"""Outcome: what came of one input at one size of the noise, a result or why there is none; and the job that gives it.

One input never stops the others: where it has no answer, shows a contradiction or meets a defect, its outcome says
so. What is no fault of the input (no memory, no disk, the user) goes on as the error that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor

from calotte.adversary import Witness
from calotte.assess import Watch
from calotte.campaign.keys import Key
from calotte.errors import CalotteError, Contradiction

__all__ = ["Failure", "Job", "Outcome", "Record", "Task"]

Failure = Literal["contradiction", "defect", "refused", "lost"]
"""Why an input has no result: two results contradict each other; calotte has a defect; the network has no answer
there; every process that worked on it was lost."""


class Record(Protocol):
    """The result for one input, such as an Assessment or a Plan."""

    def to_dict(self) -> dict[str, Any]:
        """The public JSON form."""


@dataclass(frozen=True)
class Task:
    """One input to work on: its number, x (d,) float64, its class where known, at which sizes of the noise."""

    index: int
    x: Tensor
    label: int | None
    sizes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Outcome:
    """What came of one input at one size of the noise.

    Attributes:
        index: number of the input.
        line: the public JSON form of the result; of a failure: index, eps and sigma, failed, reason, run.
        witness: the nearest point found that is answered differently, whose coordinates lines do not hold.
        failure: why there is no result, or None.
        evidence: what is needed to see a contradiction again, by name.
        size: place of the size among those of the campaign.
    """

    index: int
    line: dict[str, Any]
    witness: Witness | None = None
    failure: Failure | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0

    @property
    def key(self) -> Key:
        """What it is of."""
        return self.index, self.size


@dataclass(frozen=True)
class Job:
    """The work of a campaign; it pickles, so that other processes may do it.

    Attributes:
        works: for each size of the noise, (x, index, label, watch) to the result, such as `Assessor.assess`.
        run: of the lines, sha256 of what describes the campaign.
        noises: for each size, the entries of lines about it; none where there are no sizes.
    """

    works: Sequence[Callable[[Tensor, int, int | None, Watch | None], Record]]
    run: str | None = None
    noises: Sequence[Mapping[str, float]] = ({},)

    def __call__(self, task: Task, watch: Watch | None = None) -> Iterator[Outcome]:
        """Work on one input, at one size after the other.

        Raises:
            MemoryError, OSError, KeyboardInterrupt: no fault of the input.
        """
        return (self._at(size, task, watch) for size in task.sizes)

    def _at(self, size: int, task: Task, watch: Watch | None) -> Outcome:
        try:
            record = self.works[size](task.x, task.index, task.label, watch)
        except Contradiction as error:
            return self.failed((task.index, size), "contradiction", str(error), error.evidence)
        except CalotteError as error:
            return self.failed((task.index, size), "refused", str(error))
        except (OSError, MemoryError):
            raise
        except Exception as error:
            if "allocate memory" in str(error):  # how PyTorch says it
                raise
            return self.failed((task.index, size), "defect", f"{type(error).__name__}: {error}")
        witness = getattr(record, "witness", None)
        return Outcome(task.index, record.to_dict() | {"run": self.run}, witness, size=size)

    def failed(self, key: Key, failure: Failure, reason: str, evidence: Mapping[str, Any] | None = None) -> Outcome:
        """The outcome of an input without a result."""
        index, size = key
        line = {"index": index, **self.noises[size], "failed": failure, "reason": reason, "run": self.run}
        return Outcome(index, line, None, failure, evidence or {}, size)
