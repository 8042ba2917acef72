"""Rare events: splitting, importance sampling and ALORE beside closed forms and 6,000,000 plain samples.

`rare_events.py [repetitions [splitting|importance|networks]]`. First a half-space and two opposite ones at d = 784,
whose probabilities are known: median error and how often the 95 % interval holds the truth. Then `mnist-net` networks
at p of about 1e-5, where the methods are held against plain sampling, and at about 1e-9. A figure is printed only
after its check; the script leaves with status 1 where one fails.
"""

from __future__ import annotations

import math
import statistics
import sys
from dataclasses import replace

import torch
from data import DATA, images
from scipy import special

from calotte import Network, Settings, Sphere, load
from calotte.cells.hyperplanes import Hyperplanes
from calotte.network.affine import Dense
from calotte.network.decision import Decision
from calotte.network.graph import Node, Relu
from calotte.proofs.union import cell_bound
from calotte.query import Query
from calotte.sampling.alore import ALORE
from calotte.sampling.estimate import Estimate, Estimator
from calotte.sampling.importance import IMPORTANCE
from calotte.sampling.monte_carlo import CHUNK, sampled_outputs
from calotte.sampling.splitting import SPLITTING

D, SAMPLES = 784, 6_000_000
PROBABILITIES = (1e-3, 1e-6, 1e-9, 1e-12)
COMMON = ((2, 1, 3.7), (4, 0, 6.0), (6, 2, 3.25))  # depth, image, eps with p of about 1e-5
RARE = ((4, 0, 4.2), (4, 1, 4.65), (4, 2, 2.5))  # of about 1e-9
FAILURES: list[str] = []


def expect(holds: bool, what: str) -> None:
    if not holds:
        FAILURES.append(what)
        print(f"FAILED: {what}")


def half_spaces(count: int, t: float) -> Network:
    """Answers 1 beyond x_1 >= t, and for two half-spaces also beyond x_1 <= -t: the sign of x_1 - t, |x_1| - t."""
    weight = torch.zeros(count, D, dtype=torch.float64)
    weight[:, 0] = torch.tensor([1.0, -1.0][:count])
    offset = torch.tensor([-t], dtype=torch.float64)
    if count == 1:
        nodes = (Node("input", None), Node("out", Dense(weight, offset), (0,)))
    else:
        last = Dense(torch.ones(1, count, dtype=torch.float64), offset)
        hidden = Node("first", Dense(weight, None), (0,)), Node("relu", Relu((count,)), (1,))
        nodes = (Node("input", None), *hidden, Node("out", last, (2,)))
    return Network(nodes, (D,), Decision("sign", 1))


def closed_forms(estimator: Estimator, repetitions: int) -> None:
    noise, origin = Sphere(1.0), torch.zeros(1, D, dtype=torch.float64)
    for count in (1, 2):
        for p in PROBABILITIES:
            t = noise.tail_quantile(torch.tensor([math.log(p / count)], dtype=torch.float64), D).item()
            network = half_spaces(count, t)
            hyperplanes = Hyperplanes(network)
            estimates = [
                estimator.estimate(Query(hyperplanes, origin, [i], noise, Settings()), 0) for i in range(repetitions)
            ]
            given = [one for one in estimates if one.log_probability is not None]
            errors = [abs(math.expm1(one.log_probability - math.log(p))) for one in given]
            covered = sum(one.interval[0] <= math.log(p) <= one.interval[1] for one in given)
            median, what = statistics.median(errors), f"{estimator.method}, {count} half-space(s), p = {p:g}"
            expect(median <= 0.15, f"{what}: median error {median:.3f}")
            # consistent with 90 %: not so few that fewer happen less than once in 1000 times
            chance = special.bdtr(covered, len(given), 0.9)
            expect(chance > 1e-3 and len(given) >= 0.9 * repetitions, f"{what}: {covered} of {repetitions} covered")
            print(
                f"{what}: median error {100 * median:.1f} %, mean / p {mean(given, p):.3f}, "
                f"interval holds p {covered} of {len(given)} times, not available {repetitions - len(given)}, "
                f"{statistics.mean(one.calls for one in estimates):,.0f} calls, "
                f"{statistics.mean(one.seconds for one in estimates):.2f} s"
            )


