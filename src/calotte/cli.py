"""The command line: parse, call, print; no mathematics.

With --json standard output holds one object for each input and line; tables, progress and notices go to standard
error. Exit status: 0 done, 2 the user's mistake, 130 interrupted, 1 a defect of calotte, contradictions included.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer
from rich.console import Console

from calotte.assess import ESTIMATORS, RUNGS, Assessment, assess_each
from calotte.cells.cell import Cell
from calotte.cells.geometry import Geometry
from calotte.errors import CalotteError, Contradiction, InvalidInput
from calotte.inputs import Inputs, parse_index, read_array, read_inputs
from calotte.models.onnx import load
from calotte.network.clip import clipped
from calotte.network.graph import Network
from calotte.noise import make_noise, noise_map
from calotte.plan import Plan, plan_each
from calotte.sampling.sequential import least_samples
from calotte.settings import Settings
from calotte.terminal import collect, notices, stderr

__all__ = ["app", "main"]

app = typer.Typer(
    name="calotte",
    help="How likely is random noise to change what a ReLU network says about an input, and what is proved?",
    add_completion=False,
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130


class NoiseName(StrEnum):
    """Kinds of noise."""

    sphere = "sphere"
    ball = "ball"
    gaussian = "gaussian"


class DecisionName(StrEnum):
    """How outputs become an answer."""

    argmax = "argmax"
    argmin = "argmin"
    sign = "sign"


class Device(StrEnum):
    """Where to compute."""

    cpu = "cpu"
    cuda = "cuda"


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="The network, an .onnx file.", show_default=False)]
InputFile = Annotated[
    Path,
    typer.Argument(
        metavar="INPUTS",
        help="The inputs: .npy (one a row), .npz (x, optionally labels y), .csv (optional header and column "
        "'label') or .vnnlib (the centre of its box).",
        show_default=False,
    ),
]
Eps = Annotated[float | None, typer.Option(help="Norm of the noise (sigma sqrt(d) for the Gaussian).")]
Sigma = Annotated[float | None, typer.Option(help="Standard deviation of the noise per coordinate.")]
Noise_ = Annotated[NoiseName, typer.Option("--noise", help="Distribution of the noise.")]
Map = Annotated[
    Path | None,
    typer.Option("--map", help="S.npy, the noise is S u: a scale for each feature (d,), zeros masking, or (d, m)."),
]
Clip = Annotated[
    tuple[float, float] | None,
    typer.Option("--clip", help="LO HI: the noisy input is clipped to this range before the network sees it."),
]
Rungs = Annotated[
    str, typer.Option(help=f"Rungs of the ladder: {', '.join(RUNGS)}, all, or default (not isoperimetry).")
]
Index = Annotated[str | None, typer.Option(help="Which inputs: 3, 0:20, 5:, or a list 1,4,7. Default: all.")]
Decision_ = Annotated[
    DecisionName | None,
    typer.Option("--decision", help="How outputs become an answer. Default: argmax, or sign for one output."),
]
Samples = Annotated[int, typer.Option(help="Monte Carlo samples for each input.")]
Confidence = Annotated[float, typer.Option(help="Level of sampled bounds, for each input separately.")]
Seed = Annotated[int, typer.Option(help="Seed of all samples.")]
TimeLimit = Annotated[float | None, typer.Option(help="Seconds for each input.")]
MemoryLimit = Annotated[float, typer.Option(help="Gigabytes for blocks of intermediate results.")]
Device_ = Annotated[Device, typer.Option("--device", help="Where sampling computes in float32.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]


@app.command()
def assess(
    model: Model,
    inputs: InputFile,
    eps: Eps = None,
    sigma: Sigma = None,
    noise: Noise_ = NoiseName.sphere,
    map: Map = None,
    clip: Clip = None,
    rungs: Rungs = "default",
    estimates: Annotated[
        str, typer.Option(help=f"Rare-event estimates, no bounds: {', '.join(ESTIMATORS)}, all or none.")
    ] = "none",
    index: Index = None,
    decision: Decision_ = None,
    samples: Samples = 10_000,
    confidence: Confidence = 0.999,
    seed: Seed = 0,
    delta: Annotated[
        float | None,
        typer.Option(help="Stop sampling once it can say whether p <= delta; --samples is then the most it draws."),
    ] = None,
    search: Annotated[bool, typer.Option(help="Search for the nearest misclassified point.")] = True,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = 2.0,
    device: Device_ = Device.cpu,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for assessments.jsonl, witnesses.npz and pictures.")
    ] = None,
) -> None:
    """Bound the probability that noise changes each answer; inputs ranked by risk."""
    if (eps is None) == (sigma is None):
        raise InvalidInput("give the size of the noise as either --eps or --sigma")
    settings = make_settings(samples, confidence, seed, time_limit, memory_limit)
    settings = replace(settings, delta=delta, search=search, device=device.value)
    network, data = open_both(model, inputs, decision, index, clip)
    scale = None if map is None else noise_map(read_array(map))
    the_noise = make_noise(noise.value, network.d, eps=eps, sigma=sigma, map=scale)
    each = assess_each(
        network,
        data.x,
        the_noise,
        labels=data.labels,
        index=data.index,
        rungs=split_rungs(rungs),
        estimates=split_rungs(estimates),
        settings=settings,
    )
    if out is not None:
        make_folder(out)
    notices(network, data)
    if delta is not None and samples < least_samples(delta, confidence):
        least = least_samples(delta, confidence)
        stderr.print(f"notice: no 'yes' to p <= {delta:g} before {least} samples: raise --samples", soft_wrap=True)

    from calotte.report.files import save_evidence, save_witnesses
    from calotte.report.pictures import risk_picture, riskiest_picture
    from calotte.report.tables import assessment_table, summary

    try:
        found: list[Assessment] = collect(
            each, len(data.index), as_json, None if out is None else out / "assessments.jsonl"
        )
    except Contradiction as error:
        fail(f"contradiction, a defect of calotte: {error}; please report it with {save_evidence(error, out)}", 1)

    console = stderr if as_json else Console(highlight=False)
    console.print(assessment_table(found), crop=False)
    console.print(summary(found))
    if out is not None:
        risk_picture(found, out / "risk.png")
        shown = riskiest_picture(found, data.x, out / "riskiest.png")
        save_witnesses(found, out / "witnesses.npz")
        written = [str(out / "assessments.jsonl"), "witnesses.npz", "risk.png", *(["riskiest.png"] if shown else [])]
        console.print(f"wrote {', '.join(written[:-1])} and {written[-1]}")


@app.command()
def plan(
    model: Model,
    inputs: InputFile,
    delta: Annotated[float, typer.Option(help="Misclassification probability allowed.")],
    noise: Noise_ = NoiseName.sphere,
    map: Map = None,
    clip: Clip = None,
    rungs: Annotated[str, typer.Option(help="Proved rungs of the ladder, or all.")] = "all",
    index: Index = None,
    decision: Decision_ = None,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = 2.0,
    as_json: Json = False,
) -> None:
    """Find the largest noise under which each proved rung keeps the misclassification probability below delta."""
    settings = make_settings(1, 0.5, 0, time_limit, memory_limit)
    network, data = open_both(model, inputs, decision, index, clip)
    scale = None if map is None else noise_map(read_array(map))
    each = plan_each(
        network,
        data.x,
        make_noise(noise.value, network.d, eps=1.0, map=scale),
        delta,
        labels=data.labels,
        index=data.index,
        rungs=split_rungs(rungs),
        settings=settings,
    )
    notices(network, data)
    found: list[Plan] = collect(each, len(data.index), as_json, None)

    from calotte.report.tables import plan_table

    (stderr if as_json else Console(highlight=False)).print(plan_table(found), crop=False)


@app.command()
def cell(
    model: Model,
    inputs: InputFile,
    index: Annotated[int, typer.Option(help="Which input.")] = 0,
    decision: Decision_ = None,
    time_limit: Annotated[float, typer.Option(help="Seconds for telling faces from redundant hyperplanes.")] = 20.0,
    memory_limit: MemoryLimit = 2.0,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option(help="File for the cell: .npz (normals and all), .csv (a table), .png or .pdf.")
    ] = None,
) -> None:
    """Show the cell of one input: its hyperplanes, their distances, its faces."""
    if out is not None and out.suffix.lower() not in (".npz", ".csv", ".png", ".pdf"):
        raise InvalidInput(f"--out {out}: name a .npz, .csv, .png or .pdf file")
    if not (time_limit >= 0):
        raise InvalidInput(f"the time limit must not be negative, came {time_limit}")
    settings = make_settings(1, 0.5, 0, None, memory_limit)
    network, data = open_both(model, inputs, decision, str(index))
    here = Cell(network, data.x[0], Geometry(network, None, settings.memory_limit))
    if out is not None and out.suffix.lower() in (".png", ".pdf") and here.distance is None:
        raise InvalidInput(f"input {index} lies in a cell without a boundary: there is nothing to draw")
    notices(network, data)
    faces = here.faces(time_limit)
    if as_json:
        print(json.dumps(cell_dict(here, index, faces)), flush=True)

    from calotte.report.pictures import cell_picture
    from calotte.report.tables import cell_table

    (stderr if as_json else Console(highlight=False)).print(cell_table(here, faces), crop=False)
    if out is not None:
        if out.suffix.lower() == ".npz":
            np.savez_compressed(
                out,
                x=here.x.numpy(),
                normals=here.normals.numpy(),
                offsets=here.offsets.numpy(),
                signs=here.signs.numpy(),
                distances=here.distances.numpy(),
                faces=faces.numpy(),
                units=np.array(here.names),
            )
        elif out.suffix.lower() == ".csv":
            rows = zip(here.names, here.distances.tolist(), here.offsets.tolist(), faces.tolist(), strict=True)
            lines = [f"{name},{distance!r},{offset!r},{face}" for name, distance, offset, face in rows]
            out.write_text("\n".join(["unit,distance,offset,face", *lines]) + "\n")
        else:
            cell_picture(here, out)
        stderr.print(f"wrote {out}")


@app.command()
def paper(
    out: Annotated[Path, typer.Option(help="Folder for figures, tables and numbers.")] = Path("calotte-paper"),
    seed: Seed = 0,
) -> None:
    """Check the paper's theorems by sampling, measure what its promise rests on, draw its figures (a minute)."""
    from calotte.paper import render, run

    console = Console(highlight=False)
    console.width = max(console.width, 120)  # the widest tables have ten columns: wrapped lines beat cut numbers
    report = run(out, seed=seed, done=lambda section: console.print(render(section)))
    stderr.print(f"wrote {out}: figures as .pdf and .png, paper.md, paper.json", soft_wrap=True)
    if not report.held:
        fail(f"a statement was violated, by sampling: {'; '.join(report.violations)}", 1)


