"""The inverse question on a network: the largest noise under which a proved rung keeps p below delta."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import Module

from calotte.arguments import check_answer, check_index, check_kinds, check_labels
from calotte.assess import DISTANCE_NOT_ASKED, Watch, affordable, select_rungs, sha256
from calotte.bound import ProvedRung
from calotte.cells.distances import Distances
from calotte.cells.hyperplanes import Hyperplanes
from calotte.deadline import Deadline, OutOfTime
from calotte.errors import InvalidInput
from calotte.ladder import PROVED_RUNGS
from calotte.lines import Line, entries
from calotte.models.opened import as_network, split_batch
from calotte.network.arithmetic import check_arithmetic
from calotte.network.event import OutputEvent, as_event
from calotte.network.graph import Network
from calotte.noise import Noise
from calotte.notebook import html_table
from calotte.printing import lower_text
from calotte.query import Query
from calotte.result import Result, Results
from calotte.rounding import down
from calotte.searches.sizes import STEEPNESS, bisected, closed_in
from calotte.settings import Settings, check_delta
from calotte.theorems import log_target

__all__ = ["Plan", "Planner", "largest_noise", "plan", "plan_each"]

_STEPS = {True: 50, False: 10}  # of bisection of log eps, for rungs that are monotone in eps and others
_MOST_BACK, _BACK = 12, 0.002  # steps back where `assess`, not told what to aim at, proves less; the first of them
_SEARCHING = 0.8  # of the time that is left: the rest is for proving again what the search has found
_SHOWN = 30  # rows in a notebook


@dataclass(frozen=True, kw_only=True)
class Plan(Result):
    """The largest noise that each proved rung allows for one input; what it is about is said by `Result`.

    Attributes:
        delta: the misclassification probability allowed.
        largest_eps: rung -> the largest eps (norm of the noise; sigma sqrt(m) for the Gaussian) found with
            p <= delta proved, rounded down; 0 where there is none, None where no eps changes the answer.
        largest_sigma: the same as standard deviations per coordinate.
        scope: rung -> "all" where p <= delta is proved for every smaller eps too.
        skipped: rung -> why it says nothing; such rungs are in none of the others.
        cut_short: rung -> why the search for a larger eps ended early.
        distance_skipped: why `distance` is not known, where no rung needed it or the time was too short.
    """

    delta: float
    largest_eps: dict[str, float | None]
    largest_sigma: dict[str, float | None]
    scope: dict[str, str]
    skipped: dict[str, str] = field(default_factory=dict)
    cut_short: dict[str, str] = field(default_factory=dict)
    distance_skipped: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The public JSON form."""
        found = {
            **({} if self.distance_skipped is None else {"distance_skipped": self.distance_skipped}),
            "largest_eps": self.largest_eps,
            "largest_sigma": self.largest_sigma,
            "scope": self.scope,
            **({"skipped": self.skipped} if self.skipped else {}),
            **({"cut_short": self.cut_short} if self.cut_short else {}),
        }
        return self.line({"delta": self.delta}, found)

    @classmethod
    def html(cls, results: Sequence[Self]) -> str:
        """Those that bear the least noise as a table for a notebook: sizes rounded down."""
        first = results[0]
        what = "sigma" if first.noise == "gaussian" else "eps"

        def largest(one: Self) -> dict[str, float | None]:
            return one.largest_sigma if what == "sigma" else one.largest_eps

        def most(one: Self) -> float:
            return max((math.inf if size is None else size for size in largest(one).values()), default=0.0)

        shown = sorted(results, key=most)[:_SHOWN]
        rungs = list(dict.fromkeys(rung for one in shown for rung in (*largest(one), *one.skipped)))
        rows = []
        for one in shown:
            sizes = [lower_text(largest(one)[rung]) if rung in largest(one) else "-" for rung in rungs]
            rows.append([str(one.index), str(one.predicted), *sizes])
        return html_table(
            f"The largest {what} of {first.noise} noise with p ≤ {first.delta!r} proved{first.said}",
            ["input", "answer", *rungs],
            rows,
            f"{len(shown)} of {len(results)}, least first; rounded down; -: skipped",
        )

    @classmethod
    def from_dict(cls, line: Line) -> Self:
        """What `to_dict` wrote.

        Raises:
            InvalidInput: it is no such line.
        """
        return cls(**entries(cls, line))


