"""Behind the end: what operators make of scores and answers that are no piecewise linear function of the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from calotte.errors import UnsupportedOperator
from calotte.models.operators.elementwise import FLOATS, cast_like, scaled
from calotte.models.operators.final import FUNCTIONS, above, softmax
from calotte.models.operators.linear import scalar
from calotte.models.operators.movement import concatenated
from calotte.models.operators.step import HANDLERS, Constant, Final, Step, Straight, Variable

__all__ = ["behind"]

SHAPED = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that leave the numbers and their order as they are."""

Reader = Callable[[Step, Final, int], Final | Constant]


def behind(step: Step) -> Final | Constant:
    """What an operator makes of scores or of an answer.

    Raises:
        UnsupportedOperator: it is not one that the end of a network may have there.
    """
    places = [i for i, value in enumerate(step.inputs) if isinstance(value, Final)]
    final = step.inputs[places[0]]
    assert isinstance(final, Final)
    readers = ANSWER if final.scores is None else SCORES
    if step.op_type not in readers or (len(places) > 1 and step.op_type != "Concat"):
        raise refused(step, final)
    return readers[step.op_type](step, final, places[0])


def refused(step: Step, final: Final, why: str = "") -> UnsupportedOperator:
    """A refusal that says where the operator that was taken for the end of the network stands."""
    what = f"reads the result of operator '{final.op_type}' (node '{final.name}')"
    if why:
        return step.unsupported(f"{what}: {why}")
    if final.scores is None:
        return step.unsupported(f"{what}, which is an answer: it is understood at the end of a network only")
    remedy = "use ReLU, LeakyReLU, HardSigmoid or HardTanh there and train again"
    if step.op_type == "Mul" and not any(isinstance(value, Constant) for value in step.inputs):
        if final.op_type == "Sigmoid":
            gate = "x * sigmoid(x) (SiLU, Swish), as every gate, is not piecewise linear"
        elif final.op_type == "Tanh":
            gate = "a product with tanh (Mish, gates) is not piecewise linear"
        else:
            gate = "a product of two values that both depend on the input is not piecewise linear"
        return step.unsupported(f"{what}: {gate}; {remedy}")
    if step.op_type in ("Gather", "GatherElements", "GatherND", "Slice", "Split"):
        return step.unsupported(f"{what}: the score of one class is not supported; export the row of all scores")
    if final.op_type.endswith("Softmax") and step.op_type in ("MatMul", "Einsum"):
        return step.unsupported(f"{what}: attention is not piecewise linear")
    return step.unsupported(
        f"{what}, which is not piecewise linear: it is understood at the end of a network; in the middle {remedy}"
    )


def shaped(step: Step, final: Final, place: int) -> Final:
    """The same in another shape."""
    x = HANDLERS[step.op_type](replace(step, inputs=(final.before, *step.inputs[1:])))
    assert isinstance(x, Variable)
    return replace(final, before=x)


def unchanged(step: Step, final: Final, place: int) -> Final:
    """An answer in another shape, or as another number."""
    return final


def cast_scores(step: Step, final: Final, place: int) -> Final | Constant:
    """Scores as floats of another width are the same scores; whole numbers would be other ones."""
    if place:  # a constant of the type of the scores
        return cast_like(step, step.argument(0))
    like = step.inputs[1] if step.op_type == "CastLike" and step.has(1) else None
    kept = int(step.attributes.get("to", 1)) in FLOATS if step.op_type == "Cast" else True
    if not kept or (isinstance(like, Constant) and like.array.dtype.kind != "f"):
        raise refused(
            step, final, "cut off to whole numbers, scores say nothing; put Round, ArgMax or a threshold first"
        )
    return final


def cast_answer(step: Step, final: Final, place: int) -> Final:
    """An answer as another number; as a truth value only where there are two, 0 and 1."""
    target = int(step.attributes.get("to", 1))
    if place or target == 8 or (target == 9 and not (final.rule == "sign" and final.op_type != "Sign")):
        raise refused(step, final, "this number type loses the answer")
    return final


