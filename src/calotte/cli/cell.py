"""`calotte cell`: the hyperplanes around one input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calotte.cli.options import (
    FILES,
    LIMITS,
    OUTPUT,
    Decision_,
    InputFile,
    Json,
    Layout_,
    MemoryLimit,
    Model,
    Output,
    Wide,
)
from calotte.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

    from calotte.cells.cell import Cell

__all__ = ["cell"]

KINDS = (".npz", ".csv", ".png", ".pdf")


def cell(
    model: Model,
    inputs: InputFile,
    index: Annotated[int, typer.Option(help="Which input.", rich_help_panel=FILES)] = 0,
    layout: Layout_ = None,
    decision: Decision_ = None,
    output: Output = None,
    time_limit: Annotated[
        float, typer.Option(help="Seconds for telling faces from redundant hyperplanes.", rich_help_panel=LIMITS)
    ] = 20.0,
    memory_limit: MemoryLimit = 2.0,
    as_json: Json = False,
    wide: Wide = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for the cell: .npz (normals and all), .csv (a table), .png or .pdf.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show the cell of one input: its hyperplanes, their distances, its faces."""
    if out is not None and out.suffix.lower() not in KINDS:
        raise InvalidInput(f"--out {out}: name a .npz, .csv, .png or .pdf file")
    if not time_limit >= 0:
        raise InvalidInput(f"the time limit must not be negative, came {time_limit}")

    from calotte.cells.cell import Cell
    from calotte.cells.hyperplanes import Hyperplanes
    from calotte.cli.opening import make_settings, notices, open_both
    from calotte.report.files import check_place
    from calotte.report.tables import cell_table
    from calotte.terminal import output as console_for
    from calotte.terminal import print_line, print_table, say, stderr

    settings = make_settings(1, 0.5, 0, None, memory_limit)
    if out is not None:
        check_place(out)
    network, data = open_both(model, inputs, decision, output, layout, str(index))
    here = Cell(network, data.x[0], Hyperplanes(network, None, settings.memory_limit))
    if out is not None and out.suffix.lower() in (".png", ".pdf") and here.distance is None:
        raise InvalidInput(f"input {index} lies in a cell without a boundary: there is nothing to draw")
    notices(network, data)
    faces = here.faces(time_limit)
    if as_json:
        print_line(json.dumps(cell_dict(here, index, faces), allow_nan=False))
    print_table(console_for(as_json), lambda _: cell_table(here, faces), wide)
    if out is not None:
        save_cell(here, faces, out)
        say(stderr, f"wrote {out}")


def cell_dict(here: Cell, index: int, faces: Tensor) -> dict[str, Any]:
    """The JSON form of a cell: its hyperplanes without their normals, nearest first."""
    norms, words = here.normals.norm(dim=1), {1: True, 0: False, -1: None}
    nearest, names = here.nearest_unit, here.names
    return {
        "index": index,
        "predicted": here.predicted,
        "input_dimension": here.network.d,
        "units": here.network.units,
        "distance": here.distance,
        "nearest_unit": None if nearest is None else names[nearest],
        "hyperplanes": [
            {
                "unit": names[i],
                "distance": here.distances[i].item(),
                "offset": here.offsets[i].item(),
                "norm": norms[i].item(),
                "face": words[int(faces[i])],
            }
            for i in here.distances.argsort().tolist()
            if here.has_hyperplane[i]
        ],
        "without_hyperplane": [names[i] for i in range(len(faces)) if not here.has_hyperplane[i]],
        "decision": here.network.decision.rule,
        "model_sha256": here.network.sha256,
    }


def save_cell(here: Cell, faces: Tensor, out: Path) -> None:
    """The cell as a file of the kind that its name says, whole or not at all."""
    import numpy as np

    from calotte.report.files import write_whole
    from calotte.report.pictures import cell_picture

    def write(part: Path) -> None:
        if part.suffix.lower() == ".npz":
            np.savez_compressed(
                part,
                x=here.x.numpy(),
                normals=here.normals.numpy(),
                offsets=here.offsets.numpy(),
                signs=here.signs.numpy(),
                distances=here.distances.numpy(),
                faces=faces.numpy(),
                units=np.array(here.names),
            )
            return
        with part.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["unit", "distance", "offset", "face"])
            table.writerows(
                zip(here.names, here.distances.tolist(), here.offsets.tolist(), faces.tolist(), strict=True)
            )

    if out.suffix.lower() in (".png", ".pdf"):
        cell_picture(here, out)
    else:
        write_whole(out, write)
