"""The front door: a network, inputs and a noise in, one Assessment for each input out."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import Module

from calotte.adversary import RESTARTS, Adversary, Witness
from calotte.arguments import check_answer, check_index, check_kinds, check_labels
from calotte.assessment import Assessment
from calotte.bound import Bound, Rung
from calotte.cells.hyperplanes import Hyperplanes
from calotte.checks import names_of
from calotte.deadline import Deadline, OutOfTime
from calotte.errors import InvalidInput
from calotte.known import Known
from calotte.ladder import PROVED_RUNGS
from calotte.lower import LowerBound
from calotte.models.opened import as_network, split_batch
from calotte.network.arithmetic import check_arithmetic
from calotte.network.event import OutputEvent, as_event
from calotte.network.graph import Network
from calotte.noise import Noise
from calotte.query import Query
from calotte.result import Results
from calotte.sampling.alore import ALORE
from calotte.sampling.contradiction import check_radius, check_samples, check_sides
from calotte.sampling.estimate import Estimate, Estimator, select_estimators
from calotte.sampling.importance import IMPORTANCE
from calotte.sampling.isoperimetry import ISOPERIMETRY
from calotte.sampling.monte_carlo import SAMPLING
from calotte.sampling.splitting import SPLITTING
from calotte.searches.radius import relaxed_radius
from calotte.settings import Settings

__all__ = [
    "DISTANCE_NOT_ASKED",
    "ESTIMATORS",
    "RUNGS",
    "Assessment",
    "Assessor",
    "Watch",
    "assess",
    "assess_each",
    "select_rungs",
]

RUNGS: dict[str, Rung] = {**PROVED_RUNGS, ISOPERIMETRY.name: ISOPERIMETRY, SAMPLING.name: SAMPLING}
ESTIMATORS: dict[str, Estimator] = {one.method: one for one in (SPLITTING, IMPORTANCE, ALORE)}
R = TypeVar("R", bound=Rung)
Watch = Callable[[int, str], None]
_CHEAP = 2.0  # seconds, as estimated, up to which distances are found though no rung asks for them
_MOST_SEARCHED = 1000  # hidden units behind the first layer up to which graphs get a search for the certified radius
DISTANCE_NOT_ASKED = "not asked for, and long to compute: ask for rung theorem or cell"
_OPT_IN = ("isoperimetry",)  # rungs that are taken where they are named, or all of them, only


def select_rungs(names: Sequence[str] | None, known: Mapping[str, R]) -> list[R]:
    """Rungs by name in the ladder's order; "all" for all of them, None or "default" for all but those to opt in to.

    Raises:
        InvalidInput: a name that is none of them, or no name.
    """
    names = names_of("rungs", "default" if names is None else names)
    if names == ["default"]:
        return [rung for name, rung in known.items() if name not in _OPT_IN]
    if names == ["all"]:
        return list(known.values())
    for name in names:
        if name not in known:
            why = "no rung" if name not in RUNGS else "not available here"
            raise InvalidInput(f"rung '{name}': {why}; choose from {', '.join(known)}, or all")
    if not names:
        raise InvalidInput(f"no rungs asked for; choose from {', '.join(known)}, or all")
    return [rung for name, rung in known.items() if name in names]


def sha256(numbers: Tensor) -> str:
    """Hash of float64 numbers, as little-endian bytes in row-major order."""
    return hashlib.sha256(numbers.numpy().astype("<f8").tobytes()).hexdigest()


def affordable(hyperplanes: Hyperplanes) -> bool:
    """Whether distances are found in no time worth mentioning, so that they may be had without being asked for."""
    return hyperplanes.cost().seconds <= _CHEAP


class Assessor:
    """A network, a noise, rungs and effort: what turns one input into an Assessment, whatever else is assessed.

    Args:
        network: the network.
        noise: the noise.
        event, arithmetic, rungs, estimates, settings: as for `assess`.
        run: of the lines, sha256 of what describes the whole run.

    Raises:
        InvalidInput: anything that does not make sense.
    """

    def __init__(
        self,
        network: Network,
        noise: Noise,
        *,
        event: OutputEvent | str = "change",
        arithmetic: str = "real",
        rungs: Sequence[str] | None = None,
        estimates: Sequence[str] = (),
        settings: Settings | None = None,
        run: str | None = None,
    ) -> None:
        self.settings = settings or Settings()
        check_kinds(network, noise, self.settings)
        self.event, self.arithmetic = as_event(event, network), check_arithmetic(arithmetic, network)
        self.network, self.noise, self.run = network, noise, run
        self.rungs, self.estimators = select_rungs(rungs, RUNGS), select_estimators(estimates, ESTIMATORS)
        if self.estimators and self.arithmetic != "real":
            raise InvalidInput("estimates speak of real arithmetic: leave them out, or arithmetic float32")
        self.m = noise.dimension(network.d)
        limit = self.settings.memory_limit
        self.plain = Hyperplanes(network, None, limit)
        mapped = not noise.in_input_space
        self.mapped = Hyperplanes(network, noise.map, limit, noise.isotropic) if mapped else self.plain
        clipping = network.clipping
        self.behind = self.plain if clipping is None else Hyperplanes(clipping.network, None, limit)
        self.map_sha256 = None if noise.map is None else sha256(noise.map)
        self.known = Known()

    def at(self, size: float) -> Assessor:
        """The same with noise of another size (`Noise.size`): both find what no size changes once an input.

        An input must come to one after the other for that; the numbers are those of an Assessor by itself.

        Raises:
            InvalidInput: it is no size of noise.
        """
        other = copy.copy(self)
        other.noise = self.noise.resized(size)
        return other

    @property
    def said(self) -> dict[str, float]:
        """What lines say of the size of the noise."""
        return {"eps": self.noise.eps(self.m), "sigma": self.noise.sigma(self.m)}

    @cached_property
    def adversary(self) -> Adversary:
        """The search for misclassified points: without random starts on graphs that are no chain."""
        restarts = RESTARTS if self.plain.chain is not None else 0
        return Adversary(self.network, restarts=restarts, memory_limit=self.settings.memory_limit)

    def assess(self, x: Tensor, index: int, label: int | None = None, watch: Watch | None = None) -> Assessment:
        """Assess one input (d,), as `Network.inputs` gives it.

        Args:
            x: (d,) float64; index: its number, for reports and for the seeds of its draws; label: its true class.
            watch: called with the index and the name of what comes next.

        Raises:
            InvalidInput: the network's output at x is not finite.
            Contradiction: two results cannot both be true: a defect of calotte.
        """
        return _Work(self, x, index, label, watch).assessment()


class _Work:
    """All that is done about one input, cheapest first: each step may take half of the time that is left."""

    def __init__(self, assessor: Assessor, x: Tensor, index: int, label: int | None, watch: Watch | None) -> None:
        self.assessor, self.index, self.label, self.watch = assessor, index, label, watch
        self.known = assessor.known
        self.known.turn_to(x, index)
        self.lower: list[LowerBound] = []
        self.deadline = Deadline.after(assessor.settings.time_limit)
        self.query = Query(
            assessor.mapped,
            x[None],
            [index],
            assessor.noise,
            assessor.settings,
            deadline=self.deadline,
            event=assessor.event,
            arithmetic=assessor.arithmetic,
        )
        self.query.known.update(self.known.of_query)
        check_answer(self.query.predicted, index)

    def _next(self, step: str, share: float = 0.5) -> Query:
        """The query, for one more step and its share of the time that is left."""
        if self.watch is not None:
            self.watch(self.index, step)
        return self.query.within(self.deadline.part(share))

    def assessment(self) -> Assessment:
        """Everything, in the order of cost."""
        own, query = self.assessor, self.query
        named = {rung.name: rung for rung in own.rungs}
        bounds: dict[str, Bound] = {}
        for name in ("theorem", "cell", "sampling", "relaxation"):
            self._bound(name, named, bounds)
        distance, unit, why = self._distance(named)
        witness = self._witness() if own.settings.search else None
        self._bound("concentration", named, bounds)
        self._bound("moments", named, bounds)
        radius, certifier = self._radius(distance, bounds)
        estimates = tuple(self._estimate(estimator) for estimator in own.estimators)
        self._bound("isoperimetry", named, bounds)
        self._bound("branching", named, bounds, share=1.0)
        for bound in bounds.values():  # p = 0 is proved for all noise up to this norm, not just of it
            proved = bound.guarantee == "proved" and bound.certain
            if proved and own.noise.map is None and radius < own.noise.inner_radius:
                radius, certifier = own.noise.inner_radius, f"rung '{bound.rung}'"
        self.known.keep(query)
        ordered = tuple(bounds[rung.name] for rung in own.rungs)
        check_radius(query, 0, witness, radius, certifier)
        check_sides(query, 0, ordered, self.lower)
        check_samples(query, 0, ordered, self.lower)
        known = distance is not None and math.isfinite(distance)
        clipping = own.network.clipping
        return Assessment(
            index=self.index,
            predicted=int(query.predicted[0]),
            label=self.label,
            noise=own.noise.kind,
            eps=own.said["eps"],
            sigma=own.said["sigma"],
            input_dimension=own.network.d,
            units=query.units,
            distance=distance if known else None,
            nearest_unit=query.unit_name(unit) if known else None,
            certified_radius=None if math.isinf(radius) else radius,
            bounds=ordered,
            seed=own.settings.seed,
            model_sha256=own.network.sha256,
            adversarial_distance=None if witness is None else witness.distance,
            witness=witness,
            estimates=estimates,
            lower=tuple(self.lower),
            event=own.event.name,
            arithmetic=own.arithmetic,
            decision=own.network.decision.rule,
            clip=None if clipping is None else (clipping.low, clipping.high),
            measured_in=own.network.measured_in,
            map_sha256=own.map_sha256,
            input_sha256=sha256(query.x[0]),
            run=own.run,
            distance_skipped=why,
        )

    def _bound(self, name: str, rungs: Mapping[str, Rung], bounds: dict[str, Bound], share: float = 0.5) -> None:
        if name in rungs:
            query = self._next(f"rung {name}", share)
            (bounds[name],) = rungs[name].bound(query)
            drawn = bounds["sampling"].misclassified if "sampling" in bounds else None
            self.lower += rungs[name].lower(query, [bounds[name]], unseen=drawn == 0)

    def _estimate(self, estimator: Estimator) -> Estimate:
        return estimator.estimate(self._next(f"estimate {estimator.method}"), 0)

    def _distance(self, rungs: Mapping[str, Rung]) -> tuple[float | None, int, str | None]:
        """rho_x in input space (inf where there is no hyperplane), its unit, and why it is not known."""
        own, query = self.assessor, self.query
        asked = own.mapped is own.plain and any(name in rungs for name in ("theorem", "cell"))
        if not asked and not affordable(own.plain):
            return None, 0, DISTANCE_NOT_ASKED
        here = self._next("distances")
        if own.mapped is not own.plain:
            here = query.seen_by(own.plain, here.deadline)
        try:
            found = self.known.once("distances", lambda: here.distances)
        except OutOfTime as late:
            return None, 0, str(late)
        return found.rho.item(), int(found.unit), None

    def _radius(self, distance: float | None, bounds: Mapping[str, Bound]) -> tuple[float, str]:
        """The largest certified radius that was found, and what certifies it."""
        own, network = self.assessor, self.assessor.network
        of_cell = distance if own.arithmetic == "real" else None
        radius, certifier = of_cell or 0.0, "the distance to the cell's boundary"
        if distance is None and network.clipping is None and "relaxation" not in bounds:
            return 0.0, certifier
        behind = self.query.seen_by(own.behind, self._next("certified radius").deadline)
        start, found = torch.tensor([[distance or own.noise.eps(own.m)], [0.0]], dtype=torch.float64)
        if network.clipping is not None:
            # clipping moves nothing away from an x within the range: the unclipped radius carries over there
            x, clipping = self.query.x, network.clipping
            if not bool(((x >= clipping.low) & (x <= clipping.high)).all()):
                return radius, certifier
            with contextlib.suppress(OutOfTime):
                if of_cell is not None:
                    start = found = self.known.once("distances behind", lambda: behind.distances.rho)
        small = own.behind.chain is not None or own.behind.deep_units <= _MOST_SEARCHED
        if "relaxation" in bounds and bounds["relaxation"].skipped is None and small:
            relaxed = self.known.once(("radius", start.item()), lambda: relaxed_radius(behind, start))
            found = torch.maximum(found, relaxed)
        return (found.item(), "rung 'relaxation'") if found > radius else (radius, certifier)

    def _witness(self) -> Witness | None:
        own = self.assessor
        deadline = self._next("search for the nearest misclassified point").deadline
        x, answer = self.query.x[0], int(self.query.predicted[0])
        return self.known.once(
            "witness", lambda: own.adversary.nearest(x, answer, own.settings.seed, self.index, deadline, own.event)
        )


def assess_each(
    network: Network | Module | str | Path,
    inputs: ArrayLike | Tensor | Sequence[Tensor],
    noise: Noise,
    *,
    event: OutputEvent | str = "change",
    arithmetic: str = "real",
    labels: ArrayLike | None = None,
    index: Sequence[int] | None = None,
    rungs: Sequence[str] | None = None,
    estimates: Sequence[str] = (),
    settings: Settings | None = None,
    run: str | None = None,
    watch: Watch | None = None,
) -> Iterator[Assessment]:
    """As `assess`, one Assessment at a time, in order, as they are found. Arguments are checked at the call.

    Examples:
        >>> import torch, calotte
        >>> network = calotte.random_network((20, 30, 3), torch.Generator().manual_seed(0))
        >>> for one in calotte.assess_each(network, torch.ones(2, 20), calotte.Gaussian(0.001), rungs="cell"):
        ...     print(one.index, one.best.log_probability < -100)
        0 True
        1 True
    """
    inputs, labels = split_batch(inputs, labels)
    network = as_network(network, inputs)
    asked: dict[str, Any] = {"event": event, "arithmetic": arithmetic, "rungs": rungs, "estimates": estimates}
    assessor = Assessor(network, noise, **asked, settings=settings, run=run)
    x = network.inputs(inputs)
    numbers = check_index(index, len(x))
    truth = check_labels(labels, len(x), network.decision.classes)
    return (
        assessor.assess(x[i], number, None if truth is None else truth[i], watch) for i, number in enumerate(numbers)
    )


def assess(
    network: Network | Module | str | Path,
    inputs: ArrayLike | Tensor | Sequence[Tensor],
    noise: Noise,
    *,
    event: OutputEvent | str = "change",
    arithmetic: str = "real",
    labels: ArrayLike | None = None,
    index: Sequence[int] | None = None,
    rungs: Sequence[str] | None = None,
    estimates: Sequence[str] = (),
    settings: Settings | None = None,
) -> list[Assessment]:
    """Bound the probability of an event at every input under a noise: by default, that the answer changes.

    Args:
        network: a network; or what `calotte.load`, `from_torch` (in evaluation mode, the input shape taken from the
            inputs) or `from_sklearn` makes one of.
        inputs: (B, d) or (B, *input_shape), finite; or a DataLoader's batch, a pair of inputs and labels.
        noise: Sphere, Ball, Gaussian, Box or Truncated, optionally through a map.
        event: what p is the probability of: an Event, or "change", "class:K", "top:K" or "moves:TOL".
        arithmetic: "real", the function with real numbers, or "float32": as float32 executes it, in whatever order.
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

    Examples:
        >>> import torch, calotte
        >>> network = calotte.random_network((20, 30, 3), torch.Generator().manual_seed(0))
        >>> (one,) = calotte.assess(network, torch.ones(1, 20), calotte.Sphere(0.1), rungs=["relaxation", "sampling"])
        >>> [(bound.rung, bound.guarantee) for bound in one.bounds]
        [('relaxation', 'proved'), ('sampling', 'confidence')]
    """
    options: dict[str, Any] = {"labels": labels, "index": index, "rungs": rungs, "estimates": estimates}
    options |= {"event": event, "arithmetic": arithmetic, "settings": settings}
    return Results(assess_each(network, inputs, noise, **options))