def extreme_score(step: Step, final: Final, place: int) -> Final:
    """The largest or smallest score is that of the largest or smallest logit."""
    found = HANDLERS[step.op_type](replace(step, inputs=(final.before, *step.inputs[1:])))
    assert isinstance(found, Final)
    return replace(
        found, op_type=f"{final.op_type} and {step.op_type}", source=final.source, from_source=final.from_source
    )


def rounded(step: Step, final: Final, place: int) -> Final:
    """A single sigmoid to the nearest of 0 and 1, 1/2 to the even one: 1 where it is above 1/2."""
    if not (final.single and final.op_type == "Sigmoid" and final.inverse is not None):
        raise refused(step, final, "rounding is understood behind a single Sigmoid only")
    return replace(final, op_type="Sigmoid and Round", rule="sign", scores=None)


def compared(step: Step, final: Final, place: int) -> Final:
    """A single score compared with a number: its argument compared with another."""
    number = step.weights(1 - place)
    if not final.single or number.numel() != 1:
        raise refused(step, final, "a comparison takes a single score and one number")
    if final.inverse is None:
        raise refused(
            step, final, "compare the values that the scores are made of, or the scores before more arithmetic"
        )
    c = final.inverse(number.item())
    if c is None or (c != 0.0 and abs(c) < 2.0**-100):
        raise refused(
            step,
            final,
            f"compared with {number.item():g} it is not understood: expected a number between its extremes",
        )
    return above(step, final, place, c, exact=c == 0.0)


def negated(step: Step, final: Final, place: int) -> Final:
    """The other answer."""
    if final.rule != "sign" or final.op_type == "Sign":
        raise refused(step, final, "only an answer that is true or false can be negated")
    return replace(reversed_(step, final), ties=1 - final.ties)


def reversed_(step: Step, final: Final) -> Final:
    """The same of the negative of what decides."""
    return replace(
        final,
        before=scaled(step, final.before, scalar(-1.0), terms=1, suffix="/reversed"),
        turned=not final.turned,
        from_source=(final.from_source or Straight()).then(-1.0),
    )


def order_kept(
    step: Step, final: Final, f: Callable[[Tensor], Tensor], *, positive: bool, turned: bool = False
) -> Final:
    """Several scores after one more function that grows, or falls where `turned`, strictly."""
    if final.single:
        raise refused(
            step,
            final,
            "arithmetic on a single score moves the level that it is compared with; decide by what it is made of",
        )
    before = final.scores
    assert before is not None
    base = reversed_(step, final) if turned else final
    sign = -1.0 if turned else 1.0
    return replace(base, scores=lambda z: f(before(sign * z)), positive=positive, inverse=None, gentle=False)


def function_of_scores(step: Step, final: Final, place: int) -> Final:
    """A function that grows strictly keeps the order."""
    return order_kept(step, final, FUNCTIONS[step.op_type], positive=step.op_type in ("Exp", "Sigmoid", "Softplus"))


def logarithm(step: Step, final: Final, place: int) -> Final:
    """The logarithm of positive scores keeps their order."""
    if not final.positive:
        raise refused(step, final, "a logarithm of scores that may be negative")
    return order_kept(step, final, torch.log, positive=False)


def softmax_again(step: Step, final: Final, place: int) -> Final:
    """The softmax of scores keeps their order."""
    HANDLERS[step.op_type](replace(step, inputs=(final.before,)))  # over the right axis?
    return order_kept(step, final, softmax, positive=True)


def opposite(step: Step, final: Final, place: int) -> Final:
    """The negative turns the order round."""
    return order_kept(step, final, torch.neg, positive=False, turned=True)


