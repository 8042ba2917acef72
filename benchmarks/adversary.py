"""The adversary beside plain PGD, DDN and FMN with restarts, on 100 MNIST images of each mnistfc network.

Before anything is printed every witness is checked: answered otherwise by onnxruntime in float32, and in float64 with
its error enclosed, at the distance stated. Rivals' finds are checked in float64. Times are for images in one batch,
on the clock and of the processor: on a machine with other work the first is the larger one.
"""

from __future__ import annotations

import math
import os
import sys
import time

import numpy as np
import onnxruntime
import torch
from data import DATA, images
from rivals import ATTACKS, Model, restarted
from torch import Tensor

from calotte import Network, load
from calotte.adversary import Witness, nearest_misclassified
from calotte.network.enclosure import outputs
from calotte.network.event import CHANGE
from calotte.network.single import in_single

IMAGES, RESTARTS = 100, 4


def check(network: Network, path: str, x: Tensor, found: list[Witness | None]) -> None:
    """Leave where a witness is none."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    one = session.get_inputs()[0]
    answers = network.predict(x)
    for row, answer, witness in zip(x, answers, found, strict=True):
        if witness is None:
            continue
        point = witness.point.numpy().astype(np.float32)
        (z,) = session.run(None, {one.name: point.reshape(1, 784, 1)})
        here = witness.point[None]
        good = (point.astype(np.float64) == witness.point.numpy()).all()
        good &= int(z.argmax()) != int(answer)
        enclosed = outputs(network, here)
        good &= bool(CHANGE.margins(network, here, answer[None]).certainly_occurs(enclosed.value, enclosed.error))
        good &= bool((witness.point - row).norm() <= witness.distance)
        if not good:
            sys.exit(f"a witness of {path} is none: {witness}")


def timed(threads: int, network: Network, x: Tensor) -> tuple[list[Witness | None], str]:
    torch.set_num_threads(threads)
    clock, processor = time.perf_counter(), time.process_time()
    found = nearest_misclassified(network, x)
    clock, processor = ((now - then) * 1000 / len(x) for now, then in (
        (time.perf_counter(), clock), (time.process_time(), processor)
    ))  # fmt: skip
    return found, f"{clock:.0f} ms an image on {threads} thread{'s'[: threads - 1]} ({processor:.0f} ms of processor)"


def rivals(network: Network, x: Tensor) -> dict[str, tuple[Tensor, float]]:
    """Distances (n,) that each rival finds, inf where none, and seconds of processor for an image."""
    torch.set_num_threads(1)
    single, y = in_single(network), network.predict(x)
    model, near = Model(single.forward), x.to(torch.float32)
    found = {}
    for name, attack in ATTACKS.items():
        start = time.process_time()
        delta = restarted(attack, model, near, y, RESTARTS, 0).to(torch.float64)
        seconds = (time.process_time() - start) / len(x)
        point = near.to(torch.float64) + delta
        away = torch.where(network.predict(point) != y, (point - x).norm(dim=1), torch.inf).nan_to_num(math.inf)
        found[name] = away, seconds
    return found


def main(depths: list[int]) -> None:
    x, threads = images(IMAGES), os.cpu_count() or 1
    print(f"{IMAGES} images, rivals with {RESTARTS} restarts beside one run from the input; distances in L2")
    for depth in depths:
        path = DATA / "mnistfc" / f"mnist-net_256x{depth}.onnx"
        network = load(path)
        found, single = timed(1, network, x)
        again, several = timed(threads, network, x)
        check(network, str(path), x, found)
        check(network, str(path), x, again)
        ours = torch.tensor([w.distance if w else math.inf for w in found], dtype=torch.float64)
        others = rivals(network, x)
        best = torch.stack([away for away, _ in others.values()]).amin(0)
        print(
            f"256x{depth}: ours median {ours.median():.4f}, {int(ours.isfinite().sum())} found, {single}, {several}"
        )
        for name, (away, seconds) in {**others, "best of the three": (best, math.nan)}.items():
            ratio = ours / away
            took = "" if math.isnan(seconds) else f", {1000 * seconds:.0f} ms of processor"
            print(
                f"  {name:17s} median {away.median():.4f}; ours / theirs: median {ratio.median():.4f}, "
                f"worst {ratio.max():.4f}; nearer than ours by more than 1e-6 for {int((ratio > 1 + 1e-6).sum())}, "
                f"by more than 1 % for {int((ratio > 1.01).sum())}{took}"
            )


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [2, 4, 6])
