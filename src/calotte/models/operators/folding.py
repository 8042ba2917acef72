"""Folding: what the operators between constants are worth, exactly, or with the roundings counted.

Exporters put integer arithmetic around every Reshape, and sometimes arithmetic on weights. Integers and
rearrangements are left to ONNX's reference implementation. Arithmetic on floating-point numbers is real
arithmetic here: sums, differences and products count as exact where float64 holds them exactly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotte.errors import UnsupportedOperator
from calotte.models.operators.evaluation import evaluated
from calotte.models.operators.step import MOST_ENTRIES, Constant, Step

__all__ = ["FOLDED", "fold"]

MOVED = frozenset(
    {"Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "GatherElements"}
    | {"GatherND", "Identity", "Pad", "Reshape", "Shape", "Size", "Slice", "Split", "Squeeze", "Tile", "Transpose"}
    | {"Unsqueeze", "Where"}
)
"""Operators that only move numbers about."""

CHOSEN = frozenset(
    {"Abs", "Ceil", "Clip", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"}
    | {"ReduceMax", "ReduceMin", "Relu", "Round", "Sign"}
)
"""Operators whose result is never rounded."""

COUNTED = frozenset(
    {"Add", "And", "CumSum", "Div", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Range", "ReduceProd", "ReduceSum"}
    | {"Sub"}
)
"""Operators that are exact on integers and booleans."""

REAL = frozenset({"Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Neg"})
"""Arithmetic on floating-point numbers."""

FOLDED = MOVED | CHOSEN | COUNTED | REAL


def fold(step: Step) -> list[Constant]:
    """The results of a node all of whose arguments are constant.

    Raises:
        UnsupportedOperator: it is not one that can be folded exactly, or with its roundings counted.
    """
    given = [value for value in step.inputs if isinstance(value, Constant)]
    floating = any(np.issubdtype(value.array.dtype, np.floating) or value.terms for value in given)
    if floating and step.op_type in REAL:
        return [arithmetic(step, *given)]
    if floating and step.op_type not in MOVED | CHOSEN:
        raise step.unsupported("on floating-point constants is not folded: fold constants in the model")
    terms = max((value.terms for value in given), default=0)
    if terms and step.op_type not in MOVED:
        raise step.unsupported("on constants that were computed inexactly is not folded: fold constants in the model")
    refuse_huge(step, given)
    results = evaluated(step, [value.array if isinstance(value, Constant) else None for value in step.inputs])
    return [Constant(result, terms) for result in results]


def refuse_huge(step: Step, given: list[Constant]) -> None:
    """Refuse what would fill the memory: the sizes in damaged files are anything."""

    def integers(i: int) -> list[float]:
        array = given[i].array if i < len(given) else np.zeros(0)
        return [float(n) for n in array.reshape(-1).tolist()] if array.dtype.kind in "iu" else []

    entries = float(math.prod(given[0].shape)) if given else 1.0
    if step.op_type in ("Tile", "Expand"):
        entries *= math.prod(max(n, 1.0) for n in integers(1))
    elif step.op_type == "ConstantOfShape":
        entries = math.prod(max(n, 1.0) for n in integers(0))
    elif step.op_type == "Range":
        start, limit, delta = (float(value.array.reshape(-1)[0]) for value in given)
        entries = abs((limit - start) / delta) if delta else math.inf
    elif step.op_type == "Pad":
        added = sum(abs(n) for n in integers(1) or step.attributes.get("pads", []))
        entries = math.prod(n + added for n in given[0].shape)
    if not entries <= MOST_ENTRIES:
        raise step.error("has a result that is too large: the model is damaged")


def arithmetic(step: Step, *given: Constant) -> Constant:
    """One operation on floating-point constants, in float64, its rounding counted where there is one."""
    arrays = [np.asarray(step.numbers(value.array).numpy()) for value in given]
    terms = sum(value.terms for value in given)
    if step.op_type == "Neg":
        return Constant(-arrays[0], terms)
    if step.op_type in ("Sqrt", "Reciprocal"):
        result = np.sqrt(arrays[0]) if step.op_type == "Sqrt" else 1.0 / arrays[0]
        return checked(step, result, terms + 1)
    a, b = arrays
    if step.op_type in ("Add", "Sub"):
        b = b if step.op_type == "Add" else -b
        if terms:
            raise step.unsupported("of constants that were computed inexactly is not folded: fold them in the model")
        return checked(step, a + b, 0 if sum_is_exact(a, b) else 1)
    if step.op_type == "Mul":
        return checked(step, a * b, terms if product_is_exact(a, b) else terms + 1)
    return checked(step, a / b, terms + 1)


def checked(step: Step, result: NDArray[Any], terms: int) -> Constant:
    """A result that neither overflowed nor underflowed (zero apart, which is exact)."""
    size = np.abs(result)
    if not (np.isfinite(size) & ((size == 0) | (size > 2.0**-900))).all():
        raise UnsupportedOperator(f"node '{step.name}' ({step.op_type}) overflows or underflows on constants")
    return Constant(np.asarray(result), terms)


def sum_is_exact(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether a + b is exact everywhere (Knuth's error-free sum)."""
    s = a + b
    t = s - a
    return bool((((a - (s - t)) + (b - t)) == 0).all())


def product_is_exact(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether a b is exact everywhere (Dekker's error-free product)."""

    def halves(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        c = 134217729.0 * x  # 2**27 + 1
        high = c - (c - x)
        return high, x - high

    (a1, a2), (b1, b2) = halves(a), halves(b)
    return bool((((a1 * b1 - a * b) + a1 * b2 + a2 * b1) + a2 * b2 == 0).all())
