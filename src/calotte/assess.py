"""The front door: a network, inputs and a noise in, one Assessment for each input out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.adversary import RESTARTS, Witness, nearest_misclassified
from calotte.bounds import PROVED_RUNGS, Bound, Problem, Rung, Settings, relaxed_radius
from calotte.errors import InvalidInput
from calotte.geometry import Geometry
from calotte.network.graph import Network
from calotte.noise import Kind, Noise
from calotte.sampling.alore import ALORE
from calotte.sampling.contradiction import check_radius, check_samples
from calotte.sampling.estimate import Estimate, Estimator
from calotte.sampling.importance import IMPORTANCE
from calotte.sampling.isoperimetry import ISOPERIMETRY
from calotte.sampling.monte_carlo import SAMPLING
from calotte.sampling.sequential import check_delta
from calotte.sampling.splitting import SPLITTING

__all__ = ["ESTIMATORS", "RUNGS", "Assessment", "assess", "assess_each", "select_estimators", "select_rungs"]

RUNGS: dict[str, Rung] = {**PROVED_RUNGS, ISOPERIMETRY.name: ISOPERIMETRY, SAMPLING.name: SAMPLING}
ESTIMATORS: dict[str, Estimator] = {one.method: one for one in (SPLITTING, IMPORTANCE, ALORE)}
R = TypeVar("R", bound=Rung)
_MOST = 32  # inputs taken together: more would gain little time and delay the first lines of output
_OPT_IN = ("isoperimetry",)  # rungs that are taken where they are named, or all of them, only


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


def select_rungs(names: Sequence[str] | None, known: Mapping[str, R]) -> list[R]:
    """Rungs by name in the ladder's order; "all" for all of them, None or "default" for all but those to opt in to.

    Raises:
        InvalidInput: a name that is none of them, or no name.
    """
    if names is None or list(names) == ["default"]:
        return [rung for name, rung in known.items() if name not in _OPT_IN]
    if list(names) == ["all"]:
        return list(known.values())
    for name in names:
        if name not in known:
            why = "no rung" if name not in RUNGS else "not available here"
            raise InvalidInput(f"rung '{name}': {why}; choose from {', '.join(known)}, or all")
    if not names:
        raise InvalidInput(f"no rungs asked for; choose from {', '.join(known)}, or all")
    return [rung for name, rung in known.items() if name in names]


def select_estimators(names: Sequence[str]) -> list[Estimator]:
    """Rare-event methods by name; "all" for all of them, nothing or "none" for none.

    Raises:
        InvalidInput: a name that is none of them.
    """
    if list(names) in ([], ["none"]):
        return []
    if list(names) == ["all"]:
        return list(ESTIMATORS.values())
    for name in names:
        if name not in ESTIMATORS:
            raise InvalidInput(f"estimate '{name}': choose from {', '.join(ESTIMATORS)}, all or none")
    return [estimator for name, estimator in ESTIMATORS.items() if name in names]


def batches(network: Network, rows: int, memory_limit: float) -> Iterator[slice]:
    """Slices of `rows` inputs whose intermediate results fit a quarter of the memory limit."""
    widest = max(math.prod(network.shape(i)) for i in range(len(network.nodes)))
    size = int(memory_limit / 4 / (8 * 12 * (network.units + 2 * widest)))
    size = max(1, min(size, _MOST))
    for begin in range(0, rows, size):
        yield slice(begin, min(begin + size, rows))


def assess_each(
    network: Network,
    inputs: ArrayLike | Tensor,
    noise: Noise,
    *,
    labels: ArrayLike | None = None,
    index: Sequence[int] | None = None,
    rungs: Sequence[str] | None = None,
    estimates: Sequence[str] = (),
    settings: Settings | None = None,
    watch: Callable[[int, str], None] | None = None,
) -> Iterator[Assessment]:
    """As `assess`, one Assessment at a time, in order, as they are found. Arguments are checked at the call.

    `watch`, where given, is called with the number of the input and the name of each step before it begins.
    """
    settings = settings or Settings()
    chosen, estimators = select_rungs(rungs, RUNGS), select_estimators(estimates)
    x = network.inputs(inputs)
    check_settings(settings)
    numbers = check_index(index, len(x))
    truth = check_labels(labels, len(x), network.decision.classes)
    m = noise.dimension(network.d)
    plain = Geometry(network, None, settings.memory_limit)
    mapped = plain if noise.map is None else Geometry(network, noise.map, settings.memory_limit)
    unclipped = None if network.clipping is None else Geometry(network.clipping.network, None, settings.memory_limit)

    def each() -> Iterator[Assessment]:
        for part in batches(network, len(x), settings.memory_limit):
            problem = Problem(mapped, x[part], numbers[part], noise, settings)
            here = problem.distances if mapped is plain else plain.distances(x[part])
            found = []
            for rung in chosen:
                if watch is not None:
                    watch(numbers[part][0], rung.name)
                found.append(rung.bound(problem))
            rho, unit = here.rho.tolist(), here.unit.tolist()
            radius = here.rho
            behind = plain if unclipped is None else unclipped
            if unclipped is not None:
                plainly = unclipped.distances(x[part])
                radius = plainly.rho
            if any(rung.name == "relaxation" for rung in chosen) and behind.chain is not None:
                radius = torch.maximum(radius, relaxed_radius(behind, x[part]))
            if network.clipping is not None and unclipped is not None:
                # clipping moves nothing away from an x within the range: the unclipped radius carries over there
                within = ((x[part] >= network.clipping.low) & (x[part] <= network.clipping.high)).all(1)
                within &= plainly.predicted == here.predicted  # floats may part them
                radius = torch.where(within, torch.maximum(radius, here.rho), here.rho)
            witnesses: list[Witness | None] = [None] * len(rho)
            if settings.search:
                witnesses = nearest_misclassified(
                    network,
                    x[part],
                    restarts=RESTARTS if plain.chain is not None else 0,
                    seed=settings.seed,
                    index=numbers[part],
                    answers=here.predicted,
                    time_limit=settings.time_limit,
                )
            for i, number in enumerate(numbers[part]):
                bounds = tuple(each_bound[i] for each_bound in found)
                certifier = "the distance to the cell's boundary" if radius[i] <= rho[i] else "rung 'relaxation'"
                check_radius(problem, i, witnesses[i], radius[i].item(), certifier)
                check_samples(problem, i, bounds)
                distance = None if math.isinf(rho[i]) else rho[i]
                name = None if distance is None else network.unit_name(unit[i], int(here.predicted[i]))
                yield Assessment(
                    index=number,
                    predicted=int(here.predicted[i]),
                    label=None if truth is None else truth[part][i],
                    noise=noise.kind,
                    eps=noise.eps(m),
                    sigma=noise.sigma(m),
                    input_dimension=network.d,
                    units=network.units,
                    distance=distance,
                    nearest_unit=name,
                    certified_radius=None if math.isinf(radius[i]) else radius[i].item(),
                    bounds=bounds,
                    seed=settings.seed,
                    model_sha256=network.sha256,
                    witness=witnesses[i],
                    estimates=tuple(estimator.estimate(problem, i) for estimator in estimators),
                )

    return each()


def assess(
    network: Network,
    inputs: ArrayLike | Tensor,
    noise: Noise,
    *,
    labels: ArrayLike | None = None,
    index: Sequence[int] | None = None,
    rungs: Sequence[str] | None = None,
    estimates: Sequence[str] = (),
    settings: Settings | None = None,
) -> list[Assessment]:
    """Bound the misclassification probability of every input under a noise.

    Args:
        network: a loaded network.
        inputs: (B, d) or (B, *input_shape), finite.
        noise: Sphere, Ball or Gaussian, optionally through a map.
        labels: (B,) true classes, if known; they change no bound.
        index: number of each input, for reports and for the seeds of its draws; 0, 1, ... by default.
        rungs: names from RUNGS, or "all"; None for all but `isoperimetry`.
        estimates: names from ESTIMATORS, or "all"; by default none.
        settings: budgets and levels.

    Returns:
        One Assessment for each input, in order.

    Raises:
        InvalidInput: anything that does not make sense, before anything is computed.
        Contradiction: two results cannot both be true: a defect of calotte.
    """
    options: dict[str, Any] = {"labels": labels, "index": index, "rungs": rungs, "estimates": estimates}
    return list(assess_each(network, inputs, noise, **options, settings=settings))


def check_settings(settings: Settings) -> None:
    """Refuse budgets and levels that make no sense."""
    if settings.samples < 1:
        raise InvalidInput(f"samples must be at least 1, came {settings.samples}")
    if not 0 < settings.confidence < 1:
        raise InvalidInput(f"confidence must lie strictly between 0 and 1, came {settings.confidence}")
    if settings.seed < 0:
        raise InvalidInput(f"seed must not be negative, came {settings.seed}")
    if not 0 < settings.memory_limit < math.inf:
        raise InvalidInput(f"the memory limit must be positive and finite, came {settings.memory_limit}")
    if settings.delta is not None:
        check_delta(settings.delta)
    if not settings.time_limit > 0:
        raise InvalidInput(f"the time limit must be positive, came {settings.time_limit}")
    if settings.device not in ("cpu", "cuda"):
        raise InvalidInput(f"device must be cpu or cuda, came {settings.device!r}")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput(
            "device cuda: this PyTorch finds no CUDA device; install a CUDA build of torch, or compute on the cpu"
        )


def check_index(index: Sequence[int] | None, rows: int) -> list[int]:
    """The number of each row: as given, or 0, 1, ...

    Raises:
        InvalidInput: another number of indices than rows.
    """
    numbers = list(range(rows)) if index is None else [int(i) for i in index]
    if len(numbers) != rows:
        raise InvalidInput(f"{len(numbers)} indices for {rows} inputs")
    return numbers


def check_labels(labels: ArrayLike | None, rows: int, classes: int) -> list[int] | None:
    """Labels as a list of ints, one for each row.

    Raises:
        InvalidInput: another number of labels, labels that are no whole numbers or no classes of the network.
    """
    if labels is None:
        return None
    values = torch.as_tensor(labels).flatten()
    if len(values) != rows:
        raise InvalidInput(f"{len(values)} labels for {rows} inputs: one label a row is needed")
    if values.is_floating_point() and not bool((values == values.round()).all()):
        raise InvalidInput("labels must be whole numbers")
    outside = (values < 0) | (values >= classes)
    if outside.any():
        bad = int(outside.nonzero()[0])
        raise InvalidInput(
            f"label {values[bad].item()} of input {bad} is no class: the network has 0 to {classes - 1}"
        )
    return [int(value) for value in values.tolist()]
