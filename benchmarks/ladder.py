"""The ladder's CPU time per input and rung, one input and a batch, on one thread; a pass beside its bare products.

    python benchmarks/ladder.py [NETWORK ...]

A pass bounds all units and margins over an L2 ball of radius 0.5 (rung `relaxation`). Beside it stand the matrix
products that back-substitution of every unit and its negative takes where nothing is skipped or shared. The rungs
look for p <= 1e-3 at eps 0.5; the cell's distances, which all share, are counted with `theorem` and `cell` only. Of
convolutional networks, where the radius is 0.1 and the batch 8, only the pass is measured, beside the transposed
convolutions of the windows of all units and their negatives. `vgg` is a network of 221,184 units with random weights:
the times of its rungs and the peak of memory.
Before anything is printed, samples from the ball are held against the bounds on units and margins, and bounds of one
input against those of a batch.
"""

from __future__ import annotations

import math
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
from data import DATA, cifar, images
from models import vgg

from calotte import Ball, Network, Settings, Sphere, from_torch, load
from calotte.bound import ProvedRung
from calotte.cells.hyperplanes import Hyperplanes
from calotte.ladder import PROVED_RUNGS
from calotte.network.affine import Affine
from calotte.proofs.event import margin_rows, relaxed_margins, relaxed_units
from calotte.proofs.relaxation.windows import unit_rows
from calotte.proofs.support import Support
from calotte.query import Query

EPS, BATCH, DELTA = 0.5, 64, 1e-3
NETWORKS = {name: f"mnistfc/mnist-net_{name}.onnx" for name in ("256x2", "256x4", "256x6")}
CONVOLUTIONAL = {
    "cifar_base_kw": "oval21_cifar_conv/cifar_base_kw.onnx",
    "resnet_2b": "cifar10_resnet/resnet_2b.onnx",
    "resnet_4b": "cifar10_resnet/resnet_4b.onnx",
}


def seconds(call: Callable[[], object], times: int) -> float:
    """Median time of a call, after one that does not count."""
    call()
    taken = []
    for _ in range(times):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def products(hyperplanes: Hyperplanes, classes: int) -> Callable[[], None]:
    """The matrix products of one pass for one input."""
    assert hyperplanes.chain is not None
    weights = [hyperplanes.space.rows, *hyperplanes.chain.weights[1:]]
    last = len(weights) - 1
    rows = [torch.cat([weight, -weight]) for weight in weights[:last]]

    def multiply() -> None:
        for layer in range(1, last + 1):
            here = rows[layer] if layer < last else weights[last][:classes]
            for weight in reversed(weights[:layer]):
                here = here @ weight

    return multiply


def window_products(network: Network) -> Callable[[], None]:
    """The transposed products of all units of a convolutional network, and of their negatives."""

    def multiply() -> None:
        for relu in network.relus:
            node = network.nodes[relu].inputs[0]
            for units in torch.arange(math.prod(network.shape(node))).split(64):
                last, rows, _ = unit_rows(network, node, units)
                met = {last: rows.both()}
                for i in range(last, 0, -1):
                    if i not in met:
                        continue
                    here, op = met.pop(i), network.nodes[i].op
                    parts = here.through(op) if isinstance(op, Affine) else (here,)
                    for j, part in zip(network.nodes[i].inputs, parts, strict=True):
                        met[j] = met[j].plus(part) if j in met else part

    return multiply


