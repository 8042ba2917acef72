"""Adversarial: balls free of adversarial points, and points that random noise of the same size never finds.

The two halves of a hypothesis of Szegedy et al. (2014, arXiv:1312.6199) that Kůrková (arXiv:2602.18674) speaks
to: adversarial points have such small probability that random tests do not meet them; and they are dense. Theorem
4.2 bounds that probability, and Theorem 4.1 gives each input a ball of radius rho_x without such points. Both are
measured here on a data set, beside the nearest misclassified points that a search finds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from calotte.adversary import Witness, margins, nearest_misclassified
from calotte.bounds import PROVED_RUNGS, Problem, Settings
from calotte.geometry import Geometry
from calotte.noise import Sphere
from calotte.paper.behaviour import DELTA
from calotte.paper.networks import Subject
from calotte.paper.report import Table
from calotte.plan import plan
from calotte.printing import number, probability_text
from calotte.sampling.monte_carlo import clopper_pearson, count_misclassified

__all__ = [
    "CONFIDENCE",
    "Balls",
    "Beside",
    "balls_table",
    "beside_table",
    "measure_balls",
    "put_beside",
    "ranking_table",
    "spread",
]

CONFIDENCE = 0.999
"""One-sided level of the sampled bounds, for each input separately."""
MULTIPLES = (1, 2, 4)
"""Noise as multiples of the distance of the misclassified point that was found."""


@dataclass(frozen=True, eq=False)
class Balls:
    """What surrounds each of the B inputs of a subject.

    Attributes:
        rho: (B,) radius of the ball that is proved free of adversarial points, rounded down.
        witnesses: the nearest misclassified points found; adversarial: (B,) their distances, inf where none is.
        theorem, cell: (B,) the largest eps with p <= DELTA proved on the sphere, rounded down.
        margin: (B,) least margin over the rivals; output_distance: (B,) distance to the nearest decision hyperplane
            of the cell, as if the cell did not end before it.
    """

    subject: Subject
    rho: Tensor
    witnesses: tuple[Witness | None, ...]
    adversarial: Tensor
    theorem: Tensor
    cell: Tensor
    margin: Tensor
    output_distance: Tensor

    @property
    def ratio(self) -> Tensor:
        """Adversarial distance over rho_x (B,): how much of the free distance is not proved."""
        return self.adversarial / self.rho

    def ranking(self) -> dict[str, float]:
        """Spearman's rank correlation of the adversarial distance with what could predict it."""
        known = self.adversarial.isfinite().numpy()
        scores = {"rho_x": self.rho, "margin": self.margin, "output hyperplane": self.output_distance}
        return {
            name: float(stats.spearmanr(score.numpy()[known], self.adversarial.numpy()[known]).statistic)
            for name, score in scores.items()
        }


def measure_balls(subject: Subject, seed: int) -> Balls:
    """Measure the ball of every input of a subject, and search for the nearest misclassified points."""
    network, x = subject.network, subject.x
    distances = Geometry(network).distances(x)
    witnesses = nearest_misclassified(network, x, seed=seed)
    plans = plan(network, x, Sphere(1.0), DELTA, rungs=["theorem", "cell"])
    largest = {
        rung: torch.tensor([_unless_unlimited(p.largest_eps[rung]) for p in plans], dtype=torch.float64)
        for rung in ("theorem", "cell")
    }
    return Balls(
        subject=subject,
        rho=distances.rho,
        witnesses=tuple(witnesses),
        adversarial=torch.tensor([w.distance if w else math.inf for w in witnesses], dtype=torch.float64),
        theorem=largest["theorem"],
        cell=largest["cell"],
        margin=margins(network.decision, network.forward(x), distances.predicted).amin(1),
        output_distance=distances.nearest[:, -network.decision.comparisons :].amin(1),
    )


def _unless_unlimited(eps: float | None) -> float:
    return math.inf if eps is None else eps


