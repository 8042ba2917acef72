"""The `calotte` command: its sub-commands, and what becomes of errors."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from calotte.cli.assess import assess
from calotte.cli.campaigns import compare, export
from calotte.cli.cell import cell
from calotte.cli.paper import paper
from calotte.cli.plan import plan
from calotte.cli.report import report
from calotte.cli.theory import theory
from calotte.errors import CalotteError, CannotWrite, Failed, Interrupted, NotMet
from calotte.printing import plain

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(name="calotte", add_completion=False, pretty_exceptions_enable=False)
for command, example in (
    (assess, "calotte assess model.onnx inputs.npz --eps 0.5 --out results"),
    (plan, "calotte plan model.onnx inputs.npz --delta 1e-3"),
    (cell, "calotte cell model.onnx inputs.npz --index 3 --out cell.png"),
    (theory, "calotte theory --rho 0.5 --d 784 --N 521 --delta 1e-6"),
    (paper, "calotte paper --out paper"),
    (export, "calotte export results results.csv"),
    (compare, "calotte compare results other-results"),
    (report, "calotte report results"),
):
    app.command(epilog=f"Example: {example}")(command)


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        print(f"calotte {version('calotte')}")
        raise typer.Exit


@app.callback(epilog="calotte COMMAND --help says more, with an example.")
def calotte(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """How likely is random noise to change what a ReLU network says about an input, and what is proved?"""


def fail(message: str, status: int) -> NoReturn:
    """One line on standard error, and out."""
    print(f"calotte: {plain(message)}", file=sys.stderr)
    raise SystemExit(status)


def main() -> None:
    """Entry point of the `calotte` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # schedulers stop programs by it
    try:
        status = app(prog_name="calotte", standalone_mode=False)
        sys.stdout.flush()
    except CannotWrite as error:
        forget_output()
        fail(str(error), 2)
    except CalotteError as error:
        fail(str(error), 2)
    except Failed as error:
        fail(str(error), error.status)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = "calotte" if context is None else context.command_path
        fail(f"{error.format_message()} (see {command} --help)", 2)
    except NotMet as error:
        fail(str(error), 3)
    except Interrupted as stop:
        fail(str(stop), INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except OSError as error:
        forget_output()
        where = f" {error.filename}" if error.filename else ""
        fail(f"the system refuses{where}: {error.strerror or error}", 2)
    except Exception as error:  # the last resort: a defect must not look like an answer
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            fail(f"out of memory: lower --memory-limit, or ask for fewer rungs ({error})", 2)
        fail(f"a defect of calotte, please report it: {type(error).__name__}: {error}", 1)
    if status == INTERRUPTED:
        fail("interrupted", INTERRUPTED)
    raise SystemExit(status or 0)


def forget_output() -> None:
    """Nothing more to standard output, not even what it still holds."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
