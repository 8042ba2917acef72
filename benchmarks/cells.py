"""Distances to all hyperplanes and both face bounds for every MNIST test image, beside the matrix-product floor.

The floor is the multiplications of the plain recursion of Theorem 4.1 in the reduced basis, no inactive unit
skipped, as bare torch.mm and torch.bmm calls (the faster counts). The distances are checked against transposed
products on some images before anything is printed.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time

import torch
from mnist import DATA, images

from calotte import Sphere, load
from calotte.assess import PROVED_RUNGS
from calotte.bounds import Problem, Settings
from calotte.geometry import Geometry

EPS, BATCH = 0.05, 256


def floor_per_image(weights: list[torch.Tensor], rank: int, images: int) -> float:
    """Seconds an image for the bare products."""
    best = float("inf")
    for batched in (False, True):
        seconds = 0.0
        for weight in weights[1:]:
            n_out, n_in = weight.shape
            rows = torch.randn(images, n_in, rank, dtype=torch.float64)
            if batched:
                wide = weight.expand(images, n_out, n_in)
                start = time.perf_counter()
                torch.bmm(wide, rows)
            else:
                start = time.perf_counter()
                for one in rows:
                    torch.mm(weight, one)
            seconds += time.perf_counter() - start
        best = min(best, seconds / images)
    return best


def ours_per_image(geometry: Geometry, x: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Seconds an image for distances with enclosures and the rungs theorem and cell; the cell bounds."""
    noise, bounds = Sphere(EPS), []
    start = time.perf_counter()
    for part in x.split(BATCH):
        problem = Problem(geometry, part, list(range(len(part))), noise, Settings())
        for rung in PROVED_RUNGS.values():
            last = rung.log_bound(problem, problem.sizes)
        bounds.append(last)
    return (time.perf_counter() - start) / len(x), torch.cat(bounds)


def main(count: int) -> None:
    x = images(count)
    model = DATA / "mnistfc" / "mnist-net_256x6.onnx"
    network = load(model)
    geometry = Geometry(network)
    assert geometry.chain is not None
    weights, rank = list(geometry.chain.weights), geometry.space.rows.shape[1]

    streamed = Geometry(network)
    streamed.chain = None
    few = x[:: max(1, count // 20)][:20]
    gap = (geometry.distances(few).nearest / streamed.distances(few).nearest - 1).nan_to_num().abs().max()
    if gap > 1e-6:
        sys.exit(f"the two ways to the distances differ by {gap:.1e} relative")

    ours_per_image(geometry, few)  # warm up
    floors, ours = [], []
    for part in x.split(-(-count // 5)):
        floors.append(floor_per_image(weights, rank, 200))
        ours.append(ours_per_image(geometry, part)[0])
    floor, own = statistics.median(floors), statistics.median(ours)
    ratios = sorted(f / o for f, o in zip(floors, ours, strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{model.stem}: N = {network.units}, {count} images, {torch.get_num_threads()} threads")
    print(f"floor (bare products): {floor * 1e3:.2f} ms an image, {floor * count:.1f} s in all")
    print(f"distances, enclosures, both bounds: {own * 1e3:.2f} ms an image, {own * count:.1f} s in all")
    print(
        f"floor / ours: median {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f} in 5 parts)"
    )
    print(f"peak memory of the process: {memory:.2f} GB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
