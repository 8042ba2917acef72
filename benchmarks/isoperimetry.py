"""The largest eps at which 1e4 samples prove p <= 1e-9 at confidence 1 - 1e-6, beside what others reach.

    python benchmarks/isoperimetry.py [NETWORK ...] [--images 20] [--branching]

The first test images that are classified correctly, sphere noise. `lipschitz` is the same inequality with the margins
over the product of the spectral norms of all layers in place of the balls of rung `isoperimetry`. Sizes are searched
with one seed and confirmed with another, 2 % smaller until one look proves it. Before a network's line is printed
100,000 samples at each size found are held against p <= 1e-9 (none may differ).
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable

import torch
from data import DATA
from tightness import NETWORKS, Directions, inputs

from calotte import Settings, Sphere, load, plan
from calotte.cells.hyperplanes import Hyperplanes
from calotte.query import Query
from calotte.sampling.isoperimetry import ISOPERIMETRY, log_far
from calotte.sampling.monte_carlo import clopper_pearson, sampled_outputs

DELTA, SAMPLES, CONFIDENCE = 1e-9, 10_000, 1.0 - 1e-6


def largest(proves: Callable[[float], bool], start: float, factor: float, steps: int) -> float:
    """The largest size found at which something is proved: by steps of a factor, then halvings of its logarithm."""
    low, high = start, start * factor
    while proves(high):
        low, high = high, high * factor
    while low > 1e-4 and low == start and not proves(low):
        start, low, high = start / factor, low / factor, low
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if proves(middle) else (low, middle)
    return low


class ByNorms:
    """The inequality with a Lipschitz constant from the product of spectral norms."""

    def __init__(self, hyperplanes: Hyperplanes, x: torch.Tensor) -> None:
        self.hyperplanes, self.x, self.decision = hyperplanes, x, hyperplanes.network.decision
        self.answer = hyperplanes.network.predict(x)
        *before, last = hyperplanes.chain.weights
        norm = math.prod(torch.linalg.matrix_norm(w, 2).item() for w in before) * (1.0 + 1e-9)
        self.constants = (self.decision.comparison(self.answer)[0] @ last).norm(dim=1) * norm

    def proves(self, eps: float) -> bool:
        """Whether log p <= log DELTA follows at this size."""
        query = Query(self.hyperplanes, self.x, [0], Sphere(eps), Settings(seed=1))
        outputs = torch.cat(list(itertools.islice(sampled_outputs(query, 0), math.ceil(SAMPLES / 1024))))
        far = (query.margins.of(outputs) / self.constants).amin(1)
        choosing, rest = far[:512].sort().values, far[512:SAMPLES]

        def log_p(tau: float) -> float:
            missed = int((rest < tau).sum())
            return log_far(Sphere(eps), query.m, clopper_pearson(missed, len(rest), CONFIDENCE), tau)

        best = min(
            (log_p(tau), tau) for tau in choosing[:64].clamp_min(0.0).tolist()
        )  # generous to it: best tau seen
        return best[0] <= math.log(DELTA)


def measure(name: str, count: int, branching: bool) -> None:
    """Print one network's line."""
    network = load(DATA / NETWORKS[name])
    hyperplanes = Hyperplanes(network)
    rungs = ["concentration", "branching"] if branching else ["concentration"]
    found: dict[str, list[float]] = {}
    seconds = []
    for x in inputs(name, network, count).split(1):

        def proves(eps: float, seed: int = 1, x: torch.Tensor = x) -> bool:
            settings = Settings(samples=SAMPLES, confidence=CONFIDENCE, seed=seed)
            (bound,) = ISOPERIMETRY.bound(Query(hyperplanes, x, [0], Sphere(eps), settings))
            seconds.append(bound.seconds)
            return bound.log_misclassification <= math.log(DELTA)

        (one,) = plan(network, x, Sphere(1.0), DELTA, rungs=rungs)
        for rung in rungs:
            found.setdefault(rung, []).append(one.largest_eps[rung] or 0.0)
        eps = largest(proves, found[rungs[0]][-1] * 1.2, 1.15, 3)
        while not proves(eps, seed=2):
            eps *= 0.98
        found.setdefault("isoperimetry", []).append(eps)
        norms = ByNorms(hyperplanes, x)
        found.setdefault("lipschitz", []).append(largest(norms.proves, 0.05, 1.5, 6))
        directions = Directions(hyperplanes, x)
        for rung, sizes in found.items():
            if directions.misclassified(sizes[-1]):
                sys.exit(f"{rung} claims p <= {DELTA} at eps {sizes[-1]}: samples differ")
        print(
            "  " + ", ".join(f"{rung} {sizes[-1]:.4g}" for rung, sizes in found.items()), file=sys.stderr, flush=True
        )
    best = [max(pair) for pair in zip(*(found[rung] for rung in rungs), strict=True)]
    ratio = statistics.median(a / b for a, b in zip(found["isoperimetry"], best, strict=True))
    medians = ", ".join(f"{rung} {statistics.median(sizes):.4g}" for rung, sizes in found.items())
    print(
        f"{name}: {len(best)} images, median eps: {medians}; isoperimetry over the best proved {ratio:.3f}, "
        f"{statistics.median(seconds):.2g} s for a bound",
        flush=True,
    )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=["256x2", "256x4"], help="dense ones of tightness.py")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--branching", action="store_true", help="search with rung `branching` too (slow)")
    given = parser.parse_args()
    start = time.perf_counter()
    for name in given.networks:
        measure(name, given.images, given.branching)
    print(f"{time.perf_counter() - start:.0f} s, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
