"""The measure of cuboids against 40 digits, and what networks do on them against points drawn there."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath
import pytest
import torch
from zoo import convolutional, points, random_dense, residual, tensor

from calotte.independent import Box, Truncated
from calotte.network.event import CHANGE
from calotte.network.margins import Case, Cases
from calotte.noise import Gaussian
from calotte.normal import log_normal_between
from calotte.proofs.cuboids.cuboids import Cuboids
from calotte.proofs.cuboids.lines import margin_lines
from calotte.proofs.cuboids.places import places
from calotte.proofs.cuboids.shares import below_zero, occurring
from calotte.proofs.cuboids.small import reduced, within
from calotte.proofs.cuboids.zonotopes import swept
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
    found = swept(query, law.size, cuboids, kept)
    lines = margin_lines(net, query.margins, found)
    low, high = found.forms.range
    for place in range(20):
        at = 2 * torch.rand(300, query.m, dtype=torch.float64, generator=g).round(decimals=1) - 1
        noise = law.apply_map(law.size * (middle[place] + half[place] * at), net.d)
        values = query.margins.of(net.forward(x + noise))
        slack = 1e-12 * (1 + values.abs())
        assert ((values >= low[place] - slack) & (values <= high[place] + slack)).all()
        below, above = (at @ lines.normal[place, side].t() + lines.constant[place, side] for side in (0, 1))
        assert ((values >= below - slack) & (-values >= above - slack)).all()
    point = swept(query, law.size, Cuboids(middle, middle), kept)
    exact = margin_lines(net, query.margins, point).constant.sum(1)
    assert (point.forms.range[1] - point.forms.range[0]).max() < 1e-9 < (high - low).min()
    assert (exact <= 0).all()
    assert exact.min() > -1e-9


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shrink", [0.3, 0.02])
def test_small_networks_say_what_the_whole_one_does(name: str, shrink: float) -> None:
    net, noise_map = NETWORKS[name]
    law = Gaussian(0.5, noise_map)
    x, g = points(1, net.d, 7), torch.Generator().manual_seed(2)
    query = one_input(net, x, law, Settings(), CHANGE)
    middle = torch.randn(20, query.m, dtype=torch.float64, generator=g)
    half = shrink * torch.rand(20, query.m, dtype=torch.float64, generator=g)
    cuboids = Cuboids(middle - half, middle + half)
    found = swept(query, law.size, cuboids, 4)
    most = int(found.loose.max())
    small = reduced(query, found, cuboids, most + 1)
    assert small.units.tolist() == found.loose.tolist()
    part = cuboids
    for depth in range(8):
        lines = within(small, part)
        width = part.high - part.low
        for place in range(20):
            at = 2 * torch.rand(100, query.m, dtype=torch.float64, generator=g).round(decimals=1) - 1
            u = (part.low[place] + part.high[place]) / 2 + width[place] / 2 * at
            values = query.margins.of(net.forward(x + law.apply_map(law.size * u, net.d)))
            slack = 1e-12 * (1 + values.abs())
            below, above = (at @ lines.normal[place, side].t() + lines.constant[place, side] for side in (0, 1))
            assert ((values >= below - slack) & (-values >= above - slack)).all()
        if depth == 0:  # as far apart as those through the whole network, or nearly so
            whole = margin_lines(net, query.margins, found).constant.sum(1)
            assert (lines.constant.sum(1) >= 1.2 * whole - 1e-9).all()
        part = part.halves(torch.randint(query.m, (20,), generator=g))[:20]
    fine = (found.loose == 0).nonzero()[:, 0]
    if len(fine):  # one affine map: both sides are the same
        both = within(small[fine], cuboids[fine])
        assert both.constant.sum(1).abs().max() < 1e-9


def exact_share(normal: list[float], constant: float) -> Fraction:
    """P(normal . t + constant <= 0), t uniform in [-1, 1]^m, in rational arithmetic."""
    a = [abs(Fraction(n)) for n in normal if n]
    if not a:
        return Fraction(constant <= 0)
    y, total = (sum(a) - Fraction(constant)) / 2, Fraction(0)
    for j in itertools.product([0, 1], repeat=len(a)):
        beyond = max(y - sum(x for x, used in zip(a, j, strict=True) if used), Fraction(0))
        total += (-1) ** sum(j) * beyond ** len(a)
    return total / (math.factorial(len(a)) * math.prod(a))


@pytest.mark.parametrize("m", range(1, 7))
def test_the_share_of_a_half_space(m: int) -> None:
    g = torch.Generator().manual_seed(m)
    normal = torch.randn(40, m, dtype=torch.float64, generator=g)
    normal[::4] *= 10.0 ** torch.randint(-9, 2, (10, m), generator=g)
    normal[1::8] = normal[1::8].round()
    constant = normal.abs().sum(1) * (2.4 * torch.rand(40, dtype=torch.float64, generator=g) - 1.2)
    constant[::10] = 0.0
    found = below_zero(normal, constant)
    for a, c, share in zip(normal.tolist(), constant.tolist(), found.tolist(), strict=True):
        truth = exact_share(a, c)
        assert truth <= Fraction(share) <= truth + Fraction(1, 100), (a, c)
    plain = [max(map(abs, a)) < 50 * min(map(abs, a), default=0.0) for a in normal.tolist()]
    truth = torch.tensor([float(exact_share(a, c)) for a, c in zip(normal.tolist(), constant.tolist(), strict=True)])
    assert (found - truth)[torch.tensor(plain)].max() < 1e-4


def test_shares_where_numbers_are_none() -> None:
    normal = tensor([[0.0, 0.0], [0.0, 0.0], [1.0, math.nan], [1.0, 1.0], [1e308, 1e308], [5e-324, 0.0], [1.0, 0.0]])
    constant = tensor([1.0, 0.0, 9.0, math.nan, 1.0, 0.0, math.inf])
    found = below_zero(normal, constant)
    assert found[[0, 1, 2, 3, 4]].tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert found[5] >= 0.5
    assert below_zero(torch.ones(1, 40).double(), tensor([1.0])).item() == 1.0  # 2^40 terms are not worth it
    assert below_zero(torch.ones(1, 40).double(), tensor([41.0])).item() == 0.0


@pytest.mark.parametrize("cut", [0.5, 3.0, 12.0])
def test_places_are_near_uniform_ones(cut: float) -> None:
    """Over many intervals tau - t, found with 40 digits, lies where it should."""
    ends = [(0.0, 0.1), (-0.5, -0.4), (0.2, 0.5), (1.0, 1.5), (-3.0, -1.5), (2.0, 3.0), (9.0, 10.0), (-1.0, 1.0)]
    ends += [(0.3, 0.3 + 1e-9), (0.4, 0.4)]
    some = Cuboids(*tensor(ends).clamp(-cut, cut)[:, None].unbind(2))
    for law in (Truncated(0.3, cut=cut), Gaussian(0.2)):
        found = places(law, some)
        for k, (a, b) in enumerate(zip(some.low[:, 0].tolist(), some.high[:, 0].tolist(), strict=True)):
            slope, shift, error = (t[k, 0].item() for t in (found.slope, found.shift, found.error))
            for share in range(1, 20) if a < b else ():
                with mpmath.workdps(40):
                    w = mpmath.mpf(a) + (mpmath.mpf(b) - mpmath.mpf(a)) * share / 20
                    t = 2 * normal_between(mpmath.mpf(a), w) / normal_between(mpmath.mpf(a), mpmath.mpf(b)) - 1
                    tau = mpmath.mpf(share) / 10 - 1
                    assert abs(tau - slope * t - shift) <= error, (law, a, b, share)
            if 0 <= a < a + 1e-6 < b <= a + 0.5 and b < 2:
                assert error < 0.2 * b * (b - a), (a, b)
    assert places(Box(1.0), some).error.max() == 0.0


def test_shares_of_events() -> None:
    """Of two independent forms, of which one or both must fail."""
    most, least = tensor([[0.3, 0.6], [1.0, 0.2], [0.0, 1.0]]), tensor([[0.1, 0.5], [1.0, 0.9], [0.0, 1.0]])
    above, below = occurring(Cases((Case(2, 2),)), most, least)
    assert above.tolist() == pytest.approx([0.3, 0.2, 0.0])
    assert below.tolist() == pytest.approx([0.0, 0.9, 0.0])
    above, below = occurring(Cases((Case(2, 1),)), most, least)
    assert above.tolist() == pytest.approx([0.9, 1.0, 1.0])
    assert below.tolist() == [pytest.approx(0.5), 1.0, 1.0]
    above, below = occurring(Cases((Case(1, 1), Case(1, 1))), most, least)
    assert above.tolist() == pytest.approx([0.9, 1.0, 1.0])
    assert below.tolist() == [pytest.approx(0.5), 1.0, 1.0]


def test_nothing_is_known_where_numbers_overflow() -> None:
    net = random_dense((2, 3, 2), 0)
    net.nodes[1].op.weight.mul_(1e200)
    net.nodes[3].op.weight.mul_(1e200)
    query = one_input(net, points(1, 2, 3) * 1e-300, Box(1.0), Settings(), CHANGE)
    found = swept(query, 1.0, Cuboids.cube(1.0, 2), 2)
    assert found.forms.range[0].isnan().any()
    lines = margin_lines(net, query.margins, found)
    assert below_zero(lines.normal, lines.constant).min().item() == 1.0
