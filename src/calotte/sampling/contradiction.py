"""Contradiction: results about one input that cannot both be true, and the evidence.

Three pairs can meet: a certain witness inside a certified radius, a proved lower bound above a proved upper one, and
samples that reject a proved bound at level `LEVEL`. Draws are counted in float64 first; before they may accuse a
bound, fresh ones are drawn and only those count that are misclassified with their error enclosed.
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
from calotte.lower import LowerBound
from calotte.network.enclosure import outputs
from calotte.network.event import CHANGE
from calotte.printing import number, probability_down_text, probability_text
from calotte.query import Query
from calotte.sampling.draws import Noisy, chunk_size
from calotte.streams import Stream, generator

__all__ = ["LEVEL", "binomial_tail", "check_radius", "check_samples", "check_sides"]

LEVEL = 1e-9
"""Samples reject a bound where, if it were true, they would be as bad as they are with less than this probability."""
_AGAIN = 4  # times as many fresh draws: chance must not lose a single misclassified one


def binomial_tail(k: int, n: int, log_p: float) -> float:
    """P[Binomial(n, p) >= k] for p = exp(log_p), -inf allowed."""
    if k <= 0:
        return 1.0
    return float(special.betainc(k, n - k + 1, math.exp(log_p)))


def check_radius(query: Query, i: int, witness: Witness | None, radius: float, certifier: str, **more: Any) -> None:
    """Hold the certified radius of input i against its witness.

    Raises:
        Contradiction: the witness lies within the radius.
    """
    if witness is None or witness.distance >= radius:
        return
    index, predicted, within = query.index[i], int(query.predicted[i]), number(radius, "down", 12)
    if query.event == CHANGE:
        says = f"nothing within {within} is answered otherwise than {predicted}"
        point = f"a point certainly answered {witness.answer}"
    else:
        says, point = f"event {query.event.name} occurs nowhere within {within}", "a point where it certainly does"
    raise Contradiction(
        f"input {index}: {certifier} certifies that {says}, and {point} lies within "
        f"{number(witness.distance, 'up', 12)}",
        index,
        evidence(query, i, witness.point)
        | {"certifier": certifier, "certified_radius": radius, "distance": witness.distance}
        | {"answer": witness.answer},
    )


def check_sides(query: Query, i: int, bounds: Sequence[Bound], lower: Sequence[LowerBound]) -> None:
    """Hold the proved bounds of input i from above against those from below.

    Raises:
        Contradiction: one from below is larger than one from above.
    """
    proved = [b for b in bounds if b.guarantee == "proved" and b.skipped is None]
    if not proved or not lower:
        return
    least = min(proved, key=lambda bound: bound.log_misclassification)
    most = max(lower, key=lambda bound: bound.log_misclassification)
    if most.log_misclassification <= least.log_misclassification:
        return
    index = query.index[i]
    raise Contradiction(
        f"input {index}: rung '{most.rung}' proves p >= {probability_down_text(most.log_misclassification, 6)}, and "
        f"rung '{least.rung}' p <= {probability_text(least.log_misclassification, 6)}",
        index,
        evidence(query, i)
        | {"rung": least.rung, "log_misclassification": least.log_misclassification}
        | {"lower_rung": most.rung, "log_lower": most.log_misclassification},
    )


def check_samples(query: Query, i: int, bounds: Sequence[Bound]) -> None:
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
    certain, point = count_certain(query, i, _AGAIN * n, log_p)
    if point is None or binomial_tail(certain, _AGAIN * n, log_p) >= LEVEL:
        return
    index = query.index[i]
    raise Contradiction(
        f"input {index}: rung '{lowest.rung}' proves p <= {probability_text(log_p)}, and {k} of {n} samples are "
        f"misclassified, which has probability below {LEVEL:g} if that is true; so have the {certain} of "
        f"{_AGAIN * n} fresh ones that certainly are",
        index,
        evidence(query, i, point)
        | {"rung": lowest.rung, "log_misclassification": log_p, "samples": n, "misclassified": k}
        | {"fresh_samples": _AGAIN * n, "certainly_misclassified": certain},
    )


def count_certain(query: Query, i: int, samples: int, log_p: float) -> tuple[int, Tensor | None]:
    """At how many of `samples` fresh draws the event certainly occurs, of input i, and the first of them.

    Counting ends early once the count rejects p <= exp(log_p) whatever the rest would be, and after as much time
    again as the input had: draws that are not made count as unchanged.
    """
    count, first = 0, None
    try:
        for wrong in certain_changes(query, i, samples):
            count += len(wrong)
            if first is None and len(wrong):
                first = wrong[0]
            if binomial_tail(count, samples, log_p) < LEVEL:
                break
    except OutOfTime:
        pass
    return count, first


def certain_changes(query: Query, i: int, samples: int) -> Iterator[Tensor]:
    """Points (n, d) of fresh draws in the whole space where the event certainly occurs, of input i, pass by pass."""
    network, noise, margins = query.network, query.noise, query.event_margins[i : i + 1]
    noisy = Noisy(query, i, reduced=False)
    noisy.deadline = Deadline.after(query.settings.time_limit)
    chunk = chunk_size(query.m)
    for k, drawn in enumerate(range(0, samples, chunk)):
        chosen = generator(Stream.FRESH_DRAWS, query.settings.seed, query.index[i], k)
        u = noise.project(chunk, query.m, query.m, chosen)[: samples - drawn]
        for part in torch.split(u, max(1, noisy.at_once // 4)):  # an enclosure takes about four passes' memory
            likely = part[margins.occurs(noisy.outputs(part))]
            points = query.x[i : i + 1] + noise.apply_map(likely, network.d)
            if len(points):
                enclosed = outputs(network, points)
                points = points[margins.certainly_occurs(enclosed.value, enclosed.error)]
            yield points


def evidence(query: Query, i: int, point: Tensor | None = None) -> dict[str, Any]:
    """What all kinds of contradiction need to be seen again."""
    network, noise, settings = query.network, query.noise, query.settings
    found: dict[str, Any] = {
        "index": query.index[i],
        "x": query.x[i].numpy(),
        "predicted": int(query.predicted[i]),
        "event": query.event.name,
        "noise": noise.kind,
        "size": noise.size,
        "seed": settings.seed,
        "confidence": settings.confidence,
        "model_sha256": network.sha256 or "",
        "version": version("calotte"),
        "torch": torch.__version__,
    }
    if point is not None:
        found["witness"] = point.numpy()
    if noise.map is not None:
        found["map"] = noise.map.numpy()
    if network.clipping is not None:
        found["clip"] = [network.clipping.low, network.clipping.high]
    return found
