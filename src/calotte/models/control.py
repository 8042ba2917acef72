"""Control flow: the branch that a constant chooses, and loops of a constant length, written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from calotte.models.operators.movement import concatenated
from calotte.models.operators.step import Constant, Step, Value, Variable

__all__ = ["CONTROL", "Run"]

Run = Callable[[onnx.GraphProto, Mapping[str, Value]], list[Value]]
"""Import a graph inside the model, with some values by name beside those outside it: its outputs."""

MOST_ROUNDS = 2**12
"""More rounds of all loops together than this are taken for a mistake in the file."""


def truth(step: Step, value: Value | None) -> bool:
    """A condition, which must be a constant."""
    if not isinstance(value, Constant) or value.array.size != 1:
        raise step.unsupported("with a condition that depends on the network's input is not piecewise linear")
    return bool(value.array.reshape(-1)[0])


def graph_of(step: Step, key: str) -> onnx.GraphProto:
    """A graph inside the node."""
    graph = step.attributes.get(key)
    if not isinstance(graph, onnx.GraphProto):
        raise step.error(f"attribute '{key}' is missing")
    return graph


def branch(step: Step, run: Run) -> list[Value]:
    """What the branch computes that a constant condition chooses."""
    chosen = truth(step, step.inputs[0] if step.has(0) else None)
    return run(graph_of(step, "then_branch" if chosen else "else_branch"), {})


def rounds(step: Step, run: Run) -> list[Value]:
    """What a loop computes whose number of rounds does not depend on the network's input."""
    body = graph_of(step, "body")
    most = step.integers(0)[0] if step.has(0) else None
    going = truth(step, step.inputs[1]) if step.has(1) else True
    carried = [value for value in step.inputs[2:] if value is not None]
    names = [value.name for value in body.input]
    if len(names) != len(carried) + 2 or len(body.output) < len(carried) + 1:
        raise step.error("its body does not fit its inputs")
    gathered: list[list[Value]] = [[] for _ in body.output[len(carried) + 1 :]]
    k = 0
    while going and (most is None or k < most):
        step.builder.rounds += 1
        if step.builder.rounds > MOST_ROUNDS:
            raise step.unsupported(f"makes more than {MOST_ROUNDS} rounds in all, which is not supported")
        given = [Constant(np.array(k, dtype=np.int64)), Constant(np.array(True)), *carried]
        again, *results = run(body, dict(zip(names, given, strict=True)))
        going, k = truth(step, again), k + 1
        carried = list(results[: len(carried)])
        for row, value in zip(gathered, results[len(carried) :], strict=True):
            row.append(value)
    return [*carried, *(stack(step, row) for row in gathered)]


def stack(step: Step, row: Sequence[Value]) -> Value:
    """Values as the entries of a new first axis."""
    if not row or not all(isinstance(value, Constant | Variable) for value in row):
        raise step.unsupported("that gathers nothing, or sequences, is not supported")
    if all(isinstance(value, Constant) for value in row):
        constants = [value for value in row if isinstance(value, Constant)]
        computed = any(c.computed for c in constants)
        return Constant(np.stack([c.array for c in constants]), max(c.terms for c in constants), computed)
    values = [
        replace(value, array=value.array[None])
        if isinstance(value, Constant)
        else step.reshaped(value, (1, *value.shape))
        for value in row
        if isinstance(value, Constant | Variable)
    ]
    return concatenated(step, values, 0)


CONTROL: dict[str, Callable[[Step, Run], list[Value]]] = {"If": branch, "Loop": rounds}
"""Operators that hold graphs."""