def mean(estimates: list[Estimate], p: float) -> float:
    return statistics.mean(math.exp(one.log_probability - math.log(p)) for one in estimates)


def query(depth: int, image: int, eps: float) -> Query:
    network = load(DATA / "mnistfc" / f"mnist-net_256x{depth}.onnx")
    return Query(Hyperplanes(network), images(20)[image : image + 1], [image], Sphere(eps), Settings())


def against_samples() -> None:
    for depth, image, eps in COMMON:
        case = query(depth, image, eps)
        wrong, n = 0, 0
        for outputs in sampled_outputs(case, 0):
            wrong, n = wrong + int((case.network.decision.decide(outputs) != case.predicted).sum()), n + CHUNK
            if n >= SAMPLES:
                break
        log_p, error = math.log(wrong / n), 1.0 / math.sqrt(wrong)
        print(f"256x{depth}, image {image}, eps {eps}: {wrong} of {n:,} samples misclassified, {wrong / n:.2e}")
        for estimator in (replace(SPLITTING, most_calls=12_000), replace(IMPORTANCE, draws=3_000)):
            one = estimator.estimate(case, 0)
            expect(one.log_probability is not None, f"{one.method} gives no estimate: {one.reason}")
            if one.log_probability is None:
                continue
            apart = abs(one.log_probability - log_p) / math.hypot(error, one.relative_error)
            expect(apart <= 4.0, f"{one.method} is {apart:.1f} standard errors away from the samples")
            expect(one.calls <= 15_000, f"{one.method} took {one.calls} calls")
            print(f"  {describe(one)}, {apart:.1f} standard errors apart")


def describe(one: Estimate) -> str:
    if one.log_probability is None:
        return f"{one.method}: {one.reason}, {one.calls:,} calls, {one.seconds:.1f} s"
    low, high = (math.exp(end) for end in one.interval)
    return (
        f"{one.method}: {math.exp(one.log_probability):.2e} in [{low:.2e}, {high:.2e}], "
        f"{one.calls:,} calls, {one.seconds:.1f} s"
    )


def rare() -> None:
    for depth, image, eps in RARE:
        print(f"256x{depth}, image {image}, eps {eps}")
        for estimator in (SPLITTING, IMPORTANCE):
            one = estimator.estimate(query(depth, image, eps), 0)
            expect(one.seconds < 20.0, f"{one.method} took {one.seconds:.1f} s")
            print(f"  {describe(one)}")


def leaving_the_cell() -> None:
    for depth in (2, 6):
        for eps in (0.05, 0.1, 0.2, 0.4):
            case = query(depth, 0, eps)
            one = ALORE.estimate(case, 0)
            union = cell_bound(case.noise, case.distances.lower / eps, D).item()
            n = 20 * CHUNK
            y = case.x + case.noise.sample(n, D, torch.Generator().manual_seed(0))
            same = (case.network.pattern(y) == case.network.pattern(case.x)).all(1)
            left = int((~same | (case.network.predict(y) != case.predicted)).sum())
            p = math.exp(one.log_probability)
            expect(
                abs(left / n - p) <= 4.0 * (math.sqrt(p * (1 - p) / n) + p * one.relative_error),
                f"alore says {p:.3g}, {left} of {n} samples left the cell",
            )
            print(
                f"256x{depth}, image 0, eps {eps}: P(leaving the cell) {p:.3g} +- {100 * one.relative_error:.2f} %, "
                f"union bound {math.exp(union):.3g}, {one.seconds:.2f} s; {left} of {n:,} samples left"
            )


def main(repetitions: int, part: str) -> None:
    print(f"{torch.get_num_threads()} threads; sphere noise, d = {D}, {repetitions} repetitions")
    for estimator in (SPLITTING, IMPORTANCE):
        if part in ("", estimator.method):
            closed_forms(estimator, repetitions)
    if part in ("", "networks"):
        leaving_the_cell()
        against_samples()
        rare()
    if FAILURES:
        sys.exit(f"{len(FAILURES)} checks failed")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400, sys.argv[2] if len(sys.argv) > 2 else "")
