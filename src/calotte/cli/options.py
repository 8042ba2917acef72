"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ArithmeticName",
    "Arithmetic_",
    "Clip",
    "Cut",
    "DecisionName",
    "Decision_",
    "DeviceName",
    "Eps",
    "Event_",
    "Index",
    "InputFile",
    "Json",
    "LayoutName",
    "Layout_",
    "Map",
    "Mean",
    "MemoryLimit",
    "Model",
    "NoiseName",
    "Noise_",
    "Output",
    "Seed",
    "Sigma",
    "Std",
    "TimeLimit",
    "Wide",
]

FILES, NOISE, LIMITS, OUTPUT = "Model and inputs", "Noise", "Limits", "Output"


class Sizes(tuple[float, ...]):
    """Sizes of the noise, at least one, all different. Typer takes a mere tuple for several arguments."""


def sizes_of(text: str) -> Sizes:
    """'0.1' or '0.1,0.2' as numbers.

    Raises:
        BadParameter: it holds something else, or a number twice.
    """
    sizes: list[float] = []
    for part in text.split(","):
        try:
            size = float(part)
        except ValueError:
            raise typer.BadParameter(f"{text!r}: expected a number, or several with commas between them") from None
        if size in sizes:
            raise typer.BadParameter(f"{text!r}: {part.strip()} is given twice")
        sizes.append(size)
    return Sizes(sizes)


class NoiseName(StrEnum):
    """Kinds of noise."""

    sphere = "sphere"
    ball = "ball"
    gaussian = "gaussian"
    box = "box"
    truncated = "truncated"


class ArithmeticName(StrEnum):
    """In what the network is evaluated that bounds speak about."""

    real = "real"
    float32 = "float32"


class DecisionName(StrEnum):
    """How outputs become an answer."""

    argmax = "argmax"
    argmin = "argmin"
    sign = "sign"


class DeviceName(StrEnum):
    """Where to compute."""

    cpu = "cpu"
    cuda = "cuda"


class LayoutName(StrEnum):
    """The order of the axes of images."""

    NCHW = "NCHW"
    NHWC = "NHWC"


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="The network, an .onnx file.", show_default=False)]
InputFile = Annotated[
    Path,
    typer.Argument(
        metavar="INPUTS",
        help="The inputs: .npy (one a row), .npz (x, optionally labels y and eps or sigma, one for each), .csv "
        "(optional header and columns 'label', 'eps' or 'sigma') or .vnnlib (the centre of its box).",
        show_default=False,
    ),
]
Index = Annotated[
    str | None,
    typer.Option(help="Which inputs: 3, 0:20, 5:, or a list 1,4,7. Default: all.", rich_help_panel=FILES),
]
Layout_ = Annotated[
    LayoutName | None,
    typer.Option(
        "--layout",
        help="Order of the axes of images in INPUTS, where it is not the network's: channels first or last.",
        rich_help_panel=FILES,
        show_default=False,
    ),
]
Decision_ = Annotated[
    DecisionName | None,
    typer.Option(
        "--decision",
        help="How outputs become an answer. Default: argmax, or sign for one output.",
        rich_help_panel=FILES,
        show_default=False,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="NAME",
        help="The output of the model to judge, where it has several.",
        rich_help_panel=FILES,
        show_default=False,
    ),
]
Eps = Annotated[
    Sizes | None,
    typer.Option(
        parser=sizes_of,
        metavar="SIZE[,SIZE...]",
        help="Norm of the noise (sigma sqrt(d) for a Gaussian), half-width of the box; or several: 0.1,0.2. This or "
        "--sigma is required.",
        rich_help_panel=NOISE,
        show_default=False,
    ),
]
Sigma = Annotated[
    Sizes | None,
    typer.Option(
        parser=sizes_of,
        metavar="SIZE[,SIZE...]",
        help="Standard deviation of the noise per coordinate, or several. This or --eps is required.",
        rich_help_panel=NOISE,
        show_default=False,
    ),
]
Noise_ = Annotated[NoiseName, typer.Option("--noise", help="Distribution of the noise.", rich_help_panel=NOISE)]
Map = Annotated[
    Path | None,
    typer.Option(
        "--map",
        help="S.npy, the noise is S u: a scale for each feature (d,), zeros masking, or (d, m).",
        rich_help_panel=NOISE,
        show_default=False,
    ),
]
Clip = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--clip",
        metavar="LO HI",
        help="The noisy input is clipped to this range before the network sees it.",
        rich_help_panel=NOISE,
        show_default=False,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        metavar="M",
        help="INPUTS are raw, the network takes (x - M) / S: a number, one for each channel (0.1,0.2,0.3) or a .npy "
        "file. Noise and distances are in raw units then.",
        rich_help_panel=FILES,
        show_default=False,
    ),
]
Std = Annotated[
    str | None,
    typer.Option("--std", metavar="S", help="S of --mean, which see.", rich_help_panel=FILES, show_default=False),
]
Cut = Annotated[
    float | None,
    typer.Option(
        "--cut",
        help="Standard deviations at which the noise `truncated` is cut off. Default: 3.",
        rich_help_panel=NOISE,
        show_default=False,
    ),
]
Event_ = Annotated[
    str,
    typer.Option(
        "--event",
        metavar="EVENT",
        help="What p is the probability of: change (of the answer), class:K (the answer becomes K), top:K (it leaves "
        "the top K), moves:TOL (an output moves by more), or FILE.vnnlib (its output constraints hold).",
        rich_help_panel=NOISE,
    ),
]
Arithmetic_ = Annotated[
    ArithmeticName,
    typer.Option(
        "--arithmetic",
        help="The function with real numbers, or as float32 executes it, in whatever order of its sums.",
        rich_help_panel=NOISE,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all samples.")]
TimeLimit = Annotated[
    float | None, typer.Option(help="Seconds for each input. Default: none.", rich_help_panel=LIMITS)
]
MemoryLimit = Annotated[
    float, typer.Option(help="Gigabytes for blocks of intermediate results.", rich_help_panel=LIMITS)
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object a line on standard output.", rich_help_panel=OUTPUT)
]
Wide = Annotated[bool, typer.Option("--wide", help="All columns of the table, however wide.", rich_help_panel=OUTPUT)]
