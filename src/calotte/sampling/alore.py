"""ALORE: the probability of leaving the cell of Theorem 4.1, a union of half-spaces, estimated without bias.

With S the number of half-spaces that hold u, P(S >= 1) = mu E[1/S], where mu is the sum of their measures and u is
drawn beyond a half-space picked with probability proportional to its measure ("at least one rare event": Owen,
Maximov and Chertkov, arXiv:1710.06965). mu is the union bound of rung `cell`; E[1/S] is what it loses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotte.cells.products import pull_back, row_norms
from calotte.query import Query
from calotte.sampling.estimate import Estimator, Event, Measured
from calotte.sampling.latent import Latent, NotAvailable
from calotte.sampling.proposal import Proposal, resolved
from calotte.streams import Stream

__all__ = ["ALORE", "Alore", "relative_variance_bound"]

_CHUNK = 1024  # draws that share a generator
_BLOCK = 256  # normals found together
_DROPPED = 1e-9  # share of mu that the half-spaces left out may have together
_LOG_40 = math.log(40.0)  # of 2 / 0.05


def relative_variance_bound(half_spaces: int, share: float | None = None) -> float:
    """Bound on Var(1/S) / E[1/S]^2 for J half-spaces, whatever they are, or given E[1/S] = `share` as well.

    1/S lies in [1/J, 1], so that its variance is at most (1 - E)(E - 1/J): over E^2 that is at most
    (J + 1/J - 2) / 4, at E = 2 / (J + 1) (Owen, Maximov and Chertkov, arXiv:1710.06965).
    """
    least = 1.0 / half_spaces
    e = 2.0 * least / (1.0 + least) if share is None else share
    return max((1.0 - e) * (e - least), 0.0) / e**2


@dataclass(frozen=True)
class Alore(Estimator):
    """P(leaving the cell): draws beyond one half-space, all half-spaces counted. No network is evaluated.

    Attributes:
        draws: n.
    """

    draws: int = 8_192

    @property
    def method(self) -> str:
        return "alore"

    @property
    def event(self) -> Event:
        return "leaving the cell"

    def measure(self, query: Query, latent: Latent) -> Measured:
        if not query.noise.isotropic:
            raise NotAvailable(f"it draws from caps, which {query.noise.kind} noise has no exact measures of")
        latent = Latent(query, latent.row, reduced=False)
        union = _union(query, latent)
        total, squares, n = 0.0, 0.0, 0
        for chunk in range(math.ceil(self.draws / _CHUNK)):
            size = min(_CHUNK, self.draws - n)
            _, over = union.draw(size, latent, latent.generator(Stream.ALORE, chunk))
            inverse = 1.0 / (over >= union.heights).double().sum(1)
            total, squares, n = total + inverse.sum().item(), squares + (inverse**2).sum().item(), n + size
        mean = total / n
        variance = max(squares / n - mean**2, 0.0) * n / (n - 1)
        # Maurer and Pontil, arXiv:0907.3740, Theorem 4, once for each side: valid for every n
        half = math.sqrt(2.0 * variance * _LOG_40 / n) + 7.0 * _LOG_40 / (3.0 * (n - 1))
        mu, largest = union.log_measures.logsumexp(0).item(), union.log_measures.max().item()
        low = max(mu + math.log(mean - half) if mean > half else -math.inf, largest)
        high = mu + math.log(min(mean + half, 1.0) + _DROPPED)
        relative = min(math.sqrt(variance) / mean, math.sqrt(relative_variance_bound(len(union.heights))))
        return Measured(min(mu + math.log(mean), 0.0), (low, min(high, 0.0)), relative / math.sqrt(n))


def _union(query: Query, latent: Latent) -> Proposal:
    """The half-spaces beyond the hyperplanes of the cell, weighted by their measures.

    The least ones are left out, as long as their measures sum to no more than a share `_DROPPED` of all.

    Raises:
        NotAvailable: the cell has no hyperplane that the noise can reach, or too many.
    """
    noise, m = query.noise, query.m
    heights = query.distances.nearest[latent.row] / noise.size
    log_measures = noise.standard_log_tail(heights, m)
    order = log_measures.argsort(descending=True)
    log_mu = log_measures.logsumexp(0)
    if bool(torch.isinf(log_mu)):
        raise NotAvailable("the noise cannot reach any hyperplane of the cell: the probability of leaving it is 0")
    left_out = log_measures[order].flip(0).logcumsumexp(0).flip(0)  # this one and all smaller ones
    kept = order[left_out > log_mu + math.log(_DROPPED)].sort().values
    if 8 * len(kept) * m > query.settings.memory_limit / 2:
        raise NotAvailable(f"{len(kept)} normals in dimension {m} do not fit the memory limit")
    normals = _outward(query, latent, kept)
    directions = torch.cat([normals, torch.zeros(len(kept), 1, dtype=torch.float64)], 1)
    heights = resolved(noise, m, heights[kept])
    log_measures = noise.standard_log_tail(heights, m)
    weights = (log_measures - log_measures.logsumexp(0)).exp()
    return Proposal(noise, m, directions, torch.arange(len(kept)), heights, log_measures, weights)


def _outward(query: Query, latent: Latent, units: Tensor) -> Tensor:
    """Unit normals (J, m) of the hyperplanes of some of the N units, ascending, pointing away from the input."""
    network = query.network
    pattern = network.pattern(latent.x)
    masks = {i: mask[0] for i, mask in network.masks(pattern).items()}
    rows, first = [], 0
    for i in network.relus:
        feeder = network.feeders[i]
        size = network.size(feeder)
        for some in torch.split(units[(units >= first) & (units < first + size)] - first, _BLOCK):
            hot = torch.nn.functional.one_hot(some, size).double()
            hot *= torch.where(pattern[0, first + some], -1.0, 1.0)[:, None]
            rows.append(pull_back(network, masks, feeder, hot.reshape(-1, *network.shape(feeder))))
        first += size
    last = network.last
    comparison = -query.margins.rows[latent.row][units[units >= first] - first]
    rows.append(pull_back(network, masks, last, comparison.reshape(-1, *network.shape(last))))
    normals = query.hyperplanes.mapped(torch.cat(rows))
    return normals / row_norms(normals)[:, None]


ALORE = Alore()
