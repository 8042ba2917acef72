"""Monte Carlo: the misclassification probability by sampling, with an exact one-sided confidence bound."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import special
from torch import Tensor

from calotte.adversary import margins
from calotte.bounds.ladder import Bound, Problem, Rung
from calotte.network.graph import Network
from calotte.network.single import in_single
from calotte.rounding import UNIT_ROUNDOFF
from calotte.sampling.sequential import decide

__all__ = [
    "CHUNK",
    "SAMPLING",
    "clopper_pearson",
    "count_misclassified",
    "misclassified",
    "running_counts",
    "sampled_outputs",
]

CHUNK = 1024
"""Draws that share one generator: part of the meaning of a seed, whatever the batch size."""
_APART = 64.0  # float32 is believed where margins are so many times larger than its largest error in a chunk
_DOUBTFUL = 0.05  # share of draws to compute again beyond which float32 saves nothing


def chunk_generator(seed: int, index: int, chunk: int, stream: int = 0) -> torch.Generator:
    """The generator of one chunk of draws for one input; other streams are for other purposes."""
    key = [seed, index, chunk, stream] if stream else [seed, index, chunk]
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


class Draws:
    """Noisy copies of input i of a problem's batch, and what the network says there.

    In a chain of dense layers only the first pre-activations W_1 (x + r) + b see the noise: they are drawn in the
    span of W_1's rows, the norm of the rest of the noise as one variable, so that no d normals are needed.
    """

    def __init__(self, problem: Problem, i: int) -> None:
        self.problem, self.i = problem, i
        chain = problem.geometry.chain
        self.start, self.base = 0, problem.x[i : i + 1]
        self.rows = None if chain is None else problem.geometry.space.rows.t().contiguous()
        if chain is not None:
            self.start = chain.ends[0]
            values = problem.network.values(self.base)
            (self.base,) = (value.flatten(1) for node, value in values if node == self.start)

    def chunks(self) -> Iterator[Tensor]:
        """The noise (CHUNK, .) chunk by chunk, without end: r, or its coordinates along the rows of W_1."""
        problem, chunk = self.problem, 0
        while True:
            generator = chunk_generator(problem.settings.seed, problem.index[self.i], chunk)
            if self.rows is not None:
                yield problem.noise.project(CHUNK, len(self.rows), problem.m, generator)
            else:
                yield problem.noise.sample(CHUNK, problem.network.d, generator)
            chunk += 1

    def outputs(self, noise: Tensor) -> Tensor:
        """Outputs (n, K) in float64."""
        return self._outputs(noise, self.problem.network, self.base, self.rows)

    def outputs_in_single(self, noise: Tensor) -> Tensor:
        """Outputs (n, K) computed in float32, on the device of the settings."""
        network, base, rows = self._single
        with torch.backends.cudnn.flags(allow_tf32=False):
            return self._outputs(noise.to(base.device, torch.float32), network, base, rows).cpu()

    @cached_property
    def _single(self) -> tuple[Network, Tensor, Tensor | None]:
        device = self.problem.settings.device
        rows = None if self.rows is None else self.rows.to(device, torch.float32)
        return in_single(self.problem.network, device), self.base.to(device, torch.float32), rows

    def _outputs(self, noise: Tensor, network: Network, base: Tensor, rows: Tensor | None) -> Tensor:
        parts = []
        for part in torch.split(noise, self._at_once):
            here = base + part if rows is None else torch.addmm(base, part, rows)
            parts.append(network.forward(here, self.start))
        return torch.cat(parts)

    @cached_property
    def _at_once(self) -> int:
        """Draws whose intermediate results fit a quarter of the memory limit."""
        network = self.problem.network
        numbers = sum(math.prod(network.shape(i)) for i in range(self.start, len(network.nodes)))
        return max(1, min(CHUNK, int(self.problem.settings.memory_limit / (4 * 8 * numbers))))


def sampled_outputs(problem: Problem, i: int) -> Iterator[Tensor]:
    """Outputs (CHUNK, K) at noisy copies of input i of the batch, chunk by chunk, without end."""
    draws = Draws(problem, i)
    return (draws.outputs(noise) for noise in draws.chunks())


def misclassified(problem: Problem, i: int) -> Iterator[Tensor]:
    """Which draws change the answer of input i, as float64 says: bool (CHUNK,), chunk by chunk, without end.

    The first chunk is computed in float32 too, and shows how far the margins of the two are apart. From then on
    float32 decides where a margin is more than `_APART` times as large as the largest such difference; other draws
    are computed again. Where that would be many, or float32 says nothing, everything stays in float64.
    """
    decision, answer, draws = problem.network.decision, problem.predicted[i], Draws(problem, i)

    def least_margins(outputs: Tensor) -> Tensor:
        return margins(decision, outputs, answer.expand(len(outputs)))

    apart: Tensor | None = None
    for chunk, noise in enumerate(draws.chunks()):
        if chunk == 0 or apart is None:
            outputs = draws.outputs(noise)
            yield decision.decide(outputs) != answer
            if chunk == 0:
                single, double = least_margins(draws.outputs_in_single(noise)), least_margins(outputs)
                apart = _APART * (single - double).abs().amax() + _APART * UNIT_ROUNDOFF * double.abs().amax()
                if not ((double.amin(1).abs() <= apart).double().mean() < _DOUBTFUL):  # NaN is not below it either
                    apart = None
            continue
        least = least_margins(draws.outputs_in_single(noise)).amin(1)
        wrong = least < 0
        doubtful = ~(least.abs() > apart)
        if doubtful.any():
            wrong[doubtful] = decision.decide(draws.outputs(noise[doubtful])) != answer
        yield wrong


def running_counts(problem: Problem, i: int, samples: int) -> Iterator[tuple[int, int]]:
    """Draws so far, and how many of them change the answer of input i, after each chunk until there are `samples`."""
    drawn = count = 0
    for wrong in misclassified(problem, i):
        wrong = wrong[: samples - drawn]
        count += int(wrong.sum())
        drawn += len(wrong)
        yield drawn, count
        if drawn >= samples:
            return


def until(deadline: float, counts: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Counts, the first ones always, as long as the deadline allows for more."""
    for pair in counts:
        yield pair
        if time.perf_counter() > deadline:
            return


