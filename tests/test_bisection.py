"""Noise in few independent coordinates, cut by whomever: both sides against closed forms and draws; mutants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import mpmath
import pytest
import torch
from torch import Tensor
from zoo import dense, log_normal_tail, points, random_dense, residual, tensor

import calotte
from calotte.bound import Bound
from calotte.independent import Box, Truncated
from calotte.lower import LowerBound
from calotte.network.event import Event, as_event
from calotte.network.graph import Network
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.proofs.cuboids import lines, shares, small, tiling
from calotte.proofs.cuboids.cuboids import Cuboids
from calotte.proofs.cuboids.places import places as original_places
from calotte.proofs.cuboids.tiling import Cuts, Tiling
from calotte.proofs.prove import one_input
from calotte.searches.bisection import Bisection
from calotte.settings import Settings

SETTINGS = Settings(search=False, boxes=100)
QUICK = Settings(search=False, boxes=15)
DRAWS = 40_000


def sides(
    net: Network, x: Tensor, law: Noise, event: Event | str = "change", settings: Settings = SETTINGS
) -> tuple[Bound, LowerBound]:
    query = one_input(net, x, law, settings, event)
    upper, lower = Bisection().sides(query, query.sizes)
    return Bound("branching", "proved", upper.item()), LowerBound("branching", lower.item())


def tail(law: Noise, t: float) -> float:
    """P(w >= t) of a coordinate w of noise of size 1."""
    if isinstance(law, Box):
        return (1.0 - t) / 2.0
    beyond = mpmath.exp(log_normal_tail(mpmath.mpf(t)))
    if isinstance(law, Gaussian):
        return float(beyond)
    cut = mpmath.exp(log_normal_tail(mpmath.mpf(law.cut)))
    return float((beyond - cut) / (1 - 2 * cut))


LAWS = [Box(0.5), Truncated(0.5, cut=3.0), Truncated(0.5, cut=0.8), Gaussian(0.5)]


def identity(d: int) -> Network:
    """z = relu(x + 9) - 9, which is x for all noise that matters."""
    eye = torch.eye(d, dtype=torch.float64)
    return dense((eye, [9.0] * d), (eye, [-9.0] * d))


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("t", [0.05, 0.35, 0.7])
def test_products_of_half_lines(law: Noise, t: float) -> None:
    """P(z_0 >= t or (z_1 >= t and -z_2 >= t)), t in units of the noise's size."""
    level = t * law.size
    one, two, three = (row.tolist() for row in -torch.eye(3, dtype=torch.float64))
    event = Event([[(one, level)], [(two, level), ([-c for c in three], level)]])
    p = tail(law, t)
    truth = p + (1 - p) * p * p
    upper, lower = sides(identity(3), torch.zeros(1, 3).double(), law, event)
    assert lower.probability <= truth <= upper.probability
    assert upper.log_misclassification - lower.log_misclassification < 0.06


@pytest.mark.parametrize("law", [Box(0.5), Gaussian(0.5)], ids=str)
def test_a_half_plane(law: Noise) -> None:
    """Of x_0 + x_1 >= t: a triangle of the square, or a normal tail."""
    net = dense(([[-1.0, -1.0]], [0.7]))
    upper, lower = sides(net, torch.zeros(1, 2).double(), law)
    truth = (2 - 1.4) ** 2 / 8 if isinstance(law, Box) else float(mpmath.exp(log_normal_tail(1.4 / mpmath.sqrt(2))))
    assert lower.probability <= truth <= upper.probability
    assert upper.probability < 1.06 * lower.probability


def test_nothing_and_everything() -> None:
    net, x = dense(([[1.0, 0.0]], [0.6])), torch.zeros(1, 2).double()
    upper, lower = sides(net, x, Box(0.5))
    assert upper.certain
    assert lower.log_misclassification == -math.inf
    always = Event([[([-1.0], 0.0)]])  # z >= 0
    upper, lower = sides(net, x, Box(0.5), always)
    assert upper.log_misclassification == 0.0
    assert -1e-12 < lower.log_misclassification <= 0.0


def test_what_it_does_not_apply_to() -> None:
    for d, law in ((3, Sphere(1.0)), (3, Ball(1.0)), (7, Gaussian(1.0)), (7, Box(1.0))):
        assert not Bisection().applies(
            one_input(random_dense((d, 2, 2), 0), points(1, d, 1), law, SETTINGS, "change")
        )
    (one,) = calotte.assess(
        random_dense((7, 2, 2), 0), points(1, 7, 1), Box(1.0), rungs="branching", settings=SETTINGS
    )
    assert "or at most 6 coordinates, which here are 7" in (one.bounds[0].skipped or "")
    assert one.lower == ()


