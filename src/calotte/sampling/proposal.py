"""Proposal: noise drawn from a mixture of caps, whose density over that of the noise is exact.

A cap is the noise conditioned on a half-space v.y >= s, one of them the whole space. The ratio of densities is
sum_c w_c 1{v_c.y >= s_c} / T(s_c), the same for sphere, ball and Gaussian; logarithms throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calotte.noise import Noise
from calotte.sampling.latent import Latent

__all__ = ["Proposal", "caps", "least_variance"]

_DEFENSIVE, _SPREAD = 0.1, 0.1  # least shares of the noise itself, and of all caps evenly
_RESOLVED = 1e-10  # caps of the sphere that are lower than this drown in the rounding of v.y
_OPTIMISATION, _TINY = 60, 1e-12  # steps; weight below which none falls on the way


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mixture of caps v.y >= s; the first one is the whole space.

    Attributes:
        noise, m: the noise, and the dimension of u.
        directions: (J, k + 1) unit vectors.
        owner: (C,) the direction of each cap; heights (C,), the first -inf; log_measures (C,) of the noise.
        weights: (C,) sum 1.
    """

    noise: Noise
    m: int
    directions: Tensor
    owner: Tensor
    heights: Tensor
    log_measures: Tensor
    weights: Tensor

    def draw(self, n: int, latent: Latent, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n draws y (n, k + 1), and their heights v_j.y (n, J) over every direction."""
        cap = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        log_u = torch.rand(n, dtype=torch.float64, generator=generator).neg_().log1p_()
        z = latent.normals(n, generator)
        v = self.directions[self.owner[cap]]
        height = self.noise.standard_quantile(self.log_measures[cap] + log_u, self.m)
        height = height.maximum(self.heights[cap])[:, None]
        across = z - (z * v).sum(1, keepdim=True) * v
        if self.noise.kind != "gaussian":
            norm = across.norm(dim=1, keepdim=True)
            radius = ((1.0 - height) * (1.0 + height)).clamp_min(0.0).sqrt()
            across = torch.where(norm > 0, across * (radius / norm), 0.0)
        y = across + height * v
        over = y @ self.directions.t()
        over[torch.arange(n), self.owner[cap]] = height[:, 0]  # in its own cap whatever the rounding of v.y
        return y, over

    def log_ratios(self, over: Tensor) -> Tensor:
        """Logarithms (n, C) of the densities of the caps over that of the noise, at heights (n, J)."""
        return torch.where(over[:, self.owner] >= self.heights, -self.log_measures, -torch.inf)

    def log_density(self, over: Tensor) -> Tensor:
        """Logarithm (n,) of the density of the mixture over that of the noise."""
        return (self.log_ratios(over) + self.weights.log()).logsumexp(1)


def caps(noise: Noise, m: int, directions: Tensor, ladders: list[Tensor]) -> Proposal:
    """Caps over each direction (J, k + 1) with about the given logarithms of measures, of even weights."""
    heights = [torch.full((1,), -torch.inf, dtype=torch.float64)]
    owner = [torch.zeros(1, dtype=torch.int64)]
    for j, logs in enumerate(ladders):
        levels = torch.unique(resolved(noise, m, noise.standard_quantile(logs, m)))
        heights.append(levels)
        owner.append(torch.full((len(levels),), j))
    flat = torch.cat(heights)
    share = _DEFENSIVE if len(flat) > 1 else 1.0
    weights = torch.full_like(flat, (1.0 - share) / max(len(flat) - 1, 1))
    weights[0] = share
    return Proposal(noise, m, directions, torch.cat(owner), flat, noise.standard_log_tail(flat, m), weights)


def resolved(noise: Noise, m: int, heights: Tensor) -> Tensor:
    """Heights (...) no higher than floating point resolves."""
    return heights if noise.kind == "gaussian" or m == 1 else heights.clamp_max(1.0 - _RESOLVED)


def least_variance(proposal: Proposal, y: Tensor, log_q: Tensor) -> Proposal:
    """The proposal with the weights that minimise the variance as errors y (n, k + 1), drawn with log density ratios
    log_q (n,), tell it.

    The variance, sum_i 1 / (q_i sum_c w_c r_ic), is convex in w (He and Owen, arXiv:1411.3954); the step multiplies
    each weight by the root of its derivative (Silvey, Titterington and Torsney, 1978). The floors come on top.
    """
    log_r = proposal.log_ratios(y @ proposal.directions.t())
    largest = log_r.amax(1)  # finite: the whole space has ratio 1
    ratios, costs = (log_r - largest[:, None]).exp(), -log_q - largest
    costs = (costs - costs.max()).exp()
    weights = torch.full((log_r.shape[1],), 1.0 / log_r.shape[1], dtype=torch.float64)
    for _ in range(_OPTIMISATION):
        weights = weights * ((costs / (ratios @ weights) ** 2) @ ratios).sqrt()
        weights = (weights / weights.sum()).clamp_min(_TINY)
    floor = torch.full_like(weights, _SPREAD / (len(weights) - 1))
    floor[0] = _DEFENSIVE
    return replace(proposal, weights=floor + (1.0 - _DEFENSIVE - _SPREAD) * weights)
