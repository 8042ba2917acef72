"""The measure of cuboids against 40 digits, and what networks do on them against points drawn there."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from zoo import convolutional, points, random_dense, residual, tensor

from calotte.independent import Box, Truncated
from calotte.network.event import CHANGE
from calotte.noise import Gaussian
from calotte.normal import log_normal_between
from calotte.proofs.cuboids.cuboids import Cuboids
from calotte.proofs.cuboids.zonotopes import margin_ranges
from calotte.proofs.prove import one_input
from calotte.settings import Settings

ENDS = [
    (-1.0, 1.0), (0.0, 0.0), (0.0, 3.0), (-3.0, 0.0), (-1e-9, 2e-9), (1.0, 1.0 + 1e-12), (-2.5, -2.4999), (3.0, 9.0),
    (-9.0, -3.0), (7.0, 7.5), (20.0, 37.0), (-50.0, 50.0), (-0.1, 8.0), (0.3, 0.3 + 2**-40), (-1e-300, 1e-300),
]  # fmt: skip


def normal_between(a: float, b: float) -> mpmath.mpf:
    half = mpmath.sqrt(2)
    if a >= 0:
        return (mpmath.erfc(a / half) - mpmath.erfc(b / half)) / 2
    return normal_between(-b, -a) if b <= 0 else normal_between(0, -a) + normal_between(0, b)


def held(down: torch.Tensor, up: torch.Tensor, truth: mpmath.mpf, slack: float = 1e-6) -> bool:
    """Whether two logarithms enclose that of the truth, and are near to each other where it is not tiny."""
    log_p = mpmath.log(truth) if truth > 0 else -mpmath.inf
    near = truth < 1e-8 or up.item() - down.item() < slack
    return bool(mpmath.mpf(down.item()) <= log_p <= mpmath.mpf(up.item())) and near


@pytest.mark.parametrize(("a", "b"), ENDS)
def test_intervals_of_the_normal_law(a: float, b: float) -> None:
    with mpmath.workdps(400):
        truth = normal_between(mpmath.mpf(a), mpmath.mpf(b))
        down, up = (log_normal_between(tensor(a), tensor(b), rounding=side) for side in ("down", "up"))
        assert held(down, up, truth), (down.item(), float(mpmath.log(truth)) if truth else None, up.item())


@pytest.mark.parametrize("cut", [0.01, 0.7, 3.0, 12.0])
@pytest.mark.parametrize(("a", "b"), [(-2.0, 0.5), (0.1, 0.4), (-1.0, 1.0), (2.0, 3.0), (-20.0, -2.9), (0.5, 0.5001)])
def test_intervals_of_the_laws_on_a_cube(cut: float, a: float, b: float) -> None:
    with mpmath.workdps(60):
        for law, reach in ((Truncated(1.0, cut=cut), cut), (Box(1.0), 1.0)):
            low, high = (min(max(mpmath.mpf(t), -mpmath.mpf(reach)), mpmath.mpf(reach)) for t in (a, b))
            truth = (high - low) / 2
            if isinstance(law, Truncated):
                truth = normal_between(low, high) / normal_between(-mpmath.mpf(cut), mpmath.mpf(cut))
            down, up = (law.log_between(tensor(a), tensor(b), rounding=side) for side in ("down", "up"))
            assert held(down, up, truth), law


@pytest.mark.parametrize("law", [Box(0.3), Truncated(0.2, cut=2.0)])
def test_measures_add_up_to_one(law: Box | Truncated) -> None:
    parts, g = Cuboids.cube(law.reach, 3), torch.Generator().manual_seed(0)
    for _ in range(9):
        parts = parts.halves(torch.randint(3, (len(parts),), generator=g))
    down, up = (parts.log_measure(law, side).exp().sum().item() for side in ("down", "up"))
    assert len(parts) == 512
    assert 1 - 1e-9 < down <= 1.0 <= up < 1 + 1e-9


def test_halves_share_a_face_and_leave_nothing_out() -> None:
    one = Cuboids(tensor([[-1.0, 0.25]]), tensor([[0.5, 1.0]]))
    two = one.halves(torch.tensor([1]))
    assert two.low.tolist() == [[-1.0, 0.25], [-1.0, 0.625]]
    assert two.high.tolist() == [[0.5, 0.625], [0.5, 1.0]]


NETWORKS = {
    "dense": (random_dense((4, 9, 7, 3), 1), None),
    "residual": (residual(5, 3, 2), None),
    "scaled": (random_dense((4, 9, 7, 3), 3), tensor([0.5, 0.0, 2.0, 1.0])),
    "convolution": (convolutional(1), points(72, 3, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kept", [0, 2, 40])
def test_margins_lie_in_their_ranges(name: str, kept: int) -> None:
    net, noise_map = NETWORKS[name]
    law = Gaussian(0.5, noise_map)
    x, g = points(1, net.d, 7), torch.Generator().manual_seed(1)
    query = one_input(net, x, law, Settings(), CHANGE)
    middle = torch.randn(20, query.m, dtype=torch.float64, generator=g)
    half = torch.rand(20, query.m, dtype=torch.float64, generator=g) ** 2
    cuboids = Cuboids(middle - half, middle + half)
    found = margin_ranges(query, law.size, cuboids, kept)
    widths = found.high - found.low
    for place in range(20):
        at = cuboids.low[place] + 2 * half[place] * torch.rand(300, query.m, dtype=torch.float64, generator=g).round(
            decimals=1
        )
        values = query.margins.of(net.forward(x + law.apply_map(law.size * at, net.d)))
        slack = 1e-12 * (1 + values.abs())
        assert ((values >= found.low[place] - slack) & (values <= found.high[place] + slack)).all()
    tight = margin_ranges(query, law.size, Cuboids(middle, middle), kept)
    assert (tight.high - tight.low).max() < 1e-9 < widths.min()


def test_nothing_is_known_where_numbers_overflow() -> None:
    net = random_dense((2, 3, 2), 0)
    net.nodes[1].op.weight.mul_(1e200)
    net.nodes[3].op.weight.mul_(1e200)
    query = one_input(net, points(1, 2, 3) * 1e-300, Box(1.0), Settings(), CHANGE)
    found = margin_ranges(query, 1.0, Cuboids.cube(1.0, 2), 2)
    assert not (found.low > 0).any()
    assert not (found.high < 0).any()
    assert math.isnan(found.low[0, 0].item())
