"""Proved lower bounds on p where samples see the answer change often: p > 0.1, on the mnistfc networks.

    python benchmarks/lower.py [--eps 0.3 1.0] [--images 400] [--draws 2000]

Of the first test images those are taken whose answer more than a tenth of the draws change, sphere noise. A lower
bound is held against the upper confidence limit (level 1e-6) of the sampled p before anything is printed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import torch
from data import DATA, images
from scipy import special

from calotte import Network, Settings, Sphere, load
from calotte.ladder import PROVED_RUNGS
from calotte.proofs.prove import one_input
from calotte.query import Query

NETWORKS = ("256x2", "256x4", "256x6")
RUNGS = ("relaxation", "concentration", "branching")


def sampled(network: Network, x: torch.Tensor, law: Sphere, draws: int) -> int:
    """At how many draws of the noise the answer at x (1, d) is another."""
    y = x + law.sample(draws, network.d, torch.Generator().manual_seed(1))
    return int((network.predict(y) != network.predict(x)).sum())


def lower_bounds(query: Query, changed: int, draws: int) -> list[str]:
    """What the rungs prove, and the CPU-seconds that the last one took, as text."""
    limit = special.betaincinv(changed + 1, draws - changed, 1.0 - 1e-6) if changed < draws else 1.0
    found, begun = [], 0.0
    for name in RUNGS:
        begun = time.process_time()
        p = math.exp(PROVED_RUNGS[name].log_lower(query, query.sizes).item())
        if p > limit:
            sys.exit(f"{name}: p >= {p:g}, samples say {limit:g} at most")
        found.append(f"{p:14.3g}" if p else f"{'-':>14}")
    return [*found, f"{time.process_time() - begun:8.1f}"]


def main() -> None:
    """Print the bounds for each network and eps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eps", type=float, nargs="+", default=[0.3, 1.0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--draws", type=int, default=2000)
    given = parser.parse_args()
    x = images(given.images)
    print("network  eps image  sampled" + "".join(f"{name:>15}" for name in RUNGS) + "  CPU-s of the last")
    for eps in given.eps:
        told = asked = 0
        for name in NETWORKS:
            network, law = load(DATA / "mnistfc" / f"mnist-net_{name}.onnx"), Sphere(eps)
            for i in range(len(x)):
                changed = sampled(network, x[i : i + 1], law, given.draws)
                if changed <= 0.1 * given.draws:
                    continue
                query = one_input(network, x[i], law, Settings(), "change")
                bounds = lower_bounds(query, changed, given.draws)
                told, asked = told + any(b.strip() != "-" and float(b) > 1e-3 for b in bounds[:-1]), asked + 1
                print(f"{name:7} {eps:4g} {i:5} {changed / given.draws:8.3f} {' '.join(bounds)}", flush=True)
        print(f"eps {eps:g}: above 1e-3 for {told} of {asked}")


if __name__ == "__main__":
    main()
