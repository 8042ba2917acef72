"""Shallow networks of Heaviside perceptrons: the networks of Kůrková's Corollary 3.2 (arXiv:2602.18674)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.cells.distances import signed_distances
from calotte.errors import InvalidInput, InvalidModel
from calotte.rounding import NORM_SLACK, VALUE_SLACK, dot_error, gamma, raised

__all__ = ["LinearOutput", "ShallowHeaviside"]


@dataclass(frozen=True, eq=False)
class LinearOutput:
    """The Heaviside unit theta(c . h + c_0) of the hidden bits h: 1 where it is positive, else 0.

    Args:
        coefficients: c (n,).
        bias: c_0.
    """

    coefficients: Tensor
    bias: float = 0.0

    def __call__(self, bits: Tensor) -> Tensor:
        """(B, n) bits, bool -> (B,) int64."""
        return (bits.to(torch.float64) @ self.coefficients + self.bias > 0).to(torch.int64)


class ShallowHeaviside:
    """n perceptrons theta(w_i . x + b_i), theta(t) = 1 if t > 0 else 0, and any function of their n bits.

    The answer can change only where one of the n hyperplanes is crossed, so the output unit adds nothing to the
    count of Corollary 3.2, whatever it is.

    Args:
        weights: w_i (n, d), none of them zero.
        biases: b_i (n,).
        output: bits (B, n), bool -> answers (B,), int64. Default: more than half of the units are on.

    Raises:
        InvalidModel: wrong shapes, NaN, infinite or zero weights.
    """

    def __init__(self, weights: Tensor, biases: Tensor, output: Callable[[Tensor], Tensor] | None = None) -> None:
        weights, biases = (torch.as_tensor(a, dtype=torch.float64) for a in (weights, biases))
        if weights.ndim != 2 or 0 in weights.shape or biases.shape != weights.shape[:1]:
            raise InvalidModel(
                f"weights {tuple(weights.shape)} and biases {tuple(biases.shape)}: expected (n, d) and (n,)"
            )
        if not (weights.isfinite().all() and biases.isfinite().all()):
            raise InvalidModel("weights or biases hold NaN or infinite numbers")
        if not (weights != 0).any(1).all():
            raise InvalidModel("a perceptron with zero weights has no hyperplane: leave it out")
        self.weights, self.biases = weights, biases
        n = len(weights)
        self.output = output or LinearOutput(torch.ones(n, dtype=torch.float64), -n / 2.0)

    @property
    def d(self) -> int:
        """Dimension of the input."""
        return self.weights.shape[1]

    @property
    def units(self) -> int:
        """N: the number of hyperplanes."""
        return len(self.weights)

    def inputs(self, x: Tensor) -> Tensor:
        """Check a batch (B, d) or one input (d,) and give it as float64 of shape (B, d)."""
        x = torch.as_tensor(x, dtype=torch.float64)
        x = x[None] if x.ndim == 1 else x
        if x.ndim != 2 or len(x) == 0 or x.shape[1] != self.d:
            raise InvalidInput(f"inputs of shape {tuple(x.shape)}: expected rows of {self.d} numbers")
        if not x.isfinite().all():
            raise InvalidInput("the inputs hold NaN or infinite numbers: remove or repair them")
        return x

    def bits(self, x: Tensor) -> Tensor:
        """What the perceptrons say (B, n), bool, at a batch (B, d)."""
        return torch.nn.functional.linear(self.inputs(x), self.weights, self.biases) > 0

    def predict(self, x: Tensor) -> Tensor:
        """Answers (B,) at a batch (B, d)."""
        return self.output(self.bits(x))

    def distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Distances of a batch (B, d) to the n hyperplanes, |w_i . x + b_i| / ||w_i||.

        Returns:
            (nearest, lower), (B, n) each: as computed, and lower ends of the enclosures of the signed distances,
            negative where the side on which x lies is not certain.
        """
        x = self.inputs(x)
        value = torch.nn.functional.linear(x, self.weights, self.biases)
        magnitude = torch.nn.functional.linear(x.abs(), self.weights.abs(), self.biases.abs())
        error = raised(dot_error(magnitude, self.d + 1), self.d + 10)
        error = torch.where(magnitude > 0, error.clamp_min(VALUE_SLACK), 0.0)
        norm = self.weights.norm(dim=1).expand_as(value)
        slack = torch.full_like(norm, NORM_SLACK)
        return signed_distances(value.abs(), error, norm, slack, gamma(self.d + 4))

    def distance(self, x: Tensor) -> Tensor:
        """rho_x (B,), rounded down: 0 where x may lie on a hyperplane."""
        rho = self.distances(x)[1].amin(1).clamp_min(0.0)
        return torch.where(rho.isfinite(), rho, math.inf)
