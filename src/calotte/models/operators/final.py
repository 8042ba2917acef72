"""What only the end of a network may do: scores in the order of the logits, and decisions.

A function that grows strictly, applied to every output, changes neither their order nor where a single one crosses
a threshold. It is dropped, and what follows it (`behind.py`) is understood from then on in terms of its argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import torch
from torch import Tensor
from torch.nn import functional

from calotte.models.operators.elementwise import reflected, scaled, shifted
from calotte.models.operators.linear import scalar
from calotte.models.operators.step import Final, Step, Straight, Value, Variable, operator

__all__ = ["FUNCTIONS", "above", "probability"]


def softmax(z: Tensor) -> Tensor:
    """Softmax of rows."""
    return torch.softmax(z, 1)


def log_softmax(z: Tensor) -> Tensor:
    """Logarithm of the softmax of rows."""
    return torch.log_softmax(z, 1)


def probability(level: float) -> float | None:
    """The argument at which a sigmoid is `level`, rounded to nearest; None where it never is."""
    if not 0.0 < level < 1.0:
        return None
    with localcontext(prec=60):  # Decimal's logarithm is rounded correctly: nothing is lost near 1/2
        p = Decimal(level)
        return float((p / (1 - p)).ln())


def tangent(level: float) -> float | None:
    """The argument at which a hyperbolic tangent is `level`, rounded to nearest; None where it never is."""
    if not -1.0 < level < 1.0:
        return None
    with localcontext(prec=60):
        t = Decimal(level)
        return float(((1 + t) / (1 - t)).ln() / 2)


def zero(level: float) -> float | None:
    """Zero at zero, of a function that has the sign of its argument; unknown elsewhere."""
    return 0.0 if level == 0.0 else None


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Sigmoid": torch.sigmoid,
    "Sinh": torch.sinh,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Tanh": torch.tanh,
}
"""Functions of one number that grow strictly."""

POSITIVE = frozenset({"Exp", "Sigmoid", "Softplus"})


@operator("Softmax", "LogSoftmax")
def softmax_of(step: Step) -> Value:
    """Over the class axis the order of the outputs is that of the logits."""
    x = step.variable()
    rank, late = len(x.shape), step.opset >= 13
    axis = step.axis(-1 if late else 1 if rank > 1 else 0, rank)
    over = {axis} if late else set(range(axis, rank))
    if any(n != 1 for i, n in enumerate(x.shape) if i not in over) or math.prod(x.shape) < 2:
        raise step.unsupported(
            f"over axis {axis} of {x.shape} does not run over all classes: as the end of a network it would not "
            "change their order, but in the middle (attention) it is not piecewise linear"
        )
    soft = step.op_type == "Softmax"
    return Final(
        x, step.input_names[0], step.op_type, step.name, scores=softmax if soft else log_softmax, positive=soft
    )


@operator(*FUNCTIONS)
def growing(step: Step) -> Value:
    """The order of several outputs is that of their arguments; one says on which side of a level its argument is."""
    x = step.variable()
    if math.prod(x.shape) == 1 and step.op_type in POSITIVE - {"Sigmoid"}:
        raise step.unsupported(
            "of a single output is positive everywhere, so its sign says nothing: export the model without it, or "
            "with a threshold behind it that makes it a decision"
        )
    one = step.op_type == "Sigmoid"
    return Final(
        x,
        step.input_names[0],
        step.op_type,
        step.name,
        scores=FUNCTIONS[step.op_type],
        level=0.5 if one else 0.0,
        inverse=probability if one else tangent if step.op_type == "Tanh" else zero,
        positive=step.op_type in POSITIVE,
        gentle=step.op_type not in ("Exp", "Sinh"),
        node=x.node,
    )


@operator("Elu", "Celu", "Selu")
def exponential(step: Step) -> Value:
    """Exponential linear units grow strictly where their factors are positive; they keep the sign."""
    x = step.variable()
    alpha = float(step.attributes.get("alpha", 1.6732632423543772848 if step.op_type == "Selu" else 1.0))
    gamma = float(step.attributes.get("gamma", 1.0507009873554804934))
    if not (0.0 < alpha < math.inf and 0.0 < gamma < math.inf):
        raise step.unsupported(f"with factors {alpha:g} and {gamma:g}, not all positive, does not keep the order")

    def celu(z: Tensor) -> Tensor:
        return functional.celu(z, alpha)

    def elu(z: Tensor) -> Tensor:
        y = functional.elu(z, alpha)
        return gamma * y if step.op_type == "Selu" else y

    return Final(
        x, step.input_names[0], step.op_type, step.name, scores=celu if step.op_type == "Celu" else elu, inverse=zero
    )


@operator("Sign")
def sign(step: Step) -> Value:
    """The decision `sign` of a single output."""
    x = step.variable()
    if math.prod(x.shape) != 1:
        raise step.unsupported(f"of {x.shape} values is not piecewise linear; as a decision it takes one")
    return Final(x, step.input_names[0], "Sign", step.name, rule="sign")


@operator("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def threshold(step: Step) -> Value:
    """x > c, x < c, x >= c or x <= c for a single output: the decision `sign` of x - c or c - x."""
    first, second = step.argument(0), step.argument(1)
    if isinstance(first, Variable) and isinstance(second, Variable):
        raise step.unsupported("of two values that both depend on the input is not supported")
    i = 0 if isinstance(first, Variable) else 1
    x, c = step.variable(i), step.weights(1 - i)
    if math.prod(x.shape) != 1 or c.numel() != 1:
        raise step.unsupported(f"of {x.shape} values is not piecewise linear; as a decision it takes one")
    return above(step, Final(x, step.input_names[i], step.op_type, step.name), i, c.item(), exact=True)


def above(step: Step, final: Final, i: int, c: float, *, exact: bool) -> Final:
    """The decision whether `before`, which argument i of a comparison grows with, is beyond c.

    A c that is not `exact` is the float next to the exact level. The exact level then is a coefficient with one
    rounding, not an offset: the sign of x - c is that of x / c - 1 (c > 0), and offsets are exact throughout.
    """
    x = final.before
    upward = step.op_type.startswith("Greater") == (i == 0)
    if exact:
        unit, level = 1.0, c
    else:
        unit, level = abs(c), math.copysign(1.0, c)
        x = scaled(step, x, scalar(unit), divide=True, terms=3, suffix="/level")
    constant = torch.full((1,) * len(x.shape), level, dtype=torch.float64)
    y = shifted(step, x, -constant, "/threshold") if upward else reflected(step, x, constant, "/threshold")
    turn = 1.0 if upward else -1.0
    return Final(
        y,
        final.source,
        step.op_type if final.scores is None else f"{final.op_type} and {step.op_type}",
        step.name,
        rule="sign",
        ties=int(step.op_type.endswith("OrEqual")),
        from_source=(final.from_source or Straight()).then(turn / unit, -turn * level),
    )


@operator("ArgMax", "ArgMin")
def index_of_extreme(step: Step) -> Value:
    """The decision `argmax` or `argmin`."""
    x = step.variable()
    axis = step.axis(0, len(x.shape))
    if x.shape[axis] != math.prod(x.shape) or x.shape[axis] < 2:
        raise step.unsupported(f"over axis {axis} of {x.shape} does not run over all classes: not piecewise linear")
    if step.attributes.get("select_last_index", 0):
        raise step.unsupported("with select_last_index = 1 is not supported: the first of equal outputs decides here")
    return Final(
        x, step.input_names[0], step.op_type, step.name, rule="argmax" if step.op_type == "ArgMax" else "argmin"
    )