def check(query: Query) -> None:
    """Leave where a sample violates a bound, or a batch says something else than one input."""
    network, radius = query.network, query.sizes
    around = Support.ball(query, radius)
    relaxation = relaxed_units(query, around).relaxation
    last, rows, constants = margin_rows(query, None)
    lowest = relaxation.forms(last, rows, {}, constants).lowest(radius[:, None])
    comparison = query.margins.rows
    generator = torch.Generator().manual_seed(0)
    for i in range(len(query.x)):
        draws = [law.sample(50, network.d, generator) for law in (query.noise, Ball(query.noise.size))]
        y = query.x[i] + torch.cat(draws)
        for node, value in network.values(y):
            for relu, (low, high) in relaxation.intervals.items():
                if network.nodes[relu].inputs[0] == node and not ((value >= low[i]) & (value <= high[i])).all():
                    sys.exit(f"a sample around image {i} leaves the bounds of node {node}")
        if not (network.forward(y) @ comparison[i].t() >= lowest[i]).all():
            sys.exit(f"a sample around image {i} violates the bound on a margin")
    for name, rung in PROVED_RUNGS.items():
        if not rung.one_by_one and query.hyperplanes.chain is not None:
            many = rung.log_bound(query, query.sizes)
            one = rung.log_bound(query.alone(3), query.sizes[3:4])
            if not torch.allclose(many[3:4], one, rtol=1e-6):
                sys.exit(f"rung {name} says {one.item()} of an input, and {many[3].item()} in a batch")


def measure(name: str) -> None:
    """Print one network's lines."""
    network = load(DATA / NETWORKS[name])
    hyperplanes = Hyperplanes(network)
    batch = Query(hyperplanes, images(BATCH), list(range(BATCH)), Sphere(EPS), Settings(), math.log(DELTA))
    check(batch)
    floor = seconds(products(hyperplanes, network.decision.classes - 1), 15)
    took = {}
    for query in (batch.alone(0), batch):
        n = len(query.x)
        radius = torch.full((n,), EPS, dtype=torch.float64)
        around = Support.ball(query, radius)
        given = (query, around)
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


def measure_convolutional(name: str) -> None:
    """Print the line of a convolutional network."""
    network = load(DATA / CONVOLUTIONAL[name])
    batch = Query(Hyperplanes(network), cifar(name, 8), list(range(8)), Sphere(0.1), Settings())
    check(batch)
    took = []
    for query in (*(batch.alone(i) for i in range(8)), batch):
        around = Support.ball(query, query.sizes)
        given = (query, around)
        took.append(seconds(lambda given=given: relaxed_margins(*given), 5 if query is batch else 3))
    floor = seconds(window_products(network), 1)
    print(
        f"{name}: a pass {1000 * took[0]:.0f} ms on the first of 8 images, {125 * sum(took[:8]):.0f} ms in the mean, "
        f"{125 * took[8]:.0f} ms an image in a batch of all; bare products of all units {1000 * floor:.0f} ms"
    )
    sys.stdout.flush()


def measure_vgg() -> None:
    """Print the lines of a network of many units."""
    network = from_torch(vgg(), (3, 32, 32))
    hyperplanes, x = (
        Hyperplanes(network),
        torch.rand(1, network.d, generator=torch.Generator().manual_seed(0)).double(),
    )
    print(f"vgg: {network.hidden_units:,} units")
    for name in ("cell", "relaxation", "concentration"):
        query = Query(hyperplanes, x, [0], Sphere(0.1), Settings())
        start = time.process_time()
        (bound,) = PROVED_RUNGS[name].bound(query)
        took, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"  {name:13s} {took:.0f} s, peak {peak:.1f} GB; log p <= {bound.log_misclassification:.3g}", flush=True
        )


def of_rung(rung: ProvedRung, query: Query) -> float:
    """Seconds that a rung takes for each input; nothing that other rungs share is there yet."""

    def bound() -> object:
        given = query.hyperplanes, query.x, query.index, query.noise, query.settings, query.target
        return rung.log_bound(Query(*given), query.sizes)  # one that knows nothing yet

    return seconds(bound, 5 if len(query.x) == 1 else 3) / len(query.x)


def main(names: list[str]) -> None:
    """Measure the networks named."""
    torch.set_num_threads(1)
    print(f"eps {EPS} (convolutional: 0.1), one thread; medians of CPU time")
    for name in names:
        if name == "vgg":
            measure_vgg()
        else:
            (measure if name in NETWORKS else measure_convolutional)(name)


if __name__ == "__main__":
    main(sys.argv[1:] or [*NETWORKS, *CONVOLUTIONAL, "vgg"])
