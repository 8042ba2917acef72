"""Noise or attack: what is proved of one robust network, about the worst case at an L2 radius and about noise of it.

    python benchmarks/noise_or_attack.py [--radius 1.0] [--images 100] [--epochs 12]

A 784-100-100-10 network is trained here against projected gradient steps of that L2 norm on MNIST images (8,000 of
the test set's 10,000: the only ones at hand), and judged on the others. `relaxation` says how many no perturbation of
the radius changes; the other rungs, of how many answers sphere noise of the radius changes at most 1 in 1e9. Samples
are held against every bound. What worst-case verifiers reach is cited in docs/comparison.md, not run.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time

import torch
from data import images, labels
from torch import nn

from calotte import Network, Settings, Sphere, assess, from_torch

TRAINED, DELTA = 8000, 1e-9
RUNGS = ("relaxation", "concentration", "moments")


def attacked(module: nn.Module, x: torch.Tensor, y: torch.Tensor, radius: float, steps: int = 7) -> torch.Tensor:
    """Images within the radius of x whose loss is large, by normalised gradient steps; pixels stay in [0, 1]."""
    r = torch.zeros_like(x)
    for _ in range(steps):
        r.requires_grad_(True)
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(module(x + r), y), r)
        r = r.detach() + 2.5 * radius / steps * gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)
        r = r * (radius / r.norm(dim=1, keepdim=True).clamp_min(radius))
        r = (x + r).clamp(0.0, 1.0) - x
    return x + r


def trained(radius: float, epochs: int) -> nn.Module:
    """The network, the same for the same arguments."""
    generator = torch.Generator().manual_seed(0)
    x, y = images(TRAINED).float(), labels(TRAINED)
    module = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    for layer in module:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features), generator=generator)
            nn.init.zeros_(layer.bias)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)
    for epoch in range(epochs):
        grown = radius * min(1.0, (epoch + 1) / max(1, epochs // 2))
        for some in torch.randperm(TRAINED, generator=generator).split(100):
            near = attacked(module, x[some], y[some], grown)
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(near), y[some]).backward()
            optimiser.step()
    return module.double().eval()


def sampled(network: Network, x: torch.Tensor, radius: float, samples: int = 2000) -> float:
    """The share of noise that changes the answer."""
    r = Sphere(radius).sample(samples, network.d, torch.Generator().manual_seed(1))
    return (network.predict(x + r) != network.predict(x[None])).double().mean().item()


def main() -> None:
    """Train, prove, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--radius", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    begin = time.process_time()
    module = trained(given.radius, given.epochs)
    x, y = (t[TRAINED : TRAINED + given.images] for t in (images(10_000), labels(10_000)))
    network = from_torch(module, (784,))
    right = network.predict(x) == y
    against = module(attacked(module, x, y, given.radius, 40)).argmax(1) == y
    print(
        f"784-100-100-10, trained in {time.process_time() - begin:.0f} CPU-seconds; {len(x)} other images, "
        f"{right.double().mean():.0%} classified correctly, {against.double().mean():.0%} under attack at L2 radius "
        f"{given.radius:g}"
    )
    results, seconds = {}, {}
    for rung in RUNGS:
        begin = time.process_time()
        found = assess(network, x[right], Sphere(given.radius), rungs=[rung], settings=Settings(search=False))
        seconds[rung] = (time.process_time() - begin) / len(found)
        results[rung] = [one.bounds[0].log_misclassification for one in found]
    for i, one in enumerate(x[right]):
        share = sampled(network, one, given.radius)
        low = share - 4 * math.sqrt(share / 2000)
        for rung in RUNGS:
            if low > 0 and results[rung][i] < math.log(low):
                sys.exit(f"{rung} claims log p <= {results[rung][i]}: {share} of the samples differ")
    certain = sum(log == -math.inf for log in results["relaxation"])
    print(f"  no perturbation of that norm changes the answer, proved by relaxation: {certain / len(x):.0%} of all")
    for rung in RUNGS:
        rare = sum(log <= math.log(DELTA) for log in results[rung])
        print(
            f"  {rung:13s} noise of that norm changes it with p <= {DELTA:g}: {rare / len(x):.0%} of all, "
            f"{1000 * seconds[rung]:.0f} CPU-ms an image, median log p {statistics.median(results[rung]):.3g}"
        )


if __name__ == "__main__":
    main()
