"""CPU time of `plan` for each rung and image, on one thread: how many sizes are tried, and what they cost.

    python benchmarks/plan.py [--images N] [NETWORK ...]

Before a line is printed, `assess` is asked whether it proves p <= 1e-3 at the size of the best rung.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from data import DATA, images
from ladder import NETWORKS

from calotte import Settings, Sphere, assess, load
from calotte.ladder import PROVED_RUNGS
from calotte.plan import Planner

DELTA = 1e-3


def measure(name: str, count: int) -> None:
    """Print a line for each image, and the median."""
    network, settings = load(DATA / NETWORKS[name]), Settings(search=False)
    planner, taken = Planner(network, Sphere(1.0), DELTA, settings=settings), []
    for i, x in enumerate(images(count)):
        starts: list[tuple[str, float]] = []
        start = time.process_time()
        one = planner.plan(x, i, None, lambda _, rung, starts=starts: starts.append((rung, time.process_time())))
        end = time.process_time()
        ends = [*(t for _, t in starts[1:]), end]
        parts = {rung.split()[-1]: stop - begin for (rung, begin), stop in zip(starts, ends, strict=True)}
        reached = {rung: eps for rung, eps in one.largest_eps.items() if eps}
        if reached:
            best = max(reached, key=reached.__getitem__)
            (there,) = assess(network, x[None], Sphere(reached[best]), rungs=[best], settings=settings)
            if there.best.probability > DELTA:
                sys.exit(f"{name}, image {i}: plan says {best} at {reached[best]}, assess {there.best.probability}")
        taken.append(end - start)
        told = ", ".join(f"{rung} {parts[rung]:.2f} s to {one.largest_eps.get(rung, 0)}" for rung in PROVED_RUNGS)
        print(f"  image {i}: {taken[-1]:.1f} s: {told}", flush=True)
    print(f"{name}: {statistics.median(taken):.1f} s an image in the median of {count}", flush=True)


def main() -> None:
    """Measure the networks named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.networks:
        measure(name, given.images)


if __name__ == "__main__":
    main()
