"""Importance sampling: noise drawn beyond the misclassified half-spaces that a search found, and weighted back.

The search looks for errors under amplified noise, where they are not rare, and follows them down to the noise itself.
Around them the proposal is a mixture of caps, with a defensive share of the noise (Hesterberg, Technometrics 37,
1995). The estimate comes from draws that had no part in the choice of the proposal, so that it is unbiased.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from calotte.query import Query
from calotte.sampling.estimate import Estimator, Measured
from calotte.sampling.latent import Latent, NotAvailable
from calotte.sampling.proposal import Proposal, caps, least_variance, resolved
from calotte.streams import Stream

__all__ = ["IMPORTANCE", "Importance"]

_STEP, _AMPLIFICATIONS = math.sqrt(2.0), 20  # factor between amplifications of the noise, and how many are tried
_ENOUGH = 1 / 16  # share of errors at which the search begins
_ALIKE = (0.2, 0.7, 0.97)  # cosines from which on normals share a direction: three sets, the weights choose
_MOST_DIRECTIONS, _MOST_NORMALS = 8, 64  # for each of these cosines; errors whose normals are taken
_TEMPER = 0.25  # power of the weights that errors have in an average of normals
_MARGIN = 0.2  # of the logarithm of a measure: errors reach a little nearer than those that were seen (0.1 was
# measured to miss up to a fifth of p in one run of 20),
_NEARER = 6.0  # and with n seen by more than 6 / n once in e^6 times
_HALVINGS = 12
_WELL_SPREAD = 0.08  # effective sample size of a pilot run, per draw, that is good enough
_LEAST_SIZE, _MOST_SHARE = 100.0, 0.1  # to report anything: effective size, share of the largest weight
_NORMAL = 1.959964  # 97.5 % quantile


class Pilot(NamedTuple):
    """Misclassified noise y (n_e, k + 1) among n draws from a proposal."""

    proposal: Proposal
    n: int
    y: Tensor


@dataclass(frozen=True)
class Importance(Estimator):
    """Importance sampling from caps around misclassified half-spaces, with a defensive share of the noise.

    Attributes:
        searches: independent searches for errors, joined.
        search: draws for each amplification of the noise that a search goes through.
        pilot: draws of each pilot run; pilots: how many there are at most, until one spreads its weight well.
        draws: from which the estimate is computed.
        attempts: how often these are made; those whose weights degenerate serve as one more pilot run.
    """

    searches: int = 3
    search: int = 200
    pilot: int = 800
    pilots: int = 10
    draws: int = 5_000
    attempts: int = 3

    @property
    def method(self) -> str:
        return "importance"

    def measure(self, query: Query, latent: Latent) -> Measured:
        if not query.noise.isotropic:
            raise NotAvailable(f"it draws from caps, which {query.noise.kind} noise has no exact measures of")
        pilots = self._search_all(query, latent)
        for k in range(self.pilots):
            proposal = _optimal(query, latent, pilots)
            y, log_q = _errors(proposal, latent, self.pilot, latent.generator(Stream.IMPORTANCE_PILOT, k))
            pilots.append(Pilot(proposal, self.pilot, y))
            if k > 0 and len(y) and _effective_size(-log_q) >= _WELL_SPREAD * self.pilot:
                break
        for attempt in range(1, self.attempts + 1):
            proposal = _optimal(query, latent, pilots)
            y, log_q = _errors(proposal, latent, self.draws, latent.generator(Stream.IMPORTANCE, attempt))
            try:
                return _weighed(-log_q, self.draws)
            except NotAvailable:
                if attempt == self.attempts:
                    raise
            pilots.append(Pilot(proposal, self.draws, y))
        raise AssertionError("attempts are at least 1")

    def _search_all(self, query: Query, latent: Latent) -> list[Pilot]:
        found, refusals = [], []
        for number in range(self.searches):
            try:
                found.append(self._search(query, latent, latent.generator(Stream.IMPORTANCE_SEARCH, number)))
            except NotAvailable as refusal:
                refusals.append(refusal)
        if not found:
            raise refusals[0]
        return found

    def _search(self, query: Query, latent: Latent, generator: torch.Generator) -> Pilot:
        """Errors under the noise: found where it is amplified, and followed down.

        Raises:
            NotAvailable: none are found.
        """
        any_direction = torch.eye(1, latent.seen + 1, dtype=torch.float64)
        proposal = caps(query.noise, query.m, any_direction, [])
        y, over = proposal.draw(self.search, latent, generator)
        power = 0
        while (wrong := latent.margin(_STEP**power * y) <= 0).sum() < _ENOUGH * self.search:
            power += 1
            if power > _AMPLIFICATIONS:
                raise NotAvailable(f"no errors found, not even under {_STEP**_AMPLIFICATIONS:.0f} times the noise")
        y, log_q = y[wrong], proposal.log_density(over[wrong])
        for lower in reversed(range(power)):
            proposal = _around(query, latent, y, log_q, generator, _STEP ** (lower + 1), _STEP)
            y, log_q = _errors(proposal, latent, self.search, generator, _STEP**lower)
            if not len(y):
                raise NotAvailable(f"no errors found below {_STEP ** (lower + 1):.2g} times the noise")
        return Pilot(proposal, self.search, y)


def _errors(
    proposal: Proposal, latent: Latent, n: int, generator: torch.Generator, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Errors y (n_e, k + 1) among n draws under noise amplified by `scale`, and log densities (n_e,) of the draws."""
    y, over = proposal.draw(n, latent, generator)
    wrong = latent.margin(scale * y) <= 0
    return y[wrong], proposal.log_density(over[wrong])


