"""The largest eps with p <= delta: what each proved rung reaches, beside where Monte Carlo finds p = delta.

    python benchmarks/tightness.py [NETWORK ...] [--images 20] [--first 0] [--deltas 1e-3 1e-6] [--rungs RUNG ...]

The first test images that are classified correctly, sphere noise. Truth: 100,000 samples along fixed directions
(10,000 on networks that are no chain of dense layers), bisection on eps until p = 1e-3. For smaller p splitting or
importance sampling (`--truth`) estimates it at three sizes near where it is thought to be, and log p is taken to be
linear in 1 / eps^2 between them. Before a network's lines are printed every bound is evaluated again at two sizes and
held against the lower confidence limit (level 1e-6) of the sampled p.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time

import numpy as np
import torch
from data import DATA, NORMALISATION, cifar, images, labels
from scipy import special
from torch import nn

from calotte import Network, Settings, Sphere, from_torch, load, plan
from calotte.assess import assess
from calotte.cells.hyperplanes import Hyperplanes
from calotte.ladder import PROVED_RUNGS
from calotte.query import Query
from calotte.sampling.importance import IMPORTANCE
from calotte.sampling.splitting import SPLITTING

NETWORKS = {
    "256x2": "mnistfc/mnist-net_256x2.onnx",
    "256x4": "mnistfc/mnist-net_256x4.onnx",
    "256x6": "mnistfc/mnist-net_256x6.onnx",
    "mnist_relu_9_200": "eran_mnist/mnist_relu_9_200.onnx",
    "Convnet_avgpool": "verivital_mnist_conv/Convnet_avgpool.onnx",
    "Convnet_maxpool": "verivital_mnist_conv/Convnet_maxpool.onnx",
    "resnet_2b": "cifar10_resnet/resnet_2b.onnx",
    "cifar_base_kw": "oval21_cifar_conv/cifar_base_kw.onnx",
    "mnist_cnn_small": "torch_mnist/mnist_cnn_small.pth",
    "tabular": "30-128-2, trained here",
}
ESTIMATORS = {"splitting": SPLITTING, "importance": IMPORTANCE}


class Directions:
    """Fixed directions, and how often noise of some eps along them changes the answer of one input."""

    def __init__(self, hyperplanes: Hyperplanes, x: torch.Tensor) -> None:
        self.network, generator = hyperplanes.network, torch.Generator().manual_seed(7)
        self.answer = self.network.predict(x)
        self.start, self.samples = 0, 10_000
        if hyperplanes.chain is None:
            self.steps, self.base = Sphere(1.0).sample(self.samples, self.network.d, generator), x
        else:
            self.start, self.samples = hyperplanes.chain.ends[0], 100_000
            rows = hyperplanes.space.rows
            self.steps = Sphere(1.0).project(self.samples, rows.shape[1], hyperplanes.m, generator) @ rows.t()
            self.base = dict(self.network.values(x))[self.start].flatten(1)

    def misclassified(self, eps: float, most: float = math.inf) -> int:
        """How many of the samples are answered differently; counting may stop above `most`."""
        wrong = 0
        for part in self.steps.split(2048):
            outputs = self.network.forward(self.base + eps * part, self.start)
            wrong += int((self.network.decision.decide(outputs) != self.answer).sum())
            if wrong > most:
                break
        return wrong

    def truth(self, delta: float) -> float:
        """The eps where the share of misclassified samples crosses delta."""
        most = delta * self.samples
        low, high = 0.0, 1.0
        while self.misclassified(high, most) <= most and high < 1e4:
            low, high = high, 2 * high
        for _ in range(10):
            middle = (low + high) / 2
            low, high = (middle, high) if self.misclassified(middle, most) <= most else (low, middle)
        return low


def rare_truth(
    hyperplanes: Hyperplanes, x: torch.Tensor, method: str, deltas: list[float], start: float
) -> list[float]:
    """The eps at which each p of `deltas` (falling, below 1e-3) is estimated; nan for none. It is 1e-3 at `start`."""
    estimator, known, found = ESTIMATORS[method], [(math.log(1e-3), start)], []
    for delta in deltas:
        aim = math.log(delta)
        for _ in range(3):
            if any(abs(log_p - aim) < 0.3 for log_p, _ in known):
                break
            eps = interpolated(known, aim)
            one = estimator.estimate(Query(hyperplanes, x, [0], Sphere(eps), Settings()), 0)
            if one.log_probability is None or math.isinf(one.log_probability):
                return found + [math.nan] * (len(deltas) - len(found))
            known.append((one.log_probability, eps))
        found.append(interpolated(known, aim))
    return found


def interpolated(known: list[tuple[float, float]], log_p: float) -> float:
    """The eps where log p is so much, by a line in 1 / eps^2 through the nearest two; through 0 for one."""
    near = sorted(known, key=lambda pair: abs(pair[0] - log_p))[:2]
    if len(near) == 1 or near[0][0] == near[1][0]:
        return near[0][1] * math.sqrt(near[0][0] / log_p)
    (a, x), (b, y) = ((log, eps**-2) for log, eps in near)
    return (x + (y - x) * (log_p - a) / (b - a)) ** -0.5


def check(
    network: Network, x: torch.Tensor, directions: Directions, eps: float, rungs: list[str], settings: Settings
) -> None:
    """Leave where a bound lies below what samples rule out."""
    wrong = directions.misclassified(eps)
    lower = special.betaincinv(wrong, directions.samples - wrong + 1, 1e-6) if wrong else 0.0
    (one,) = assess(network, x, Sphere(eps), rungs=rungs, settings=settings)
    for bound in one.bounds:
        if math.exp(bound.log_misclassification) < lower:
            sys.exit(
                f"{bound.rung} claims log p <= {bound.log_misclassification} at eps {eps}: {wrong} samples differ"
            )


def opened(name: str) -> Network:
    """A network, in calotte's form."""
    if name == "tabular":
        return from_torch(trained()[0], (30,))
    if name != "mnist_cnn_small":
        return load(DATA / NETWORKS[name])
    layers = [nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.ReLU(), nn.Flatten()]
    module = nn.Sequential(*layers, nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)).double()
    weights = torch.load(DATA / NETWORKS[name], weights_only=True, map_location="cpu")
    module.load_state_dict(dict(zip(module.state_dict(), (w.double() for w in weights.values()), strict=True)))
    return from_torch(module.eval(), (1, 28, 28))