def cell_dict(here: Cell, index: int, faces: Any) -> dict[str, Any]:
    """The JSON form of a cell: its hyperplanes without their normals, nearest first."""
    norms, words = here.normals.norm(dim=1), {1: True, 0: False, -1: None}
    nearest = here.nearest_unit
    return {
        "index": index,
        "predicted": here.predicted,
        "input_dimension": here.network.d,
        "units": here.network.units,
        "distance": here.distance,
        "nearest_unit": None if nearest is None else here.names[nearest],
        "hyperplanes": [
            {
                "unit": here.names[i],
                "distance": here.distances[i].item(),
                "offset": here.offsets[i].item(),
                "norm": norms[i].item(),
                "face": words[int(faces[i])],
            }
            for i in here.distances.argsort().tolist()
            if here.has_hyperplane[i]
        ],
        "without_hyperplane": [here.names[i] for i in range(len(faces)) if not here.has_hyperplane[i]],
        "model_sha256": here.network.sha256,
    }


def make_settings(
    samples: int, confidence: float, seed: int, time_limit: float | None, memory_limit: float
) -> Settings:
    """Settings in the units of the command line (gigabytes)."""
    return Settings(samples, confidence, seed, math.inf if time_limit is None else time_limit, memory_limit * 1e9)


def split_rungs(text: str) -> list[str]:
    """'a,b' as names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def make_folder(path: Path) -> None:
    """Make the folder for results."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"--out {path}: cannot make the folder: {error.strerror}") from None


