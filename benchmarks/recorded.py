"""Hold a refactoring: record what every proved rung says, to the last bit, and compare after each move.

    python benchmarks/recorded.py record FILE     before the first move
    python benchmarks/recorded.py compare FILE    after each: exits with 1 where anything differs

The soundness table's networks and noises, and MNIST images on the three `mnistfc` networks where the data folder is
there. One thread; bits differ between machines and versions of PyTorch, so both runs belong to one of each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import test_soundness as table
from data import DATA, images

from calotte.assess import assess
from calotte.models.onnx import load
from calotte.noise import Ball, Gaussian, Sphere
from calotte.plan import plan
from calotte.settings import Settings

RUNGS = ["theorem", "cell", "relaxation", "concentration", "branching"]
CHEAP = RUNGS[:4]
SETTINGS = Settings(boxes=25, search=False)


def entries() -> Iterator[tuple[str, float | None]]:
    """Names and values."""
    cases = [*table.half_spaces(), *table.switches(), *table.planes(), *table.high_dimensions()]
    for k, case in enumerate(cases):
        rungs = RUNGS if k % 8 == 0 else CHEAP
        (one,) = assess(case.network, case.x[None], case.noise, rungs=rungs, settings=SETTINGS)
        yield from ((f"{case.name} {b.rung}", b.log_misclassification) for b in one.bounds)
        yield f"{case.name} radius", one.certified_radius
    for k, case in enumerate(cases[::60]):
        (one,) = plan(case.network, case.x[None], case.noise, (0.3, 1e-2, 1e-6)[k % 3], settings=SETTINGS)
        yield from ((f"{case.name} plan {rung}", eps) for rung, eps in one.largest_eps.items())
    if not DATA.is_dir():
        return
    pictures = images(20)
    for name, eps in (("256x2", 2.0), ("256x4", 2.5), ("256x6", 2.5)):
        network = load(DATA / "mnistfc" / f"mnist-net_{name}.onnx")
        for i, x in enumerate(pictures):
            for noise in (Sphere(0.2), Sphere(eps), Ball(eps), Gaussian(eps / 28)):
                rungs = RUNGS if i == 0 and noise.size > 0.3 and name != "256x6" else CHEAP
                (one,) = assess(network, x[None], noise, rungs=rungs, settings=SETTINGS)
                yield from ((f"{name} {i} {noise} {b.rung}", b.log_misclassification) for b in one.bounds)
                yield f"{name} {i} {noise} radius", one.certified_radius


def main(what: str, file: Path) -> int:
    """Record or compare."""
    torch.set_num_threads(1)
    start = time.process_time()
    found = {name: None if value is None else value.hex() for name, value in entries()}
    print(f"{len(found)} values in {time.process_time() - start:.0f} CPU-seconds")
    if what == "record":
        file.write_text(json.dumps(found))
        return 0
    known = json.loads(file.read_text())
    other = [name for name in known if known[name] != found.get(name)]
    for name in other[:20]:
        print(f"{name}: {known[name]} before, {found.get(name)} now")
    print(f"{len(other)} of {len(known)} values differ")
    return int(bool(other) or known.keys() != found.keys())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2])))
