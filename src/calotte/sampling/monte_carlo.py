"""Monte Carlo: the misclassification probability by sampling, with an exact one-sided confidence bound."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

from calotte.bounds.ladder import Bound, Problem, Rung
from calotte.sampling.sequential import decide

__all__ = ["CHUNK", "SAMPLING", "clopper_pearson", "count_misclassified", "running_counts", "sampled_outputs"]

CHUNK = 1024
"""Draws that share one generator: part of the meaning of a seed, whatever the batch size."""


def chunk_generator(seed: int, index: int, chunk: int, stream: int = 0) -> torch.Generator:
    """The generator of one chunk of draws for one input; other streams are for other purposes."""
    key = [seed, index, chunk, stream] if stream else [seed, index, chunk]
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def sampled_outputs(problem: Problem, i: int) -> Iterator[Tensor]:
    """Outputs (n, K) of the network at noisy copies of input i of the batch, chunk by chunk, without end.

    In a chain of dense layers only the first pre-activations W_1 (x + r) + b see the noise: they are drawn in the
    span of W_1's rows, the norm of the rest of the noise as one variable, so that no d normals are needed.
    """
    network, noise, settings = problem.network, problem.noise, problem.settings
    chain, chunk = problem.geometry.chain, 0
    x = problem.x[i : i + 1]
    if chain is not None:
        start = chain.ends[0]
        (base,) = (value.flatten(1) for node, value in network.values(x) if node == start)
        rows = problem.geometry.space.rows.t().contiguous()
    while True:
        generator = chunk_generator(settings.seed, problem.index[i], chunk)
        if chain is not None:
            u = noise.project(CHUNK, len(rows), problem.m, generator)
            yield network.forward(torch.addmm(base, u, rows), start)
        else:
            yield network.forward(x + noise.sample(CHUNK, network.d, generator))
        chunk += 1


def running_counts(problem: Problem, i: int, samples: int) -> Iterator[tuple[int, int]]:
    """Draws so far, and how many of them change the answer of input i, after each chunk until there are `samples`."""
    decision, answer = problem.network.decision, problem.predicted[i]
    drawn = count = 0
    for outputs in sampled_outputs(problem, i):
        outputs = outputs[: samples - drawn]
        count += int((decision.decide(outputs) != answer).sum())
        drawn += len(outputs)
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