@dataclass(frozen=True, eq=False)
class Case:
    """A network, an input, a noise and an event; `occurs` says of points (n, d) where that does."""

    network: Network
    x: Tensor
    law: Noise
    event: Event | str

    @cached_property
    def share(self) -> tuple[float, float]:
        """p less and plus four standard errors, by draws."""
        query = one_input(self.network, self.x, self.law, SETTINGS, self.event)
        y = self.x + self.law.sample(DRAWS, self.network.d, torch.Generator().manual_seed(5))
        share = query.margins.occurs(self.network.forward(y)).double().mean().item()
        error = 4 * math.sqrt(max(share * (1 - share), 10 / DRAWS) / DRAWS)
        return share - error, share + error


@lru_cache
def cases() -> tuple[Case, ...]:
    return tuple(made())


def made() -> Iterator[Case]:
    events = ["change", "class:1", "top:2", "moves:0.4"]
    for k, widths in enumerate([(1, 4, 3), (2, 6, 5, 3), (3, 8, 3), (4, 6, 4, 3)]):
        net, d = random_dense(widths, k), widths[0]
        scale = torch.linspace(0.3, 1.0, d, dtype=torch.float64)
        for j, law in enumerate((Box(0.8), Truncated(0.5, cut=2.0), Gaussian(0.4), Box(1.0, scale))):
            yield Case(net, points(1, d, 10 + k), law, events[(j + k) % 4])
    yield Case(residual(3, 3, 4), points(1, 3, 5), Gaussian(0.4), "change")
    yield Case(random_dense((30, 8, 3), 2), points(1, 30, 6), Box(1.0, points(30, 2, 7)), "change")


def violations(some: Sequence[Case]) -> list[str]:
    """What lies beyond the draws. An empty list is a pass."""
    found = []
    for case in some:
        upper, lower = sides(case.network, case.x, case.law, case.event, QUICK)
        least, most = case.share
        if upper.probability < least or lower.probability > most:
            found.append(f"{case}: {lower} and {upper}, draws say {least} to {most}")
    return found


def test_no_side_is_beyond_what_draws_show() -> None:
    assert violations(cases()) == []


def test_most_cases_are_told_from_below() -> None:
    told = [sides(case.network, case.x, case.law, case.event, QUICK)[1].probability > 1e-2 for case in cases()]
    assert sum(told) >= len(told) / 2


@pytest.mark.parametrize("seed", range(3))
def test_whoever_says_where_to_cut(seed: int) -> None:
    net, x, g = random_dense((2, 8, 6, 3), 3), points(1, 2, 4), torch.Generator().manual_seed(seed)
    case = Case(net, x, Box(0.9), "change")
    query = one_input(net, x, case.law, SETTINGS, as_event("change", net))
    least, most = case.share
    kept = tiling.Tiling(query, case.law.size, 1.0, kept=seed)
    before = kept.log_upper, kept.log_lower
    for _ in range(12):
        numbers = kept.numbers[torch.randperm(len(kept.open), generator=g)[:40].sort().values]
        kept.cut(Cuts(numbers, torch.randint(2, (len(numbers),), generator=g)))
        assert math.exp(kept.log_upper) >= least
        assert math.exp(kept.log_lower) <= most
    assert kept.log_upper - kept.log_lower < 0.5 * (before[0] - before[1])
    assert math.exp(kept.log_lower) > 0.1 * most


def scaled_measure(factor: float) -> Callable[[pytest.MonkeyPatch], None]:
    def mutate(patch: pytest.MonkeyPatch) -> None:
        original = Cuboids.log_measure
        patch.setattr(Cuboids, "log_measure", lambda self, *rest: factor * original(self, *rest))

    return mutate


def margins_turned(patch: pytest.MonkeyPatch) -> None:
    original = tiling.margin_lines

    def turned(*arguments: object) -> lines.Lines:
        found = original(*arguments)  # type: ignore[arg-type]
        return lines.Lines(found.normal.flip(1), found.constant.flip(1), found.shares)

    patch.setattr(tiling, "margin_lines", turned)


