"""`calotte plan`: the largest noise that keeps the probability of another answer below delta."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calotte.cli.options import (
    NOISE,
    OUTPUT,
    Clip,
    Decision_,
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
    TimeLimit,
    Wide,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calotte.inputs import Inputs
    from calotte.plan import Plan
    from calotte.terminal import Watch

__all__ = ["plan"]


def plan(
    context: typer.Context,
    model: Model,
    inputs: InputFile,
    delta: Annotated[
        float, typer.Option(help="Misclassification probability allowed.", rich_help_panel=NOISE, show_default=False)
    ],
    noise: Noise_ = NoiseName.sphere,
    map: Map = None,
    clip: Clip = None,
    event: Event_ = "change",
    index: Index = None,
    layout: Layout_ = None,
    decision: Decision_ = None,
    output: Output = None,
    rungs: Annotated[str, typer.Option(help="Proved rungs of the ladder, or all.", rich_help_panel=NOISE)] = "all",
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = 2.0,
    as_json: Json = False,
    wide: Wide = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for plans.jsonl and run.json. The same command goes on there where it stopped.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Find the largest noise under which each proved rung keeps the misclassification probability below --delta."""
    from calotte.cli.opening import make_settings, notices, open_both, open_event, open_noise, split_names
    from calotte.cli.running import open_folder, run_through
    from calotte.plan import plan_each
    from calotte.report.reading import read_plan
    from calotte.report.tables import plan_table
    from calotte.report.words import plan_remarks
    from calotte.terminal import output as console_for
    from calotte.terminal import print_table, say

    settings = make_settings(1, 0.5, 0, time_limit, memory_limit)
    network, data = open_both(model, inputs, decision, output, layout, index, clip)
    the_noise, the_event = open_noise(noise.value, network, 1.0, None, map), open_event(event)

    def start(part: Inputs, watch: Watch | None = None) -> Iterator[Plan]:
        return plan_each(
            network,
            part.x,
            the_noise,
            delta,
            event=the_event,
            labels=part.labels,
            index=part.index,
            rungs=split_names(rungs),
            settings=settings,
            watch=watch,
        )

    start(data)  # whatever is wrong is found here, before anything is written or printed
    folder = open_folder(context, network, "plans.jsonl")
    notices(network, data)
    found = run_through(
        start, data, folder, as_json, read_plan, lambda one: replace(one, run=folder.run) if folder else one
    )
    console = console_for(as_json)
    print_table(console, lambda width: plan_table(found, width=width), wide)
    for line in plan_remarks(found):
        say(console, line)
    if folder is not None:
        say(console, f"wrote {folder.path} and run.json")
