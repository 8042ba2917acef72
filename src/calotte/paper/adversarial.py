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
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from calotte.adversary import Witness, nearest_misclassified
from calotte.cells.hyperplanes import Hyperplanes
from calotte.ladder import PROVED_RUNGS
from calotte.network.event import CHANGE
from calotte.noise import Sphere
from calotte.paper.behaviour import DELTA
from calotte.paper.networks import Subject
from calotte.paper.report import Table
from calotte.plan import plan
from calotte.printing import number, probability_text
from calotte.query import Query
from calotte.sampling.monte_carlo import clopper_pearson, count_misclassified
from calotte.searches.radius import relaxed_radius
from calotte.settings import Settings

__all__ = [
    "CONFIDENCE",
    "TAU_SHARES",
    "Balls",
    "Beside",
    "area_under_curve",
    "balls_table",
    "beside_table",
    "measure_balls",
    "put_beside",
    "ranking_table",
    "spread",
]

CONFIDENCE = 0.999
"""One-sided level of the sampled bounds, for each input separately."""
TAU_SHARES = (0.1, 0.25, 0.5)
"""tau as quantiles of the adversarial distances: whose neighbourhood of radius tau holds an adversarial point?"""
RANKED = ("cell", "relaxation", "concentration")
"""Rungs whose smallest bound ranks the inputs."""
MULTIPLES = (1, 2, 4)
"""Noise as multiples of the distance of the misclassified point that was found."""


@dataclass(frozen=True, eq=False)
class Balls:
    """What surrounds each of the B inputs of a subject.

    Attributes:
        rho: (B,) radius of the ball that is proved free of adversarial points, rounded down.
        witnesses: the nearest misclassified points found; adversarial: (B,) their distances, inf where none is.
        theorem, cell: (B,) the largest eps with p <= DELTA proved on the sphere, rounded down.
        certified: (B,) the largest certified radius, rounded down; log_bound: (B,) the best proved bound on log p
            for noise on the sphere whose eps is the median of the adversarial distances.
        margin: (B,) least margin over the rivals; output_distance: (B,) distance to the nearest decision hyperplane
            of the cell, as if the cell did not end before it.
    """

    subject: Subject
    rho: Tensor
    witnesses: tuple[Witness | None, ...]
    adversarial: Tensor
    theorem: Tensor
    cell: Tensor
    certified: Tensor
    log_bound: Tensor
    margin: Tensor
    output_distance: Tensor

    @property
    def ratio(self) -> Tensor:
        """Adversarial distance over rho_x (B,): how much of the free distance is not proved."""
        return self.adversarial / self.rho

    def scores(self) -> dict[str, Tensor]:
        """What could predict the adversarial distance, larger meaning further: (B,) each."""
        return {
            "rho_x": self.rho,
            "margin": self.margin,
            "output hyperplane": self.output_distance,
            "certified radius": self.certified,
            "best proved bound": -self.log_bound,
        }

    def ranking(self) -> dict[str, float]:
        """Spearman's rank correlation of the adversarial distance with each score, where a point was found."""
        known = self.adversarial.isfinite().numpy()
        return {
            name: float(stats.spearmanr(score.numpy()[known], self.adversarial.numpy()[known]).statistic)
            for name, score in self.scores().items()
        }

    def tau(self, share: float) -> float:
        """The distance within which a share of the inputs has an adversarial point, as far as found."""
        return float(np.quantile(self.adversarial.numpy(), share, method="lower"))

    def separation(self, tau: float) -> dict[str, float]:
        """How well each score tells inputs with an adversarial point within tau: the area under the ROC curve."""
        near = (self.adversarial <= tau).numpy()
        return {name: area_under_curve(-score.numpy(), near) for name, score in self.scores().items()}


def area_under_curve(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """P[a positive scores above a negative], ties counting half: Mann and Whitney's statistic; NaN without both."""
    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0:
        return math.nan
    ranks = stats.rankdata(score)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def measure_balls(subject: Subject, seed: int) -> Balls:
    """Measure the ball of every input of a subject, and search for the nearest misclassified points."""
    network, x = subject.network, subject.x
    hyperplanes = Hyperplanes(network)
    distances = hyperplanes.distances(x)
    witnesses = nearest_misclassified(network, x, seed=seed)
    plans = plan(network, x, Sphere(1.0), DELTA, rungs=["theorem", "cell"])
    largest = {
        rung: torch.tensor([_unless_unlimited(p.largest_eps[rung]) for p in plans], dtype=torch.float64)
        for rung in ("theorem", "cell")
    }
    adversarial = torch.tensor([w.distance if w else math.inf for w in witnesses], dtype=torch.float64)
    eps = adversarial.median().item()  # infinite where a search finds next to nothing
    query = Query(hyperplanes, x, list(range(len(x))), Sphere(eps if math.isfinite(eps) else 1.0), Settings())
    logs = [PROVED_RUNGS[rung].bound(query) for rung in RANKED]
    log_bound = torch.tensor([min(b.log_misclassification for b in each) for each in zip(*logs, strict=True)])
    return Balls(
        subject=subject,
        rho=distances.rho,
        witnesses=tuple(witnesses),
        adversarial=adversarial,
        theorem=largest["theorem"],
        cell=largest["cell"],
        certified=torch.maximum(
            distances.rho,
            relaxed_radius(query, distances.rho, steps=6),
        ),
        log_bound=log_bound.to(torch.float64),
        margin=CHANGE.margins(network, x, distances.predicted).of(network.forward(x)).amin(1),
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
    """How well each score predicts the adversarial distance: a row for each network and score."""
    rows = []
    for balls in measured:
        ranking, separations = balls.ranking(), [balls.separation(balls.tau(share)) for share in TAU_SHARES]
        for k, (name, correlation) in enumerate(ranking.items()):
            areas = (f"{separation[name]:.2f}" for separation in separations)
            rows.append((balls.subject.name if k == 0 else "", name, f"{correlation:+.2f}", *areas))
    columns = (
        "network", "ranked by", "rank correlation",
        *(f"AUC, tau = {share:.0%} quantile" for share in TAU_SHARES),
    )  # fmt: skip
    note = (
        "Spearman's rank correlation with the distance of the nearest misclassified point found. AUC: the "
        "probability that an input with such a point within tau is ranked below one without (0.5: chance). output "
        "hyperplane: distance to the nearest decision hyperplane of the cell, extended beyond the cell. "
        f"best proved bound: at eps = the median distance found, of the rungs {', '.join(RANKED)}."
    )
    return Table("Whose neighbourhood holds adversarial points?", columns, tuple(rows), note)


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
    hyperplanes, settings = Hyperplanes(network), Settings(samples=samples, seed=seed)
    found = []
    for i in chosen:
        witness = balls.witnesses[i]
        assert witness is not None
        x = balls.subject.x[i : i + 1]
        queries = [Query(hyperplanes, x, [i], Sphere(k * witness.distance), settings) for k in MULTIPLES]
        wrong = tuple(count_misclassified(query, 0, samples) or 0 for query in queries)
        logs = {rung: PROVED_RUNGS[rung].bound(queries[0])[0].log_misclassification for rung in ("theorem", "cell")}
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
