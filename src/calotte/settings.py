"""Settings: what an assessment may spend, and the levels that it promises."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from calotte.checks import kind, number, whole
from calotte.errors import InvalidInput

__all__ = ["Settings", "check_delta"]


@dataclass(frozen=True)
class Settings:
    """What the rungs may spend and promise.

    Attributes:
        samples: Monte Carlo draws for each input, at most.
        confidence: one-sided level of sampled bounds, for each input separately.
        seed: of all draws; the same seed gives the same numbers whatever the batch size or order.
        time_limit: seconds for each input; a rung that would go on beyond it is skipped.
        memory_limit: bytes for blocks of intermediate results.
        boxes: of noise that rung `branching` may bound for each input.
        delta: sampling stops as soon as it can say whether p <= delta; None: it draws all samples.
        search: whether the nearest misclassified point is searched for.
        device: cpu or cuda: where Monte Carlo evaluates draws, in float64; proofs are computed on the cpu.
    """

    samples: int = 10_000
    confidence: float = 0.999
    seed: int = 0
    time_limit: float = math.inf
    memory_limit: float = 2e9
    boxes: int = 300
    delta: float | None = None
    search: bool = True
    device: str = "cpu"

    def simultaneous(self, statements: int) -> Settings:
        """The same with a level at which so many sampled bounds hold all at once with the confidence of these.

        Their errors add up (Bonferroni): each may have 1 / statements of what all may have.

        >>> Settings(confidence=0.99).simultaneous(100).confidence
        0.9999000000000001

        Raises:
            InvalidInput: so many that no level below 1 does.
        """
        level = math.nextafter(1.0 - (1.0 - self.confidence) / max(1, whole("statements", statements)), math.inf)
        if level >= 1.0:
            raise InvalidInput(
                f"{statements} bounds at once at confidence {self.confidence}: no level below 1 is that high; "
                "lower the confidence, or take fewer inputs"
            )
        return replace(self, confidence=level)

    def __post_init__(self) -> None:
        for name in ("samples", "seed", "boxes"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        if self.samples < 1:
            raise InvalidInput(f"samples must be at least 1, came {self.samples}")
        if self.boxes < 1:
            raise InvalidInput(f"boxes must be at least 1, came {self.boxes}")
        if self.seed < 0:
            raise InvalidInput(f"seed must not be negative, came {self.seed}")
        for name in ("confidence", "time_limit", "memory_limit"):
            object.__setattr__(self, name, number(name, getattr(self, name)))
        if not isinstance(self.search, bool):
            raise InvalidInput(f"search must be True or False, came {kind(self.search)}")
        if not 0 < self.confidence < 1:
            raise InvalidInput(f"confidence must lie strictly between 0 and 1, came {self.confidence}")
        if not 0 < self.memory_limit < math.inf:
            raise InvalidInput(
                f"the memory limit must be a positive, finite number of bytes, came {self.memory_limit}"
            )
        if not self.time_limit > 0:
            raise InvalidInput(f"the time limit must be positive, came {self.time_limit}")
        if self.delta is not None:
            object.__setattr__(self, "delta", check_delta(self.delta))
        if self.device not in ("cpu", "cuda"):
            raise InvalidInput(f"device must be cpu or cuda, came {self.device!r}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InvalidInput(
                "device cuda: this PyTorch finds no CUDA device; install a CUDA build of torch, or compute on the cpu"
            )


def check_delta(delta: float) -> float:
    """A probability strictly between 0 and 1 as a float; anything else is refused."""
    found = number("delta", delta)
    if not 0 < found < 1:
        raise InvalidInput(f"delta must lie strictly between 0 and 1, came {delta!r}")
    return found
