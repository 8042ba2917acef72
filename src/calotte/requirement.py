"""A requirement: p is to be at most so much for a share of the inputs, proved, or sampled where that is said."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from calotte.assessment import Assessment
from calotte.errors import InvalidInput
from calotte.theorems import log_target

__all__ = ["Requirement"]

_NUMBER = r"\d*\.?\d+(?:[eE][+-]?\d+)?"
_FORM = re.compile(rf"\s*p\s*<=\s*({_NUMBER})(?:\s+for\s+({_NUMBER})\s*%)?(\s+sampled)?\s*", re.ASCII)


@dataclass(frozen=True)
class Requirement:
    """p <= `delta` for `percent` of the inputs, as `text` says it.

    Attributes:
        sampled: whether a bound with confidence will do, for each input by itself.
    """

    text: str
    delta: float
    percent: Fraction
    sampled: bool

    @classmethod
    def of(cls, text: str) -> Requirement:
        """The requirement of a text such as 'p<=1e-6 for 95%', of all inputs where no share is named; then 'sampled'.

        Raises:
            InvalidInput: it is none.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidInput(f"requirement '{text}': expected 'p<=1e-6 for 95%', or with 'sampled' behind it")
        delta, percent = float(found[1]), Fraction(found[2] or 100)
        if not 0 < delta < 1 or not 0 < percent <= 100:
            raise InvalidInput(f"requirement '{text}': p must lie between 0 and 1, the share between 0 and 100 %")
        return cls(text.strip(), delta, percent, found[3] is not None)

    def met_by(self, one: Assessment) -> bool:
        """Whether a result meets p <= delta."""
        target = log_target(self.delta)
        if self.sampled:
            sampled = (bound for bound in one.bounds if bound.guarantee == "confidence" and bound.skipped is None)
            return any(bound.log_misclassification <= target for bound in sampled) or self._proved(one, target)
        return self._proved(one, target)

    @staticmethod
    def _proved(one: Assessment, target: float) -> bool:
        return one.best is not None and one.best.log_misclassification <= target

    def verdict(self, found: Iterable[Assessment], total: int, at: str = "") -> tuple[bool, str]:
        """Whether it holds over `total` inputs, those without a result not meeting it, and a line that says so.

        Args:
            found: results; total: inputs; at: words of the line that say for which size of the noise, if any.
        """
        count = sum(self.met_by(one) for one in found)
        holds = count * 100 >= self.percent * total
        how = "proved or sampled" if self.sampled else "proved"
        how += "" if all(one.arithmetic == "real" for one in found) else " in float32 arithmetic"
        share = f"{how} for {count} of {total} inputs, {100 * count / total:.4g} %"
        return holds, f"required {self.text}{at}: {'holds' if holds else 'does not hold'}, {share}"
