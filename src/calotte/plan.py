"""The inverse question on a network: the largest noise under which a proved rung keeps p below delta."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.assess import batches, check_index, check_labels, check_settings, select_rungs
from calotte.bounds import PROVED_RUNGS, Problem, ProvedRung, Settings
from calotte.errors import InvalidInput
from calotte.geometry import Geometry
from calotte.network.graph import Network
from calotte.noise import Kind, Noise
from calotte.rounding import down
from calotte.theorems import log_target

__all__ = ["Plan", "plan", "plan_each"]

_STEPS = {True: 50, False: 12}  # of bisection of log eps, for rungs that are monotone in eps and others
# where a rung takes the inputs one by one, the search is on the logarithm of eps
_FIRST, _LONGEST, _MOST_UP = 0.4, 8.0, 40  # steps up: the first, the longest, how many
_ROOM = 0.4  # how far below the target a bound is where more effort would not have taken it
_STEEPNESS = 20.0  # of log p over log eps, until two bounds tell
_TELLING = 2.5  # how far above the target a bound tells where it is reached
_CLOSE, _MOST_BETWEEN = 0.015, 12  # where it stops: distance of the ends, evaluations between them


@dataclass(frozen=True)
class Plan:
    """The largest noise that each proved rung allows for one input.

    Attributes:
        delta: the misclassification probability allowed.
        largest_eps: rung -> the largest eps (norm of the noise; sigma sqrt(m) for the Gaussian) found with
            p <= delta proved, rounded down; 0 where there is none, None where no eps changes the answer.
        largest_sigma: the same as standard deviations per coordinate.
        scope: rung -> "all" where p <= delta is proved for every smaller eps too.
        skipped: rung -> why it says nothing; such rungs are in none of the others.
        cut_short: rung -> why the search for a larger eps ended early.
        event, arithmetic, decision, clip, map_sha256, input_sha256, run: as of an Assessment.
    """

    index: int
    predicted: int
    label: int | None
    noise: Kind
    delta: float
    input_dimension: int
    units: int
    distance: float | None
    largest_eps: dict[str, float | None]
    largest_sigma: dict[str, float | None]
    scope: dict[str, str]
    model_sha256: str | None
    skipped: dict[str, str] = field(default_factory=dict)
    cut_short: dict[str, str] = field(default_factory=dict)
    event: str = "change"
    arithmetic: str = "real"
    decision: str = "argmax"
    clip: tuple[float, float] | None = None
    map_sha256: str | None = None
    input_sha256: str | None = None
    run: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The public JSON form."""
        return {
            "index": self.index,
            "predicted": self.predicted,
            "label": self.label,
            "correct": None if self.label is None else self.predicted == self.label,
            "noise": self.noise,
            "delta": self.delta,
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
            "largest_eps": self.largest_eps,
            "largest_sigma": self.largest_sigma,
            "scope": self.scope,
            **({"skipped": self.skipped} if self.skipped else {}),
            **({"cut_short": self.cut_short} if self.cut_short else {}),
            "version": version("calotte"),
            "model_sha256": self.model_sha256,
        }


def plan_each(
    network: Network,
    inputs: ArrayLike | Tensor,
    noise: Noise,
    delta: float,
    *,
    labels: ArrayLike | None = None,
    index: Sequence[int] | None = None,
    rungs: Sequence[str] | None = None,
    settings: Settings | None = None,
    watch: Callable[[int, str], None] | None = None,
) -> Iterator[Plan]:
    """As `plan`, one Plan at a time, in order. Arguments are checked at the call; `watch` as of `assess_each`."""
    settings = settings or Settings()
    check_settings(settings)
    if not 0 < delta < 1:
        raise InvalidInput(f"delta must lie strictly between 0 and 1, came {delta}")
    chosen = select_rungs(rungs, PROVED_RUNGS)
    x = network.inputs(inputs)
    numbers = check_index(index, len(x))
    truth = check_labels(labels, len(x), network.decision.classes)
    m = noise.dimension(network.d)
    geometry = Geometry(network, noise.map, settings.memory_limit)
    plain = geometry if noise.map is None else Geometry(network, None, settings.memory_limit)

    def each() -> Iterator[Plan]:
        for part in batches(network, len(x), settings.memory_limit):
            problem = Problem(geometry, x[part], numbers[part], noise, settings, log_target(delta))
            distances = plain.distances(x[part]) if plain is not geometry else problem.distances
            largest: dict[str, Tensor] = {}
            for rung in chosen:
                if watch is not None:
                    watch(numbers[part][0], rung.name)
                reached = torch.stack([torch.zeros(len(problem.x), dtype=torch.float64), *largest.values()]).amax(0)
                largest[rung.name] = _largest_sizes(rung, problem, reached)
            for i, number in enumerate(numbers[part]):
                rho = distances.rho[i].item()
                sizes = {name: values[i].item() for name, values in largest.items()}
                yield Plan(
                    index=number,
                    predicted=int(distances.predicted[i]),
                    label=None if truth is None else truth[part][i],
                    noise=noise.kind,
                    delta=delta,
                    input_dimension=network.d,
                    units=network.units,
                    distance=None if math.isinf(rho) else rho,
                    largest_eps=_rounded(noise, sizes, lambda scaled: scaled.eps(m)),
                    largest_sigma=_rounded(noise, sizes, lambda scaled: scaled.sigma(m)),
                    scope={rung.name: "all" for rung in chosen if rung.monotone},
                    model_sha256=network.sha256,
                )

    return each()


