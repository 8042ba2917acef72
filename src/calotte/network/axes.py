"""Axes: whether rows of one shape hold their numbers in the order of another shape."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

__all__ = ["other_order", "same_order"]


def same_order(rows: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether `rows` becomes `shape` by splitting axes, or by merging neighbouring ones; axes of size 1 do not count.

    Then number k of a row is number k of the input, and the axes mean the same: (784,), (28, 28) and (28, 28, 1) are
    one picture for a network that takes (1, 28, 28). Where neither refines the other, as with (32, 32, 3) for
    (3, 32, 32), only the number of entries agrees: the axes stand in another order.

    >>> same_order((28, 28, 1), (1, 28, 28)), same_order((32, 32, 3), (3, 32, 32))
    (True, False)
    """
    first, second = (set(accumulate(sizes, mul)) - {1} for sizes in (rows, shape))
    return first <= second or second <= first


def other_order(rows: Sequence[int], shape: Sequence[int]) -> str:
    """What to say about rows that hold the right number of entries in another order than the network."""
    said = f"each row has shape {tuple(rows)}, the network takes {tuple(shape)}: as many numbers, in another order"
    if len(rows) == 3 and len(shape) == 3:
        if (rows[2], *rows[:2]) == tuple(shape):
            return f"{said}; the rows' last axis is the network's first (channels): --layout NHWC, or transpose them"
        if (*rows[1:], rows[0]) == tuple(shape):
            return f"{said}; the rows' first axis is the network's last (channels): --layout NCHW, or transpose them"
    return f"{said}; bring the axes into the network's order"
