"""Throughput of the sampling rung beside bare float64 forward passes, and beside the same draws in float64 alone.

Before a time is printed, the rung's count of misclassified samples is compared with that of full-space noise, and
draw for draw with float64.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
import time

import torch
from data import DATA, images

from calotte import Network, Settings, Sphere, load
from calotte.bounds import Problem
from calotte.cells.geometry import Geometry
from calotte.sampling.monte_carlo import CHUNK, Draws, count_misclassified, misclassified, sampled_outputs

CHUNKS = 60
SAMPLES, EPS = CHUNKS * CHUNK, 8.0


def timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def check(network: Network, problem: Problem, x: torch.Tensor) -> tuple[int, int, int]:
    """Leave where counts or single draws disagree; (our count, the full-space count, draws computed again)."""
    again = 0
    real = Draws.outputs

    def counted(self: Draws, noise: torch.Tensor) -> torch.Tensor:
        nonlocal again
        again += len(noise)
        return real(self, noise)

    Draws.outputs = counted
    found = list(itertools.islice(misclassified(problem, 0), CHUNKS))
    Draws.outputs = real
    exact = itertools.islice(sampled_outputs(problem, 0), CHUNKS)
    answer, generator = problem.predicted[0], torch.Generator().manual_seed(1)
    for wrong, outputs in zip(found, exact, strict=True):
        if not torch.equal(wrong, network.decision.decide(outputs) != answer):
            sys.exit("a draw is answered otherwise in float64")
    ours = int(torch.cat(found).sum())
    full = sum(
        int((network.predict(x + Sphere(EPS).sample(CHUNK, 784, generator)) != answer).sum()) for _ in range(CHUNKS)
    )
    p = (ours + full) / (2 * SAMPLES)
    if abs(ours - full) > 4 * math.sqrt(2 * SAMPLES * max(p * (1 - p), 1 / SAMPLES)):
        sys.exit(f"row-space and full-space counts differ: {ours} and {full} of {SAMPLES}")
    return ours, full, again - CHUNK


def main() -> None:
    x = images(1)
    print(f"{torch.get_num_threads()} threads, {SAMPLES} samples in batches of {CHUNK}, medians of 7 rounds")
    for depth in (2, 4, 6):
        network = load(DATA / "mnistfc" / f"mnist-net_256x{depth}.onnx")
        problem = Problem(Geometry(network), x, [0], Sphere(EPS), Settings())
        ours, full, again = check(network, problem, x)
        batch = x + Sphere(EPS).sample(CHUNK, 784, torch.Generator().manual_seed(1))
        bare, double = [], []
        for _ in range(7):
            rung = timed(lambda p=problem: count_misclassified(p, 0, SAMPLES))
            bare.append(timed(lambda n=network, b=batch: [n.forward(b) for _ in range(CHUNKS)]) / rung)
            alone = timed(lambda p=problem: list(itertools.islice(sampled_outputs(p, 0), CHUNKS)))
            double.append(alone / rung)
        print(
            f"256x{depth}: {statistics.median(bare):.2f} of the throughput of bare float64 forward passes "
            f"({min(bare):.2f} to {max(bare):.2f}), {statistics.median(double):.2f} of that of the same draws in "
            f"float64 alone ({min(double):.2f} to {max(double):.2f}); {again} of {SAMPLES} draws computed again; "
            f"p at eps {EPS:g}: {ours / SAMPLES:.4f} and {full / SAMPLES:.4f}"
        )


if __name__ == "__main__":
    main()
