"""Sequences: values in a row that a model takes apart again; no numbers change."""

from __future__ import annotations

import numpy as np

from calotte.models.operators.movement import concatenated
from calotte.models.operators.step import Constant, Parts, Step, Value, Variable, operator

__all__: list[str] = []


def parts_of(step: Step) -> list[Constant | Variable]:
    """The values of the sequence that is argument 0."""
    parts = step.inputs[0] if step.has(0) else None
    if not isinstance(parts, Parts):
        raise step.error("expected a sequence as input 0")
    return list(parts.values)


def place_in(step: Step, i: int, length: int) -> int:
    """Argument i as a place in a sequence, counted from the front."""
    place = step.integers(i)
    if len(place) != 1 or not -length <= place[0] < length:
        raise step.error(f"place {place} does not fit a sequence of {length}")
    return place[0] % length


@operator("SequenceConstruct")
def construct(step: Step) -> Value:
    """A sequence of the arguments."""
    return Parts(tuple(step.arguments()))


@operator("SequenceAt")
def at(step: Step) -> Value:
    """One value of a sequence."""
    parts = parts_of(step)
    return parts[place_in(step, 1, len(parts))]


@operator("SequenceLength")
def length_of(step: Step) -> Value:
    """How many values a sequence has."""
    return Constant(np.array(len(parts_of(step)), dtype=np.int64))


@operator("SequenceErase")
def erase(step: Step) -> Value:
    """A sequence without one value, the last unless another is named."""
    parts = parts_of(step)
    del parts[place_in(step, 1, len(parts)) if step.has(1) else -1]
    return Parts(tuple(parts))


@operator("SequenceEmpty")
def empty(step: Step) -> Value:
    """A sequence of nothing."""
    return Parts(())


@operator("SequenceInsert")
def insert(step: Step) -> Value:
    """A sequence with one more value, at the end unless a place is named."""
    parts = parts_of(step)
    at_end = len(parts)
    place = step.integers(2)[0] if step.has(2) else at_end
    if not -at_end <= place <= at_end:
        raise step.error(f"place {place} does not fit a sequence of {at_end}")
    parts.insert(place, step.argument(1))
    return Parts(tuple(parts))


@operator("ConcatFromSequence")
def joined(step: Step) -> Value:
    """The values of a sequence one after the other along `axis`, a new one if so asked."""
    parts = parts_of(step)
    if not any(isinstance(x, Variable) for x in parts):
        raise step.unsupported("of constants only is not supported")
    new = bool(step.attributes.get("new_axis", 0))
    axis = step.axis(0, len(parts[0].shape) + new)
    shapes = [(*x.shape[:axis], 1, *x.shape[axis:]) if new else x.shape for x in parts]
    values = [
        step.reshaped(x, shape) if isinstance(x, Variable) else Constant(x.array.reshape(shape), x.terms)
        for x, shape in zip(parts, shapes, strict=True)
    ]
    return concatenated(step, values, axis)
