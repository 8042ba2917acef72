"""Throughput of the sampling rung beside bare forward passes of the same batches, on the mnistfc networks.

Before a time is printed, the rung's count of misclassified samples is compared with that of full-space noise.
"""

from __future__ import annotations

import math
import statistics
import sys
import time

import torch
from data import DATA, images

from calotte import Settings, Sphere, load
from calotte.bounds import Problem
from calotte.geometry import Geometry
from calotte.sampling.monte_carlo import CHUNK, count_misclassified

SAMPLES = 100 * CHUNK


def main() -> None:
    x = images(1)
    print(f"{torch.get_num_threads()} threads, {SAMPLES} samples in batches of {CHUNK}, float64, median of 7 pairs")
    for depth in (2, 4, 6):
        network = load(DATA / "mnistfc" / f"mnist-net_256x{depth}.onnx")
        geometry = Geometry(network)
        problem = Problem(geometry, x, [0], Sphere(8.0), Settings())
        ours = count_misclassified(problem, 0, SAMPLES)
        generator = torch.Generator().manual_seed(1)
        answer = network.predict(x)
        wrong = sum(
            int((network.predict(x + Sphere(8.0).sample(CHUNK, 784, generator)) != answer).sum())
            for _ in range(SAMPLES // CHUNK)
        )
        assert ours is not None
        p = (ours + wrong) / (2 * SAMPLES)
        if abs(ours - wrong) > 4 * math.sqrt(2 * SAMPLES * max(p * (1 - p), 1 / SAMPLES)):
            sys.exit(f"row-space and full-space counts differ: {ours} and {wrong} of {SAMPLES}")
        batch = x + Sphere(8.0).sample(CHUNK, 784, generator)
        ratios = []
        for _ in range(7):
            start = time.perf_counter()
            for _ in range(SAMPLES // CHUNK):
                network.forward(batch)
            bare = time.perf_counter() - start
            start = time.perf_counter()
            count_misclassified(problem, 0, SAMPLES)
            ratios.append(bare / (time.perf_counter() - start))
        print(
            f"256x{depth}: {statistics.median(ratios):.2f} of the throughput of bare forward passes "
            f"({min(ratios):.2f} to {max(ratios):.2f}); p at eps 8: {ours / SAMPLES:.4f} and {wrong / SAMPLES:.4f}"
        )


if __name__ == "__main__":
    main()