def plan_each(
    network: Network | Module | str | Path,
    inputs: ArrayLike | Tensor | Sequence[Tensor],
    noise: Noise,
    delta: float,
    *,
    event: OutputEvent | str = "change",
    arithmetic: str = "real",
    labels: ArrayLike | None = None,
    index: Sequence[int] | None = None,
    rungs: Sequence[str] | None = None,
    settings: Settings | None = None,
    run: str | None = None,
    watch: Watch | None = None,
) -> Iterator[Plan]:
    """As `plan`, one Plan at a time, in order. Arguments are checked at the call."""
    inputs, labels = split_batch(inputs, labels)
    network = as_network(network, inputs)
    about: dict[str, Any] = {"event": event, "arithmetic": arithmetic, "rungs": rungs, "settings": settings}
    planner = Planner(network, noise, delta, **about, run=run)
    x = network.inputs(inputs)
    numbers = check_index(index, len(x))
    truth = check_labels(labels, len(x), network.decision.classes)
    return (
        planner.plan(x[i], number, None if truth is None else truth[i], watch) for i, number in enumerate(numbers)
    )


@dataclass(frozen=True)
class Reported:
    """The size of a noise, its eps and its sigma; None for no limit."""

    size: float
    eps: float | None
    sigma: float | None


class Planner:
    """A network, a noise, a probability, rungs and effort: what turns one input into a Plan.

    Args:
        network, noise, delta, event, arithmetic, rungs, settings: as for `plan`.
        run: of the lines, sha256 of what describes the whole run.

    Raises:
        InvalidInput: anything that does not make sense.
    """

    def __init__(
        self,
        network: Network,
        noise: Noise,
        delta: float,
        *,
        event: OutputEvent | str = "change",
        arithmetic: str = "real",
        rungs: Sequence[str] | None = None,
        settings: Settings | None = None,
        run: str | None = None,
    ) -> None:
        check_kinds(network, noise, settings := settings or Settings())
        self.network, self.noise, self.delta = network, noise, check_delta(delta)
        self.event, self.rungs = as_event(event, network), select_rungs(rungs, PROVED_RUNGS)
        self.settings, self.run, self.arithmetic = settings, run, check_arithmetic(arithmetic, network)
        self.m = noise.dimension(network.d)
        self.mapped = Hyperplanes(network, noise.map, settings.memory_limit, noise.isotropic)
        self.plain = self.mapped if noise.in_input_space else Hyperplanes(network, None, settings.memory_limit)

    def plan(self, x: Tensor, index: int, label: int | None = None, watch: Watch | None = None) -> Plan:
        """The Plan of one input (d,): each rung may take half of the time that is left, the last one all."""
        network, noise = self.network, self.noise
        deadline = Deadline.after(self.settings.time_limit)
        kind = self.settings, -math.inf, deadline, self.event, self.arithmetic
        query = Query(self.mapped, x[None], [index], noise, *kind)
        check_answer(query.predicted, index)
        found: dict[str, Reported] = {}
        skipped, cut_short = dict[str, str](), dict[str, str]()
        for rung in self.rungs:
            if watch is not None:
                watch(index, f"rung {rung.name}")
            part = deadline.part(1.0 if rung is self.rungs[-1] else 0.5)
            reason = rung.refuses(query)
            if reason is None:
                try:
                    reached = max((one.size for one in found.values()), default=0.0)
                    found[rung.name], cut = self._largest(rung, query.within(part), reached)
                    if cut:
                        cut_short[rung.name] = f"time limit of {deadline.limit:g} s reached"
                except OutOfTime as late:
                    reason = str(late)
            if reason is not None:
                skipped[rung.name] = reason
        clipping, (distance, why) = network.clipping, self._distance(query, deadline)
        lower = query.known.get("distances") if self.arithmetic == "real" else None
        certain = isinstance(lower, Distances) and bool((lower.lower >= 0).all())
        return Plan(
            index=index,
            predicted=int(query.predicted[0]),
            label=label,
            noise=noise.kind,
            delta=self.delta,
            input_dimension=network.d,
            units=query.units,
            distance=distance,
            largest_eps={name: one.eps for name, one in found.items()},
            largest_sigma={name: one.sigma for name, one in found.items()},
            # tails fall with the size of the noise where the signs at x are certain
            scope={rung.name: "all" for rung in self.rungs if rung.monotone and rung.name in found and certain},
            model_sha256=network.sha256,
            skipped=skipped,
            cut_short=cut_short,
            event=self.event.name,
            arithmetic=self.arithmetic,
            decision=network.decision.rule,
            clip=None if clipping is None else (clipping.low, clipping.high),
            measured_in=network.measured_in,
            map_sha256=None if noise.map is None else sha256(noise.map),
            input_sha256=sha256(x),
            run=self.run,
            distance_skipped=why,
        )

    def _distance(self, query: Query, deadline: Deadline) -> tuple[float | None, str | None]:
        """rho_x in input space, None where there is no hyperplane; or why it is not known."""
        if "distances" not in query.known:
            return None, DISTANCE_NOT_ASKED
        if self.plain is not self.mapped:
            query = query.seen_by(self.plain, deadline)
        try:
            rho = query.distances.rho.item()
        except OutOfTime as late:
            return None, str(late)
        return (None if math.isinf(rho) else rho), None

    def _largest(self, rung: ProvedRung, query: Query, start: float) -> tuple[Reported, bool]:
        """The largest size found at which the rung proves p <= delta, as `assess` will at the numbers reported.

        And whether the time ended the search for a larger one.
        """
        target = log_target(self.delta)
        searched = query.aimed(target, target).within(query.deadline.part(_SEARCHING))
        size = _largest_size(rung, searched, start, affordable(query.hyperplanes))
        cut = searched.deadline.passed
        if math.isinf(size):
            return Reported(size, None, None), False
        plainly = query.aimed(-math.inf, target)
        for i in range(_MOST_BACK):
            if size == 0.0:
                break
            found = self._reported(size)
            above = rung.log_bound(plainly, torch.tensor([found.size], dtype=torch.float64)).item() - target
            if above <= 0:
                return found, cut
            size *= math.exp(-max(_BACK * 2.0**i, min(above / STEEPNESS, 1.0)))
        return Reported(0.0, 0.0, 0.0), cut

    def _reported(self, size: float) -> Reported:
        """A size as eps and sigma, rounded down, and the size that `make_noise` makes of that eps."""
        root = math.sqrt(self.m)
        if self.noise.kind not in ("gaussian", "truncated"):
            return Reported(size, size, down(down(self.noise.resized(size).sigma(self.m))))
        eps = down(down(size * root))
        return Reported(eps / root, eps, eps / root)


