"""Splitting: rare misclassification as a product of shares that are not rare, by multilevel splitting.

The level of a noise is the least margin h of the answer there. P(h <= 0) is the product of P(h <= L_j | h <= L_{j-1})
over falling levels L_1 > ... > 0, each estimated from states that Markov chains keep distributed like the noise given
h <= L_{j-1} (Kahn and Harris 1951; subset simulation: Au and Beck, Prob. Eng. Mech. 16, 2001). A pilot run chooses
levels and step sizes; then independent replicates run with these fixed, which makes each of them unbiased.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import special
from torch import Tensor

from calotte.query import Query
from calotte.sampling.estimate import Estimator, Measured
from calotte.sampling.latent import Latent, NotAvailable
from calotte.streams import Stream

__all__ = ["SPLITTING", "Splitting"]

_LOG_REFERENCE, _GROWTH = math.log(3e-5), 4.5
_ACCEPTANCE = 0.4  # share of moves to be accepted
_LEAST_PROGRESS = 0.02  # share of pilot states that must lie below a plateau to go on from there


@dataclass(frozen=True)
class Level:
    """A level L_j of the margin, and the step size of the moves that stay at or below it."""

    margin: float
    step: float


@dataclass(frozen=True)
class Splitting(Estimator):
    """Multilevel splitting with moves that leave the noise invariant.

    Attributes:
        share: of the pilot's states that lie at or below the next level.
        moves: length of each Markov chain, less its first state; all states count ("waste-free").
        pilot: states of the pilot run.
        replicates: independent runs, from whose spread the interval comes.
        calls: what the replicates spend on probabilities of 3e-5 and above; |log p|^4.5 times that below, which
            keeps the relative error about constant.
        most_calls: what they spend at most.
        most_levels: where the pilot gives up, probability `share ** most_levels`.
    """

    share: float = 0.25
    moves: int = 7
    pilot: int = 256
    replicates: int = 8
    calls: int = 12_000
    most_calls: int = 200_000
    most_levels: int = 64

    @property
    def method(self) -> str:
        return "splitting"

    def measure(self, query: Query, latent: Latent) -> Measured:
        levels, log_p = self._choose_levels(latent)
        effort = self.calls * max(1.0, log_p / _LOG_REFERENCE) ** _GROWTH
        passes = 1.0 + (len(levels) - 1) * self.moves / (self.moves + 1)
        chains = max(8, int(min(effort, self.most_calls) / passes / self.replicates / (self.moves + 1)))
        logs = self._replicate(latent, levels, chains)
        if len(levels) == 1:
            return _binomial(logs, chains * (self.moves + 1))
        return _lognormal(logs)

    def _choose_levels(self, latent: Latent) -> tuple[list[Level], float]:
        """Levels that a pilot run falls through, the last one 0, and its rough log p."""
        generator = latent.generator(Stream.SPLITTING_PILOT)
        z = latent.normals(self.pilot, generator)
        h = latent.margin(latent.on_support(z))
        levels: list[Level] = []
        step, last, log_p = 0.5, math.inf, 0.0
        while True:
            margin = max(_next_level(h, self.share, last), 0.0)
            seeds = (h <= margin).nonzero().squeeze(1)
            log_p += math.log(len(seeds) / self.pilot)
            if margin == 0:
                return [*levels, Level(0.0, step)], log_p
            if len(levels) == self.most_levels:
                log10 = int(self.most_levels * math.log10(self.share))
                raise NotAvailable(f"no error found down to probabilities of about 1e{log10}")
            seeds = seeds[torch.randint(len(seeds), (self.pilot // (self.moves + 1),), generator=generator)]
            z, h, step = _move(latent, z[seeds], h[seeds], margin, step, self.moves, generator, adapt=True)
            levels.append(Level(margin, step))
            last = margin

    def _replicate(self, latent: Latent, levels: list[Level], chains: int) -> Tensor:
        """log of the estimate of every replicate (replicates,), levels and steps fixed; -inf where all died out."""
        generator = latent.generator(Stream.SPLITTING)
        states = chains * (self.moves + 1)
        z = latent.normals(self.replicates * states, generator)
        h = latent.margin(latent.on_support(z))
        logs = torch.zeros(self.replicates, dtype=torch.float64)
        for level in levels:
            h = h.reshape(self.replicates, states)
            below = h <= level.margin
            logs += below.double().mean(1).log()
            if level.margin == 0 or not bool(below.any(1).all()):
                return logs
            # z and h hold the replicates one after the other
            seeds = torch.cat([r * states + _resample(row, chains, generator) for r, row in enumerate(below)])
            z, h, _ = _move(latent, z[seeds], h.flatten()[seeds], level.margin, level.step, self.moves, generator)
            # (moves + 1, replicates, chains) to the replicates one after the other
            z, h = (t.reshape(self.moves + 1, self.replicates, chains, -1).transpose(0, 1) for t in (z, h))
            z, h = z.reshape(self.replicates * states, -1), h.reshape(-1)
        return logs


def _next_level(h: Tensor, share: float, last: float) -> float:
    """The quantile of margins h that is to be the next level, below the last one.

    Raises:
        NotAvailable: hardly any margin is smaller than the last level.
    """
    ordered = h.sort().values
    quantile: float = ordered[int(share * len(h)) - 1].item()
    if quantile < last and quantile < ordered[-1]:
        return quantile
    lower = ordered[ordered < min(last, ordered[-1].item())]
    if len(lower) < _LEAST_PROGRESS * len(h):
        raise NotAvailable("no error found: the margin is constant on (nearly) all noise that is left")
    return float(lower[-1])


def _resample(below: Tensor, chains: int, generator: torch.Generator) -> Tensor:
    """Indices (chains,) of survivors, each expected as often as the others: systematic resampling."""
    survivors = below.nonzero().squeeze(1)
    survivors = survivors[torch.randperm(len(survivors), generator=generator)]
    start = torch.rand(1, dtype=torch.float64, generator=generator)
    picked = ((torch.arange(chains) + start) * (len(survivors) / chains)).long()
    return survivors[picked.clamp_max(len(survivors) - 1)]


def _move(
    latent: Latent,
    z: Tensor,
    h: Tensor,
    level: float,
    step: float,
    moves: int,
    generator: torch.Generator,
    adapt: bool = False,
) -> tuple[Tensor, Tensor, float]:
    """Run chains from states z (n, k + 1) with margins h (n,): turns, accepted where the margin is <= level.

    Turns are reversible for the noise, so that chains keep the law of the noise given the level.

    Returns:
        all states ((moves + 1) n, k + 1), the first ones included, their margins, and the step, adapted if asked.
    """
    states, margins = [z], [h]
    for _ in range(moves):
        proposed = latent.turned(z, step, generator)
        reached = latent.margin(latent.on_support(proposed))
        accepted = reached <= level
        z, h = torch.where(accepted[:, None], proposed, z), torch.where(accepted, reached, h)
        states.append(z)
        margins.append(h)
        if adapt:
            step = min(1.0, step * (0.5 + 0.5 * accepted.double().mean().item() / _ACCEPTANCE))
    return torch.cat(states), torch.cat(margins), step


def _lognormal(logs: Tensor) -> Measured:
    """The mean of the replicates, with Cox's interval for the mean of a lognormal law.

    As the number of levels grows and the states with it, the estimate of a run becomes lognormal (Bérard, Del Moral
    and Doucet, Electron. J. Probab. 19, 2014).

    Raises:
        NotAvailable: a replicate died out.
    """
    n = len(logs)
    if bool(torch.isinf(logs).any()):
        raise NotAvailable(f"{int(torch.isinf(logs).sum())} of {n} replicates died out between two levels")
    log_p = torch.logsumexp(logs, 0).item() - math.log(n)
    variance = logs.var().item()
    error = math.sqrt(variance / n + variance**2 / (2 * (n - 1)))
    centre = logs.mean().item() + variance / 2
    half = float(special.stdtrit(n - 1, 0.975)) * error
    low, high = min(centre - half, log_p), min(max(centre + half, log_p), 0.0)
    return Measured(log_p, (low, high), (logs - log_p).exp().std().item() / math.sqrt(n))


def _binomial(logs: Tensor, states: int) -> Measured:
    """Where no level is needed: the share of misclassified draws, with Clopper and Pearson's interval."""
    n = len(logs) * states
    k = round(logs.exp().sum().item() * states)
    low = math.log(special.betaincinv(k, n - k + 1, 0.025)) if k else -math.inf
    high = math.log(special.betaincinv(k + 1, n - k, 0.975)) if k < n else 0.0
    if k == 0:
        raise NotAvailable("no error found among the draws")
    return Measured(math.log(k / n), (low, high), math.sqrt((n - k) / (n * k)))


SPLITTING = Splitting()
