"""`calotte plan`: the largest noise that keeps the probability of another answer below delta."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calotte.cli.options import (
    NOISE,
    OUTPUT,
    Arithmetic_,
    ArithmeticName,
    Clip,
    Cut,
    Decision_,
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
    Std,
    TimeLimit,
    Wide,
)
from calotte.errors import InvalidInput

__all__ = ["plan"]


def plan(
    context: typer.Context,
    model: Model,
    inputs: InputFile,
    delta: Annotated[
        float, typer.Option(help="Misclassification probability allowed.", rich_help_panel=NOISE, show_default=False)
    ],
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
    rungs: Annotated[str, typer.Option(help="Proved rungs of the ladder, or all.", rich_help_panel=NOISE)] = "all",
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = 2.0,
    as_json: Json = False,
    wide: Wide = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the campaign: plans.jsonl, run.json. The same command goes on there.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Find the largest noise under which each proved rung keeps the misclassification probability below --delta."""
    from calotte.campaign.keys import Keys
    from calotte.campaign.outcome import Job
    from calotte.campaign.stored import Stored
    from calotte.campaign.workers import here
    from calotte.cli.opening import make_settings, notices, open_both, open_event, open_noise, split_names
    from calotte.cli.running import finish, open_store, run_through, tasks_of
    from calotte.plan import Plan, Planner
    from calotte.report.tables import plan_table
    from calotte.report.words import plan_remarks
    from calotte.terminal import output as console_for
    from calotte.terminal import print_table, say

    settings = make_settings(1, 0.5, 0, time_limit, memory_limit)
    network, data = open_both(model, inputs, decision, output, layout, index, clip, mean, std)
    if data.sizes is not None:
        raise InvalidInput(
            f"{inputs}: plan finds the largest size of the noise by itself: leave out {data.sizes[0]}, or ask assess"
        )
    the_noise = open_noise(noise.value, network, 1.0, None, map, cut)
    # whatever is wrong is found here, before anything is written or printed
    the_event = open_event(event)
    planner = Planner(
        network,
        the_noise,
        delta,
        event=the_event,
        arithmetic=arithmetic.value,
        rungs=split_names(rungs),
        settings=settings,
    )
    keys = Keys(data.index)
    tasks = tasks_of(data, network, keys)
    with open_store(context, network, keys) as store:
        notices(network, data, the_noise)
        run_through(Job([planner.plan], store.run), tasks, keys, store, "plans.jsonl", as_json, here)
        found = Stored(store, Plan, keys)
        console = console_for(as_json)
        if found:
            print_table(console, lambda width: plan_table(found, width=width), wide)
        for line in plan_remarks(found):
            say(console, line)
        if out is not None:
            say(console, f"wrote {out / 'plans.jsonl'}, campaign.sqlite and run.json")
        finish(store, keys)
