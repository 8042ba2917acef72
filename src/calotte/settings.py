"""Settings: what an assessment may spend, and the levels that it promises."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

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

    def __post_init__(self) -> None:
        for name in ("samples", "seed", "boxes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidInput(f"{name} must be a whole number, came {value!r}")
        if self.samples < 1:
            raise InvalidInput(f"samples must be at least 1, came {self.samples}")
        if self.boxes < 1:
            raise InvalidInput(f"boxes must be at least 1, came {self.boxes}")
        if self.seed < 0:
            raise InvalidInput(f"seed must not be negative, came {self.seed}")
        for name in ("confidence", "time_limit", "memory_limit"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidInput(f"{name} must be a number, came {value!r}")
        if not 0 < self.confidence < 1:
            raise InvalidInput(f"confidence must lie strictly between 0 and 1, came {self.confidence}")
        if not 0 < self.memory_limit < math.inf:
            raise InvalidInput(
                f"the memory limit must be a positive, finite number of bytes, came {self.memory_limit}"
            )
        if not self.time_limit > 0:
            raise InvalidInput(f"the time limit must be positive, came {self.time_limit}")
        if self.delta is not None:
            check_delta(self.delta)
        if self.device not in ("cpu", "cuda"):
            raise InvalidInput(f"device must be cpu or cuda, came {self.device!r}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InvalidInput(
                "device cuda: this PyTorch finds no CUDA device; install a CUDA build of torch, or compute on the cpu"
            )


def check_delta(delta: float) -> None:
    """Refuse a probability that is none."""
    if isinstance(delta, bool) or not isinstance(delta, int | float) or not 0 < delta < 1:
        raise InvalidInput(f"delta must lie strictly between 0 and 1, came {delta!r}")
