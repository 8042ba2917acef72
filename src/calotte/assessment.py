"""Assessment: what is known about one input under one noise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from calotte.adversary import Witness
from calotte.bound import Bound
from calotte.noise import Kind
from calotte.printing import lower_text
from calotte.sampling.estimate import Estimate

__all__ = ["Assessment", "by_risk"]


@dataclass(frozen=True)
class Assessment:
    """What is known about one input under one noise.

    Attributes:
        index: number of the input; predicted: the network's answer; label: the true class where known.
        noise, eps, sigma: the noise, eps its norm and sigma its standard deviation per coordinate.
        input_dimension: d; units: N, hidden units plus output comparisons.
        distance: rho_x, distance to the nearest hyperplane of the cell in input space, rounded down: 0 where x
            may lie on one, None where there is none; nearest_unit: the unit that it belongs to.
        certified_radius: no input closer than this is answered differently; proved, None where unlimited.
        witness: the nearest point found that certainly is answered differently, None where none was found.
        bounds: what each rung says about the misclassification probability.
        estimates: what rare-event methods say about it, or about the probability of leaving the cell; no bounds.
        event: what p is the probability of: "change" of the answer. arithmetic: "real", the function that is meant.
        decision: the rule that answers; clip: the range that noisy inputs are clipped to, None for none.
        distance_skipped: why `distance` is not known, where it was not asked for and would have taken too long.
        map_sha256, input_sha256: of the noise map and of the input, as float64 numbers; run: of run.json.
    """

    index: int
    predicted: int
    label: int | None
    noise: Kind
    eps: float
    sigma: float
    input_dimension: int
    units: int
    distance: float | None
    nearest_unit: str | None
    certified_radius: float | None
    bounds: tuple[Bound, ...]
    seed: int
    model_sha256: str | None
    witness: Witness | None = None
    estimates: tuple[Estimate, ...] = ()
    event: str = "change"
    arithmetic: str = "real"
    decision: str = "argmax"
    clip: tuple[float, float] | None = None
    map_sha256: str | None = None
    input_sha256: str | None = None
    run: str | None = None
    distance_skipped: str | None = None

    @property
    def correct(self) -> bool | None:
        """Whether the answer is the label, where there is one."""
        return None if self.label is None else self.predicted == self.label

    @property
    def best(self) -> Bound | None:
        """The smallest proved bound (the first of equals), or None where no proved rung was asked."""
        proved = [bound for bound in self.bounds if bound.guarantee == "proved" and bound.skipped is None]
        return min(proved, key=lambda bound: bound.log_misclassification, default=None)

    def __str__(self) -> str:
        best = "nothing proved" if self.best is None else str(self.best)
        radius = "no limit" if self.certified_radius is None else lower_text(self.certified_radius)
        what = f"{self.noise} noise of eps {self.eps:.4g}"
        return f"input {self.index}, answer {self.predicted}, {what}: {best}; certified radius {radius}"

    def to_dict(self) -> dict[str, Any]:
        """The public JSON form."""
        return {
            "index": self.index,
            "predicted": self.predicted,
            "label": self.label,
            "correct": self.correct,
            "noise": self.noise,
            "eps": self.eps,
            "sigma": self.sigma,
            "input_dimension": self.input_dimension,
            "units": self.units,
            "event": self.event,
            "arithmetic": self.arithmetic,
            "decision": self.decision,
            "clip": None if self.clip is None else list(self.clip),
            "map_sha256": self.map_sha256,
            "input_sha256": self.input_sha256,
            "run": self.run,
            "distance": self.distance,
            **({} if self.distance_skipped is None else {"distance_skipped": self.distance_skipped}),
            "nearest_unit": self.nearest_unit,
            "certified_radius": self.certified_radius,
            "bounds": [bound.to_dict() for bound in self.bounds],
            "best": self.best.rung if self.best else None,
            "estimates": [estimate.to_dict() for estimate in self.estimates],
            "adversarial_distance": self.witness.distance if self.witness else None,
            "seed": self.seed,
            "version": version("calotte"),
            "model_sha256": self.model_sha256,
        }


def by_risk(assessments: Iterable[Assessment]) -> list[Assessment]:
    """Riskiest first: by the best proved bound, then what sampling says, then the certified radius."""

    def key(one: Assessment) -> tuple[float, float, float]:
        sampled = max((b.log_misclassification for b in one.bounds if b.guarantee == "confidence"), default=0.0)
        proved = one.best.log_misclassification if one.best else 0.0
        return -proved, -sampled, float("inf") if one.certified_radius is None else one.certified_radius

    return sorted(assessments, key=key)
