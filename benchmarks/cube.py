"""Uniform noise in a cube on a 784-200-10 network: how far each rung reaches, and splitting against plain draws.

    python benchmarks/cube.py [IMAGES]

The network is trained here on the first 9,000 MNIST test images (seeded) and asked about later ones that it answers
rightly. Every bound that is printed is held against draws first. One thread.
"""

from __future__ import annotations

import math
import statistics
import sys
import time

import torch
from data import images, labels
from torch import Tensor

from calotte.assess import assess
from calotte.independent import Box
from calotte.models.torch import from_torch
from calotte.network.graph import Network
from calotte.plan import plan
from calotte.settings import Settings

HALF_WIDTH = 0.25
DRAWS = 6_000_000


def trained(x: Tensor, y: Tensor) -> Network:
    """A network 784-200-10."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(784, 200), torch.nn.ReLU(), torch.nn.Linear(200, 10))
    optimizer = torch.optim.Adam(module.parameters(), 1e-3, weight_decay=1e-5)
    for _ in range(12):
        for part in torch.split(torch.randperm(len(x)), 64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[part].float()), y[part]).backward()
            optimizer.step()
    return from_torch(module.double().eval(), (784,))


def largest_certain(network: Network, x: Tensor) -> float:
    """The largest half-width at which `relaxation` proves p = 0, by bisection."""
    low, high = 1e-4, 1.0
    for _ in range(14):
        middle = math.sqrt(low * high)
        (one,) = assess(network, x[None], Box(middle), rungs=["relaxation"], settings=Settings(search=False))
        low, high = (middle, high) if one.bounds[0].certain else (low, middle)
    return low


def main(count: int) -> None:
    torch.set_num_threads(1)
    x, y = images(10_000), labels(10_000)
    network = trained(x[:9_000], y[:9_000])
    test = x[9_000:]
    right = network.predict(test) == y[9_000:]
    print(f"784-200-10, accuracy {right.double().mean():.4f} on 1,000 images")
    rows: dict[str, list[float]] = {}
    clock = time.process_time()
    for row in test[right][:count]:
        certain = largest_certain(network, row)
        rows.setdefault("p = 0, relaxation", []).append(certain)
        for delta in (1e-4, 1e-9):
            (found,) = plan(network, row[None], Box(1.0), delta, rungs=["relaxation", "concentration"])
            for rung, eps in found.largest_eps.items():
                assert eps is not None
                rows.setdefault(f"p <= {delta:g}, {rung}", []).append(eps)
                noisy = row + Box(eps).sample(20_000, 784, torch.Generator().manual_seed(1))
                wrong = int((network.predict(noisy) != network.predict(row[None])).sum())
                if wrong > 20_000 * delta + 6 * math.sqrt(20_000 * delta) + 2:
                    sys.exit(f"{wrong} of 20,000 draws contradict {rung} at half-width {eps}")
    seconds = (time.process_time() - clock) / count
    for name, values in rows.items():
        gain = statistics.median(v / c for v, c in zip(values, rows["p = 0, relaxation"], strict=True))
        print(f"{name:32s} half-width {statistics.median(values):.5f} in the median, {gain:.2f} times that of p = 0")
    print(f"{count} images, {seconds:.1f} s of processor each")
    splitting(network, test[right])


def splitting(network: Network, x: Tensor) -> None:
    """At the image whose p is nearest to 1e-5 under noise of half-width 0.25, by splitting, as many draws."""
    best: tuple[float, Tensor, float, float] | None = None
    for row in x[:40]:
        quick = Settings(search=False)
        (one,) = assess(network, row[None], Box(HALF_WIDTH), rungs=["cell"], estimates=["splitting"], settings=quick)
        estimate = one.estimates[0]
        if estimate.log_probability is None or estimate.relative_error is None:
            continue
        off = abs(estimate.log_probability - math.log(1e-5))
        if best is None or off < best[0]:
            best = (off, row, estimate.log_probability, estimate.relative_error)
    if best is None:
        sys.exit("no image has an estimate")
    _, row, log_p, error = best
    clock, wrong, answer = time.process_time(), 0, network.predict(row[None])
    generator = torch.Generator().manual_seed(2)
    for _ in range(DRAWS // 20_000):
        wrong += int((network.predict(row + Box(HALF_WIDTH).sample(20_000, 784, generator)) != answer).sum())
    seconds, share = time.process_time() - clock, wrong / DRAWS
    off = abs(math.exp(log_p) - share) / math.hypot(error * math.exp(log_p), math.sqrt(max(wrong, 1)) / DRAWS)
    print(f"half-width {HALF_WIDTH}: splitting {math.exp(log_p):.3g} (relative error {error:.2f})")
    print(f"{DRAWS} draws {share:.3g} in {seconds:.0f} s of processor: {off:.1f} standard errors apart")
    if off > 4:
        sys.exit("they do not agree")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
