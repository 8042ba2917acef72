"""Streams: every use of random numbers for an input, each with numbers of its own."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch

__all__ = ["Stream", "generator"]


class Stream(IntEnum):
    """What random numbers are drawn for. A number is part of the meaning of a seed: it is never given twice."""

    DRAWS = 1  # of rung `sampling`
    FRESH_DRAWS = 2  # that hold a proved bound against samples once more
    ISOPERIMETRY_CHOICE = 3
    ISOPERIMETRY = 4
    SPLITTING_PILOT = 5
    SPLITTING = 6
    IMPORTANCE_SEARCH = 7
    IMPORTANCE_PILOT = 8
    IMPORTANCE_CHOICE = 9
    IMPORTANCE = 10
    ALORE = 11
    ADVERSARY = 12  # where its random starts lie
    SLABS = 13  # that show which outputs noise changes, before slabs bound p from below


def generator(stream: Stream, seed: int, index: int, chunk: int = 0) -> torch.Generator:
    """The generator of one chunk of a stream, for the input of an index.

    Args:
        stream: the purpose.
        seed: of the user, not negative; index: of the input, chunk: both from 0 to 2**32 - 1.
    """
    key = [int(stream), index, chunk, seed]  # words of 32 bits; only the last may take more than one
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
