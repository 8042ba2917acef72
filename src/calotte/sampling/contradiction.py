"""Contradiction: results about one input that cannot both be true, and the evidence.

Four pairs can meet: a certain witness inside a certified radius, a proved lower bound above a proved upper one, and
samples that reject a proved bound, from above or from below, at level `LEVEL`. Draws are counted in float64 first;
before they may accuse a bound, fresh ones are drawn and only those count that are misclassified, or right, with their
error enclosed.
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
_AGAIN = 4  # times as many fresh draws: chance must not lose a single one that accuses


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


def check_samples(query: Query, i: int, bounds: Sequence[Bound], lower: Sequence[LowerBound] = ()) -> None:
    """Hold the proved bounds of input i, from above and from below, against its samples.

    Raises:
        Contradiction: the samples reject a bound at LEVEL, and so do fresh ones that are certainly misclassified, or
            certainly are not.
    """
    counts = [(b.misclassified or 0, b.samples or 0) for b in bounds if b.guarantee == "confidence"]
    proved = [b for b in bounds if b.guarantee == "proved" and b.skipped is None]
    if counts and proved:
        lowest = min(proved, key=lambda bound: bound.log_misclassification)
        log_p = lowest.log_misclassification
        says = {"rung": lowest.rung, "log_misclassification": log_p}
        claim = f"rung '{lowest.rung}' proves p <= {probability_text(log_p)}"
        check_claim(query, i, *max(counts), log_p, claim, says, occurs=True)
    if counts and lower:
        most = max(lower, key=lambda bound: bound.log_misclassification)
        p = math.exp(min(most.log_misclassification, 0.0))
        says = {"lower_rung": most.rung, "log_lower": most.log_misclassification}
        claim = f"rung '{most.rung}' proves p >= {probability_down_text(most.log_misclassification)}"
        check_claim(query, i, *max(counts), math.log1p(-p) if p < 1.0 else -math.inf, claim, says, occurs=False)


def check_claim(
    query: Query, i: int, k: int, n: int, log_p: float, claim: str, says: dict[str, Any], *, occurs: bool
) -> None:
    """Hold a claim about input i against k misclassified ones of n samples.

    Args:
        log_p: what it says of draws that are misclassified, or with `occurs` false of those that are not.
        says: the claim as evidence.
    """
    found = rejected(query, i, k if occurs else n - k, n, log_p, occurs=occurs)
    if found is None:
        return
    index, (certain, point) = query.index[i], found
    are, name = ("are", "certainly_misclassified") if occurs else ("are not", "certainly_right")
    raise Contradiction(
        f"input {index}: {claim}, and {k} of {n} samples are misclassified, which has probability below {LEVEL:g} if "
        f"that is true; so have the {certain} of {_AGAIN * n} fresh ones that certainly {are}",
        index,
        evidence(query, i, point)
        | says
        | {"samples": n, "misclassified": k, "fresh_samples": _AGAIN * n, name: certain},
    )


def rejected(query: Query, i: int, k: int, n: int, log_p: float, *, occurs: bool) -> tuple[int, Tensor] | None:
    """Whether k of n draws reject a probability of at most exp(log_p), and so do fresh ones that are certain.

    Args:
        occurs: whether the draws counted are those at which the event of input i occurs, or those where it does not.

    Returns:
        How many of `_AGAIN` n fresh draws are certain, and the first of them; None where the bound stands.
    """
    if binomial_tail(k, n, log_p) >= LEVEL:
        return None
    certain, point = count_certain(query, i, _AGAIN * n, log_p, occurs=occurs)
    if point is None or binomial_tail(certain, _AGAIN * n, log_p) >= LEVEL:
        return None
    return certain, point


def count_certain(query: Query, i: int, samples: int, log_p: float, *, occurs: bool) -> tuple[int, Tensor | None]:
    """At how many of `samples` fresh draws the event of input i certainly occurs, or does not, and the first of them.

    Counting ends early once the count rejects a probability of exp(log_p) whatever the rest would be, and after as
    much time again as the input had: draws that are not made are not certain.
    """
    count, first = 0, None
    try:
        for certain in certain_draws(query, i, samples, occurs=occurs):
            count += len(certain)
            if first is None and len(certain):
                first = certain[0]
            if binomial_tail(count, samples, log_p) < LEVEL:
                break
    except OutOfTime:
        pass
    return count, first


def certain_draws(query: Query, i: int, samples: int, *, occurs: bool) -> Iterator[Tensor]:
    """Points (n, d) of fresh draws in the whole space where the event of input i certainly occurs, pass by pass.

    Or, with `occurs` false, those where it certainly does not.
    """
    network, noise, margins = query.network, query.noise, query.event_margins[i : i + 1]
    noisy = Noisy(query, i, reduced=False)
    noisy.deadline = Deadline.after(query.settings.time_limit)
    chunk = chunk_size(query.m)
    for k, drawn in enumerate(range(0, samples, chunk)):
        chosen = generator(Stream.FRESH_DRAWS, query.settings.seed, query.index[i], k)
        u = noise.project(chunk, query.m, query.m, chosen)[: samples - drawn]
        for part in torch.split(u, max(1, noisy.at_once // 4)):  # an enclosure takes about four passes' memory
            likely = part[margins.occurs(noisy.outputs(part)) == occurs]
            points = query.x[i : i + 1] + noise.apply_map(likely, network.d)
            if len(points):
                enclosed = outputs(network, points)
                certainly = margins.certainly_occurs if occurs else margins.certainly_holds
                points = points[certainly(enclosed.value, enclosed.error)]
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
