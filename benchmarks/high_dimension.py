"""Distances on a dense network with d = 150,528 inputs and 3 x 512 units: time and memory."""

from __future__ import annotations

import resource
import sys
import time

import torch

from calotte import random_network
from calotte.cells.hyperplanes import Hyperplanes
from calotte.cells.products import pull_back


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    d = 150_528
    network = random_network((d, 512, 512, 512, 10), generator)
    x = torch.rand(32, d, dtype=torch.float64, generator=generator)
    start = time.perf_counter()
    hyperplanes = Hyperplanes(network)
    rows = hyperplanes.space.rows
    prepared = time.perf_counter() - start
    start = time.perf_counter()
    distances = hyperplanes.distances(x)
    seconds = time.perf_counter() - start
    masks = {i: mask[0] for i, mask in network.masks(network.pattern(x[:1])).items()}
    feeder = network.nodes[network.relus[-1]].inputs[0]
    normal = pull_back(network, masks, feeder, torch.eye(512, dtype=torch.float64)[:4])
    value = dict(network.values(x[:1]))[feeder][0, :4]
    truth = value.abs() / normal.norm(dim=1)
    gap = (distances.nearest[0, 1024:1028] / truth - 1).abs().max()
    if gap > 1e-9:
        sys.exit(f"distances differ from those of the full normals by {gap:.1e} relative")
    looseness = 1 - distances.lower / distances.nearest
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"d = {d}, N = {network.units}, {torch.get_num_threads()} threads; basis of dimension {rows.shape[1]}")
    print(f"basis, once: {prepared:.1f} s; distances: {seconds / len(x) * 1e3:.1f} ms an input")
    print(f"relative width of the enclosures: median {looseness.median():.1e}, largest {looseness.max():.1e}")
    print(f"peak memory: {memory:.2f} GB, of which W_1 in float64 takes {512 * d * 8 / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
