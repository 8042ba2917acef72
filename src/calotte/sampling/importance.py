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

from calotte.bounds.ladder import Problem
from calotte.sampling.estimate import Estimator, Measured
from calotte.sampling.latent import Latent, NotAvailable
from calotte.sampling.proposal import Proposal, caps, least_variance, resolved

__all__ = ["IMPORTANCE", "Importance"]

_SEARCH, _PILOT, _MAIN = 3, 4, 5  # purposes of random streams
_STEP, _AMPLIFICATIONS = math.sqrt(2.0), 20  # factor between amplifications of the noise, and how many are tried
_ENOUGH = 1 / 16  # share of errors at which the search begins
_ALIKE = 0.5  # cosine from which on two normals share a direction
_MOST_DIRECTIONS, _MOST_NORMALS, _MOST_HEIGHTS = 12, 96, 40
_LEAST_SIZE, _MOST_SHARE = 100.0, 0.1  # effective sample size, and share of the largest weight, to report anything
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
        pilots: draws of each pilot run under the noise itself.
        draws: from which the estimate is computed.
        attempts: how often these are made; those whose weights degenerate serve as one more pilot run.
    """

    searches: int = 3
    search: int = 250
    pilots: tuple[int, ...] = (800, 1200)
    draws: int = 6_000
    attempts: int = 3

    @property
    def method(self) -> str:
        return "importance"

    def measure(self, problem: Problem, latent: Latent) -> Measured:
        pilots = self._search_all(problem, latent)
        for k, n in enumerate(self.pilots):
            proposal = _optimal(problem, latent, pilots)
            y, _ = _errors(proposal, latent, n, latent.generator(k, _PILOT))
            pilots.append(Pilot(proposal, n, y))
        for attempt in range(1, self.attempts + 1):
            proposal = _optimal(problem, latent, pilots)
            y, log_q = _errors(proposal, latent, self.draws, latent.generator(attempt, _MAIN))
            try:
                return _weighed(-log_q, self.draws)
            except NotAvailable:
                if attempt == self.attempts:
                    raise
            pilots.append(Pilot(proposal, self.draws, y))
        raise AssertionError("attempts are at least 1")

    def _search_all(self, problem: Problem, latent: Latent) -> list[Pilot]:
        found, refusals = [], []
        for number in range(self.searches):
            try:
                found.append(self._search(problem, latent, latent.generator(number, _SEARCH)))
            except NotAvailable as refusal:
                refusals.append(refusal)
        if not found:
            raise refusals[0]
        return found

    def _search(self, problem: Problem, latent: Latent, generator: torch.Generator) -> Pilot:
        """Errors under the noise: found where it is amplified, and followed down.

        Raises:
            NotAvailable: none are found.
        """
        proposal = caps(problem.noise, problem.m, torch.zeros(1, latent.seen + 1, dtype=torch.float64), [])
        y, over = proposal.draw(self.search, latent, generator)
        power = 0
        while (wrong := latent.margin(_STEP**power * y) <= 0).sum() < _ENOUGH * self.search:
            power += 1
            if power > _AMPLIFICATIONS:
                raise NotAvailable(f"no errors found, not even under {_STEP**_AMPLIFICATIONS:.0f} times the noise")
        y, log_q = y[wrong], proposal.log_density(over[wrong])
        for lower in reversed(range(power)):
            proposal = _around(problem, latent, y, log_q, _STEP ** (lower + 1), _STEP)
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


def _optimal(problem: Problem, latent: Latent, pilots: list[Pilot]) -> Proposal:
    """The best mixture of caps around the errors of all pilots, taken as draws from the mixture of their proposals."""
    y = torch.cat([pilot.y for pilot in pilots])
    parts = [math.log(one.n) + one.proposal.log_density(y @ one.proposal.directions.t()) for one in pilots]
    log_q = torch.stack(parts).logsumexp(0) - math.log(sum(one.n for one in pilots))
    return least_variance(_around(problem, latent, y, log_q), y, log_q)


def _around(
    problem: Problem, latent: Latent, y: Tensor, log_q: Tensor, scale: float = 1.0, farther: float = 1.0
) -> Proposal:
    """Caps around errors y (n, k + 1), found under noise amplified by `scale` with log density ratios log_q (n,).

    Args:
        farther: how much higher errors are expected under the noise that the caps are for.

    Raises:
        NotAvailable: the margin is flat at all errors.
    """
    noise, m = problem.noise, problem.m
    heaviest = y[log_q.argsort()[:_MOST_NORMALS]]
    directions, kept, owner = _directions(latent, heaviest, scale)
    ladders = []
    for j, v in enumerate(directions):
        heights = heaviest[kept][owner == j] @ v
        ends = torch.stack([heights.max() * (farther if heights.max() > 0 else 1.0), heights.min()])
        low, high = noise.standard_log_tail(resolved(noise, m, ends), m).tolist()
        fine = torch.linspace(low - 1.0, high, min(_MOST_HEIGHTS, 4 + int(high - low)))
        wider = high + 0.5 * 2.0 ** torch.arange(12)
        ladders.append(torch.cat([fine, wider[wider < 0]]).to(torch.float64))
    return caps(noise, m, directions, ladders)


def _directions(latent: Latent, y: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Unit normals of the misclassified half-spaces at errors scale * y (n, k + 1), like ones taken together.

    Returns:
        directions (J, k + 1), pointing into the half-spaces; which errors were used (n',); their directions (n',).

    Raises:
        NotAvailable: the margin is flat at all errors.
    """
    _, gradient = latent.slopes(scale * y)
    norm = gradient.norm(dim=1)
    steep = norm > 0
    if not bool(steep.any()):
        raise NotAvailable("the margin is flat at all errors that the search found")
    used, normals = steep.nonzero().squeeze(1), -gradient[steep] / norm[steep, None]
    alike = normals @ normals.t()
    left = torch.ones(len(used), dtype=torch.bool)
    owner = torch.full((len(used),), -1)
    directions: list[Tensor] = []
    while bool(left.any()) and len(directions) < _MOST_DIRECTIONS:
        support = ((alike - _ALIKE).clamp_min(0.0) * left).sum(1)
        leader = int(torch.where(left, support, -1.0).argmax())
        members = left & (alike[leader] >= _ALIKE)
        mean = normals[members].mean(0)
        directions.append(mean / mean.norm())
        owner[members] = len(directions) - 1
        left &= ~members
    return torch.stack(directions), used[owner >= 0], owner[owner >= 0]


def _weighed(log_weights: Tensor, n: int) -> Measured:
    """The mean of n weights (those that are not zero are given), and an interval by the central limit theorem.

    Raises:
        NotAvailable: too few of the weights make up the sum.
    """
    total = log_weights.logsumexp(0).item()
    if math.isinf(total):
        raise NotAvailable("no errors among the draws that were to be weighed")
    shares = (log_weights - total).exp()
    size, largest = 1.0 / (shares**2).sum().item(), shares.max().item()
    if size < _LEAST_SIZE or largest > _MOST_SHARE:
        raise NotAvailable(f"weights degenerate: effective sample size {size:.0f} of {n} draws")
    error = math.sqrt(max(1.0 / size - 1.0 / n, 0.0) * n / (n - 1))
    log_p = total - math.log(n)
    half = _NORMAL * error
    return Measured(min(log_p, 0.0), (log_p - half, min(log_p + half, 0.0)), error)


IMPORTANCE = Importance()
