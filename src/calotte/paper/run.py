"""Run: all sections of the report, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from calotte.cells.polygon import roomiest_cell
from calotte.errors import InvalidInput
from calotte.paper import adversarial, behaviour, figures, findings, plots, statements
from calotte.paper.behaviour import DELTA, SHARE
from calotte.paper.effort import Effort, one_thread
from calotte.paper.networks import (
    Digits,
    Subject,
    load_digits,
    moons_network,
    random_subject,
    sawtooth,
    trained_subject,
)
from calotte.paper.report import Report, Section, write

__all__ = ["run"]

DEPTHS = (1, 2, 4, 8)
"""Numbers of hidden layers that the same number of units is arranged in."""


def run(
    out: Path, *, effort: Effort | None = None, seed: int = 0, done: Callable[[Section], None] | None = None
) -> Report:
    """Check the paper, measure, draw; write paper.json, paper.md and the figures.

    Args:
        out: folder for the files, made if need be.
        effort: how much to look at.
        seed: of everything random; the same seed gives the same report.
        done: called with each section as soon as it is finished.

    Returns:
        The report; `held` is False where a check failed (the command then exits with status 1).

    Raises:
        InvalidInput: scikit-learn is not installed, a negative seed, or the folder cannot be made.
    """
    if seed < 0:
        raise InvalidInput(f"seed must not be negative, came {seed}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot make the folder {out}: {error.strerror}") from None
    workshop = Workshop(out, effort or Effort(), seed)
    sections = []
    with one_thread():
        for section in workshop.sections():
            sections.append(section)
            if done is not None:
                done(section)
    report = Report(out, tuple(sections), seed)
    write(report)
    return report


class Workshop:
    """What the sections share: data, trained networks, and a generator for each section."""

    def __init__(self, out: Path, effort: Effort, seed: int) -> None:
        self.out, self.effort, self.seed = out, effort, seed
        self.arrangements = [(self.effort.units // depth,) * depth for depth in DEPTHS]
        self.digits = {side: load_digits(seed, side) for side in sorted({8, *effort.sides})}

    def sections(self) -> Iterator[Section]:
        """All sections, in order."""
        yield self.theory()
        yield self.checks()
        yield self.distances()
        yield self.lines()
        yield self.free_balls()
        yield self.patterns()

    def generator(self, part: int) -> torch.Generator:
        """The source of randomness of one section."""
        state = np.random.SeedSequence([self.seed, part]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state >> np.uint64(1)))

    def trained(self, hidden: tuple[int, ...], side: int = 8) -> Subject:
        """A network fitted to the digits."""
        digits: Digits = self.digits[side]
        return trained_subject(digits, hidden, self.seed, self.effort.epochs, self.effort.measured)

    @cached_property
    def arranged(self) -> list[Subject]:
        """Trained networks with the same number of units in 1, 2, 4 and 8 layers."""
        return [self.trained(hidden) for hidden in self.arrangements]

    @cached_property
    def arranged_random(self) -> list[Subject]:
        """Random networks with the same widths, looked at from the same inputs."""
        generator, x = self.generator(2), self.digits[8].test[: self.effort.measured]
        return [random_subject((64, *hidden, 10), generator, x) for hidden in self.arrangements]

    @cached_property
    def balls(self) -> list[adversarial.Balls]:
        """The surroundings of the test inputs in the trained networks."""
        return [adversarial.measure_balls(subject, self.seed) for subject in self.arranged]

    def theory(self) -> Section:
        """Figures 1 to 4."""
        network = moons_network(self.seed)
        names = (
            figures.cap_figure(self.out),
            figures.cut_figure(self.out),
            figures.bound_figure(self.out),
            figures.cells_figure(self.out, network, roomiest_cell(network, -2.4, 2.4), -2.4, 2.4),
        )
        return Section("theory", "Figures 1 to 4", (findings.THEORY,), figures=names)

    def checks(self) -> Section:
        """Every statement tried by sampling."""
        effort, generator = self.effort, self.generator(1)
        found = statements.perceptron_checks((2, 3, 10, 100, 1000), 4 * effort.samples, generator)
        shapes = ((2, 2), (2, 8), (10, 4), (10, 32), (100, 4), (100, 100), (1000, 32))
        found += statements.shallow_checks(shapes, 4 * effort.samples, generator)
        shapes_of_random = ((2, 8, 1), (2, 8, 8, 1), (5, 16, 16, 3), (20, 32, 32, 32, 4), (100, 64, 64, 10))
        subjects = [random_subject(widths, generator, effort.inputs) for widths in shapes_of_random]
        subjects.append(random_subject((200, *(32,) * 8, 1), generator, effort.inputs))
        subjects += self.arranged
        for subject in subjects:
            found += statements.subject_checks(subject, effort.inputs, effort.samples, generator)
        return Section("checks", "The statements, tried by sampling", findings.of_checks(found), checks=tuple(found))

    def distances(self) -> Section:
        """How rho_x behaves."""
        effort, generator = self.effort, self.generator(3)
        over_d = [
            behaviour.measure_distance(random_subject((d, 64, 64, 10), generator, effort.measured))
            for d in effort.dimensions
        ]
        over_N = [
            behaviour.measure_distance(random_subject((64, n, 10), generator, self.digits[8].test[: effort.measured]))
            for n in effort.widths
        ]
        powers = {
            "d, random": behaviour.exponent([m.d for m in over_d], [m.scaled[1] for m in over_d]),
            "N, random": behaviour.exponent([m.N for m in over_N], [m.rho[1] for m in over_N]),
        }
        trained_d = [behaviour.measure_distance(self.trained((64, 64), side)) for side in effort.sides]
        trained_N = [behaviour.measure_distance(self.trained((n,))) for n in effort.widths]
        powers["rho over d, random"] = behaviour.exponent([m.d for m in over_d], [m.rho[1] for m in over_d])
        powers["rho over d, trained"] = behaviour.exponent([m.d for m in trained_d], [m.rho[1] for m in trained_d])
        powers["d, trained"] = behaviour.exponent([m.d for m in trained_d], [m.scaled[1] for m in trained_d])
        powers["N, trained"] = behaviour.exponent([m.N for m in trained_N], [m.rho[1] for m in trained_N])
        over_d, over_N = over_d + trained_d, over_N + trained_N
        subjects = [*self.arranged_random, *self.arranged]
        over_layers = [behaviour.measure_distance(subject) for subject in subjects]
        tables = (
            behaviour.distance_table("Over the dimension d", over_d),
            behaviour.distance_table("Over the number N of units", over_N),
            behaviour.distance_table("Over the arrangement of the same N in layers", over_layers),
        )
        numbers = {
            "delta": DELTA,
            "eps_over_norm": SHARE,
            "exponents": powers,
            "over_d": [vars(m) for m in over_d],
            "over_N": [vars(m) for m in over_N],
            "over_layers": [vars(m) for m in over_layers],
        }
        words = findings.of_distances(over_d + over_N + over_layers, over_layers, powers)
        figure = plots.distance_figure(self.out, over_d, over_N, over_layers)
        return Section("distances", "How rho_x behaves", words, tables, numbers=numbers, figures=(figure,))

    def lines(self) -> Section:
        """Cells met along lines, beside the faces of one cell."""
        effort = self.effort
        ends = self.digits[8].test[: 2 * effort.segments].reshape(-1, 2, 64)
        subjects = [*self.arranged, *self.arranged_random]
        found = [
            behaviour.measure_lines(s.name, s.network, s.layers, ends, min(effort.looked_at, len(ends)))
            for s in subjects
        ]
        along = torch.zeros(1, 2, 64, dtype=torch.float64)
        along[0, :, 0] = torch.tensor([1e-4, 1 - 1e-4], dtype=torch.float64)
        folded = [behaviour.measure_lines("sawtooth", sawtooth(64, layers), layers, along, 1) for layers in DEPTHS]
        words = findings.of_lines(found, folded)
        numbers = {"segments": [vars(m) for m in [*found, *folded]]}
        return Section(
            "lines", "Cells along lines", words, (behaviour.lines_table([*found, *folded]),), numbers=numbers
        )

    def free_balls(self) -> Section:
        """Second half of the hypothesis: balls free of adversarial points."""
        balls = self.balls[1]
        tables = (adversarial.balls_table(balls), adversarial.ranking_table(self.balls))
        numbers = {
            "networks": [
                {
                    "name": b.subject.name,
                    "accuracy": b.subject.accuracy,
                    "rho": b.rho.tolist(),
                    "adversarial_distance": b.adversarial.tolist(),
                    "largest_eps_theorem": b.theorem.tolist(),
                    "largest_eps_cell": b.cell.tolist(),
                    "margin": b.margin.tolist(),
                    "output_distance": b.output_distance.tolist(),
                    "certified_radius": b.certified.tolist(),
                    "log_best_bound": b.log_bound.tolist(),
                    "rank_correlation": b.ranking(),
                    "area_under_curve": {
                        f"{share:g}": {"tau": b.tau(share), **b.separation(b.tau(share))}
                        for share in adversarial.TAU_SHARES
                    },
                }
                for b in self.balls
            ]
        }
        figure = plots.balls_figure(self.out, balls)
        return Section(
            "balls",
            "Balls free of adversarial points",
            findings.of_balls(balls),
            tables,
            numbers=numbers,
            figures=(figure,),
        )

    def patterns(self) -> Section:
        """First half of the hypothesis: adversarial points that random noise does not find."""
        balls = self.balls[1]
        found = adversarial.put_beside(
            balls, adversarial.spread(balls, 5 * self.effort.inputs), self.effort.patterns, self.seed
        )
        pictured = [b for b in found if b.answer != b.predicted]
        pictured = [pictured[round(q * (len(pictured) - 1))] for q in (0.35, 0.6, 0.85)]
        figure = plots.patterns_figure(self.out, balls, pictured, 8, self.seed)
        numbers = {"confidence": adversarial.CONFIDENCE, "inputs": [vars(b) for b in found]}
        table = adversarial.beside_table(found[:: max(1, len(found) // 10)])
        words = findings.of_patterns(found)
        return Section(
            "patterns", "Patterns that noise does not find", words, (table,), numbers=numbers, figures=(figure,)
        )
