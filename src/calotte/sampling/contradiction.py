"""Contradiction: results about one input that cannot both be true, and the evidence.

Two pairs can meet: a certain witness inside a certified radius, and samples that reject a proved bound at level
`LEVEL`. Draws are counted in float64 first; before they may accuse a bound, fresh ones are drawn and only those count
that are misclassified with their error enclosed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import torch
from scipy import special
from torch import Tensor

from calotte.adversary import Witness
from calotte.bound import Bound
from calotte.deadline import Deadline, OutOfTime
from calotte.errors import Contradiction
from calotte.network.enclosure import outputs
from calotte.network.event import CHANGE
from calotte.printing import number, probability_text
from calotte.problem import Problem
from calotte.sampling.draws import Noisy, chunk_size
from calotte.streams import Stream, generator

__all__ = ["LEVEL", "binomial_tail", "check_radius", "check_samples"]

LEVEL = 1e-9
"""Samples reject a bound where, if it were true, they would be as bad as they are with less than this probability."""
_AGAIN = 4  # times as many fresh draws: chance must not lose a single misclassified one


def binomial_tail(k: int, n: int, log_p: float) -> float:
    """P[Binomial(n, p) >= k] for p = exp(log_p), -inf allowed."""
    if k <= 0:
        return 1.0
    return float(special.betainc(k, n - k + 1, math.exp(log_p)))


def check_radius(
    problem: Problem, i: int, witness: Witness | None, radius: float, certifier: str, **more: Any
) -> None:
    """Hold the certified radius of input i against its witness.

    Raises:
        Contradiction: the witness lies within the radius.
    """
    if witness is None or witness.distance >= radius:
        return
    index, predicted, within = problem.index[i], int(problem.predicted[i]), number(radius, "down", 12)
    if problem.event == CHANGE:
        says = f"nothing within {within} is answered otherwise than {predicted}"
        point = f"a point certainly answered {witness.answer}"
    else:
        says, point = f"event {problem.event.name} occurs nowhere within {within}", "a point where it certainly does"
    raise Contradiction(
        f"input {index}: {certifier} certifies that {says}, and {point} lies within "
        f"{number(witness.distance, 'up', 12)}",
        index,
        evidence(problem, i, witness.point)
        | {"certifier": certifier, "certified_radius": radius, "distance": witness.distance}
        | {"answer": witness.answer},
    )


def check_samples(problem: Problem, i: int, bounds: Sequence[Bound]) -> None:
    """Hold the proved bounds of input i against its samples.

    Raises:
        Contradiction: the samples reject a bound at LEVEL, and so do fresh ones that are certainly misclassified.
    """
    counts = [(b.misclassified or 0, b.samples or 0) for b in bounds if b.guarantee == "confidence"]
    proved = [b for b in bounds if b.guarantee == "proved" and b.skipped is None]
    if not counts or not proved:
        return
    lowest = min(proved, key=lambda bound: bound.log_misclassification)
    k, n = max(counts)
    log_p = lowest.log_misclassification
    if binomial_tail(k, n, log_p) >= LEVEL:
        return
    certain, point = count_certain(problem, i, _AGAIN * n, log_p)
    if point is None or binomial_tail(certain, _AGAIN * n, log_p) >= LEVEL:
        return
    index = problem.index[i]
    raise Contradiction(
        f"input {index}: rung '{lowest.rung}' proves p <= {probability_text(log_p)}, and {k} of {n} samples are "
        f"misclassified, which has probability below {LEVEL:g} if that is true; so have the {certain} of "
        f"{_AGAIN * n} fresh ones that certainly are",
        index,
        evidence(problem, i, point)
        | {"rung": lowest.rung, "log_misclassification": log_p, "samples": n, "misclassified": k}
        | {"fresh_samples": _AGAIN * n, "certainly_misclassified": certain},
    )


def count_certain(problem: Problem, i: int, samples: int, log_p: float) -> tuple[int, Tensor | None]:
    """At how many of `samples` fresh draws the event certainly occurs, of input i, and the first of them.

    Counting ends early once the count rejects p <= exp(log_p) whatever the rest would be, and after as much time
    again as the input had: draws that are not made count as unchanged.
    """
    count, first = 0, None
    try:
        for wrong in certain_changes(problem, i, samples):
            count += len(wrong)
            if first is None and len(wrong):
                first = wrong[0]
            if binomial_tail(count, samples, log_p) < LEVEL:
                break
    except OutOfTime:
        pass
    return count, first


def certain_changes(problem: Problem, i: int, samples: int) -> Iterator[Tensor]:
    """Points (n, d) of fresh draws in the whole space where the event certainly occurs, of input i, pass by pass."""
    network, noise, margins = problem.network, problem.noise, problem.margins[i : i + 1]
    noisy = Noisy(problem, i, reduced=False)
    noisy.deadline = Deadline.after(problem.settings.time_limit)
    chunk = chunk_size(problem.m)
    for k, drawn in enumerate(range(0, samples, chunk)):
        chosen = generator(Stream.FRESH_DRAWS, problem.settings.seed, problem.index[i], k)
        u = noise.project(chunk, problem.m, problem.m, chosen)[: samples - drawn]
        for part in torch.split(u, max(1, noisy.at_once // 4)):  # an enclosure takes about four passes' memory
            likely = part[margins.occurs(noisy.outputs(part))]
            points = problem.x[i : i + 1] + noise.apply_map(likely, network.d)
            if len(points):
                enclosed = outputs(network, points)
                points = points[margins.certainly_occurs(enclosed.value, enclosed.error)]
            yield points


def evidence(problem: Problem, i: int, point: Tensor) -> dict[str, Any]:
    """What both kinds of contradiction need to be seen again."""
    network, noise, settings = problem.network, problem.noise, problem.settings
    found: dict[str, Any] = {
        "index": problem.index[i],
        "x": problem.x[i].numpy(),
        "predicted": int(problem.predicted[i]),
        "event": problem.event.name,
        "witness": point.numpy(),
        "noise": noise.kind,
        "size": noise.size,
        "seed": settings.seed,
        "confidence": settings.confidence,
        "model_sha256": network.sha256 or "",
        "version": version("calotte"),
        "torch": torch.__version__,
    }
    if noise.map is not None:
        found["map"] = noise.map.numpy()
    if network.clipping is not None:
        found["clip"] = [network.clipping.low, network.clipping.high]
    return found