def chords_lowered(patch: pytest.MonkeyPatch) -> None:
    """The chord above a ReLU goes through zero."""
    original = lines.relaxed_lines

    def lowered(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        below, above, intercept = original(low, high)
        return below, above, torch.zeros_like(intercept)

    patch.setattr(lines, "relaxed_lines", lowered)
    patch.setattr(small, "relaxed_lines", lowered)


def ranges_shrunk(patch: pytest.MonkeyPatch) -> None:
    """Of the units of small networks."""
    original = small.ranges

    def shrunk(*arguments: object) -> tuple[Tensor, Tensor, Tensor]:
        low, high, directions = original(*arguments)  # type: ignore[arg-type]
        middle, half = (low + high) / 2, (high - low) / 8
        return middle - half, middle + half, directions

    patch.setattr(small, "ranges", shrunk)


def shares_shrunk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tiling, "below_zero", lambda normal, constant: 0.8 * shares.below_zero(normal, constant))


def bends_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A normal coordinate is taken for a uniform one within a cuboid."""
    patch.setattr(tiling, "places", lambda noise, cuboids: original_places(Box(1.0), cuboids))


def half_dropped(patch: pytest.MonkeyPatch) -> None:
    """Of what is cut one half gets lost."""
    original = Tiling._decide
    patch.setattr(Tiling, "_decide", lambda self, *given: original(self, *(part[::2] for part in given)))


def half_doubled(patch: pytest.MonkeyPatch) -> None:
    original = Cuboids.halves

    def twice(self: Cuboids, axes: Tensor) -> Cuboids:
        return original(self, axes)[: len(self)] + original(self, axes)[: len(self)]

    patch.setattr(Cuboids, "halves", twice)


def outside_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Of a Gaussian within half a standard deviation."""
    original = Tiling.__init__

    def narrow(self: Tiling, query: object, size: float, span: float, kept: int) -> None:
        original(self, query, size, 0.5, kept)  # type: ignore[arg-type]
        self.log_outside = -math.inf

    patch.setattr(Tiling, "__init__", narrow)


@pytest.mark.parametrize(
    "mutate",
    [
        scaled_measure(0.7),
        scaled_measure(1.3),
        margins_turned,
        chords_lowered,
        ranges_shrunk,
        shares_shrunk,
        bends_forgotten,
        half_dropped,
        half_doubled,
        outside_forgotten,
    ],
)
def test_mutants_are_caught(monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]) -> None:
    some = [case for case in cases() if case.network.d in (2, 3)]
    mutate(monkeypatch)
    assert violations(some) != []


def test_a_gaussian_counts_what_lies_outside() -> None:
    """Within half a standard deviation it is cut; the rest is never forgotten."""
    net, x, law = random_dense((2, 6, 3), 3), points(1, 2, 4), Gaussian(0.5)
    query = one_input(net, x, law, SETTINGS, "change")
    whole = Tiling(query, law.size, 0.5, kept=2)
    for _ in range(60):
        whole.cut(Cuts(whole.numbers, whole.doubts.argmax(1)))
        if not len(whole.open):
            break
    outside = 2 * 2 * float(mpmath.exp(log_normal_tail(mpmath.mpf("0.5"))))
    assert math.exp(whole.log_upper) >= min(outside, 1.0) - 1e-9


def test_both_sides_stand_in_the_line_and_in_words() -> None:
    (one,) = calotte.assess(identity(2), [[0.0, 0.1]], Box(0.5), rungs="branching", settings=SETTINGS)
    entry = one.to_dict()["lower"]
    assert entry == [
        {"rung": "branching", "guarantee": "proved", "log_misclassification": one.lower[0].log_misclassification}
    ]
    again = calotte.Assessment.from_dict(one.to_dict(points=True))
    assert again.lower == one.lower
    assert "p >= " in str(one)
    assert one.best_lower == one.lower[0]
    assert calotte.to_frame([one])["branching.log_lower"][0] == one.lower[0].log_misclassification


def test_a_line_of_before_has_no_lower_bounds() -> None:
    (one,) = calotte.assess(identity(2), [[0.0, 0.1]], Box(0.5), rungs="cell", settings=SETTINGS)
    line = one.to_dict()
    assert line.pop("lower") == []
    assert calotte.Assessment.from_dict(line).lower == ()
    with pytest.raises(calotte.InvalidInput, match="log_misclassification"):
        LowerBound.from_dict(tensor_entry())


def tensor_entry() -> dict[str, object]:
    return {"rung": "branching", "guarantee": "proved", "log_misclassification": tensor(math.nan).item()}
