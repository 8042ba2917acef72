"""Folding: what the operators between constants are worth, exactly, or with the roundings counted.

Exporters put integer arithmetic around every Reshape, and sometimes arithmetic on weights. Integers and
rearrangements are left to ONNX's reference implementation. Arithmetic on floating-point numbers is real
arithmetic here: sums, differences and products count as exact where float64 holds them exactly.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotte.models.operators.evaluation import evaluated
from calotte.models.operators.refused import REFUSED
from calotte.models.operators.step import MOST_ENTRIES, Constant, Step
from calotte.models.operators.sums import checked, sums
from calotte.network.affine import Shape

__all__ = ["FOLDED", "fold"]

MOVED = frozenset(
    {"Cast", "CastLike", "CenterCropPad", "Compress", "Concat", "Constant", "ConstantOfShape"}
    | {"DepthToSpace", "Expand", "EyeLike", "Flatten", "Gather", "GatherElements", "GatherND", "Identity"}
    | {"Pad", "Reshape", "ReverseSequence", "Scatter", "ScatterElements", "ScatterND", "Shape", "Size"}
    | {"Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where"}
)
"""Operators that only move numbers about."""

CHOSEN = frozenset(
    {"Abs", "ArgMax", "ArgMin", "Ceil", "Clip", "Equal", "Floor", "GlobalMaxPool", "Greater"}
    | {"GreaterOrEqual", "Hardmax", "IsInf", "IsNaN", "Less", "LessOrEqual", "Max", "MaxPool", "Min"}
    | {"NonZero", "OneHot", "ReduceMax", "ReduceMin", "Relu", "Round", "Sign", "ThresholdedRelu", "TopK"}
    | {"Unique"}
)
"""Operators whose result is never rounded."""

COUNTED = frozenset(
    {"Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "CumSum", "Div"}
    | {"MatMul", "Mod", "Mul", "Neg", "Not", "Or", "Range", "ReduceL1", "ReduceProd", "ReduceSum"}
    | {"ReduceSumSquare", "Sub", "Sum", "Xor"}
)
"""Operators that are exact on integers and booleans."""

REAL = frozenset({"Add", "Div", "Mul", "Neg", "Reciprocal", "Sqrt", "Sub"})
"""Arithmetic on floating-point numbers."""

SUMS = frozenset({"MatMul", "ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"})
"""Sums of floating-point numbers or of their products."""

FOLDED = MOVED | CHOSEN | COUNTED | REAL | SUMS | {"DequantizeLinear", "Pow"}


def fold(step: Step) -> list[Constant]:
    """The results of a node all of whose arguments are constant.

    Raises:
        UnsupportedOperator: it is not one that can be folded exactly, or with its roundings counted.
    """
    given = [value for value in step.inputs if isinstance(value, Constant)]
    if step.op_type not in FOLDED:
        if not given:
            raise step.unsupported(REFUSED.get(step.op_type, "without inputs is not supported"))
        raise step.unsupported("of constants is not folded: fold constants in the model")
    floating = any(np.issubdtype(value.array.dtype, np.floating) or value.terms for value in given)
    computed = any(value.computed for value in given)
    if floating and step.op_type in REAL | SUMS | {"DequantizeLinear", "Pow"}:
        # of one operation on float32 numbers the rounding is known in any arithmetic
        if computed or step.op_type in SUMS or any(rounds_in_float32(value.array) for value in given):
            step.builder.recomputed = f"{step.op_type}, of constants,"
        return [replace(computed_float(step, given), computed=True)]
    whole = step.op_type == "Range" and all(float(value.array.reshape(-1)[0]).is_integer() for value in given)
    if floating and step.op_type not in MOVED | CHOSEN and not whole:
        raise step.unsupported("on floating-point constants is not folded: fold constants in the model")
    terms = max((value.terms for value in given), default=0)
    if terms and step.op_type not in MOVED:
        raise step.unsupported("on constants that were computed inexactly is not folded: fold constants in the model")
    refuse_huge(step, given)
    results = evaluated(step, [value.array if isinstance(value, Constant) else None for value in step.inputs])
    integers = step.op_type in ("Cast", "CastLike") and not np.issubdtype(results[0].dtype, np.floating)
    if computed and (step.op_type not in MOVED or integers):  # the least difference may be one between integers now
        step.builder.recomputed = f"{step.op_type}, of constants,"
    return [Constant(result, terms, computed) for result in results]


def rounds_in_float32(array: NDArray[Any]) -> bool:
    """Whether float32 has other numbers in place of some of these."""
    with np.errstate(over="ignore", under="ignore"):
        return bool((array.astype(np.float32) != array).any())


def computed_float(step: Step, given: list[Constant]) -> Constant:
    """What arithmetic on floating-point constants gives."""
    if step.op_type == "DequantizeLinear":
        return dequantised(step)
    if step.op_type in SUMS:
        return sums(step)
    return power(step, *given) if step.op_type == "Pow" else arithmetic(step, *given)


def dequantised(step: Step) -> Constant:
    """(q - zero point) scale, per tensor, along an axis or in blocks of it."""
    q, scale = step.constant(0), step.weights(1).numpy()
    zero = step.constant(2) if step.has(2) else np.zeros(())
    q, zero = (np.asarray(a, dtype=np.float64) for a in (q, zero))
    if scale.size == 1:
        scale, zero = scale.reshape(()), zero.reshape(()) if zero.size == 1 else zero
    else:
        axis = step.axes([int(step.attributes.get("axis", 1))], q.ndim)[0]
        scale, zero = (spread(step, a, q.shape, axis) for a in (scale, zero))
    if step.common_shape(q.shape, scale.shape, zero.shape) != q.shape:
        raise step.error(f"scales of shape {scale.shape} do not fit values {q.shape}")
    difference = q - zero  # of whole numbers below 2**33
    product = difference * scale
    return checked(step, product, 0 if product_is_exact(difference, np.broadcast_to(scale, q.shape)) else 1)


def spread(step: Step, a: NDArray[Any], shape: Shape, axis: int) -> NDArray[Any]:
    """Numbers for each place of an axis, or for blocks of it, in a form that fits `shape`."""
    block = int(step.attributes.get("block_size", 0))
    if a.ndim == 1:
        return a.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    if block > 0 and a.ndim == len(shape) and a.shape[axis] * block >= shape[axis]:
        return np.repeat(a, block, axis).take(range(shape[axis]), axis)
    return a


def power(step: Step, base: Constant, exponent: Constant) -> Constant:
    """Squares, square roots, reciprocals and the numbers themselves."""
    powers = set(np.asarray(exponent.array, dtype=np.float64).reshape(-1).tolist())
    if powers == {1.0}:
        return base
    if powers == {2.0}:
        return arithmetic(replace(step, op_type="Mul"), base, base)
    if powers == {0.5} or powers == {-1.0}:
        return arithmetic(replace(step, op_type="Sqrt" if powers == {0.5} else "Reciprocal"), base)
    raise step.unsupported(f"of constants to {sorted(powers)[:3]} is not folded: fold constants in the model")


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
