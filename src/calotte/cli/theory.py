"""`calotte theory`: Theorem 4.2 asked for any one of its quantities."""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer

from calotte.cli.options import OUTPUT
from calotte.errors import InvalidInput
from calotte.printing import number, probability_text

__all__ = ["theory"]


def theory(
    rho: Annotated[
        float | None, typer.Option(help="Distance to the nearest hyperplane of the cell.", show_default=False)
    ] = None,
    eps: Annotated[float | None, typer.Option(help="Norm of the noise.", show_default=False)] = None,
    d: Annotated[int | None, typer.Option("--d", help="Dimension of the input.", show_default=False)] = None,
    N: Annotated[
        int | None, typer.Option("--N", help="Number of units, output comparisons included.", show_default=False)
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="Misclassification probability allowed.", show_default=False)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object on standard output.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Ask Theorem 4.2 for what is not given: all of --rho, --eps, --d, --N, --delta but one are required.

    p <= N exp(-d rho^2 / (2 eps^2)) for noise on a sphere, and p = 0 where rho >= eps. The answer is rounded to the
    safe side: put back into the theorem it proves p <= delta.
    """
    given = {"rho": rho, "eps": eps, "d": d, "N": N, "delta": delta}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) != 1:
        said = "all are given" if not missing else f"missing are {', '.join(f'--{name}' for name in missing)}"
        raise InvalidInput(f"give all of --rho, --eps, --d, --N and --delta but one, which is computed; {said}")

    import calotte.theorems as theorems
    from calotte.terminal import print_line

    asked, statement = missing[0], "Theorem 4.2"
    found: float
    match (rho, eps, d, N, delta):
        case (None, float(eps), int(d), int(N), float(delta)):
            found = theorems.sufficient_distance(eps, d, N, log_delta=theorems.log_target(delta))
            said = f"the smallest rho that proves p <= {delta!r}: {number(found, 'up', 6)} (rounded up)"
        case (float(rho), None, int(d), int(N), float(delta)):
            found = theorems.largest_eps(rho, d, N, log_delta=theorems.log_target(delta))
            said = f"the largest eps at which p <= {delta!r} is proved: {number(found, 'down', 6)} (rounded down)"
        case (float(rho), float(eps), None, int(N), float(delta)):
            found = theorems.sufficient_dimension(rho, eps, N, log_delta=theorems.log_target(delta))
            said = f"the smallest d in which p <= {delta!r} is proved: {found}"
        case (float(rho), float(eps), int(d), None, float(delta)):
            found = theorems.largest_unit_count(rho, eps, d, log_delta=theorems.log_target(delta))
            said = f"the largest N for which p <= {delta!r} is proved: {number(found, 'down', 20)}"
        case (float(rho), float(eps), int(d), int(N), None):
            bound = theorems.theorem_4_2(rho, eps, d, N)
            found, statement = probability_up(bound.log_misclassification), bound.statement
            said = f"p <= {probability_text(bound.log_misclassification)} is proved (rounded up)"
        case _:
            raise AssertionError("one is missing, and the others are numbers")
    if as_json:
        answer = {name: None if value == math.inf else value for name, value in (given | {asked: found}).items()}
        print_line(json.dumps({"asked": asked, "statement": statement} | answer, allow_nan=False))
    else:
        print_line(f"{statement}: {said}")


def probability_up(log_p: float) -> float:
    """exp(log_p) as a float64, rounded up; 0 only for 0."""
    return 0.0 if log_p == -math.inf else min(float(probability_text(log_p, digits=17)) * (1 + 2**-52), 1.0) or 5e-324
