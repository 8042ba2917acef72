"""Findings: what was measured, in sentences that say what the numbers say, good or bad."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from calotte.paper.adversarial import CONFIDENCE, MULTIPLES, TAU_SHARES, Balls, Beside
from calotte.paper.behaviour import DELTA, SHARE, Distance, Lines
from calotte.paper.report import Check
from calotte.paper.statements import FALSE_ALARM
from calotte.printing import number, probability_text

__all__ = ["THEORY", "of_balls", "of_checks", "of_distances", "of_lines", "of_patterns"]

THEORY = (
    "A cap's measure falls exponentially in d (figure 1); a hyperplane cuts a cap off the sphere of perturbed inputs "
    "(2); the bound over d for several N (3); the cells of a small network, and the cell of one input (4)."
)


def of_checks(checks: Sequence[Check]) -> tuple[str, ...]:
    """The verdict, and what it is worth."""
    failed = sum(not check.held for check in checks)
    cases = sum(check.cases for check in checks if check.statement != "Theorem 4.1")
    tight = sum(check.tight or 0 for check in checks)
    verdict = f"{failed} of {len(checks)} checks FAILED."
    if not failed:
        verdict = f"All {len(checks)} checks held: no sampled robustness lies below its proved lower bound."
    return (
        verdict,
        f"{cases} bounds were tried ({tight} of them tight); if all are right, the probability of any false alarm is "
        f"below {number(cases * FALSE_ALARM, 'up', 2)}. On deep networks leaving the cell, which is what the proofs "
        "bound, is counted as well as misclassification.",
    )


def of_distances(
    measured: Sequence[Distance], over_layers: Sequence[Distance], powers: dict[str, float]
) -> tuple[str, ...]:
    """What the promise of Theorem 4.2 rests on."""
    medians = [m.scaled[1] for m in measured]
    needed = min(m.needed for m in measured)
    most = max(measured, key=lambda m: m.proved)
    reach = [100 * m.reach for m in measured]
    factors = []
    for trained in (False, True):
        rho = [m.rho[1] for m in over_layers if m.trained == trained]
        factors.append(number(max(rho) / min(rho), "up"))
    return (
        f"At noise of {SHARE:.0%} of the input's norm, sqrt(d) rho_x / eps is {number(min(medians), 'down')} to "
        f"{number(max(medians), 'up')} in the median, where {number(needed, 'down')} or more is needed for "
        f"p <= {DELTA:g}. Theorem 4.2 proves that for at most {number(100 * most.proved, 'up')} % of the inputs of "
        f"any network here ({most.name}). For the median input it reaches noise of {number(min(reach), 'down')} % to "
        f"{number(max(reach), 'up')} % of the norm, depending on the network.",
        f"Over N, rho_x goes like N^{powers['N, random']:.2f} (random) and N^{powers['N, trained']:.2f} (trained). "
        "That more units bring the nearest hyperplane closer costs far more than the factor N in the bound.",
        f"At this relative noise sqrt(d) rho_x / eps goes like d^{powers['d, random']:.2f} on random networks with "
        f"N(0, I) inputs, and like d^{powers['d, trained']:.2f} on networks trained on the same images at higher "
        "resolution: where eps grows like sqrt(d), as noise of fixed size in each coordinate does, high dimension by "
        "itself gains little. The promised exponential gain needs an eps that stays fixed while d grows; rho_x "
        f"goes like d^{powers['rho over d, random']:.2f} and d^{powers['rho over d, trained']:.2f}.",
        f"The arrangement of the same N in 1 to 8 layers changes the median of rho_x by a factor of {factors[0]} on "
        f"random and {factors[1]} on trained networks.",
    )


def of_lines(found: Sequence[Lines], folded: Sequence[Lines]) -> tuple[str, ...]:
    """Number of cells against number of faces."""
    medians = [float(np.median(m.cells)) for m in found]
    last = max(folded, key=lambda m: max(m.cells))
    depths = sorted({m.layers for m in found})
    faces = ", ".join(f"{max(max(m.faces) for m in found if m.layers == k)} (depth {k})" for k in depths)
    planes = max(max(m.hyperplanes) for m in [*found, *folded])
    return (
        f"Segments between test inputs meet {min(medians):g} to {max(medians):g} cells in the median, however "
        f"N = {found[0].N} units stand in layers, trained or random: here depth does not multiply the cells.",
        f"It can: the sawtooth of {last.layers} layers and N = {last.N} units has {max(last.cells)} cells on a "
        f"segment of length 1. No cell has more than N hyperplanes (most: {planes}). Of those of N = {found[0].N} "
        f"units carry a face at most {faces}.",
    )


def of_balls(balls: Balls) -> tuple[str, ...]:
    """The second half of the hypothesis, and what rho_x says about adversarial points."""
    free = int((balls.rho > 0).sum())
    ratio = balls.ratio[balls.ratio.isfinite()]
    norm = balls.subject.x.norm(dim=1).median().item()
    ranking = balls.ranking()
    areas = balls.separation(balls.tau(TAU_SHARES[0]))
    best = max(ranking, key=lambda name: ranking[name])
    verdict = "does not rank" if abs(ranking["rho_x"]) < 0.3 else "ranks"
    return (
        f"{free} of {len(balls.rho)} test inputs ({balls.subject.name}) have a ball that is proved free of "
        "adversarial points: around these they are not dense. Its radius is "
        f"{number(balls.rho.median().item(), 'down')} in the median, of inputs of norm {number(norm)}.",
        f"The nearest misclassified point found is {number(ratio.median().item(), 'up')} times as far away in the "
        "median: the balls are real, and far smaller than the room there is.",
        f"rho_x {verdict} the inputs by their adversarial distance (rank correlation {ranking['rho_x']:+.2f}); the "
        f"nearest hyperplane is mostly that of a hidden unit, where the answer does not change. The margin gives "
        f"{ranking['margin']:+.2f}, the distance to the nearest output hyperplane of the cell "
        f"{ranking['output hyperplane']:+.2f}, the certified radius {ranking['certified radius']:+.2f}, the best "
        f"proved bound {ranking['best proved bound']:+.2f}.",
        f"Who has an adversarial point among the nearest {TAU_SHARES[0]:.0%}? An input that does is ranked before "
        f"one that does not with probability {areas['rho_x']:.2f} by rho_x, {areas['margin']:.2f} by the margin, "
        f"and {areas[best]:.2f} by the best ranking here ({best}).",
    )


def of_patterns(found: Sequence[Beside]) -> tuple[str, ...]:
    """The first half of the hypothesis: known adversarial points beside random noise."""
    samples = found[0].samples
    missed = sum(b.misclassified[0] == 0 for b in found)
    larger = ", ".join(
        f"around {sum(b.misclassified[k] > 0 for b in found)} at {multiple} eps"
        for k, multiple in enumerate(MULTIPLES)
        if k > 0
    )
    largest = probability_text(max(b.log_sampled for b in found))
    theorem, cell = (
        sum(log_p <= math.log(DELTA) for log_p in logs)
        for logs in ([b.log_theorem for b in found], [b.log_cell for b in found])
    )
    return (
        f"Around {len(found)} inputs a misclassified point is known at distance eps, and {samples:,} random "
        f"perturbations of that size missed all such points around {missed} of them (p <= {largest}, with "
        f"confidence {CONFIDENCE} for each input). Larger noise finds some: {larger}.",
        f"What sampling shows is not yet proved: at eps, p <= {DELTA:g} is proved for {theorem} of these "
        f"{len(found)} inputs by Theorem 4.2 and for {cell} by exact caps.",
    )
