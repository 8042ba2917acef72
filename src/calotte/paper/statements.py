"""Statements: every theorem of the paper tried by sampling, on single units, shallow, random and trained networks.

A bound is contradicted where the lower confidence limit of the sampled misclassification probability p lies above
it, that is where the proved lower bound on local robustness is not below the upper confidence limit of the sampled
one (Clopper and Pearson 1934, one-sided, at a level so close to 1 that a false alarm is out of the question).
Samples are drawn in the full input space and answered by the network itself. On deep networks leaving the cell,
which is what the proofs bound, is counted too: it happens more often than misclassification and tries them harder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from scipy import special
from torch import Tensor

from calotte.cells.cell import Cell
from calotte.cells.hyperplanes import Hyperplanes
from calotte.ladder import PROVED_RUNGS
from calotte.noise import Sphere
from calotte.paper.networks import Subject
from calotte.paper.report import Check
from calotte.printing import number, probability_text
from calotte.query import Query
from calotte.settings import Settings
from calotte.shallow import ShallowHeaviside
from calotte.theorems import corollary_3_2, largest_eps, log_target, perceptron_robustness, theorem_3_1, theorem_4_2

__all__ = ["FALSE_ALARM", "Case", "judge", "lower_limit", "perceptron_checks", "shallow_checks", "subject_checks"]

FALSE_ALARM = 1e-9
"""Probability that one case is found to contradict a bound that is right."""

_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0, 1.5)
_TARGETS = (0.9, 0.3, 0.1, 0.01)


@dataclass(frozen=True)
class Case:
    """One input at one eps: a proved bound on log p, and how many of so many samples contradicted the answer."""

    eps: float
    log_bound: float
    wrong: int
    samples: int
    what: str = "misclassified"

    @property
    def contradicts(self) -> bool:
        """Whether p lies above the bound for certain, short of a false alarm."""
        if self.log_bound == -math.inf:
            return self.wrong > 0
        return self.log_bound < 0 and lower_limit(self.wrong, self.samples) > math.exp(self.log_bound)


def lower_limit(wrong: int, samples: int) -> float:
    """One-sided Clopper-Pearson lower limit of a probability, wrong with probability FALSE_ALARM."""
    if wrong == 0:
        return 0.0
    return float(special.betaincinv(wrong, samples - wrong + 1, FALSE_ALARM))


def judge(statement: str, network: str, cases: Sequence[Case]) -> Check:
    """The verdict on a statement from all its cases on one network."""
    told = [c for c in cases if c.log_bound < 0]
    tight = [c for c in told if c.log_bound < -1 and c.wrong > 1e-4 * c.samples]
    ratios = [c.wrong / expected for c in told if (expected := c.samples * math.exp(c.log_bound)) > 100]
    violations = tuple(
        f"eps = {number(c.eps)}: {c.wrong} of {c.samples} {c.what}, proved p <= {probability_text(c.log_bound)}"
        for c in cases
        if c.contradicts
    )
    return Check(statement, network, len(cases), len(told), len(tight), max(ratios, default=None), violations)


def perceptron_checks(dimensions: Sequence[int], most: int, generator: torch.Generator) -> list[Check]:
    """Theorem 3.1, its three cases, and the exact value T(rho / eps), on one perceptron in each dimension.

    `most` samples for each eps, fewer for d > 100. Coordinates are whole numbers and ||w|| = 5, so that rho = 0 and
    rho = eps are met exactly.
    """
    checks = []
    for d in dimensions:
        samples = _affordable(most, d)
        bounds: list[Case] = []
        exact: list[Case] = []
        disagreements: list[str] = []
        u = Sphere(1.0).sample(samples, d, generator)
        for ratio in _RATIOS:
            w = torch.zeros(d, dtype=torch.float64)
            w[torch.randperm(d, generator=generator)[:2]] = torch.tensor([3.0, -4.0], dtype=torch.float64)
            x = torch.randint(-9, 10, (d,), generator=generator).to(torch.float64)
            side = 1.0 if ratio != 0.5 else -1.0
            rho = 0.0 if ratio == 0 else 2.0
            network = ShallowHeaviside(w[None], (side * 5.0 * rho - w @ x)[None])
            eps = rho / ratio if ratio else 1.0
            wrong = _flips(network.predict, x, eps, u)
            bounds.append(Case(eps, theorem_3_1(rho, eps, d).log_misclassification, wrong, samples))
            log_p = perceptron_robustness(rho, eps, d).log_misclassification
            exact.append(Case(eps, log_p, wrong, samples))
            upper = 1.0 - lower_limit(samples - wrong, samples)
            if upper < math.exp(log_p) * (1 - 1e-9):
                disagreements.append(
                    f"eps = {number(eps)}: {wrong} of {samples} misclassified, exactly p = {math.exp(log_p):.6g}"
                )
            if log_p > bounds[-1].log_bound:
                disagreements.append(f"eps = {number(eps)}: the exact value lies above Theorem 3.1")
        name = f"perceptron, d = {d}"
        checks.append(judge("Theorem 3.1", name, bounds))
        check = judge("exact cap T(rho/eps)", name, exact)
        checks.append(replace(check, violations=check.violations + tuple(disagreements)))
    return checks


def shallow_checks(shapes: Sequence[tuple[int, int]], most: int, generator: torch.Generator) -> list[Check]:
    """Corollary 3.2 on shallow networks of n perceptrons in R^d, for each (d, n).

    Random units with a majority, and with their parity for output; and n <= d units at right angles, all at the
    same distance from x, whose parity comes closest to the bound.
    """

    def parity(bits: Tensor) -> Tensor:
        return bits.sum(1) % 2

    checks = []
    for d, n in shapes:
        samples = _affordable(most, d)
        weights = torch.randn(n, d, dtype=torch.float64, generator=generator)
        biases = torch.randn(n, dtype=torch.float64, generator=generator)
        networks = {
            "majority": ShallowHeaviside(weights, biases),
            "parity": ShallowHeaviside(weights, biases, parity),
        }
        if n <= d:
            axes = torch.eye(n, d, dtype=torch.float64)
            networks["right angles"] = ShallowHeaviside(axes, -torch.ones(n, dtype=torch.float64), parity)
        u = Sphere(1.0).sample(samples, d, generator)
        for name, network in networks.items():
            x = torch.zeros(d, dtype=torch.float64)
            if name != "right angles":
                x = torch.randn(d, dtype=torch.float64, generator=generator)
            rho = network.distance(x)[0].item()
            cases = []
            for eps in _sizes(rho, d, n):
                bound = corollary_3_2(rho, eps, d, n).log_misclassification
                cases.append(Case(eps, bound, _flips(network.predict, x, eps, u), samples))
            checks.append(judge("Corollary 3.2", f"{n} perceptrons, {name}, d = {d}", cases))
    return checks


def subject_checks(subject: Subject, inputs: int, samples: int, generator: torch.Generator) -> list[Check]:
    """Theorems 4.1 and 4.2 and the rung `cell` on one deep network, from its first `inputs` inputs."""
    network, x = subject.network, subject.x[:inputs]
    hyperplanes = Hyperplanes(network)
    query = Query(hyperplanes, x, list(range(len(x))), Sphere(1.0), Settings())
    rhos = query.distances.rho.tolist()
    theorem: list[Case] = []
    cell: list[Case] = []
    for i, rho in enumerate(rhos):
        if not 0 < rho < math.inf:
            continue
        one = Query(hyperplanes, x[i : i + 1], [i], Sphere(1.0), Settings())
        u = Sphere(1.0).sample(samples, network.d, generator)
        sizes = [*_sizes(rho, network.d, network.units), *_cell_sizes(one, rho)]
        for eps in sizes:
            points = x[i] + eps * u
            changed = network.predict(points) != network.predict(x[i : i + 1])
            left = changed | (network.pattern(points) != network.pattern(x[i : i + 1])).any(1)
            by_theorem = theorem_4_2(rho, eps, network.d, network.units).log_misclassification
            by_cell = _cell_bound(one, eps)
            for cases, bound in ((theorem, by_theorem), (cell, by_cell)):
                cases.append(Case(eps, bound, int(changed.sum()), samples))
                cases.append(Case(eps, bound, int(left.sum()), samples, "left the cell"))
    name = f"{subject.name}, N = {network.units}"
    return [
        _cell_check(subject, hyperplanes, min(inputs, 3), generator),
        judge("Theorem 4.2", name, theorem),
        judge("rung `cell`", name, cell),
    ]


def _cell_check(subject: Subject, hyperplanes: Hyperplanes, inputs: int, generator: torch.Generator) -> Check:
    """Theorem 4.1: points are in the cell of x exactly where its half-spaces say so, and are answered alike there."""
    network, violations, seen, inside = subject.network, [], 0, 0
    for i in range(min(inputs, len(subject.x))):
        cell = Cell(network, subject.x[i], hyperplanes)
        distances = cell.distances
        finite = distances[distances.isfinite()]
        if int(cell.has_hyperplane.sum()) > network.units:
            violations.append(f"input {i}: more than N hyperplanes")
        if not len(finite):
            continue
        lengths = finite.sort().values[: max(1, len(finite) // 4)]
        u = Sphere(1.0).sample(40 * len(lengths), network.d, generator)
        points = subject.x[i] + 1.5 * lengths.repeat(40)[:, None] * u
        points = torch.cat([points, (points + subject.x[i]) / 2])  # midpoints with x, where the cell is convex
        signed = (points @ cell.normals.t() + cell.offsets) * cell.signs
        signed = signed[:, cell.has_hyperplane] / cell.normals[cell.has_hyperplane].norm(dim=1)
        clear = signed.abs().amin(1) > 1e-9  # the rounding of `offsets` is far below this
        by_planes = (signed > 0).all(1)
        same_answer = network.predict(points) == cell.predicted
        by_signs = (network.pattern(points) == cell.pattern).all(1) & same_answer
        seen, inside = seen + int(clear.sum()), inside + int((by_planes & clear).sum())
        if (wrong := int((clear & (by_planes != by_signs)).sum())) > 0:
            violations.append(f"input {i}: half-spaces and signs disagree at {wrong} points")
        if (wrong := int((clear & by_planes & ~same_answer).sum())) > 0:
            violations.append(f"input {i}: {wrong} points of the cell are answered differently")
    name = f"{subject.name}, {inside} points in the cell"
    return Check("Theorem 4.1", name, seen, None, None, None, tuple(violations))


def _affordable(most: int, d: int) -> int:
    """Samples to draw in R^d: so many, or fewer where they are long."""
    return min(most, 100 * most // d)


def _flips(predict: Callable[[Tensor], Tensor], x: Tensor, eps: float, u: Tensor) -> int:
    """How many of the perturbations eps u (n, d) change the answer at x (d,)."""
    return int((predict(x + eps * u) != predict(x[None])).sum())


def _sizes(rho: float, d: int, N: int) -> list[float]:
    """eps below, at and above rho, and where Ball's bound for N units reaches a few probabilities."""
    targets = [largest_eps(rho, d, N, log_delta=log_target(delta)) for delta in _TARGETS]
    return [0.9 * rho, rho, *(factor * rho for factor in (1.02, 1.2, 2.0, 5.0)), *targets]


def _cell_bound(query: Query, eps: float) -> float:
    sizes = torch.tensor([eps], dtype=torch.float64)
    return float(PROVED_RUNGS["cell"].log_bound(query, sizes)[0])


def _cell_sizes(query: Query, rho: float) -> Iterator[float]:
    """eps where the rung `cell` reaches a few probabilities, by bisection."""
    for delta in _TARGETS:
        low, high = rho, 1e3 * rho
        for _ in range(40):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if _cell_bound(query, middle) <= math.log(delta) else (low, middle)
        yield low
