"""Arithmetic: in which the network is evaluated that p speaks about."""

from __future__ import annotations

from typing import Literal, get_args

from calotte.errors import InvalidInput
from calotte.network.graph import Network

__all__ = ["Arithmetic", "check_arithmetic"]

Arithmetic = Literal["real", "float32"]
"""The function with real numbers, or float32 in whatever order of sums (`network.float32`)."""


def check_arithmetic(arithmetic: str, network: Network) -> Arithmetic:
    """The arithmetic of that name, where it can be had for the network.

    Raises:
        InvalidInput: no such arithmetic, or one in which a part of the model has no bound on its errors.
    """
    if arithmetic not in get_args(Arithmetic):
        raise InvalidInput(f"arithmetic '{arithmetic}': expected real or float32")
    if arithmetic == "float32" and network.left_off is not None:
        raise InvalidInput(
            f"arithmetic float32: the model's last {network.left_off} is left off, and float32 may round different "
            f"values of it to equal ones: judge the values before it with --output {network.judged}"
        )
    if arithmetic == "float32" and network.recomputed is not None:
        raise InvalidInput(
            f"arithmetic float32: programs find the numbers of {network.recomputed} by arithmetic of their own, "
            "whose errors are not bounded"
        )
    return "real" if arithmetic == "real" else "float32"
