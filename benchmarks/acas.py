"""ACAS Xu: the probability that a property is violated, from both sides, under noise on the property's box.

    python benchmarks/acas.py [NETWORK ...] [--properties 2 3 7 8] [--cuboids 2000000]

Properties 2, 3, 7 and 8 of Katz et al. (Reluplex, CAV 2017), on networks beside the project; x is the middle of the
property's box, the noise uniform in it, or Gaussian with a third of the half-width and cut off at the box. What is
printed is held against draws first. One thread; seconds of processor time.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from data import DATA
from torch import Tensor

import calotte
from calotte.independent import Box, Independent, Truncated
from calotte.inputs.property import read_event
from calotte.inputs.vnnlib import read_property
from calotte.network.event import Event
from calotte.network.graph import Network
from calotte.proofs.prove import one_input
from calotte.searches.bisection import Bisection

DRAWS = 1_000_000
MEANS, RANGES = (19791.091, 0.0, 0.0, 650.0, 600.0), (60261.0, 2 * math.pi, 2 * math.pi, 1100.0, 1200.0)


@dataclass(frozen=True)
class Property:
    """Inputs within half-widths (5,) of `middle` (5,), and what must not happen to the outputs."""

    name: str
    middle: Tensor
    half: Tensor
    event: Event


def least(*outputs: int, over: tuple[int, ...]) -> Event:
    """One of some outputs is at most each of `over`."""

    def row(small: int, large: int) -> tuple[list[float], float]:
        return [float(k == small) - float(k == large) for k in range(5)], 0.0

    return Event([[row(small, large) for large in over] for small in outputs])


def raw(name: str, low: tuple[float, ...], high: tuple[float, ...], event: Event) -> Property:
    """A property whose box is given in the units of the aircraft."""
    ends = [torch.tensor([(v - m) / r for v, m, r in zip(end, MEANS, RANGES, strict=True)]) for end in (low, high)]
    lower, upper = (end.to(torch.float64) for end in ends)
    return Property(name, (lower + upper) / 2, (upper - lower) / 2, event)


def properties() -> list[Property]:
    found = []
    for name in ("2", "3"):
        path = DATA / "acasxu" / f"prop_{name}.vnnlib"
        box = read_property(path)
        low, high = torch.from_numpy(box.low), torch.from_numpy(box.high)
        found.append(Property(name, (low + high) / 2, (high - low) / 2, read_event(path)))
    pi = math.pi
    found.append(raw("7", (0, -pi, -pi, 100, 0), (60760, pi, pi, 1200, 1200), least(3, 4, over=(0, 1, 2))))
    found.append(
        raw("8", (0, -pi, -0.1, 600, 600), (60760, -0.75 * pi, 0.1, 1200, 1200), least(2, 3, 4, over=(0, 1)))
    )
    return found


def drawn(network: Network, one: Property, law: Independent) -> tuple[float, float]:
    """The share of draws at which the event occurs, and its standard error."""
    generator = torch.Generator().manual_seed(0)
    margins = one.event.margins(network, one.middle[None], network.predict(one.middle[None]))
    hits = 0
    for _ in range(10):
        points = one.middle + law.sample(DRAWS // 10, 5, generator)
        hits += int(margins.occurs(network.forward(points)).sum())
    share = hits / DRAWS
    return share, math.sqrt(max(share * (1 - share), 1 / DRAWS) / DRAWS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="1-1, 1-2, ...; all by default")
    parser.add_argument("--properties", nargs="+", default=["2", "3", "7", "8"])
    parser.add_argument("--cuboids", type=int, default=2_000_000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("network property noise          lower     upper   sampled   upper/lower  cuboids  seconds")
    for path in sorted((DATA / "acasxu").glob("*.onnx")):
        name = "-".join(path.stem.split("_")[2:4])
        if given.networks and name not in given.networks:
            continue
        network = calotte.load(path, decision="argmin")
        for one in (p for p in properties() if p.name in given.properties):
            for law in (Box(1.0, one.half), Truncated(1.0 / 3.0, one.half, cut=3.0)):
                show(name, network, one, law, given.cuboids)


def show(name: str, network: Network, one: Property, law: Independent, cuboids: int) -> None:
    """A line of the table."""
    share, error = drawn(network, one, law)
    settings = calotte.Settings(search=False, boxes=max(1, cuboids // Bisection().each))
    query = one_input(network, one.middle, law, settings, one.event)
    begin = time.process_time()
    upper, lower = (math.exp(side.item()) for side in Bisection().sides(query, query.sizes))
    seconds = time.process_time() - begin
    assert lower - 4 * error <= share <= upper + 4 * error, (lower, share, upper)
    count = Bisection().cut(query, law.size).count
    ratio = f"{upper / lower:8.3f}" if lower > 0 else "       -"
    sides = f"{lower:9.2e} {upper:9.2e} {share:9.2e}     {ratio}"
    print(f"{name:7} {one.name:8} {law.kind:10} {sides} {count:8} {seconds:8.1f}", flush=True)


if __name__ == "__main__":
    if not Path(DATA / "acasxu").exists():
        print(f"{DATA / 'acasxu'} is absent: nothing measured")
        sys.exit(0)
    main()