def number_of(step: Step, final: Final, i: int) -> float:
    """A constant that is one number for all scores."""
    array = step.weights(i)
    if array.numel() == 0 or (array != array.reshape(-1)[0]).any():
        raise refused(step, final, "a constant that differs from score to score may change their order")
    if step.common_shape(final.before.shape, tuple(array.shape)) != final.before.shape:
        raise refused(step, final, f"a constant of shape {tuple(array.shape)} makes more scores of them")
    return float(array.reshape(-1)[0].item())


def multiplied(step: Step, final: Final, place: int) -> Final:
    """A positive factor or temperature keeps the order, a negative one turns it round."""
    if not isinstance(step.inputs[1 - place], Constant) or (step.op_type == "Div" and place):
        raise refused(step, final)
    c = number_of(step, final, 1 - place)
    if c == 0.0:
        raise step.error("multiplies scores by zero, or divides by it")
    divide = step.op_type == "Div"
    return order_kept(
        step,
        final,
        (lambda y: y / c) if divide else (lambda y: c * y),
        positive=final.positive and c > 0,
        turned=c < 0,
    )


def added(step: Step, final: Final, place: int) -> Final:
    """One number more on every score keeps the order; 1 - p of a single sigmoid p is the sigmoid of the negative."""
    if not isinstance(step.inputs[1 - place], Constant):
        raise refused(step, final)
    c = number_of(step, final, 1 - place)
    turned = step.op_type == "Sub" and place == 1
    if turned and c == 1.0 and final.single and final.op_type == "Sigmoid" and final.inverse is not None:
        return reversed_(step, final)
    shift = -c if step.op_type == "Sub" and not turned else c
    return order_kept(
        step,
        final,
        (lambda y: c - y) if turned else (lambda y: y + shift),
        positive=final.positive and shift >= 0 and not turned,
        turned=turned,
    )


def two_classes(step: Step, final: Final, place: int) -> Final:
    """[1 - p, p] of a sigmoid p: the scores of two classes, in the order of [0, z] where p is the sigmoid of z."""
    parts = [value for value in step.inputs if isinstance(value, Final)]
    if len(parts) != 2 or len(step.inputs) != 2 or not all(p.single and p.inverse is not None for p in parts):
        raise refused(step, final)
    if any(p.op_type != "Sigmoid" or p.node != parts[0].node for p in parts) or parts[0].turned == parts[1].turned:
        raise refused(step, final, "only [1 - p, p] and [p, 1 - p] of one Sigmoid p are understood")
    k = int(parts[0].turned)
    z = parts[k].before
    pair: list[Variable | Constant] = [Constant(np.zeros(z.shape)), z]
    x = concatenated(step, pair if k else pair[::-1], step.axis(0, len(z.shape)))
    return Final(
        x,
        parts[k].source,
        "Sigmoid",
        parts[k].name,
        scores=lambda y: torch.sigmoid(torch.stack([y[:, 0] - y[:, 1], y[:, 1] - y[:, 0]], 1)),
        positive=True,
        from_source=replace(parts[k].from_source or Straight(), zero=0 if k else -1),
    )


SCORES: dict[str, Reader] = {
    **dict.fromkeys(SHAPED, shaped),
    **dict.fromkeys(FUNCTIONS, function_of_scores),
    **dict.fromkeys(("Cast", "CastLike"), cast_scores),
    **dict.fromkeys(("ArgMax", "ArgMin"), extreme_score),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual"), compared),
    **dict.fromkeys(("Mul", "Div"), multiplied),
    **dict.fromkeys(("Add", "Sub"), added),
    "Concat": two_classes,
    "Log": logarithm,
    "Neg": opposite,
    "Round": rounded,
    "Softmax": softmax_again,
}
"""What operators make of scores."""

ANSWER: dict[str, Reader] = {
    **dict.fromkeys(SHAPED, unchanged),
    "Cast": cast_answer,
    "Not": negated,
}
"""What operators make of an answer."""