def plan(
    network: Network,
    inputs: ArrayLike | Tensor,
    noise: Noise,
    delta: float,
    *,
    labels: ArrayLike | None = None,
    index: Sequence[int] | None = None,
    rungs: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> list[Plan]:
    """Find, for every input, the largest noise under which each proved rung keeps p <= delta.

    Args:
        network, inputs, labels, index, settings: as for `assess`.
        noise: its kind and map; its size is ignored.
        delta: misclassification probability allowed, 0 < delta < 1.
        rungs: names of proved rungs; None for all.

    Returns:
        One Plan for each input, in order.

    Raises:
        InvalidInput: anything that does not make sense, before anything is computed.
    """
    return list(plan_each(network, inputs, noise, delta, labels=labels, index=index, rungs=rungs, settings=settings))


def _largest_sizes(rung: ProvedRung, problem: Problem, start: Tensor) -> Tensor:
    """Largest eps or sigma (B,) found at which a rung proves p <= delta: bisection on its logarithm, the safe end.

    The search begins at `start` (B,), what cheaper rungs have reached, or at rho_x, where sphere and ball have p = 0;
    0 where nothing is proved there or the rung does not apply, inf where noise of no size crosses a hyperplane.
    """
    if rung.refuses(problem) is not None:
        return torch.zeros(len(problem.x), dtype=torch.float64)
    if rung.one_by_one and len(problem.x) > 1:
        each = [_largest_sizes(rung, problem.alone(i), start[i : i + 1]) for i in range(len(problem.x))]
        return torch.cat(each)

    def excess(sizes: Tensor) -> Tensor:
        return rung.log_bound(problem, sizes) - problem.target

    rho = problem.distances.rho
    low = torch.where(
        (start > 0) & torch.isfinite(start), start, torch.where((rho > 0) & torch.isfinite(rho), rho, 1.0)
    )
    proved = excess(low) <= 0
    for _ in range(20):
        if proved.all():
            break
        low = torch.where(proved, low, low / 2)
        proved = excess(low) <= 0
    if rung.one_by_one and proved and torch.isfinite(rho):
        return _closed_in(excess, low)
    high = low * 2.0
    more = proved
    for _ in range(100):
        more = (excess(high) <= 0) & proved
        if not more.any():
            break
        low, high = torch.where(more, high, low), torch.where(more, high * 4.0, high)
    for _ in range(_STEPS[rung.monotone]):
        middle = (low * high).sqrt()
        fine = excess(middle) <= 0
        low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    return torch.where(proved, torch.where(more & torch.isinf(rho), torch.inf, low), 0.0)


def _closed_in(excess: Callable[[Tensor], Tensor], low: Tensor) -> Tensor:
    """The largest size found, (1,), with excess <= 0, as it is at `low`.

    In few evaluations: each is meant to hit, from the last that failed and the slope between the last two.
    """
    high, above, step = low, -math.inf, _FIRST
    for i in range(_MOST_UP):
        high = low * math.exp(step)
        if not high.isfinite():
            return low
        above = excess(high).item()
        if not above <= 0.0:
            break
        # the second step is meant to fail by little
        low, step = high, min(max(_ROOM - above, 0.0) / _STEEPNESS if i == 0 else 2.0 * step, _LONGEST)
    else:
        return low
    steepness, aimed = _STEEPNESS, False
    for _ in range(_MOST_BETWEEN):
        width = math.log(high / low)
        if width <= _CLOSE:
            break
        step = 0.5 * width
        if above < _TELLING and not aimed:
            step = min(max(1.2 * above / steepness, 0.15 * width), 0.85 * width)
        middle = high * math.exp(-step)
        found = excess(middle).item()
        aimed = found <= 0.0
        if aimed:
            low = middle
        else:
            if above < _TELLING:
                steepness = max((above - found) / step, 1.0)
            high, above = middle, found
    return low


def _rounded(noise: Noise, sizes: dict[str, float], measure: Callable[[Noise], float]) -> dict[str, float | None]:
    """Sizes as eps or sigma, rounded down: 0 stays 0, None for no limit."""
    found: dict[str, float | None] = {}
    for rung, size in sizes.items():
        if size == 0.0 or math.isinf(size):
            found[rung] = 0.0 if size == 0.0 else None
        else:
            value = measure(noise.resized(size))
            found[rung] = value if value == size else down(down(value))
    return found
