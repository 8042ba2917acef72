"""What float32 may do to margins, for all noise that is considered: how far they must be above 0 to count."""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.network.float32 import Bounds, Float32Errors
from calotte.network.margins import Margins
from calotte.proofs.support import Support
from calotte.query import Query
from calotte.rounding import norm_up, raised

__all__ = ["WHOLE", "executed", "float32_errors", "lowered_constants"]

WHOLE = 40.0
"""Of a Gaussian, noise of norm sigma (sqrt(m) + WHOLE) is considered where nothing else is said: e^-800 is left."""


def float32_errors(query: Query, around: Support) -> Float32Errors | None:
    """What float32 does to the values of the network under the noise considered; None in real arithmetic."""
    if query.arithmetic == "real":
        return None
    scales, scale = query.hyperplanes.coordinates.value, query.hyperplanes.noise_map
    longest = 1.0 if scale is None else scale.abs().max().item()
    if scale is not None and scale.ndim == 2:
        longest = norm_up(scale.flatten(), 0).item()
    entries = raised(around.farthest[:, None] * scales, 8).reshape(-1, *query.network.input_shape)
    return Float32Errors(query.network, query.x, Bounds.of(entries, raised(around.farthest * longest, 8)))


def lowered_constants(margins: Margins, errors: Float32Errors | None) -> Tensor:
    """The constants (B, C) of margins that hold in float32 where those of the real function with these are >= 0.

    -inf where nothing is known of float32.
    """
    if errors is None:
        return margins.constants
    found, terms = errors.outputs(), margins.terms + 8
    by_norm = norm_up(margins.rows, 2) * found.norm[:, None]
    error = raised(torch.minimum(raised(margins.weighed(found.entries), terms), raised(by_norm, 4)), 4)
    lowered = torch.nextafter(margins.constants - error, torch.full_like(error, -torch.inf))
    return torch.where(lowered.isnan(), -torch.inf, torch.where(error == 0, margins.constants, lowered))


def executed(query: Query, sizes: Tensor, margins: Margins) -> tuple[Margins, float]:
    """Margins that hold in the query's arithmetic where these do as real numbers, under noise of sizes (B,).

    And the logarithm of the probability of noise of which nothing is said.
    """
    around = Support.of(query, sizes, WHOLE)
    errors = float32_errors(query, around)
    if errors is None:
        return margins, -torch.inf

    def found() -> Margins:
        for relu in query.network.relus:
            errors.settle(relu)
        return margins.lowered(lowered_constants(margins, errors))

    return query.once(("executed", margins, *sizes.tolist()), found), around.log_missed
