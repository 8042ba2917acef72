"""Distances to all hyperplanes of the cells of real images, with enclosures, beside the floor of bare products.

Dense: all 10,000 MNIST test images, distances and both face bounds. The floor is the multiplications of the plain
recursion of Theorem 4.1 in the reduced basis, no inactive unit skipped, as bare torch.mm and torch.bmm calls (the
faster counts). Convolutional and residual: one CIFAR image; the floor is one transposed product for each unit, in
the same batches, and nothing else. Distances are checked against an independent way before anything is printed.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time

import torch
from data import DATA, cifar, images

from calotte import Sphere, load
from calotte.assess import PROVED_RUNGS
from calotte.bounds import Problem
from calotte.geometry import Geometry
from calotte.normals import one_hot_blocks, pull_back, row_norms
from calotte.settings import Settings

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
        for name in ("theorem", "cell"):
            last = PROVED_RUNGS[name].log_bound(problem, problem.sizes)
        bounds.append(last)
    return (time.perf_counter() - start) / len(x), torch.cat(bounds)


def dense(count: int) -> None:
    """The dense network of six layers on MNIST."""
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


def convolutional(name: str, folder: str) -> None:
    """One CIFAR image on a convolutional network."""
    network = load(DATA / folder / f"{name}.onnx")
    x = cifar(name, 1)
    start = time.perf_counter()
    geometry = Geometry(network)
    products = sum(packing.products for packing in geometry.packings.values())
    prepared = time.perf_counter() - start
    distances = geometry.distances(x)
    masks = {i: mask[0] for i, mask in network.masks(network.pattern(x)).items()}
    feeders = list(geometry.packings)
    values = dict(network.values(x))
    floors, ours = [], []
    for _ in range(3):
        seconds, singles = 0.0, []
        for node in feeders:
            for _, hot in one_hot_blocks(network, node, geometry.memory_limit / 4):
                start = time.perf_counter()
                rows = pull_back(network, masks, node, hot)
                seconds += time.perf_counter() - start
                singles.append(row_norms(rows))
        floors.append(seconds)
        start = time.perf_counter()
        geometry.distances(x)
        ours.append(time.perf_counter() - start)
    expected = torch.cat([values[node].flatten().abs() for node in feeders]) / torch.cat(singles)
    gap = (distances.nearest[0, : network.hidden_units] / expected - 1).nan_to_num().abs().max()
    if gap > 1e-6:
        sys.exit(f"{name}: distances differ from those of single products by {gap:.1e} relative")
    floor, own = statistics.median(floors), statistics.median(ours)
    hidden = network.hidden_units
    print(f"{name}: N = {network.units} ({hidden} ReLUs, {network.units - hidden} comparisons), one image")
    print(f"  floor ({hidden} transposed products): {floor:.2f} s; ours ({products} packed): {own:.3f} s, ", end="")
    print(f"floor / ours {floor / own:.1f}; prepared once in {prepared:.2f} s")


def main(count: int) -> None:
    dense(count)
    convolutional("cifar_base_kw", "oval21_cifar_conv")
    convolutional("resnet_2b", "cifar10_resnet")
    convolutional("resnet_4b", "cifar10_resnet")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
