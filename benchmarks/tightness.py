"""The largest eps with p <= delta: what each proved rung reaches, beside where Monte Carlo finds p = delta.

The first 20 MNIST test images that are classified correctly, sphere noise. Truth: 100,000 samples along fixed
directions, bisection on eps. Before the table is printed every bound is evaluated again at three sizes and held
against the lower confidence limit (level 1e-6) of the sampled p there.
"""

from __future__ import annotations

import math
import statistics
import sys

import torch
from data import DATA, images, labels
from scipy import special

from calotte import Network, Sphere, load, plan
from calotte.assess import assess
from calotte.bounds import PROVED_RUNGS
from calotte.geometry import Geometry

DELTAS = (1e-3, 1e-6, 1e-9)
IMAGES, SAMPLES = 20, 100_000


class Directions:
    """Fixed directions, and how often noise of some eps along them changes the answer of one input."""

    def __init__(self, geometry: Geometry, x: torch.Tensor) -> None:
        assert geometry.chain is not None
        self.network, self.start = geometry.network, geometry.chain.ends[0]
        rows = geometry.space.rows
        generator = torch.Generator().manual_seed(7)
        u = Sphere(1.0).project(SAMPLES, rows.shape[1], geometry.m, generator)
        self.steps = u @ rows.t()
        self.base = dict(self.network.values(x))[self.start].flatten(1)
        self.answer = self.network.predict(x)

    def misclassified(self, eps: float) -> int:
        return sum(
            int(
                (
                    self.network.decision.decide(self.network.forward(self.base + eps * part, self.start))
                    != self.answer
                ).sum()
            )
            for part in self.steps.split(4096)
        )

    def truth(self, delta: float) -> float:
        """The eps where the share of misclassified samples crosses delta."""
        low, high = 0.0, 1.0
        while self.misclassified(high) <= delta * SAMPLES and high < 1e4:
            low, high = high, 2 * high
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (middle, high) if self.misclassified(middle) <= delta * SAMPLES else (low, middle)
        return low


def check(network: Network, x: torch.Tensor, directions: Directions, eps: float) -> None:
    """Leave where a bound lies below what samples rule out."""
    wrong = directions.misclassified(eps)
    lower = special.betaincinv(wrong, SAMPLES - wrong + 1, 1e-6) if wrong else 0.0
    (one,) = assess(network, x, Sphere(eps), rungs=list(PROVED_RUNGS))
    for bound in one.bounds:
        if math.exp(bound.log_misclassification) < lower:
            sys.exit(
                f"{bound.rung} claims p <= {math.exp(bound.log_misclassification)} at eps {eps}, samples say {wrong}"
            )


def main(depths: list[int]) -> None:
    x, y = images(200), labels(200)
    print(f"medians over {IMAGES} correctly classified MNIST images, sphere noise, {torch.get_num_threads()} threads")
    for depth in depths:
        network = load(DATA / "mnistfc" / f"mnist-net_256x{depth}.onnx")
        chosen = x[network.predict(x) == y][:IMAGES]
        geometry = Geometry(network)
        plans = {delta: plan(network, chosen, Sphere(1.0), delta) for delta in DELTAS}
        truths = []
        for i in range(len(chosen)):
            directions = Directions(geometry, chosen[i : i + 1])
            truths.append(directions.truth(1e-3))
            for eps in (plans[1e-3][i].largest_eps["cell"] or 0.0, truths[-1] / 2, truths[-1]):
                check(network, chosen[i], directions, eps)
        print(f"256x{depth}: p = 1e-3 by sampling at eps {statistics.median(truths):.3g}")
        for rung in PROVED_RUNGS:
            reached = {d: [one.largest_eps[rung] or 0.0 for one in plans[d]] for d in DELTAS}
            share = statistics.median(a / b for a, b in zip(reached[1e-3], truths, strict=True))
            medians = ", ".join(f"{statistics.median(reached[d]):.4f} (p <= {d:g})" for d in DELTAS)
            print(f"  {rung:8s} eps {medians}; share of the sampled eps at 1e-3: {share:.4f}")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [2, 4, 6])
