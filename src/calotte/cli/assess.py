"""`calotte assess`: bounds on the probability that noise changes each answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calotte.cli.options import (
    LIMITS,
    OUTPUT,
    Arithmetic_,
    ArithmeticName,
    Clip,
    Cut,
    Decision_,
    DeviceName,
    Eps,
    Event_,
    Index,
    InputFile,
    Json,
    Layout_,
    Map,
    Mean,
    MemoryLimit,
    Model,
    Noise_,
    NoiseName,
    Output,
    Sigma,
    Std,
    TimeLimit,
    Wide,
)
from calotte.errors import InvalidInput, NotMet

if TYPE_CHECKING:
    from calotte.assessment import Assessment
    from calotte.campaign.stored import Stored
    from calotte.cli.running import Doing
    from calotte.inputs import Inputs

__all__ = ["ASKED", "ESTIMATES", "assess"]

BOUNDS = "Bounds and samples"
ASKED = "theorem, cell, relaxation, concentration, moments, branching, isoperimetry, sampling"
ESTIMATES = "splitting, importance, alore"


def assess(
    context: typer.Context,
    model: Model,
    inputs: InputFile,
    eps: Eps = None,
    sigma: Sigma = None,
    noise: Noise_ = NoiseName.sphere,
    cut: Cut = None,
    map: Map = None,
    clip: Clip = None,
    mean: Mean = None,
    std: Std = None,
    event: Event_ = "change",
    arithmetic: Arithmetic_ = ArithmeticName.real,
    index: Index = None,
    layout: Layout_ = None,
    decision: Decision_ = None,
    output: Output = None,
    rungs: Annotated[
        str,
        typer.Option(
            help=f"Rungs of the ladder: {ASKED}, all, or default (not isoperimetry).", rich_help_panel=BOUNDS
        ),
    ] = "default",
    samples: Annotated[
        int, typer.Option(help="Monte Carlo samples for each input.", rich_help_panel=BOUNDS)
    ] = 10_000,
    confidence: Annotated[
        float, typer.Option(help="Level of sampled bounds, for each input separately.", rich_help_panel=BOUNDS)
    ] = 0.999,
    simultaneous: Annotated[
        bool,
        typer.Option(
            "--simultaneous",
            help="That level for the sampled bounds of all inputs and sizes at once (Bonferroni).",
            rich_help_panel=BOUNDS,
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of all samples.", rich_help_panel=BOUNDS)] = 0,
    delta: Annotated[
        float | None,
        typer.Option(
            help="Stop sampling once it can say whether p <= delta; --samples is then the most it draws.",
            rich_help_panel=BOUNDS,
            show_default=False,
        ),
    ] = None,
    require: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Exit with status 3 where this does not hold at each size: 'p<=1e-6 for 95%' of the inputs, proved; "
            "with 'sampled' behind it a sampled bound will do.",
            rich_help_panel=BOUNDS,
            show_default=False,
        ),
    ] = None,
    estimates: Annotated[
        str,
        typer.Option(help=f"Rare-event estimates, no bounds: {ESTIMATES}, all or none.", rich_help_panel=BOUNDS),
    ] = "none",
    search: Annotated[
        bool, typer.Option(help="Search for the nearest misclassified point.", rich_help_panel=BOUNDS)
    ] = True,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = 2.0,
    device: Annotated[
        DeviceName, typer.Option("--device", help="Where sampling computes.", rich_help_panel=LIMITS)
    ] = DeviceName.cpu,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes, one thread each. Default: this one.", rich_help_panel=LIMITS, show_default=False
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Ray cluster that does the work: auto, HOST:PORT, or local for one on this machine.",
            rich_help_panel=LIMITS,
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    wide: Wide = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the campaign: assessments.jsonl, run.json, witnesses.npz, pictures. The same command "
            "goes on there.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Bound the probability that noise changes each answer; inputs ranked by risk.

    --eps or --sigma is required, unless the inputs hold eps or sigma, one for each."""
    if eps is not None and sigma is not None:
        raise InvalidInput("give the size of the noise as either --eps or --sigma")
    if workers is not None and ray is not None:
        raise InvalidInput("give either --workers, processes of this machine, or --ray, a cluster")
    if workers is not None and workers < 1:
        raise InvalidInput(f"--workers must be at least 1, came {workers}")

    from functools import partial

    from calotte.assess import RUNGS, Assessor, select_rungs
    from calotte.assessment import Assessment
    from calotte.campaign.cluster import on_ray
    from calotte.campaign.keys import Keys
    from calotte.campaign.outcome import Job
    from calotte.campaign.stored import Stored
    from calotte.campaign.workers import here, in_processes
    from calotte.cli.opening import event_file, make_settings, notices, open_both, open_event, open_noise, split_names
    from calotte.cli.running import finish, open_store, run_through, tasks_of
    from calotte.ladder import PROVED_RUNGS
    from calotte.report.tables import assessment_table
    from calotte.report.words import remarks, summary
    from calotte.requirement import Requirement
    from calotte.sampling.sequential import least_samples
    from calotte.terminal import output as console_for
    from calotte.terminal import print_table, say, stderr

    required = None if require is None else Requirement.of(require)
    settings = make_settings(samples, confidence, seed, time_limit, memory_limit)
    settings = replace(settings, delta=delta, search=search, device=device.value)
    network, data = open_both(model, inputs, decision, output, layout, index, clip, mean, std)
    sizes, places = sizes_of(data, eps, sigma)
    keys = Keys(data.index, places)
    sampled = [rung for rung in select_rungs(split_names(rungs), RUNGS) if rung.name not in PROVED_RUNGS]
    statements = len(keys) * len(sampled)
    if simultaneous:
        settings = settings.simultaneous(statements)
    box = event_file(event)
    noises = [open_noise(noise.value, network, *size, map=map, cut=cut, box=box) for size in sizes]
    # whatever is wrong is found here, before anything is written or printed
    assessor = Assessor(
        network,
        noises[0],
        event=open_event(event),
        arithmetic=arithmetic.value,
        rungs=split_names(rungs),
        estimates=split_names(estimates),
        settings=settings,
    )
    assessors = [assessor.at(one.size) for one in noises]
    tasks = tasks_of(data, network, keys)
    do: Doing = here
    if workers is not None:
        do = partial(in_processes, count=workers)
    elif ray is not None:
        do = partial(on_ray, address=ray)
    with open_store(context, network, keys, threads=None if do is here else 1) as store:
        notices(network, data, noises[0])
        if simultaneous and statements:
            each = f"each at {settings.confidence:.12g}"
            say(stderr, f"notice: all {statements} sampled bounds hold at once at confidence {confidence:g}, {each}")
        if delta is not None and samples < least_samples(delta, settings.confidence):
            least = least_samples(delta, settings.confidence)
            when = ", whatever --samples" if math.isinf(least) else f" before {least} samples: raise --samples"
            say(stderr, f"notice: no 'yes' to p <= {delta!r}{when}")
        job = Job([one.assess for one in assessors], store.run, [one.said for one in assessors])
        run_through(job, tasks, keys, store, "assessments.jsonl", as_json, do)
        apart = [keys] if data.sizes is not None else [keys.at(size) for size in range(len(noises))]
        every = [Stored(store, Assessment, some) for some in apart]
        found = [group for group in every if group]
        console = console_for(as_json)
        for k, group in enumerate(found):
            if k:
                say(console, "")
            print_table(console, partial(assessment_table, group), wide)
            for line in (summary(group), *remarks(group)):
                say(console, line)
        if out is not None:
            written = write_pictures(found, data, out)
            say(console, f"wrote {out / 'assessments.jsonl'}, {', '.join(written[:-1])} and {written[-1]}")
        verdicts = []
        if required is not None:
            at = [f" at eps {one.said['eps']:.4g}" if len(apart) > 1 else "" for one in assessors]
            verdicts = [required.verdict(group, len(data.index), at[k]) for k, group in enumerate(every)]
        for holds, verdict in verdicts:
            if holds:
                say(console, verdict)
        finish(store, keys)
        unmet = [verdict for holds, verdict in verdicts if not holds]
        if unmet:
            raise NotMet("; ".join(unmet))


