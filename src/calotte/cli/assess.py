"""`calotte assess`: bounds on the probability that noise changes each answer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calotte.cli.options import (
    LIMITS,
    OUTPUT,
    Clip,
    Decision_,
    DeviceName,
    Eps,
    Event_,
    Index,
    InputFile,
    Json,
    Layout_,
    Map,
    MemoryLimit,
    Model,
    Noise_,
    NoiseName,
    Output,
    Sigma,
    TimeLimit,
    Wide,
)
from calotte.errors import InvalidInput

if TYPE_CHECKING:
    from calotte.assessment import Assessment
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
    map: Map = None,
    clip: Clip = None,
    event: Event_ = "change",
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
    seed: Annotated[int, typer.Option(help="Seed of all samples.", rich_help_panel=BOUNDS)] = 0,
    delta: Annotated[
        float | None,
        typer.Option(
            help="Stop sampling once it can say whether p <= delta; --samples is then the most it draws.",
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
    """Bound the probability that noise changes each answer; inputs ranked by risk. --eps or --sigma is required."""
    if (eps is None) == (sigma is None):
        raise InvalidInput("give the size of the noise as either --eps or --sigma")

    if workers is not None and ray is not None:
        raise InvalidInput("give either --workers, processes of this machine, or --ray, a cluster")
    if workers is not None and workers < 1:
        raise InvalidInput(f"--workers must be at least 1, came {workers}")

    from functools import partial

    from calotte.assess import Assessor
    from calotte.assessment import Assessment
    from calotte.campaign.cluster import on_ray
    from calotte.campaign.outcome import Job
    from calotte.campaign.workers import here, in_processes
    from calotte.cli.opening import make_settings, notices, open_both, open_event, open_noise, split_names
    from calotte.cli.running import finish, open_store, results, run_through, tasks_of
    from calotte.report.tables import assessment_table
    from calotte.report.words import remarks, summary
    from calotte.sampling.sequential import least_samples
    from calotte.terminal import output as console_for
    from calotte.terminal import print_table, say, stderr

    settings = make_settings(samples, confidence, seed, time_limit, memory_limit)
    settings = replace(settings, delta=delta, search=search, device=device.value)
    network, data = open_both(model, inputs, decision, output, layout, index, clip)
    the_noise = open_noise(noise.value, network, eps, sigma, map)
    # whatever is wrong is found here, before anything is written or printed
    assessor = Assessor(
        network,
        the_noise,
        event=open_event(event),
        rungs=split_names(rungs),
        estimates=split_names(estimates),
        settings=settings,
    )
    tasks = tasks_of(data, network)
    do: Doing = here
    if workers is not None:
        do = partial(in_processes, count=workers)
    elif ray is not None:
        do = partial(on_ray, address=ray)
    with open_store(context, network, threads=None if do is here else 1) as store:
        notices(network, data)
        if delta is not None and samples < least_samples(delta, confidence):
            least = least_samples(delta, confidence)
            when = ", whatever --samples" if math.isinf(least) else f" before {least} samples: raise --samples"
            say(stderr, f"notice: no 'yes' to p <= {delta!r}{when}")
        run_through(Job(assessor.assess, store.run), tasks, data.index, store, "assessments.jsonl", as_json, do)
        found = [Assessment.from_dict(line) for line in results(store, data.index)]
        console = console_for(as_json)
        if found:
            print_table(console, lambda width: assessment_table(found, width), wide)
            for line in (summary(found), *remarks(found)):
                say(console, line)
        if out is not None:
            written = write_pictures(found, data, out)
            say(console, f"wrote {out / 'assessments.jsonl'}, {', '.join(written[:-1])} and {written[-1]}")
        finish(store, data.index)


def write_pictures(found: list[Assessment], data: Inputs, folder: Path) -> list[str]:
    """The pictures of the folder, each whole or not at all; the names of what is there beside the lines."""
    from calotte.report.pictures import risk_picture, riskiest_picture

    there = ["campaign.sqlite", "run.json", "witnesses.npz"]
    if not found:
        return there
    risk_picture(found, folder / "risk.png")
    shown = riskiest_picture(found, data.x, folder / "riskiest.png")
    return [*there, "risk.png", *(["riskiest.png"] if shown else [])]
