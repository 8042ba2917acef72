"""The ladder's time per input and rung, batch 1 and 64, on one thread; a worst-case pass beside its bare products.

    python benchmarks/ladder.py [NETWORK ...]

A pass bounds all units and margins over an L2 ball of radius 0.5 (rung `relaxation`). Beside it stand the matrix
products that back-substitution of every unit and its negative takes where nothing is skipped or shared. The rungs
look for p <= 1e-3 at eps 0.5; the cell's distances, which all share, are counted with `theorem` and `cell` only.
Before anything is printed, samples from the ball are held against the bounds on units and margins, and bounds of one
input against those of a batch.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable

import torch
from data import DATA, images

from calotte import Ball, Settings, Sphere, load
from calotte.bound import ProvedRung
from calotte.cells.geometry import Geometry
from calotte.ladder import PROVED_RUNGS
from calotte.problem import Problem
from calotte.proofs.event import margin_rows, relaxed_margins, relaxed_units
from calotte.proofs.support import Support

EPS, BATCH, DELTA = 0.5, 64, 1e-3
NETWORKS = {name: f"mnistfc/mnist-net_{name}.onnx" for name in ("256x2", "256x4", "256x6")}


def seconds(call: Callable[[], object], times: int) -> float:
    """Median time of a call, after one that does not count."""
    call()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def products(geometry: Geometry, classes: int) -> Callable[[], None]:
    """The matrix products of one pass for one input."""
    assert geometry.chain is not None
    weights = [geometry.space.rows, *geometry.chain.weights[1:]]
    last = len(weights) - 1
    rows = [torch.cat([weight, -weight]) for weight in weights[:last]]

    def multiply() -> None:
        for layer in range(1, last + 1):
            here = rows[layer] if layer < last else weights[last][:classes]
            for weight in reversed(weights[:layer]):
                here = here @ weight

    return multiply


def check(problem: Problem) -> None:
    """Leave where a sample violates a bound, or a batch says something else than one input."""
    network, radius = problem.network, torch.full((len(problem.x),), EPS, dtype=torch.float64)
    around = Support(radius, -math.inf)
    relaxation = relaxed_units(problem, around).relaxation
    lowest = relaxation.bounds(*margin_rows(problem)).lowest(radius[:, None])
    comparison = problem.margins.rows
    generator = torch.Generator().manual_seed(0)
    for i in range(len(problem.x)):
        draws = [law.sample(50, network.d, generator) for law in (Sphere(EPS), Ball(EPS))]
        y = problem.x[i] + torch.cat(draws)
        for node, value in network.values(y):
            for relu, (low, high) in relaxation.intervals.items():
                if network.nodes[relu].inputs[0] == node and not ((value >= low[i]) & (value <= high[i])).all():
                    sys.exit(f"a sample around image {i} leaves the bounds of node {node}")
        if not (network.forward(y) @ comparison[i].t() >= lowest[i]).all():
            sys.exit(f"a sample around image {i} violates the bound on a margin")
    for name, rung in PROVED_RUNGS.items():
        if not rung.one_by_one:
            many = rung.log_bound(problem, problem.sizes)
            one = rung.log_bound(problem.alone(3), problem.sizes[3:4])
            if not torch.allclose(many[3:4], one, rtol=1e-6):
                sys.exit(f"rung {name} says {one.item()} of an input, and {many[3].item()} in a batch")


def measure(name: str) -> None:
    """Print one network's lines."""
    network = load(DATA / NETWORKS[name])
    geometry = Geometry(network)
    batch = Problem(geometry, images(BATCH), list(range(BATCH)), Sphere(EPS), Settings(), math.log(DELTA))
    check(batch)
    floor = seconds(products(geometry, network.decision.classes - 1), 15)
    took = {}
    for problem in (batch.alone(0), batch):
        n = len(problem.x)
        radius = torch.full((n,), EPS, dtype=torch.float64)
        around = Support(radius, -math.inf)
        given = (problem, around)
        took[n] = seconds(lambda given=given: relaxed_margins(*given), 15 if n == 1 else 3) / n
    print(
        f"{name}: a pass {1000 * took[1]:.1f} ms, {1000 * took[BATCH]:.1f} ms an image in a batch of {BATCH}; "
        f"its bare products {1000 * floor:.1f} ms (pass / products {took[1] / floor:.2f}, {took[BATCH] / floor:.2f})"
    )
    for rung in PROVED_RUNGS.values():
        alone = 1000 * of_rung(rung, batch.alone(0))
        many = "one by one" if rung.one_by_one else f"{1000 * of_rung(rung, batch):.1f} ms an image in the batch"
        print(f"  {rung.name:13s} {alone:.1f} ms ({alone / (1000 * took[1]):.2f} passes), {many}")
    sys.stdout.flush()


def of_rung(rung: ProvedRung, problem: Problem) -> float:
    """Seconds that a rung takes for each input; nothing that other rungs share is there yet."""

    def bound() -> object:
        given = problem.geometry, problem.x, problem.index, problem.noise, problem.settings, problem.target
        return rung.log_bound(Problem(*given), problem.sizes)  # one that knows nothing yet

    return seconds(bound, 5 if len(problem.x) == 1 else 3) / len(problem.x)


def main(names: list[str]) -> None:
    """Measure the networks named."""
    torch.set_num_threads(1)
    print(f"eps {EPS}, one thread; medians")
    for name in names:
        measure(name)


if __name__ == "__main__":
    main(sys.argv[1:] or list(NETWORKS))
