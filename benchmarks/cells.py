"""Distances to all hyperplanes of the cells of real images, with enclosures, beside the floor of bare products.

Dense: all 10,000 MNIST test images, distances and both face bounds. The floor is the multiplications of the plain
recursion of Theorem 4.1 in the reduced basis, no inactive unit skipped, as bare torch.mm and torch.bmm calls (the
faster counts). Convolutional and residual: one CIFAR image; the floor is one transposed product for each unit, in
blocks, and nothing else. A wide residual network with random weights and a generator: the same without the floor,
with the cost told beforehand. Distances are checked against an independent way before anything is printed.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time

import torch
from data import DATA, cifar, images

from calotte import Network, Sphere, from_torch, load
from calotte.assess import PROVED_RUNGS
from calotte.cells.hyperplanes import Hyperplanes
from calotte.cells.products import one_hot_blocks, one_hot_rows, pull_back, row_norms
from calotte.query import Query
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


def ours_per_image(hyperplanes: Hyperplanes, x: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Seconds an image for distances with enclosures and the rungs theorem and cell; the cell bounds."""
    noise, bounds = Sphere(EPS), []
    start = time.perf_counter()
    for part in x.split(BATCH):
        query = Query(hyperplanes, part, list(range(len(part))), noise, Settings())
        for name in ("theorem", "cell"):
            last = PROVED_RUNGS[name].log_bound(query, query.sizes)
        bounds.append(last)
    return (time.perf_counter() - start) / len(x), torch.cat(bounds)


def dense(count: int) -> None:
    """The dense network of six layers on MNIST."""
    x = images(count)
    model = DATA / "mnistfc" / "mnist-net_256x6.onnx"
    network = load(model)
    hyperplanes = Hyperplanes(network)
    assert hyperplanes.chain is not None
    weights, rank = list(hyperplanes.chain.weights), hyperplanes.space.rows.shape[1]

    streamed = Hyperplanes(network)
    streamed.chain = None
    few = x[:: max(1, count // 20)][:20]
    gap = (hyperplanes.distances(few).nearest / streamed.distances(few).nearest - 1).nan_to_num().abs().max()
    if gap > 1e-6:
        sys.exit(f"the two ways to the distances differ by {gap:.1e} relative")

    ours_per_image(hyperplanes, few)  # warm up
    floors, ours = [], []
    for part in x.split(-(-count // 5)):
        floors.append(floor_per_image(weights, rank, 200))
        ours.append(ours_per_image(hyperplanes, part)[0])
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
    hyperplanes = Hyperplanes(network)
    distances = hyperplanes.distances(x)
    masks = {i: mask[0] for i, mask in network.masks(network.pattern(x)).items()}
    feeders = [network.nodes[i].inputs[0] for i in network.relus]
    values = dict(network.values(x))
    floors, ours = [], []
    for _ in range(3):
        seconds, singles = 0.0, []
        for node in feeders:
            for _, hot in one_hot_blocks(network, node, hyperplanes.memory_limit / 4):
                start = time.perf_counter()
                rows = pull_back(network, masks, node, hot)
                seconds += time.perf_counter() - start
                singles.append(row_norms(rows))
        floors.append(seconds)
        start = time.perf_counter()
        hyperplanes.distances(x)
        ours.append(time.perf_counter() - start)
    expected = torch.cat([values[node].flatten().abs() for node in feeders]) / torch.cat(singles)
    gap = (distances.nearest[0, : network.hidden_units] / expected - 1).nan_to_num().abs().max()
    if gap > 1e-6:
        sys.exit(f"{name}: distances differ from those of single products by {gap:.1e} relative")
    floor, own = statistics.median(floors), statistics.median(ours)
    hidden = network.hidden_units
    print(f"{name}: N = {network.units} ({hidden} ReLUs, {network.units - hidden} comparisons), one image")
    print(f"  floor ({hidden} transposed products): {floor:.2f} s; ours: {own:.3f} s, floor / ours {floor / own:.1f}")


def large(name: str, network: Network, generator: torch.Generator) -> None:
    """One random input on a large network; some of its distances are checked by single products."""
    x = torch.randn(1, network.d, dtype=torch.float64, generator=generator)
    hyperplanes = Hyperplanes(network)
    start = time.perf_counter()
    cost = hyperplanes.cost()
    told = time.perf_counter() - start
    cpu = time.process_time()
    nearest = hyperplanes.distances(x).nearest[0]
    cpu = time.process_time() - cpu
    masks = {i: mask[0] for i, mask in network.masks(network.pattern(x)).items()}
    values, begin = dict(network.values(x)), 0
    for i in network.relus:
        node = network.nodes[i].inputs[0]
        value = values[node].flatten()
        for unit in torch.randint(len(value), (5,), generator=generator).tolist():
            norm = pull_back(network, masks, node, one_hot_rows(network, node, unit, unit + 1)).norm()
            if abs(value[unit].abs() / norm / nearest[begin + unit] - 1) > 1e-9:
                sys.exit(f"{name}: the distance of unit {unit} of node {node} differs from that of a single product")
        begin += len(value)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{name}: N = {network.units}, d = {network.d}, one input: {cpu:.1f} CPU seconds")
    print(
        f"  told beforehand, in {told * 1e3:.1f} ms: {cost}, {cost.seconds:.1f} s and {cost.bytes / 1e9:.2f} GB; ",
        end="",
    )
    print(f"peak memory of the process {memory:.2f} GB, memory limit {hyperplanes.memory_limit / 1e9:g} GB")


def wide_residual() -> torch.nn.Module:
    """Residual, 64 channels throughout, 139,264 ReLUs on images of 3 x 32 x 32."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, stride: int) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(64, 64, 3, stride, 1), nn.Conv2d(64, 64, 3, 1, 1)
            self.shortcut = nn.Conv2d(64, 64, 1, stride) if stride > 1 else nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))

    blocks = [Block(stride) for stride in (2, 1, 2)]
    return nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1), nn.ReLU(), *blocks, nn.Flatten(), nn.Linear(4096, 10))


def image_generator() -> torch.nn.Module:
    """100 latent numbers to an image by transposed convolutions, and two outputs: 45,056 ReLUs."""
    nn = torch.nn
    ups = [
        nn.ConvTranspose2d(256, 128, 4, 2, 1),
        nn.ConvTranspose2d(128, 64, 4, 2, 1),
        nn.ConvTranspose2d(64, 16, 4, 2, 1),
    ]
    steps = [step for up in ups for step in (up, nn.ReLU())]
    return nn.Sequential(
        nn.Linear(100, 4096), nn.ReLU(), nn.Unflatten(1, (256, 4, 4)), *steps, nn.Flatten(), nn.Linear(16384, 2)
    )


def main(count: int) -> None:
    dense(count)
    convolutional("cifar_base_kw", "oval21_cifar_conv")
    convolutional("resnet_2b", "cifar10_resnet")
    convolutional("resnet_4b", "cifar10_resnet")
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    large("residual, 64 channels", from_torch(wide_residual().eval(), (3, 32, 32)), generator)
    large("generator", from_torch(image_generator().eval(), (100,)), generator)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