def _optimal(query: Query, latent: Latent, pilots: list[Pilot]) -> Proposal:
    """The best mixture of caps around the errors of all pilots, as draws from the mixture of their proposals."""
    y = torch.cat([pilot.y for pilot in pilots])
    generator = latent.generator(Stream.IMPORTANCE_CHOICE, len(pilots))
    parts = [math.log(one.n) + one.proposal.log_density(y @ one.proposal.directions.t()) for one in pilots]
    log_q = torch.stack(parts).logsumexp(0) - math.log(sum(one.n for one in pilots))
    return least_variance(_around(query, latent, y, log_q, generator), y, log_q)


def _around(
    query: Query,
    latent: Latent,
    y: Tensor,
    log_q: Tensor,
    generator: torch.Generator,
    scale: float = 1.0,
    farther: float = 1.0,
) -> Proposal:
    """Caps around errors y (n, k + 1), found under noise amplified by `scale` with log density ratios log_q (n,).

    Args:
        farther: how much higher errors are expected under the noise that the caps are for.

    Raises:
        NotAvailable: the margin is flat at all errors.
    """
    noise, m = query.noise, query.m
    weights = (_TEMPER * (log_q.amin() - log_q)).exp()
    chosen = torch.multinomial(weights, min(_MOST_NORMALS, len(y)), generator=generator)
    chosen = y[chosen]
    directions = _directions(latent, chosen, scale)
    ladders = []
    for v, members in directions:
        heights = chosen[members] @ v
        ends = torch.stack([heights.max() * (farther if heights.max() > 0 else 1.0), heights.min()])
        low, high = noise.standard_log_tail(resolved(noise, m, ends), m).tolist()
        high = min(high + max(_MARGIN, _NEARER / int(members.sum())), 0.0)
        below, above = _rungs(16, high - low + 1.0), _rungs(4, -high)
        ladders.append(torch.cat([high - below, high + above[1:]]).to(torch.float64))
    return caps(noise, m, torch.stack([v for v, _ in directions]), ladders)


def _rungs(even: int, farthest: float) -> Tensor:
    """Distances 0, 1, 2, ... up to `even`, then farther and farther apart, below `farthest`."""
    steps = torch.cat([torch.arange(even + 1.0), even * 1.25 ** torch.arange(1.0, 41.0)])
    return steps[steps < farthest]


def _directions(latent: Latent, y: Tensor, scale: float) -> list[tuple[Tensor, Tensor]]:
    """Directions of the misclassified half-spaces at errors scale * y (n, k + 1): normals, like ones averaged.

    Returns:
        unit vectors (k + 1,) that point into the half-spaces, and for each the errors (n',) that it was made from.

    Raises:
        NotAvailable: the margin is flat at all errors.
    """
    _, gradient = latent.slopes(scale * y)
    flat = (gradient == 0).all(1)
    if bool(flat.any()):
        _, gradient[flat] = latent.slopes(_drawn_back(latent, scale * y[flat]))
    norm = gradient.norm(dim=1)
    if not bool((norm > 0).any()):
        raise NotAvailable("the margin is flat at all errors that the search found")
    normals = torch.where(norm > 0, -gradient.t() / norm, 0.0).t()
    cosines = normals @ normals.t()
    found: list[tuple[Tensor, Tensor]] = []
    for alike in _ALIKE:
        left = norm > 0
        for _ in range(_MOST_DIRECTIONS):
            support = (cosines - alike).clamp_min(0.0) @ left.double()
            leader = int(torch.where(left, support, -1.0).argmax())
            members = left & (cosines[leader] >= alike)
            mean = normals[members].sum(0)
            found.append((mean / mean.norm(), members))
            left = left & ~members
            if not bool(left.any()):
                break
    return found


def _drawn_back(latent: Latent, y: Tensor) -> Tensor:
    """Points just before the last change of answer between the input and each error y (n, k + 1)."""
    low, high = torch.zeros(len(y), 1, dtype=torch.float64), torch.ones(len(y), 1, dtype=torch.float64)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        wrong = latent.margin(middle * y)[:, None] <= 0
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return low * y


def _weighed(log_weights: Tensor, n: int) -> Measured:
    """The mean of n weights (those that are not zero are given), and an interval by the central limit theorem.

    Raises:
        NotAvailable: too few of the weights make up the sum.
    """
    if not len(log_weights):
        raise NotAvailable("no errors among the draws that were to be weighed")
    total, size = log_weights.logsumexp(0).item(), _effective_size(log_weights)
    largest = math.exp(log_weights.max().item() - total)
    if size < _LEAST_SIZE or largest > _MOST_SHARE:
        raise NotAvailable(f"weights degenerate: effective sample size {size:.0f} of {n} draws")
    error = math.sqrt(max(1.0 / size - 1.0 / n, 0.0) * n / (n - 1))
    log_p = total - math.log(n)
    half = _NORMAL * error + largest  # one heaviest draw more or less: the sum is skewed
    return Measured(min(log_p, 0.0), (log_p - half, min(log_p + half, 0.0)), error)


def _effective_size(log_weights: Tensor) -> float:
    """(sum w)^2 / sum w^2."""
    return math.exp(2.0 * log_weights.logsumexp(0).item() - (2.0 * log_weights).logsumexp(0).item())


IMPORTANCE = Importance()
