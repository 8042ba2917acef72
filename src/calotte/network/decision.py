"""Decisions: how the outputs of a network become an answer, and by which margins an answer holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from calotte.errors import InvalidInput

__all__ = ["Decision", "Rule"]

Rule = Literal["argmax", "argmin", "sign"]


@dataclass(frozen=True)
class Decision:
    """The answer read off K outputs z.

    argmax, argmin: the index of the largest or smallest output, the first one on ties.
    sign: the Heaviside unit of Kůrková's network (1), for K = 1: class 1 if z > 0, class 0 if z < 0, and `ties`
        if z = 0.
    """

    rule: Rule
    outputs: int
    ties: int = 0

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise InvalidInput(f"decision '{self.rule}': expected one of {', '.join(get_args(Rule))}")
        if self.rule == "sign" and self.outputs != 1:
            raise InvalidInput(
                f"decision 'sign' needs one output, the network has {self.outputs}: use argmax or argmin"
            )
        if self.rule != "sign" and self.outputs < 2:
            raise InvalidInput(
                f"decision '{self.rule}' needs at least two outputs, the network has {self.outputs}: use sign"
            )

    @property
    def classes(self) -> int:
        """Number of possible answers."""
        return max(self.outputs, 2)

    @property
    def comparisons(self) -> int:
        """Number of output comparisons that hold an answer: K - 1, or 1 for sign."""
        return max(self.outputs - 1, 1)

    def decide(self, z: Tensor) -> Tensor:
        """Answers (B,) int64 of outputs (B, K); -1, no answer, where one of these is NaN or infinite."""
        if self.rule == "sign":
            answers = ((z[:, 0] >= 0) if self.ties else (z[:, 0] > 0)).to(torch.int64)
        else:
            answers = z.argmax(1) if self.rule == "argmax" else z.argmin(1)
        return torch.where(z.isfinite().all(1), answers, -1)

    def rivals(self, predicted: Tensor) -> Tensor:
        """The other classes, in order, for each answer: (B,) -> (B, comparisons) int64."""
        others = torch.arange(self.classes - 1).expand(len(predicted), -1)
        return others + (others >= predicted[:, None])

    def keeps_ties(self, predicted: Tensor) -> Tensor:
        """Whether an answer (B,) holds too where its margin over a rival is zero: bool (B, comparisons)."""
        if self.rule == "sign":
            return (predicted == self.ties)[:, None]
        return self.rivals(predicted) > predicted[:, None]

    def comparison(self, predicted: Tensor) -> Tensor:
        """Rows c with margin c . z for each rival: (B,) -> (B, comparisons, K), entries 0, 1, -1.

        An answer y holds while every margin is positive; where one is zero it may hold or not. Where there is no
        answer (-1) the rows are of no account.
        """
        if self.rule == "sign":
            return torch.where(predicted == 1, 1.0, -1.0).to(torch.float64)[:, None, None]
        lead, predicted = 1.0 if self.rule == "argmax" else -1.0, predicted.clamp_min(0)
        rows = torch.zeros(len(predicted), self.comparisons, self.outputs, dtype=torch.float64)
        rows.scatter_(2, self.rivals(predicted)[:, :, None], -lead)
        return rows.scatter_(2, predicted[:, None, None].expand(-1, self.comparisons, 1), lead)
