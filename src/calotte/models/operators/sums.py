"""Sums of floating-point constants and of their products: exact where that can be seen, else accurate in each entry.

They are computed in the widest floating-point numbers of the machine, with a bound on the error. Divided by each
sum itself that gives the number of roundings of float64 that it may be off by; where terms cancel so far that
nothing can be said, the model is refused.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotte.errors import UnsupportedOperator
from calotte.models.operators.step import Constant, Step

__all__ = ["checked", "sums"]

MOST_TERMS = 2**16
"""A constant that is off by more roundings than this, relative to itself, is refused."""

UNIT = 2.0**-53


def sums(step: Step) -> Constant:
    """MatMul and reductions of constants."""
    given = [step.weights(0)] if step.op_type != "MatMul" else [step.weights(0), step.weights(1)]
    a, b = given[0].numpy(), given[-1].numpy()
    if step.op_type == "MatMul":
        terms = a.shape[-1] if a.ndim else 0
        return summed_up(step, lambda x, y: np.matmul(x, y), a, b, terms)
    axes = step.setting("axes", 1, 13 if step.op_type == "ReduceSum" else 18)
    if not axes and step.attributes.get("noop_with_empty_axes", 0):
        raise step.unsupported("of constants over no axes is not folded: fold constants in the model")
    over = step.axes(axes, a.ndim) if axes else tuple(range(a.ndim))
    keep = bool(step.attributes.get("keepdims", 1))
    terms = math.prod(a.shape[axis] for axis in over)

    def total(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        return np.asarray((x * y).sum(axis=over, keepdims=keep))

    squares = step.op_type in ("ReduceSumSquare", "ReduceL2")
    if step.op_type == "ReduceL1":
        a = np.abs(a)
    result = summed_up(step, total, a, a if squares else np.ones_like(a), terms)
    if step.op_type == "ReduceL2":
        return checked(step, np.sqrt(result.array), result.terms + 1)
    if step.op_type == "ReduceMean":
        return checked(step, result.array / terms, result.terms + 1)
    return result


def summed_up(step: Step, sum_of: Any, a: NDArray[Any], b: NDArray[Any], terms: int) -> Constant:
    """A sum of `terms` products of entries of a and b."""
    try:
        wide = [x.astype(np.longdouble) for x in (a, b)]
        value, size = sum_of(*wide), sum_of(*(np.abs(x) for x in wide))
    except ValueError as error:
        raise step.error(str(error)[:200]) from None
    result = np.asarray(value, dtype=np.float64)
    if size.size and float(size.max(initial=0.0)) < 2.0**53 * step_of(a) * step_of(b):
        return checked(step, result, 0)  # all of it is whole numbers of steps, each partial sum a float64
    each = 2.0 * (terms + 2) * float(np.finfo(np.longdouble).eps) * (1.0 + 2.0**-20)
    slack = np.where(size == 0, 0.0, each * np.asarray(size, dtype=np.float64))
    with np.errstate(all="ignore"):
        off = np.where(slack == 0, 0.0, slack / np.abs(result) / UNIT).max(initial=0.0)
    if not off <= MOST_TERMS:
        raise step.unsupported("of constants whose terms cancel is not folded: fold constants in the model")
    return checked(step, result, math.ceil(1.01 * float(off)) + 2)


def step_of(a: NDArray[Any]) -> float:
    """The largest power of two that all entries are whole multiples of, or less."""
    mantissas, exponents = np.frexp(a[a != 0])
    if not mantissas.size:
        return 1.0
    whole = np.abs(mantissas * 2.0**53).astype(np.int64)
    lowest = (whole & -whole).astype(np.float64)
    return float(np.ldexp(lowest, exponents - 53).min())


def checked(step: Step, result: NDArray[Any], terms: int) -> Constant:
    """A result that neither overflowed nor underflowed (zero apart, which is exact)."""
    size = np.abs(result)
    if not (np.isfinite(size) & ((size == 0) | (size > 2.0**-900))).all():
        raise UnsupportedOperator(f"node '{step.name}' ({step.op_type}) overflows or underflows on constants")
    return Constant(np.asarray(result), terms)
