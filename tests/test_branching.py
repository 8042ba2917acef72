"""Rung branching: the local network is the network, its bounds hold over boxes, boxes converge to the truth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_soundness import share_of_circle
from torch import Tensor
from zoo import dense, gaussian_layers, log_normal_tail, mp, network, points, random_dense, residual, tensor

from calotte.cells.hyperplanes import Hyperplanes
from calotte.network.affine import Dense, Diagonal, Sum
from calotte.network.graph import Network, Relu
from calotte.network.margins import Case, Cases
from calotte.noise import Ball, Gaussian, Noise, Sphere
from calotte.proofs.local.boxes import Boxes
from calotte.proofs.local.evaluate import evaluate, restricted
from calotte.proofs.local.localise import localise
from calotte.proofs.local.network import LocalNetwork
from calotte.proofs.local.regions import InBoxes
from calotte.proofs.local.tilted import BoxTilt, ExponentialTails, Pairs
from calotte.proofs.local.violations import Slack, Violations, weights
from calotte.proofs.moments.tails import levels
from calotte.proofs.price import BOTH, Offer
from calotte.proofs.relaxation.backward import Relaxation
from calotte.proofs.relaxation.lines import relaxed_lines
from calotte.query import Query
from calotte.searches import tree
from calotte.searches.axes import axes
from calotte.searches.branching import Branching
from calotte.searches.concentration import Concentration
from calotte.searches.cover import Covering
from calotte.searches.thrift import Thrift
from calotte.settings import Settings

DRAWS = 20_000
W, V = torch.randn(8, 6, generator=torch.Generator().manual_seed(1)).double(), points(3, 8, 2)
SPREAD = torch.linspace(0.2, 3.0, 6).double()
NORMALISED = network(
    (6,), Diagonal((6,), None, -points(1, 6, 3)[0]), Diagonal((6,), SPREAD, None, divide=True),
    Dense(W, None), Relu((8,)), Dense(V, None),
)  # fmt: skip
DEAD = dense(
    (
        torch.cat([W, W[:2], 0.0 * W[:2]]),
        torch.cat([points(1, 8, 4)[0], points(1, 8, 4)[0, :2], tensor([-1.0, 0.0])]),
    ),
    (points(6, 12, 5) * tensor([0.0, 1.0, 1.0, 1.0, 1.0, 1.0])[:, None], None),
    (points(3, 6, 6), None),
)  # duplicated units, units and rows of zeros
NETWORKS = {
    "one layer": random_dense((6, 9, 3), 1),
    "three layers": random_dense((12, 9, 8, 7, 3), 2, bias=0.3),
    "narrow": random_dense((3, 20, 20, 2), 3),
    "sign": random_dense((20, 10, 10, 1), 4),
    "relu after the logits": random_dense((7, 9, 3), 5, final_relu=True),
    "residual": residual(5, 3, 6),
    "normalised": NORMALISED,
    "dead and duplicated": DEAD,
    "scales": dense(
        *[(w * s, b * s) for (w, b), s in zip(gaussian_layers((8, 9, 9, 3), 7), (1e60, 1e-90, 1e40), strict=True)]
    ),
}
LAWS = {"sphere": Sphere(1.2), "ball": Ball(1.2), "gaussian": Gaussian(0.35)}


def query(net: Network, x: Tensor, law: Noise, boxes: int = 100) -> Query:
    return Query(Hyperplanes(net, law.map), x, [0], law, Settings(boxes=boxes))


def bound(net: Network, x: Tensor, law: Noise, boxes: int = 100) -> float:
    case = query(net, x, law, boxes)
    return Branching().log_bound(case, case.sizes).item()


def near(net: Network, law: Noise, seed: int = 9, height: float = 3.6) -> tuple[Query, LocalNetwork]:
    case = query(net, points(1, net.d, seed), law)
    unit = law.sigma(case.m) / law.size
    found = localise(case, case.sizes, height * unit, 8.0, Thrift())
    assert found is not None
    return case, found.network.along(axes(found.network), 6.0 * unit)


def coordinates(case: Query, u: Tensor) -> Tensor:
    """Draws u in the system of the local forms: of a chain, those of the first layer's row space."""
    chain = case.hyperplanes.chain
    if chain is None:
        return u
    return torch.linalg.lstsq(case.hyperplanes.space.rows, chain.weights[0] @ u.t()).solution.t()