def count_misclassified(problem: Problem, i: int, samples: int) -> int | None:
    """How many of the first `samples` draws change the answer of input i; None past the problem's time limit."""
    deadline = time.perf_counter() + problem.settings.time_limit
    drawn = count = 0
    for drawn, count in until(deadline, running_counts(problem, i, samples)):  # noqa: B007
        pass
    return count if drawn >= samples else None


def clopper_pearson(misclassified: int, samples: int, confidence: float) -> float:
    """One-sided Clopper-Pearson upper bound on a probability, at level `confidence`, as a logarithm.

    The p with P[Binomial(samples, p) <= misclassified] = 1 - confidence (Clopper and Pearson, Biometrika 1934),
    rounded up; 0.0 where all samples were misclassified.
    """
    if misclassified >= samples:
        return 0.0
    if misclassified == 0:
        log_p = math.log(-math.expm1(math.log1p(-confidence) / samples))
    else:
        log_p = math.log(special.betaincinv(misclassified + 1, samples - misclassified, confidence))
    return min(0.0, log_p + 1e-9)


@dataclass(frozen=True)
class MonteCarlo(Rung):
    """Rung `sampling`: counts misclassified draws and bounds p with confidence.

    With a delta in the settings it stops once it can say whether p <= delta (`calotte.sampling.sequential`).
    """

    def bound(self, problem: Problem) -> list[Bound]:
        return [self.bound_one(problem, i) for i in range(len(problem.x))]

    def bound_one(self, problem: Problem, i: int) -> Bound:
        """The bound for input i of the problem."""
        settings = problem.settings
        start = time.perf_counter()
        if settings.delta is not None:
            counts = until(start + settings.time_limit, running_counts(problem, i, settings.samples))
            found = decide(counts, settings.delta, settings.confidence)
            log_p, samples, wrong = found.log_upper, found.samples, found.misclassified
        else:
            counted, samples = count_misclassified(problem, i, settings.samples), settings.samples
            if counted is None:
                reason = f"time limit of {settings.time_limit:g} s reached before {samples} samples"
                return Bound(self.name, "confidence", 0.0, skipped=reason)
            log_p, wrong = clopper_pearson(counted, samples, settings.confidence), counted
        return Bound(
            self.name,
            "confidence",
            log_p,
            time.perf_counter() - start,
            settings.confidence,
            samples,
            wrong,
            settings.delta,
            None if settings.delta is None else found.decision,
        )


SAMPLING = MonteCarlo(
    "sampling",
    "p is below the one-sided Clopper-Pearson bound with probability at least the stated confidence, per input",
    "Clopper and Pearson, Biometrika 26 (1934)",
)
