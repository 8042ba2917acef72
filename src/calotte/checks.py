"""Checks: single arguments, refused in words that name them where they make no sense."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from calotte.errors import InvalidInput

__all__ = ["array", "kind", "names_of", "number", "whole"]


def kind(value: object) -> str:
    """What a value is, for messages."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"{type(value).__name__} {value!r}" if isinstance(value, int | float | str) else type(value).__name__


def number(name: str, value: object) -> float:
    """A number, of Python or numpy, as a float.

    Raises:
        InvalidInput: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidInput(f"{name} must be a number, came {kind(value)}")
    return float(value)


def whole(name: str, value: object) -> int:
    """A whole number, of Python or numpy.

    Raises:
        InvalidInput: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidInput(f"{name} must be a whole number, came {kind(value)}")
    return int(value)


def array(name: str, values: object) -> npt.NDArray[np.float64]:
    """Real numbers in any shape, as float64: an array, a tensor, nested lists of numbers or of either.

    Raises:
        InvalidInput: something else, complex numbers, rows of unequal length.
    """
    try:
        if isinstance(values, list | tuple):
            values = [_plain(one) for one in values]
        found = np.asarray(_plain(values))
        # None and texts would become numbers, and complex ones lose a part
        if found.dtype.kind not in "biufO" or (found.dtype.kind == "O" and found.ndim == 0):
            raise TypeError(f"came {kind(values)}" if found.ndim == 0 else f"they are of type {found.dtype.name}")
        return found.astype(np.float64, copy=False)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"{name} must be an array of numbers: {error}") from None


def _plain(values: object) -> Any:
    """A tensor as an array, in float64 unless it is complex; anything else as it is."""
    if not isinstance(values, Tensor):
        return values
    values = values.detach().cpu()
    return (values if values.is_complex() else values.to(torch.float64)).numpy()


def names_of(name: str, values: object) -> list[str]:
    """A name, or several, as a list.

    Raises:
        InvalidInput: something else.
    """
    if isinstance(values, str):
        return [values]
    if not isinstance(values, Sequence) or not all(isinstance(one, str) for one in values):
        raise InvalidInput(f"{name}: expected a name or a list of names, came {kind(values)}")
    return list(values)