def values(local: LocalNetwork, q: Tensor) -> Tensor:
    """All units and margins of the local network, forward."""
    z = q @ local.normal.t() / local.scale + local.constant
    for group in [*local.groups, slice(local.units, len(local.constant))]:
        before = min(group.start, local.units)
        z[:, group] += z[:, :before].clamp_min(0.0) @ local.weight[group, :before].t()
    return z


def margins(case: Query, y: Tensor) -> Tensor:
    return case.network.forward(y) @ case.network.decision.comparison(case.predicted)[0].t()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_the_local_network_is_the_network(name: str, law: Noise, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its units and margins, up to the error it states; off the event G only, and that is as rare as it says."""
    net, ends = NETWORKS[name], {}
    settle = Relaxation.settle

    def watched(self: Relaxation, relu: int, *found: Tensor) -> None:
        settle(self, relu, *found)
        ends[net.nodes[relu].inputs[0]] = self.intervals[relu]

    monkeypatch.setattr(Relaxation, "settle", watched)
    case, local = near(net, law)
    u = law.sample(DRAWS, case.m, torch.Generator().manual_seed(10))
    y = case.x + u
    good, unstable = torch.ones(DRAWS, dtype=torch.bool), []
    for node, z in net.values(y):
        if node in ends:
            low, high = (t.flatten(1) for t in ends[node])
            good &= ((z.flatten(1) >= low) & (z.flatten(1) <= high)).all(1)
            unstable.append(z.flatten(1)[:, ((low < 0) & (high > 0))[0]])
    missed = 1.0 - good.double().mean()
    assert missed - 4 * (missed / DRAWS).sqrt() <= math.exp(local.log_missed)
    assert missed < 0.5
    truth, found = torch.cat([*unstable, margins(case, y)], 1)[good], values(local, coordinates(case, u))[good]
    size = truth.abs().amax(0) + local.magnitude
    assert ((truth - found).abs() <= local.error + 1e-12 * size).all()
    assert (local.error <= 1e-9 * size).all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_bounds_over_boxes(name: str, law: Noise) -> None:
    """P(error in the box, G) by draws; with what G misses it is never above the bound. Restricted to the box too."""
    case, local = near(NETWORKS[name], law)
    u = law.sample(DRAWS, case.m, torch.Generator().manual_seed(11))
    wrong = (margins(case, case.x + u) <= 0).any(1)
    t = coordinates(case, u) @ local.directions / law.size
    unit, k = law.sigma(case.m) / law.size, local.directions.shape[1]
    boxes = Boxes.whole(k).repeated(6)
    ends = tensor([[-0.5, 0.5], [0.3, 1.0], [-math.inf, -0.4], [0.9, math.inf], [-1.5, -0.2]]) * unit
    boxes.low[1:, 0], boxes.high[1:, 0] = ends.t()
    boxes.low[4:, -1], boxes.high[4:, -1] = -0.3 * unit, 0.8 * unit
    for level in (1.5, 3.0, 4.5):
        reach = torch.full((6, 2, local.units), level * unit, dtype=torch.float64)
        found = evaluate(local, boxes, reach, Thrift()).log_bound.exp() + math.exp(local.log_missed)
        share = (((t[:, None] >= boxes.low) & (t[:, None] <= boxes.high)).all(2) & wrong[:, None]).double().mean(0)
        assert (found >= share - 4 * (share / DRAWS).sqrt()).all()
        inner, _ = restricted(local, boxes[torch.tensor([1])], local.span, Thrift())
        again = evaluate(inner, boxes[torch.tensor([1])], reach[1:2, :, : inner.units], Thrift()).log_bound.exp()
        again = again + math.exp(inner.log_missed) + math.exp(local.log_missed)
        assert again >= share[1] - 4 * (share[1] / DRAWS).sqrt()


@pytest.mark.parametrize("law", [Sphere(2.0), Ball(2.0), Gaussian(0.25)])
def test_the_span_of_the_axes_is_paid_for(law: Noise) -> None:
    case, local = near(random_dense((40, 8, 3), 1), law)
    plain = replace(local, log_missed=-math.inf)
    height = 1.5 * law.sigma(case.m) / law.size
    spanned = plain.along(torch.eye(local.normal.shape[1], dtype=torch.float64)[:, :3], height)
    u = law.sample(DRAWS, case.m, torch.Generator().manual_seed(4))
    beyond = (coordinates(case, u)[:, :3].abs() > height * law.size).any(1).double().mean()
    assert beyond > 0.2
    assert beyond - 4 * (beyond / DRAWS).sqrt() <= math.exp(spanned.log_missed) <= 2 * beyond


@pytest.mark.parametrize("slopes", ["best", "random"])
@pytest.mark.parametrize("law", [Sphere(2.0), Ball(2.0), Gaussian(0.25)])
def test_levels_and_tails_by_moments(law: Noise, slopes: str) -> None:
    """Of forms of many dimensions: levels fail as rarely as promised, tails hold, whatever the slopes, and with the
    best ones neither is empty."""
    generator, sharp = torch.Generator().manual_seed(1), 0

    def tilt(moments: ExponentialTails, pairs: Pairs, log_each: Tensor | None) -> BoxTilt:
        right = Thrift().tilt(0, moments, pairs, log_each)
        drawn = torch.rand(right.alpha.shape, dtype=torch.float64, generator=generator)
        return right if slopes == "best" else replace(right, alpha=drawn)

    for seed in range(4):
        case, local = near(random_dense((80, 8, 12, 2), seed, bias=0.3), law, seed + 30)
        u = law.sample(DRAWS, case.m, torch.Generator().manual_seed(12))
        q = coordinates(case, u)
        t, unit = (q @ local.directions)[:, 0] / law.size, law.sigma(case.m) / law.size
        lines = torch.stack(relaxed_lines(local.low, local.high))[:, None].repeat(1, 2, 1)
        for part in (local.groups[1], slice(local.units, len(local.constant))):
            own = torch.arange(part.start, part.stop).repeat(2)
            sign = torch.ones(len(own)).double()
            sign[len(own) // 2 :] = -1.0
            rows = local.pull_back(own, sign, lines)
            boxes = Boxes.whole(local.directions.shape[1]).repeated(2)
            boxes.low[1, 0], boxes.high[1, 0] = -0.2 * unit, 0.4 * unit
            moments = ExponentialTails(InBoxes(local, boxes), Thrift().shapes)
            low, high = (end.expand(2, -1) for end in (local.low, local.high))
            log_each = torch.full((2, len(own)), math.log(0.02), dtype=torch.float64)
            box, row = torch.ones(2, len(own), dtype=torch.bool).nonzero(as_tuple=True)
            pairs, each = moments.pairs(rows, box, row), log_each[box, row]
            tilted = tilt(moments, pairs, each)
            moment = moments.tails(pairs, tilted, low, high)
            lowest, signs = levels(moment, tilted.rate, each).reshape(2, -1), moment.reshape(2, -1).exp()
            tails = moments.tails(pairs, tilt(moments, pairs, None), low, high).reshape(2, -1).exp()
            z = (sign * values(local, q)[:, own])[:, None]
            inside = torch.stack([t == t, (t >= boxes.low[1, 0]) & (t <= boxes.high[1, 0])], 1)[:, :, None]
            for event, most in ((z < lowest, log_each.exp()), (z <= 0, signs.exp()), (z <= 0, tails)):
                share = (event & inside).double().sum(0) / inside.double().sum(0)
                error = 4 * (share.clamp_min(1e-3) / inside.double().sum(0)).sqrt()
                assert (share - error <= most + math.exp(local.log_missed)).all()
                sharp += int((share > most / 30).sum())
    assert sharp >= (40 if slopes == "best" else 1)


def two_units(
    groups: tuple[slice, ...], normal: Tensor, constant: Tensor, weight: Tensor, axis: Tensor
) -> LocalNetwork:
    """A network of two units and one margin in three dimensions, exact, under Gaussian noise, with one axis."""
    return LocalNetwork(
        noise=Gaussian(1.0),
        m=3,
        scale=1.0,
        groups=groups,
        normal=normal,
        constant=constant,
        error=torch.zeros(3).double(),
        weight=weight,
        low=torch.full((2,), -10.0).double(),
        high=torch.full((2,), 10.0).double(),
        radius=10.0,
        log_missed=-math.inf,
        directions=axis,
        span=8.0,
        cases=Cases((Case(1, 1),)),
    )


@pytest.mark.parametrize("along", [0.0, 1e-7, 1e-3, 0.5])
def test_a_unit_along_the_axis_spoils_no_form(along: float) -> None:
    """3 - relu(z_2) <= 0 has probability Phi(-3); z_1, along the axis of the box or nearly so, is not in it."""
    normal = tensor([[math.cos(along), 0.0, math.sin(along)], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    local = two_units(
        (slice(0, 2),),
        normal,
        tensor([0.0, 0.0, 3.0]),
        tensor([[0.0, 0.0], [0.0, 0.0], [0.0, -1.0]]),
        tensor([[1.0], [0.0], [0.0]]),
    )
    boxes = Boxes(tensor([[-0.5]]), tensor([[0.5]]))
    rows = local.pull_back(local.margins, torch.ones(1).double(), torch.zeros(3, 1, 2).double())
    moments = ExponentialTails(InBoxes(local, boxes), Thrift().shapes)
    pairs = moments.pairs(rows, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    tilt = Thrift().tilt(0, moments, pairs, None)
    found = moments.tails(pairs, tilt, local.low[None], local.high[None]).item()
    truth = log_normal_tail(mp(3.0))
    assert truth <= found <= truth + 3.0
    for rate in (0.0, -1.0, math.nan, math.inf):
        wrong = moments.tails(pairs, replace(tilt, rate=tensor([rate])), local.low[None], local.high[None])
        assert wrong.item() == math.inf


@pytest.mark.parametrize("seed", [0, 5])
def test_boxes_converge_in_the_plane(seed: int) -> None:
    net = random_dense((2, 5, 3) if seed % 2 else (2, 4, 4, 2), seed)
    x = points(1, 2, seed + 40)
    eps = 150 * Hyperplanes(net).distances(x).rho.item()
    truth = math.log(share_of_circle(net, x[0], None, eps))
    found = [bound(net, x, Sphere(eps), n) for n in (30, 300, 1500)]
    assert truth - 1e-9 <= found[2] <= found[1] <= found[0]
    assert found[2] <= truth + math.log(1.3)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_never_above_concentration_and_no_worse_with_more_boxes(law: Noise) -> None:
    gained = 0
    for name in ("one layer", "dead and duplicated"):
        net = NETWORKS[name]
        x = points(1, net.d, 50)
        case = query(net, x, law)
        without = Concentration().log_bound(case, case.sizes).item()
        few, more = (bound(net, x, law, n) for n in (10, 80))
        assert more <= few <= without
        gained += more < without - 0.1
    assert gained >= 1


@pytest.mark.parametrize("law", [Sphere(0.8), Gaussian(0.2)])
def test_cuts_along_few_of_many_directions(law: Noise) -> None:
    """Two layers behind 30 features: more boxes than slabs give a smaller bound, and none below the count."""
    net = random_dense((30, 8, 8, 3), 0, bias=0.3)
    x = points(1, 30, 50)
    case, local = near(net, law, 50)
    assert local.directions.shape[1] < local.directions.shape[0]
    few, more = (bound(net, x, law, n) for n in (10, 160))
    u = law.sample(DRAWS, 30, torch.Generator().manual_seed(51))
    share = (margins(case, x + u) <= 0).any(1).double().mean()
    assert share - 4 * (share / DRAWS).sqrt() <= math.exp(more)
    assert more < few - 0.01 < -1.0


def test_where_boxes_say_nothing_few_are_tried() -> None:
    """At a size where every other direction is an error: some twenty boxes, not three hundred, and why."""
    case = query(random_dense((30, 24, 24, 3), 0, bias=0.3), points(1, 30, 50), Sphere(30.0), 300)
    tried, right = 0, tree.evaluate

    def counted(local: LocalNetwork, boxes: Boxes, *rest: object) -> object:
        nonlocal tried
        tried += len(boxes)
        return right(local, boxes, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "evaluate", counted)
        (found,) = Branching(covering=Covering(small=0)).bound(case)
    assert found.log_misclassification == 0.0
    assert 0 < tried <= 20
    assert "calotte plan" in found.cut_short


def test_inputs_on_a_boundary() -> None:
    """x on hyperplanes, outputs tied: p is one half or more, or what an unstable unit at 0 makes of it."""
    tie = dense(([[1.0, 2.0, -1.0]], [0.0]))
    kink = dense(([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], [0.0, 0.0]), ([[1.0, 1.0], [0.0, 0.0]], [0.0, 0.5]))
    zero = torch.zeros(1, 3, dtype=torch.float64)
    for law in (Sphere(1.0), Ball(1.0), Gaussian(1.0)):
        assert bound(tie, zero, law) >= math.log(0.5)
        two_caps = math.log(2) + law.log_tail(tensor([0.5]), 3).item()
        assert two_caps <= bound(kink, zero, law, 200) <= min(two_caps + 0.5, 0.0)


def test_scales_that_overflow_or_underflow_prove_nothing_false() -> None:
    """1 - c |u_1| / eps and steeper, in weights and sizes from 1e-300 to 1e300: p is known."""
    for size in (1e-300, 1e-170, 1.0, 1e170):
        for first in (1e-300, 1e-150, 1.0, 1e150):
            for law in (Sphere(size), Gaussian(size)):
                second = 2.0 / size / first
                if not 1e-300 < second < 1e300:
                    continue
                net = dense(([[first, 0.0], [-first, 0.0]], [0.0, 0.0]), ([[-second, -second]], [1.0]))
                found = bound(net, torch.zeros(1, 2, dtype=torch.float64), law, 10)
                truth = math.log(2) + law.log_tail(tensor([0.5 * size]), 2).item()
                assert found >= truth - 1e-9, (size, first, law)


def test_features_left_out_of_the_noise_are_no_directions() -> None:
    """A graph that is no chain, with zeros in the scale: components along these features are not random."""
    net = residual(4, 3, 2)
    scale = tensor([0.0, 1.0, 0.0, 2.0])
    case = Query(Hyperplanes(net, scale), points(1, 4, 3), [0], Sphere(1.0, scale), Settings())
    found = localise(case, case.sizes, 1.0, 8.0, Thrift())
    assert found is not None
    assert found.network.normal.shape[1] == case.m == 2


def test_skips_are_taken_along() -> None:
    """x + relu(x) - relu(-x) = 2 x, seen through two ReLUs and a sum: one half-space in truth."""
    step = Dense(-torch.eye(3, dtype=torch.float64), None)
    ops = Relu((3,)), (step, (0,)), Relu((3,)), (Sum((3,), (1, 1, -1)), (0, 1, 3))
    net = network((3,), *ops, Dense(tensor([[1.0, 0.0, 0.0]]), None))
    x = tensor([[0.3, 0.0, 0.0]])
    truth = Sphere(1.0).log_tail(tensor([0.3]), 3).item()
    assert truth <= bound(net, x, Sphere(1.0), 400) <= truth + 0.05


@pytest.mark.parametrize("name", ["three layers", "sign"])
def test_a_hasty_tree_ends_where_another_begins(name: str) -> None:
    """Step by step it never gets worse, and it counts the boxes that it may still take from the beginning."""
    case, local = near(NETWORKS[name], Sphere(1.2))
    given = local, Boxes.whole(local.directions.shape[1]), (2.0, 3.0, 4.0), Thrift(), tree.Growth(), case.deadline
    slow, hasty = tree.Tree(*given), tree.Tree(*given, hasty=True)
    assert slow.settled
    assert not hasty.settled
    assert not hasty.silent
    while not hasty.settled:
        before = hasty.log_bound
        hasty.refine()
        assert hasty.log_bound <= before
        assert hasty.count == slow.count
    assert hasty.log_bound == slow.log_bound
    assert torch.equal(hasty.leaves.reach, slow.leaves.reach)


def test_a_bound_that_is_aimed_at_is_reached_without_an_aim_too() -> None:
    """What `plan` finds in haste, after other sizes and in another order of slabs, `assess` finds as well."""
    law, told = Sphere(1.2), 0
    for name in ("three layers", "sign"):
        case = query(NETWORKS[name], points(1, NETWORKS[name].d, 9), law, 60)
        target = math.log(0.02)
        aimed = case.aimed(target, target)
        for size in (0.8, 1.6, 1.2, 1.0):
            if Branching().log_bound(aimed, tensor([size])).item() <= target:
                alone = query(case.network, case.x, law, 60).aimed(-math.inf, target)
                assert Branching(goals=(target,)).log_bound(alone, tensor([size])).item() <= target, (name, size)
                told += Concentration().log_bound(aimed, tensor([size])).item() > target
    assert told


@pytest.mark.parametrize("law", [Sphere(2.0), Gaussian(0.25)])
@pytest.mark.parametrize("level", [0.6, 1.5])
def test_what_soft_ends_are_missed_by_is_counted(law: Noise, level: float) -> None:
    """Draw by draw margins lose no more than is said, whatever the ends are; in the mean, no more than is said, and
    the price is that of what margins may lose."""
    for seed in range(3):
        case, local = near(random_dense((80, 8, 12, 10, 3), seed, bias=0.3), law, seed + 30)
        u = law.sample(DRAWS, case.m, torch.Generator().manual_seed(13))
        q = coordinates(case, u)
        unit, t = law.sigma(case.m) / law.size, (q @ local.directions)[:, 0] / law.size
        boxes = Boxes.whole(local.directions.shape[1])
        boxes.low[0, 0], boxes.high[0, 0] = -0.2 * unit, 0.4 * unit
        reach = torch.full((1, 2, local.units), level * unit, dtype=torch.float64)
        reach[:, :, local.groups[0]] = math.inf
        found = evaluate(local, boxes, reach, Thrift())
        units = found.units
        z, q = values(local, q), q / local.scale
        good = ((z[:, : local.units] >= local.low) & (z[:, : local.units] <= local.high)).all(1)
        inside = good & (t >= boxes.low[0, 0]) & (t <= boxes.high[0, 0])
        z, q, n0 = z[inside], q[inside], local.groups[0].stop

        def row(own: Tensor, sign: Tensor) -> Tensor:
            rows = local.pull_back(own, sign, units.lines)  # noqa: B023
            later = rows.linear[0].clone()
            later[:, :n0] = 0.0  # noqa: B023
            normal = later @ local.normal[: later.shape[1]] + sign[:, None] * local.normal[own]  # noqa: B023
            return rows.before[0] + z[:, :n0].clamp_min(0.0) @ rows.read[0, :, :n0].t() + q @ normal.t()  # noqa: B023

        missed = torch.zeros(len(z), 2, local.units, dtype=torch.float64)
        for group in local.groups[1:]:
            own = torch.arange(group.start, group.stop)
            ends = torch.stack([units.low[0, group], -units.high[0, group]])
            for side, sign in enumerate((1.0, -1.0)):
                missed[:, side, group] = (ends[side] - row(own, torch.full((len(own),), sign).double())).clamp_min(
                    0.0
                )
        violations = units.violations(local, found.rows.read)
        lost = torch.einsum("dsk,csk->dc", missed, violations.weight[0])
        margins = row(local.margins, torch.ones(len(local.margins)).double())
        assert (z[:, local.units :] >= margins - lost - 1e-9 * (1.0 + margins.abs())).all()
        paid = violations.log_each[0] > -math.inf
        mean, most = missed.mean(0), violations.log_mean[0].exp()
        error = 4 * missed.std(0) / math.sqrt(len(z))
        assert (mean - error <= most)[paid].all()
        assert paid[:, n0:].any()
        assert (mean > most / 30)[paid].any()
        slack = Slack(torch.full((1, len(local.margins)), 2.0 * lost.std().item()).double(), paid[None])
        price = violations.log_price(slack, torch.ones(1, len(local.margins), dtype=torch.bool)).exp().item()
        share = (lost >= slack.margins).any(1).double().mean().item()
        assert share - 4 * math.sqrt(share / len(z)) <= price
        wrong = (z[:, local.units :] <= 0).any(1).sum().item()
        assert found.log_bound.exp().item() * DRAWS >= wrong - 4 * math.sqrt(wrong)


def test_a_soft_end_that_is_not_counted_would_prove_something_false() -> None:
    """0.5 - relu(relu(z_1) - 2) <= 0 has probability Phi(-2.5); below the end of z_2 the margin is 0.5."""
    local = two_units(
        (slice(0, 1), slice(1, 2)),
        tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        tensor([0.0, -2.0, 0.5]),
        tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0]]),
        tensor([[0.0], [0.0], [1.0]]),
    )
    reach = tensor([[[math.inf, 1.5], [math.inf, 1.5]]])
    truth = log_normal_tail(mp(2.5))
    found = evaluate(local, Boxes.whole(1), reach, Soft())
    assert found.chosen.softened is not None
    assert found.chosen.softened.soft[:, :, 1].any()
    assert truth <= found.log_bound.item() <= truth + 4.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Violations, "log_price", lambda self, slack, kept: torch.full((1,), -math.inf).double())
        assert evaluate(local, Boxes.whole(1), reach, Soft()).log_bound.item() < truth - 1.0


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(("small", "slope"), [(1.0, 0.1), (1e-200, 1e-160)])
def test_what_a_shortfall_takes_on_its_ways(side: int, small: float, slope: float) -> None:
    """small * relu(z_2) is taken, and what z_2 = c +- relu(z_1) / small leaves one of its ends by is; also where the
    products on that way underflow and the whole does not."""
    local = LocalNetwork(
        noise=Gaussian(1.0),
        m=1,
        scale=1.0,
        groups=(slice(0, 1), slice(1, 2)),
        normal=torch.zeros(3, 1).double(),
        constant=torch.zeros(3).double(),
        error=torch.zeros(3).double(),
        weight=tensor([[0.0, 0.0], [(2 * side - 1) / small, 0.0], [0.0, -small]]),
        low=tensor([-1e300, -1e300]),
        high=tensor([1e300, 1e300]),
        radius=10.0,
        log_missed=-math.inf,
        directions=tensor([[1.0]]),
        span=8.0,
        cases=Cases((Case(1, 1),)),
    )
    slopes, low, high = tensor([[0.3, slope]]), tensor([[-1.0, -1.0]]), tensor([[1.0, 1.0]])
    reads = torch.zeros(1, 2, 1).double()
    reads[0, side] = 1.0 / small
    found = weights(local, slopes, low, high, [torch.zeros(1, 2, 0).double(), reads], tensor([[[0.0, -small]]]))
    way = 1.0 - slope if side else slope
    assert (found[0, 0, :, 0] >= way * tensor([0.3, 0.7])).all()
    if small == 1.0:
        assert torch.allclose(found[0, 0, :, 0], way * tensor([0.3, 0.7]), rtol=1e-12)
        assert torch.allclose(found[0, 0, :, 1], tensor([slope, 1.0 - slope]), rtol=1e-12)


@pytest.mark.parametrize("taken", [-1e6, 0.0, 1e-3, 0.4, 1e6])
@pytest.mark.parametrize("many", [1, 20])
@pytest.mark.parametrize("height", [0.6, 1.2, 4.0])
def test_soft_ends_whose_violations_are_known(taken: float, many: int, height: float) -> None:
    """1/2 - sum_k relu(u_1 - 1) / many, whatever margins may lose: p is Phi(-3/2) times the measure of the box, which
    is cut across u_2; the first layer is read by nothing, or is u_1 - 1 itself, whose ends cannot be soft."""
    for own in (0, 1):
        n = many + 1 - own
        normal = torch.zeros(n + 2, 2).double()
        normal[0, 1] = 1.0
        normal[1 - own : n] = tensor([1.0, 0.0])
        weight = torch.zeros(n + 2, n).double()
        weight[n, 1 - own :] = -1.0 / many
        local = LocalNetwork(
            noise=Gaussian(1.0),
            m=2,
            scale=1.0,
            groups=(slice(0, n),) if own else (slice(0, 1), slice(1, n)),
            normal=normal,
            constant=torch.cat([normal[:n, 0] * -1.0, tensor([0.5, 100.0])]),
            error=torch.zeros(n + 2).double(),
            weight=weight,
            low=torch.full((n,), -10.0).double(),
            high=torch.full((n,), 10.0).double(),
            radius=12.0,
            log_missed=-math.inf,
            directions=tensor([[0.0], [1.0]]),
            span=8.0,
            cases=Cases((Case(2, 1),)),
        )
        boxes = Boxes(tensor([[-math.inf], [0.0]]), tensor([[math.inf], [0.05]]))
        reach = torch.full((2, 2, n), height, dtype=torch.float64)
        reach[:, :, : 1 - own] = math.inf
        found = evaluate(local, boxes, reach, Bought(taken, every=bool(own))).log_bound
        truth = float(log_normal_tail(mp(1.5))) + boxes.log_measure(local.noise, local.m)
        assert (found >= truth).all()


class Soft(Thrift):
    """Takes every end that may be soft for one, or every end, and so much of each margin; none for nothing."""

    def __init__(self, taken: float = 0.4, every: bool = False) -> None:
        super().__init__()
        object.__setattr__(self, "said", (taken, every))

    def slack(self, violations: Violations, log_tails: Tensor, rate: Tensor) -> Slack:
        taken, every = self.said  # type: ignore[attr-defined]
        soft = (violations.log_each > -math.inf) & (violations.log_mean.isfinite() | every) & (taken > 0.0)
        return Slack(torch.full_like(log_tails, taken), soft)


class Bought(Soft):
    """And wants all half-spaces, by moments where it can."""

    def choose(self, layer: int, offer: Offer) -> Tensor:
        return torch.full_like(super().choose(layer, offer), BOTH)

    def improve(self, layer: int, offer: Offer) -> Tensor:
        return torch.ones_like(super().improve(layer, offer))