def balls_table(measured: Balls) -> Table:
    """Quantiles of the radii, rounded down, beside those of the distances found, rounded up."""
    shares = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
    rows = []
    for share in shares:
        row = [f"{share:.0%}"]
        for values in (measured.rho, measured.theorem, measured.cell):
            row.append(number(float(np.quantile(values.numpy(), share, method="lower")), "down"))
        for values in (measured.adversarial, measured.ratio):
            row.append(number(float(np.quantile(values.numpy(), share, method="higher")), "up"))
        rows.append(tuple(row))
    theorem, cell = (f"eps with p <= {DELTA:g}, {rung}" for rung in ("Theorem 4.2", "rung cell"))
    columns = (
        "quantile",
        "radius rho_x of the free ball",
        theorem,
        cell,
        "misclassified point found",
        "found / rho_x",
    )
    title = f"Adversarial-free balls around {len(measured.rho)} test inputs, {measured.subject.name}"
    return Table(title, columns, tuple(rows), "Each column has its own quantiles.")


def ranking_table(measured: Sequence[Balls]) -> Table:
    """Rank correlations with the adversarial distance, as a table."""
    rows = []
    for balls in measured:
        ranking = balls.ranking()
        medians = (number(balls.rho.median().item(), "down"), number(balls.adversarial.median().item(), "up"))
        rows.append((balls.subject.name, *medians, *(f"{value:+.2f}" for value in ranking.values())))
    columns = ("network", "rho_x, 50 %", "found, 50 %", "rank by rho_x", "by margin", "by output hyperplane")
    note = (
        "Spearman's rank correlation with the distance of the nearest misclassified point found. output hyperplane: "
        "distance to the nearest decision hyperplane of the cell, extended beyond the cell."
    )
    return Table("What ranks the inputs by their adversarial distance?", columns, tuple(rows), note)


@dataclass(frozen=True)
class Beside:
    """A misclassified point at distance eps beside random noise of that size, and of multiples of it.

    Attributes:
        misclassified: how many of `samples` random perturbations of eps times each of MULTIPLES.
        log_sampled: upper confidence limit of log p at eps; log_theorem, log_cell: the proved bounds, -inf (null in
            paper.json) where p = 0 is proved.
    """

    index: int
    predicted: int
    answer: int
    eps: float
    samples: int
    misclassified: tuple[int, ...]
    log_sampled: float
    log_theorem: float
    log_cell: float


def spread(balls: Balls, count: int) -> list[int]:
    """Indices of inputs with a witness, evenly spread over the adversarial distances."""
    order = [i for i in balls.adversarial.argsort().tolist() if balls.witnesses[i] is not None]
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [order[place] for place in places]


def put_beside(balls: Balls, chosen: Sequence[int], samples: int, seed: int) -> list[Beside]:
    """Sample noise of the size of each witness, and of its multiples, around the chosen inputs."""
    network = balls.subject.network
    geometry, settings = Geometry(network), Settings(samples=samples, seed=seed)
    found = []
    for i in chosen:
        witness = balls.witnesses[i]
        assert witness is not None
        x = balls.subject.x[i : i + 1]
        problems = [Problem(geometry, x, [i], Sphere(k * witness.distance), settings) for k in MULTIPLES]
        wrong = tuple(count_misclassified(problem, 0, samples) or 0 for problem in problems)
        logs = {name: rung.bound(problems[0])[0].log_misclassification for name, rung in PROVED_RUNGS.items()}
        found.append(
            Beside(
                index=i,
                predicted=int(network.predict(x)),
                answer=witness.answer,
                eps=witness.distance,
                samples=samples,
                misclassified=wrong,
                log_sampled=clopper_pearson(wrong[0], samples, CONFIDENCE),
                log_theorem=logs["theorem"],
                log_cell=logs["cell"],
            )
        )
    return found


def beside_table(measured: Sequence[Beside]) -> Table:
    """Witnesses beside sampled and proved probabilities, upper bounds rounded up."""
    samples = measured[0].samples if measured else 0
    columns = (
        "input", "answer", "found at eps", "answer there", *(f"wrong at {k} eps" for k in MULTIPLES),
        "p at eps, sampled <=", "Theorem 4.2 <=", "rung cell <=",
    )  # fmt: skip
    rows = tuple(
        (
            f"#{b.index}",
            str(b.predicted),
            number(b.eps, "up"),
            str(b.answer),
            *(str(wrong) for wrong in b.misclassified),
            *(probability_text(log_p) for log_p in (b.log_sampled, b.log_theorem, b.log_cell)),
        )
        for b in measured
    )
    note = (
        f"wrong: of {samples} random perturbations. Sampled bounds hold with confidence {CONFIDENCE}, for each input."
    )
    return Table("A misclassified point at distance eps, and random noise of the same size", columns, rows, note)
