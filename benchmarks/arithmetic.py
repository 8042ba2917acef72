"""What float32 costs: the largest eps with p <= 1e-3 proved, in real arithmetic and as float32 executes the network.

    python benchmarks/arithmetic.py [NETWORK ...] [--images 3] [--rungs RUNG ...]

The first test images that are classified correctly, sphere noise. Before a network's lines are printed each float32
bound is held against 2,000 draws that PyTorch answers in float32, one order of sums among those that it speaks of.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from data import DATA, cifar, images, labels
from scipy import special
from tightness import NETWORKS

from calotte import Network, Sphere, load, plan
from calotte.network.single import converted

DELTA, DRAWS, LEVEL = 1e-3, 2000, 1e-6
MEASURED = ("256x2", "256x4", "256x6", "Convnet_avgpool", "cifar_base_kw", "resnet_2b")


def wrong(single: Network, x: torch.Tensor, answer: int, eps: float) -> int:
    """How many draws PyTorch answers otherwise in float32."""
    noisy = x + Sphere(eps).sample(DRAWS, single.d, torch.Generator().manual_seed(3))
    return sum(int((single.predict(part) != answer).sum()) for part in noisy.float().split(200))


def measure(name: str, count: int, rungs: list[str]) -> None:
    """Print the lines of a network."""
    network = load(DATA / NETWORKS[name])
    x = images(10 * count) if network.d == 784 else cifar(name, 10 * count)
    truth = labels(10 * count) if network.d == 784 else network.predict(x)
    x = x[network.predict(x) == truth][:count]
    single = converted(network, torch.float32, "cpu")
    found, seconds = {}, {}
    for arithmetic in ("real", "float32"):
        began = time.process_time()
        found[arithmetic] = plan(network, x, Sphere(1.0), DELTA, arithmetic=arithmetic, rungs=rungs)
        seconds[arithmetic] = (time.process_time() - began) / len(x)
    for row, one in zip(x, found["float32"], strict=True):
        for rung, eps in one.largest_eps.items():
            bad = wrong(single, row, one.predicted, eps) if eps else 0
            assert special.betainc(bad, DRAWS - bad + 1, DELTA) > LEVEL if bad else True, (name, rung, eps, bad)
    print(f"{name}: {seconds['real']:.2f} and {seconds['float32']:.2f} CPU-seconds an image")
    for rung in found["real"][0].largest_eps:
        real, float32 = ([one.largest_eps[rung] or 0.0 for one in found[a]] for a in ("real", "float32"))
        shares = [b / a for a, b in zip(real, float32, strict=True) if a]
        print(
            f"  {rung:14} real {statistics.median(real):.4g}, float32 {statistics.median(float32):.4g}; of the eps "
            f"{statistics.median(shares):.4f} in the median, {min(shares):.4f} at least"
        )


def main() -> None:
    """Measure the networks named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=MEASURED)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--rungs", nargs="*", default=["cell", "relaxation", "concentration"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.networks:
        measure(name, given.images, given.rungs)


if __name__ == "__main__":
    main()
