"""Throughput of the sampling rung beside bare float64 forward passes of the same batches.

Before a time is printed, the rung's count of misclassified samples is compared with that of full-space noise.
"""

from __future__ import annotations

import math
import statistics
import sys
import time

import torch
from data import DATA, images

from calotte import Network, Settings, Sphere, load
from calotte.cells.hyperplanes import Hyperplanes
from calotte.query import Query
from calotte.sampling.monte_carlo import count_misclassified

CHUNK, CHUNKS = 1024, 60
SAMPLES, EPS = CHUNKS * CHUNK, 8.0


def timed(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def check(network: Network, query: Query, x: torch.Tensor) -> tuple[int, int]:
    """Leave where the counts disagree; (our count, the full-space count)."""
    answer, generator = query.predicted[0], torch.Generator().manual_seed(1)
    ours = count_misclassified(query, 0, SAMPLES)
    full = sum(
        int((network.predict(x + Sphere(EPS).sample(CHUNK, 784, generator)) != answer).sum()) for _ in range(CHUNKS)
    )
    p = (ours + full) / (2 * SAMPLES)
    if abs(ours - full) > 4 * math.sqrt(2 * SAMPLES * max(p * (1 - p), 1 / SAMPLES)):
        sys.exit(f"row-space and full-space counts differ: {ours} and {full} of {SAMPLES}")
    return ours, full


def main() -> None:
    torch.set_num_threads(1)
    x = images(1)
    print(f"one thread, {SAMPLES} samples in batches of {CHUNK}, medians of 7 rounds, seconds of processor")
    for depth in (2, 4, 6):
        network = load(DATA / "mnistfc" / f"mnist-net_256x{depth}.onnx")
        query = Query(Hyperplanes(network), x, [0], Sphere(EPS), Settings())
        ours, full = check(network, query, x)
        batch = x + Sphere(EPS).sample(CHUNK, 784, torch.Generator().manual_seed(1))
        bare = []
        for _ in range(7):
            rung = timed(lambda p=query: count_misclassified(p, 0, SAMPLES))
            bare.append(timed(lambda n=network, b=batch: [n.forward(b) for _ in range(CHUNKS)]) / rung)
        print(
            f"256x{depth}: {statistics.median(bare):.2f} of the throughput of bare float64 forward passes "
            f"({min(bare):.2f} to {max(bare):.2f}); p at eps {EPS:g}: {ours / SAMPLES:.4f} and {full / SAMPLES:.4f}"
        )


if __name__ == "__main__":
    main()