def plan(
    network: Network | Module | str | Path,
    inputs: ArrayLike | Tensor | Sequence[Tensor],
    noise: Noise,
    delta: float,
    *,
    event: OutputEvent | str = "change",
    arithmetic: str = "real",
    labels: ArrayLike | None = None,
    index: Sequence[int] | None = None,
    rungs: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> list[Plan]:
    """Find, for every input, the largest noise under which each proved rung keeps p <= delta.

    Args:
        network, inputs, event, arithmetic, labels, index, settings: as for `assess`.
        noise: its kind and map; its size is ignored.
        delta: probability of the event allowed, 0 < delta < 1.
        rungs: names of proved rungs; None for all.

    Returns:
        One Plan for each input, in order.

    Raises:
        InvalidInput: anything that does not make sense, before anything is computed.

    Examples:
        >>> import torch, calotte
        >>> network = calotte.random_network((20, 30, 3), torch.Generator().manual_seed(0))
        >>> (one,) = calotte.plan(network, torch.ones(1, 20), calotte.Sphere(1.0), 1e-6, rungs=["theorem", "cell"])
        >>> 0 < one.largest_eps["theorem"] <= one.largest_eps["cell"]
        True
    """
    options: dict[str, Any] = {"event": event, "arithmetic": arithmetic, "labels": labels, "index": index}
    return Results(plan_each(network, inputs, noise, delta, **options, rungs=rungs, settings=settings))


def largest_noise(
    network: Network | Module | str | Path,
    x: ArrayLike | Tensor,
    noise: Noise,
    delta: float,
    *,
    event: OutputEvent | str = "change",
    arithmetic: str = "real",
    rungs: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> float:
    """The largest size of noise, as `noise.size` is meant, under which one of the rungs proves p <= delta.

    `assess` with these rungs and `noise.resized(size)` proves it too; nothing is claimed for smaller noise.

    Args:
        network, noise, delta, event, arithmetic, settings: as for `plan`.
        x: one input, or a batch of one; rungs: name or names of proved rungs; None for all.

    Returns:
        eps, or sigma for a Gaussian, rounded down; 0.0 where none was found, inf where none makes the event happen.

    Raises:
        InvalidInput: anything that does not make sense; no rung says anything.

    Examples:
        >>> import torch, calotte
        >>> network = calotte.random_network((20, 30, 3), torch.Generator().manual_seed(0))
        >>> eps = calotte.largest_noise(network, torch.ones(20), calotte.Sphere(1.0), 1e-6, rungs="concentration")
        >>> (one,) = calotte.assess(network, torch.ones(1, 20), calotte.Sphere(eps), rungs="concentration")
        >>> one.best.probability <= 1e-6
        True
    """
    network = as_network(network, x)
    row = network.inputs(x)
    if len(row) != 1:
        raise InvalidInput(f"x: expected one input, came {len(row)}: plan takes more than one")
    (one,) = plan(network, row, noise, delta, event=event, arithmetic=arithmetic, rungs=rungs, settings=settings)
    sizes = one.largest_sigma if noise.kind in ("gaussian", "truncated") else one.largest_eps
    if not sizes:
        raise InvalidInput("; ".join(f"rung '{name}' says nothing: {why}" for name, why in one.skipped.items()))
    return max(math.inf if size is None else size for size in sizes.values())


def _largest_size(rung: ProvedRung, query: Query, start: float, measured: bool) -> float:
    """Largest eps or sigma found at which a rung proves p <= delta: bisection on its logarithm, the safe end.

    The search begins at `start`, what cheaper rungs have reached, or at rho_x, where sphere and ball have p = 0; 0
    where nothing is proved there, inf where noise of no size crosses a hyperplane. Where the time is up, what was
    reached. `measured`: whether the distances are to be had though the rung does not need them.

    Raises:
        OutOfTime: before anything was found.
    """
    rho = math.nan
    if rung.monotone or measured:
        with contextlib.nullcontext() if rung.monotone else contextlib.suppress(OutOfTime):
            rho = query.distances.rho.item()
    if rho == math.inf and query.arithmetic == "real":
        return rho

    def excess(size: float) -> float:
        query.deadline.check("before any noise was proved to be small enough")
        return rung.log_bound(query, torch.tensor([size], dtype=torch.float64)).item() - query.target

    first = start if start > 0 else rho if 0 < rho < math.inf else 1.0
    size, steps = 0.0, _STEPS[rung.monotone]
    found = closed_in(excess, first, steps, rung.farther and start > 0) if rung.one_by_one else None
    try:
        for size in found or bisected(excess, first, steps):  # noqa: B007
            pass
    except OutOfTime:
        if size == 0.0:
            raise
    return size