def trained() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network of 128 units on 30 features of two noisy classes, with 1,000 held-out inputs and their classes."""
    generator = torch.Generator().manual_seed(0)
    x, doubt = (torch.randn(4000, n, generator=generator, dtype=torch.float64) for n in (30, 1))
    score = (x[:, :10].square().sum(1) - 10) / 4.5 + x[:, 10:20].sum(1) / 3.2 + 0.3 * doubt[:, 0]
    y = (score > 0).long()
    module = nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 2)).double()
    for layer in (module[0], module[2]):
        nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features), generator=generator)
        nn.init.zeros_(layer.bias)
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3, weight_decay=1e-4)
    for _ in range(30):
        for some in torch.randperm(3000, generator=generator).split(100):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x[some]), y[some]).backward()
            optimiser.step()
    return module.eval(), x[3000:], y[3000:]


def inputs(name: str, network: Network, count: int) -> torch.Tensor:
    """The first inputs that are classified correctly."""
    if name == "tabular":
        _, x, y = trained()
    elif name in NORMALISATION:
        x, y = cifar(name, 200), torch.from_numpy(np.load(DATA / "cifar10" / "y_sdp.npy")[:200].astype(np.int64))
    else:
        x, y = images(200), labels(200)
    return x[network.predict(x) == y][:count]


def measure(name: str, given: argparse.Namespace) -> None:
    """Print one network's lines."""
    network, rungs, settings = opened(name), given.rungs, Settings(boxes=given.boxes)
    hyperplanes = Hyperplanes(network)
    x = inputs(name, network, given.first + given.images)[given.first :]
    reached: dict[tuple[str, float], list[float]] = {}
    truths: dict[float, list[float]] = {delta: [] for delta in given.deltas}
    seconds = []
    for i in range(len(x)):
        for delta in given.deltas:
            begin = time.process_time()
            (one,) = plan(network, x[i], Sphere(1.0), delta, rungs=rungs, settings=settings)
            seconds.append(time.process_time() - begin)
            for rung in rungs:
                reached.setdefault((rung, delta), []).append(one.largest_eps.get(rung) or 0.0)
        directions = Directions(hyperplanes, x[i : i + 1])
        common, rare = directions.truth(1e-3), [delta for delta in given.deltas if delta < 1e-3]
        here = [common] * (len(given.deltas) - len(rare))
        if rare:
            here += rare_truth(hyperplanes, x[i : i + 1], given.truth, rare, common)
        for delta, eps in zip(given.deltas, here, strict=True):
            truths[delta].append(eps)
        for eps in (reached[rungs[-1], given.deltas[0]][-1], common):
            check(network, x[i], directions, eps, rungs, settings)
    where = ", ".join(f"{statistics.median(truths[d]):.3g} (p = {d:g})" for d in given.deltas)
    by = f"sampling and {given.truth}" if len(given.deltas) > 1 else "sampling"
    print(
        f"{name}: {len(x)} images; by {by} eps {where}; one "
        f"search over eps, these rungs: {statistics.median(seconds):.2g} CPU-seconds, at most {max(seconds):.2g}"
    )
    for rung in rungs:
        parts = []
        for d in given.deltas:
            share = statistics.median(a / b for a, b in zip(reached[rung, d], truths[d], strict=True))
            parts.append(f"{statistics.median(reached[rung, d]):.4g}, {share:.3f} of it (p <= {d:g})")
        print(f"  {rung:13s} eps {'; '.join(parts)}")
    sys.stdout.flush()


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="how many images to pass over")
    parser.add_argument(
        "--deltas", type=float, nargs="+", default=[1e-3, 1e-6, 1e-9], help="falling, the first is 1e-3"
    )
    parser.add_argument("--rungs", nargs="+", default=list(PROVED_RUNGS), help=", ".join(PROVED_RUNGS))
    parser.add_argument("--truth", choices=("splitting", "importance"), default="splitting")
    parser.add_argument("--boxes", type=int, default=Settings().boxes)
    given = parser.parse_args()
    print(f"sphere noise, {torch.get_num_threads()} threads, {given.boxes} boxes; medians over the images")
    for name in given.networks:
        measure(name, given)


if __name__ == "__main__":
    main()
