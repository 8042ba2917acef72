"""Effort: how much the report looks at, and on how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

__all__ = ["Effort", "one_thread"]


@dataclass(frozen=True)
class Effort:
    """How much is looked at. The default takes about a minute; `Effort.quick()` a few seconds.

    Attributes:
        samples: random perturbations for each case of the checks; patterns: for each misclassified point.
        inputs: of each deep network checked; measured: inputs of each network in the measurements.
        dimensions: of the perceptrons checked and of the random networks measured; widths: of those over N.
        sides: of the digit images for the trained networks over d; epochs: of training.
        units: hidden units of the networks of different depths, a multiple of 8.
        segments: lines; looked_at: cells whose faces are counted.
    """

    samples: int = 5000
    patterns: int = 10_000
    inputs: int = 8
    measured: int = 450
    dimensions: tuple[int, ...] = (16, 64, 256, 1024, 4096)
    widths: tuple[int, ...] = (16, 64, 256, 1024)
    sides: tuple[int, ...] = (4, 8, 16, 32)
    epochs: int = 60
    units: int = 128
    segments: int = 40
    looked_at: int = 2

    @staticmethod
    def quick() -> Effort:
        """The same report in little, for tests."""
        return Effort(600, 1024, 2, 40, (16, 64), (16, 32), (4, 8), 10, 32, 4, 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for all matrices made inside: small as they are, more cost much where cores are shared."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