def open_both(
    model: Path,
    inputs: Path,
    decision: DecisionName | None,
    index: str | None,
    clip: tuple[float, float] | None = None,
) -> tuple[Network, Inputs]:
    """Load the network, clipping its input where asked, and the inputs chosen."""
    if model.suffix.lower() != ".onnx":
        raise InvalidInput(f"{model}: the model must be an .onnx file")
    data = read_inputs(inputs)
    network = load(model, decision.value if decision else None)
    if data.x.shape in ((network.d,), network.input_shape):
        data = Inputs(data.x[None], None, [0])
    network.inputs(data.x)
    if index is not None:
        data = data.select(parse_index(index, len(data.x)))
    return network if clip is None else clipped(network, *clip), data


def fail(message: str, status: int) -> NoReturn:
    """One line on standard error, and out."""
    print(f"calotte: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status)


def main() -> None:
    """Entry point of the `calotte` command."""
    try:
        status = app(standalone_mode=False)
    except CalotteError as error:
        fail(str(error), 2)
    except typer.TyperException as error:
        fail(f"{error.format_message()} (see calotte --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(1) from None
    except Exception as error:  # the last resort: a defect must not look like an answer
        fail(f"a defect of calotte, please report it: {type(error).__name__}: {error}", 1)
    if status == INTERRUPTED:
        fail("interrupted; finished lines are kept", INTERRUPTED)
    raise SystemExit(status or 0)
