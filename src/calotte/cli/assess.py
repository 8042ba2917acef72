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
from calotte.errors import Contradiction, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calotte.assessment import Assessment
    from calotte.inputs import Inputs
    from calotte.report.folder import RunFolder
    from calotte.terminal import Watch

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
    as_json: Json = False,
    wide: Wide = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for assessments.jsonl, run.json, witnesses.npz and pictures. The same command goes on there "
            "where it stopped.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Bound the probability that noise changes each answer; inputs ranked by risk. --eps or --sigma is required."""
    if (eps is None) == (sigma is None):
        raise InvalidInput("give the size of the noise as either --eps or --sigma")

    from calotte.assess import assess_each
    from calotte.cli.opening import make_settings, notices, open_both, open_noise, split_names
    from calotte.cli.running import open_folder, run_through
    from calotte.report.files import save_evidence
    from calotte.report.reading import read_assessment
    from calotte.report.tables import assessment_table
    from calotte.report.witnesses import load_witnesses, save_witness
    from calotte.report.words import remarks, summary
    from calotte.sampling.sequential import least_samples
    from calotte.terminal import output as console_for
    from calotte.terminal import print_table, say, stderr

    settings = make_settings(samples, confidence, seed, time_limit, memory_limit)
    settings = replace(settings, delta=delta, search=search, device=device.value)
    network, data = open_both(model, inputs, decision, output, layout, index, clip)
    the_noise = open_noise(noise.value, network, eps, sigma, map)

    def start(part: Inputs, watch: Watch | None = None) -> Iterator[Assessment]:
        return assess_each(
            network,
            part.x,
            the_noise,
            labels=part.labels,
            index=part.index,
            rungs=split_names(rungs),
            estimates=split_names(estimates),
            settings=settings,
            watch=watch,
        )

    start(data)  # whatever is wrong is found here, before anything is written or printed
    folder = open_folder(context, network, "assessments.jsonl")
    notices(network, data)
    if delta is not None and samples < least_samples(delta, confidence):
        least = least_samples(delta, confidence)
        when = ", whatever --samples" if math.isinf(least) else f" before {least} samples: raise --samples"
        say(stderr, f"notice: no 'yes' to p <= {delta!r}{when}")
    witnesses = load_witnesses(folder.folder) if folder else {}

    def keep(one: Assessment) -> Assessment:
        if folder is None:
            return one
        save_witness(one, folder.folder)
        return replace(one, run=folder.run)

    try:
        found = run_through(
            start, data, folder, as_json, lambda line: read_assessment(line, witnesses.get(line["index"])), keep
        )
    except Contradiction as error:
        raise Contradiction(
            f"{error}; please report it with {save_evidence(error, out)}", error.index, error.evidence
        ) from None

    console = console_for(as_json)
    print_table(console, lambda width: assessment_table(found, width), wide)
    for line in (summary(found), *remarks(found)):
        say(console, line)
    if folder is not None:
        written = write_pictures(found, data, folder)
        say(console, f"wrote {', '.join(written[:-1])} and {written[-1]}")


def write_pictures(found: list[Assessment], data: Inputs, folder: RunFolder) -> list[str]:
    """All files of the folder but its lines, each whole or not at all; the names of what is there."""
    from calotte.report.pictures import risk_picture, riskiest_picture
    from calotte.report.witnesses import save_witnesses

    save_witnesses(found, folder.folder)
    risk_picture(found, folder.folder / "risk.png")
    shown = riskiest_picture(found, data.x, folder.folder / "riskiest.png")
    return [str(folder.path), "run.json", "witnesses.npz", "risk.png", *(["riskiest.png"] if shown else [])]
