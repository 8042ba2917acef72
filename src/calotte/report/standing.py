"""Standing: how many inputs are proved below a probability, how many sampled, and what is at risk; in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from calotte.assessment import Assessment
from calotte.bound import Bound
from calotte.printing import plain, span
from calotte.theorems import log_target

__all__ = ["Standing", "claim", "is_proved", "is_sampled", "levels", "standing"]


@dataclass(frozen=True)
class Standing:
    """Counts of inputs.

    Attributes:
        delta: the probability asked about.
        total: inputs that were assessed.
        proved: with a proved bound of at most delta; sampled: with a sampled one.
        risk: with neither.
        wrong: whose answer is not their label, before any noise; labelled: whose label is known.
    """

    delta: float
    total: int
    proved: int
    sampled: int
    risk: int
    wrong: int
    labelled: int


def standing(assessments: Sequence[Assessment], delta: float) -> Standing:
    """Count the inputs on either side of delta.

    Raises:
        InvalidInput: delta is no probability between 0 and 1.
    """
    target = log_target(delta)
    proved = [is_proved(one, target) for one in assessments]
    sampled = [is_sampled(one, target) for one in assessments]
    return Standing(
        delta,
        len(assessments),
        sum(proved),
        sum(sampled),
        sum(not (a or b) for a, b in zip(proved, sampled, strict=True)),
        sum(one.correct is False for one in assessments),
        sum(one.label is not None for one in assessments),
    )


def is_proved(one: Assessment, target: float) -> bool:
    """Whether log p <= target is proved."""
    return one.best is not None and one.best.log_misclassification <= target


def is_sampled(one: Assessment, target: float) -> bool:
    """Whether some samples bound log p by the target, at their confidence."""
    return any(bound.log_misclassification <= target for bound in statistical(one))


def statistical(one: Assessment) -> list[Bound]:
    """The bounds that hold at a confidence."""
    return [b for b in one.bounds if b.guarantee == "confidence" and b.skipped is None]


def claim(assessments: Sequence[Assessment], delta: float, model: str = "the network") -> str:
    """What a run shows, in one sentence."""
    here, first = standing(assessments, delta), assessments[0]
    does = "changes the answer of" if first.event == "change" else f"makes {plain(first.event)} happen at"
    eps, sigma = span(one.eps for one in assessments), span(one.sigma for one in assessments)
    size = f"eps {eps} (sigma {sigma}{first.unit_said})"
    said = (
        f"Proved for {here.proved} of {here.total} inputs: random {first.noise} noise of {size} {does} "
        f"{plain(model)} with probability at most {delta!r}{first.arithmetic_said}"
    )
    more = here.total - here.proved - here.risk
    if more:
        said += f"; for {more} more, samples say so"
    return f"{said}; {here.risk} {'is' if here.risk == 1 else 'are'} at risk."


def levels(assessments: Sequence[Assessment]) -> tuple[str | None, str | None]:
    """The confidence of what is sampled: for one input, and for all inputs together; None where nothing is.

    Both by the union bound: errors of several bounds add up.
    """
    errors = [sum((1 - Decimal(repr(b.confidence)) for b in statistical(one)), Decimal(0)) for one in assessments]
    if not any(errors):
        return None, None
    one, all_of_them = max(errors), sum(errors, Decimal(0))
    together = f"{1 - all_of_them:f}" if all_of_them < 1 else None
    return f"{max(1 - one, Decimal(0)):f}", together