def sizes_of(
    data: Inputs, eps: Sequence[float] | None, sigma: Sequence[float] | None
) -> tuple[list[tuple[float | None, float | None]], list[tuple[int, ...]]]:
    """The sizes of the noise as (eps, sigma), (None, None) where none is said, and the places of each input's.

    Raises:
        InvalidInput: sizes by options and in the inputs.
    """
    if data.sizes is None:
        sizes: list[tuple[float | None, float | None]] = [(size, None) for size in eps or ()]
        sizes += [(None, size) for size in sigma or ()]
        sizes = sizes or [(None, None)]
        return sizes, [tuple(range(len(sizes)))] * len(data.index)
    name, values = data.sizes
    if eps is not None or sigma is not None:
        option = "--eps" if sigma is None else "--sigma"
        raise InvalidInput(f"the inputs hold the size of each one's noise ('{name}'): leave out {option}, or that")
    order = {size: place for place, size in enumerate(dict.fromkeys(values.tolist()))}
    sizes = [(size, None) if name == "eps" else (None, size) for size in order]
    return sizes, [(order[size],) for size in values.tolist()]


def write_pictures(found: list[Stored[Assessment]], data: Inputs, folder: Path) -> list[str]:
    """The pictures of the folder, each whole or not at all; the names of what is there beside the lines.

    Args:
        found: results of each size of the noise: the largest is shown by itself, all in a picture of their own.
    """
    from calotte.report.pictures import risk_picture, riskiest_picture, sizes_picture

    there = ["campaign.sqlite", "run.json", "witnesses.npz"]
    if not found:
        return there
    largest = max(found, key=lambda group: next(iter(group)).eps)
    risk_picture(largest, folder / "risk.png")
    there.append("risk.png")
    if riskiest_picture(largest, data, folder / "riskiest.png"):
        there.append("riskiest.png")
    if len(found) > 1:
        sizes_picture(chain.from_iterable(found), folder / "sizes.png")
        there.append("sizes.png")
    return there
