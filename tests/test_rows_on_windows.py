"""Rows on windows say what whole rows, Jacobians, exact values and samples say, whatever the convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor
from zoo import network, points, tensor

from calotte.cells.hyperplanes import Hyperplanes
from calotte.independent import Box
from calotte.network.affine import Affine, Dense, Diagonal, Inexact, Reshape, Sum
from calotte.network.convolution import Convolution, TransposedConvolution
from calotte.network.graph import Network, Relu
from calotte.network.rearrange import Concatenation, Select
from calotte.noise import Ball, Gaussian, Sphere
from calotte.proofs.event import Budget, relaxed_units
from calotte.proofs.relaxation import backward, windows
from calotte.proofs.relaxation.backward import Relaxation
from calotte.proofs.relaxation.reach import Reach
from calotte.proofs.support import Support
from calotte.query import Query
from calotte.searches.thrift import Thrift
from calotte.settings import Settings

GENERATOR = torch.Generator().manual_seed(0)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)


def convolution(
    shape: tuple[int, ...], out: int, size: int, stride=1, pad=(1, 1), dilation=1, groups=1
) -> Convolution:
    kernel = randn(out, shape[0] // groups, size, size) * math.sqrt(2.0 / (shape[0] // groups * size * size))
    options = {"stride": (stride,) * 2, "padding": [pad] * 2, "dilation": (dilation,) * 2, "groups": groups}
    return Convolution(kernel, 0.3 * randn(out), shape, **options)


def chain(shape: tuple[int, ...], *options: dict[str, Any], outputs: int = 3) -> Network:
    """Convolutions with ReLUs between them, then a dense layer."""
    ops: list[Any] = []
    for given in options:
        op = convolution(shape, **given)
        shape = op.output_shape
        ops += [op, Relu(shape)]
    n = math.prod(shape)
    return network(ops[0].input_shapes[0], *ops, Reshape(shape, (n,)), Dense(randn(outputs, n) / math.sqrt(n)))


def residual() -> Network:
    """Two blocks whose branches meet: windows of two sizes, one branch strided, one that reads the input again."""
    shape, small = (2, 9, 8), (3, 5, 4)
    relu = Relu(small)
    return network(
        shape,
        convolution(shape, 3, 3, 1), Relu((3, 9, 8)),
        (convolution((3, 9, 8), 3, 3, 2), (2,)), relu, convolution(small, 3, 3),
        (convolution((3, 9, 8), 3, 1, 2, (0, 0)), (2,)), (Sum(small, (1, -1)), (5, 6)), relu,
        convolution(small, 3, 3), relu, (Sum(small, (1, 1)), (10, 8)),
        (convolution(shape, 3, 2, 2, (1, 0)), (0,)), (Sum(small, (1, 1)), (11, 12)), relu,
        Reshape(small, (60,)), Dense(randn(10, 60) / 5), Relu((10,)), Dense(randn(3, 10)),
    )  # fmt: skip


def pooled() -> Network:
    """Average pools, scales for each channel and for each place, a selection, inexact weights, a transposed map."""
    shape, relu = (3, 10, 7), Relu((4, 10, 7))
    pool = Convolution(torch.full((4, 1, 2, 2), 0.25).double(), None, (4, 10, 7), stride=(2, 2), padding=[(0, 0)] * 2,
                       dilation=(1, 1), groups=4)  # fmt: skip
    flipped = torch.arange(60).reshape(4, 5, 3).flip(2).numpy()
    up = convolution((2, 9, 5), 4, 3, 2, (1, 1))
    return network(
        shape,
        Diagonal(shape, torch.rand(3, 1, 1, generator=GENERATOR).double() + 0.5, randn(3, 1, 1)),
        convolution(shape, 4, 3), relu, Inexact(pool, 3), Diagonal((4, 5, 3), tensor(1.5), None),
        convolution((4, 5, 3), 4, 3), Relu((4, 5, 3)), convolution((4, 5, 3), 4, 2, 1, (0, 1)),
        Diagonal((4, 5, 3), randn(3), None), Relu((4, 5, 3)), Select((4, 5, 3), flipped),
        TransposedConvolution(up, randn(2)), Relu((2, 9, 5)), Reshape((2, 9, 5), (90,)), Dense(randn(1, 90)),
    )  # fmt: skip


def selection(
    before: tuple[int, ...], after: tuple[int, ...], stride: tuple[int, int], offset: tuple[int, int]
) -> Select:
    """Every so many entries of an image from a place on, zero outside of it."""
    c, height, width = before
    index = torch.full((c, *after), -1)
    for i in range(after[0]):
        for j in range(after[1]):
            y, x = stride[0] * i + offset[0], stride[1] * j + offset[1]
            if 0 <= y < height and 0 <= x < width:
                index[:, i, j] = torch.arange(c) * height * width + y * width + x
    return Select(before, index.numpy())


def largest() -> Network:
    """Maxima over neighbours, as max pools are made, beyond the edges too; one window is flipped."""
    before, small = (3, 9, 8), (3, 5, 4)
    flipped = torch.arange(60).reshape(small).flip(1).numpy()
    return network(
        (2, 9, 8), convolution((2, 9, 8), 3, 3), Relu(before),
        selection(before, small[1:], (2, 2), (-1, 0)), (selection(before, small[1:], (2, 2), (0, 1)), (2,)),
        (Sum(small, (1, -1)), (3, 4)), Relu(small), (Sum(small, (1, 1)), (4, 6)),
        convolution(small, 3, 3), Relu(small), Select(small, flipped), convolution(small, 2, 3), Relu((2, 5, 4)),
        selection((2, 5, 4), (2, 6), (3, 1), (0, -1)), convolution((2, 2, 6), 2, 2, 1, (0, 0)), Relu((2, 1, 5)),
        Reshape((2, 1, 5), (10,)), Dense(randn(3, 10)),
    )  # fmt: skip


def concatenated() -> Network:
    """Branches side by side, their channels shuffled, split and taken twice, as DenseNets and ShuffleNets do."""
    shape, three, six = (2, 8, 7), (3, 8, 7), (6, 8, 7)
    return network(
        shape,
        convolution(shape, 3, 3), Relu(three), convolution(three, 3, 3), Relu(three),
        (Concatenation((three, three), six), (2, 4)), channels(six, [3, 0, 4, 1, 5, 2]),
        convolution(six, 3, 3), Relu(three), (channels(six, [1, 1, 5, 0]), (6,)), convolution((4, 8, 7), 2, 2),
        (Concatenation((three, (2, 9, 8)), (312,)), (8, 10)), Relu((312,)), Dense(randn(2, 312)),
    )  # fmt: skip


def channels(before: tuple[int, ...], which: list[int]) -> Select:
    index = torch.arange(math.prod(before)).reshape(before)[which]
    return Select(before, index.numpy())


def clipped() -> Network:
    """ReLU6-like clips, and kernels of each channel's own, strided and not, as MobileNets have."""
    shape, first, last = (2, 9, 8), (4, 9, 8), (4, 5, 4)
    nodes: list[Any] = [convolution(shape, 4, 3)]
    for here, after in ((first, convolution(first, 4, 3, groups=4)), (first, convolution(first, 4, 3, 2, groups=4))):
        n, low = len(nodes), Diagonal(here, None, tensor(-0.4), terms=1)
        nodes += [Relu(here), low, Relu(here), (Sum(here, (1, -1)), (n + 1, n + 3)), after]
    return network(shape, *nodes, Relu(last), Reshape(last, (80,)), Dense(randn(3, 80)))


def wide(size: int, out: int = 3, **options: Any) -> dict[str, Any]:
    return {"size": size, "out": out, **options}


NETWORKS = {
    "plain": chain((2, 8, 8), wide(3), wide(3, 4), wide(3, 2)),
    "strides": chain((1, 13, 11), wide(4, stride=2), wide(3, stride=2, pad=(0, 1))),
    "no padding, uneven": chain((2, 9, 12), wide(2, pad=(0, 0)), wide(3, pad=(0, 2))),
    "dilations": chain((1, 11, 11), wide(2, dilation=2), wide(3, dilation=3, pad=(3, 3))),
    "groups": chain((2, 7, 7), wide(3, 4, groups=2), wide(3, 6, groups=2), wide(2)),
    "wide padding": chain((1, 4, 4), wide(3, pad=(3, 2)), wide(3, pad=(2, 2))),
    "residual": residual(),
    "pools and others": pooled(),
    "max pools": largest(),
    "concatenated": concatenated(),
    "clipped": clipped(),
}  # fmt: skip


def relaxed(net: Network, x: Tensor, radius: float, noise_map: Tensor | None = None) -> Relaxation:
    noise = Ball(radius, map=noise_map)
    case = Query(Hyperplanes(net, noise_map), x, list(range(len(x))), noise, Settings())
    return relaxed_units(case, Support.ball(case, torch.full((len(x),), radius).double())).relaxation


def deep(relaxation: Relaxation) -> Iterator[tuple[int, int]]:
    """The nodes behind the first layer that feed a ReLU, and their sizes; no unit of theirs is skipped any more."""
    net = relaxation.network
    for i in net.relus:
        node, size = net.feeders[i], net.size(i)
        if node not in relaxation.first:
            relaxation.loose = lambda node, size=size: torch.ones(len(relaxation.x), size, dtype=torch.bool)
            yield node, size


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("offset", [(0, 0), (-2, 1), (1, -1)])
def test_selections_on_a_grid_are_known(stride: tuple[int, int], offset: tuple[int, int]) -> None:
    found = selection((2, 7, 6), (4, 3), stride, offset).grid
    assert found is not None
    assert found[0].tolist() == [0, 1]
    assert (tuple(found[1].tolist()), tuple(found[2].tolist())) == (stride, offset)
    index = selection((2, 7, 6), (4, 3), stride, offset).index.reshape(2, 4, 3).clone()
    index[1, 2, 1] = index[1, 2, 1] + 1
    assert Select((2, 7, 6), index.numpy()).grid is None


def test_channels_of_zeros_are_no_channels_of_an_image() -> None:
    """Beside an image of one place as well, where what is read outside of it is at -1 too."""
    index = torch.full((3, 3, 3), -1)
    index[:2, 1, 1] = torch.arange(2)
    op = Select((2, 1, 1), index.numpy())
    assert op.grid is None
    rows = windows.Windows(randn(1, 2, 3, 2, 2), torch.tensor([[0, 0], [1, 1]]), torch.tensor([0, 1]), (3, 3, 3))
    (found,), (whole,) = rows.through(op), rows.whole().through(op)
    assert torch.equal(found.whole().entries, whole.whole().entries)


def test_channels_of_images_stay_on_windows() -> None:
    """Rows of units behind shuffled, split and joined channels are no larger than what they read."""
    net = NETWORKS["concatenated"]
    rows = windows.unit_rows(net, 7, torch.tensor([0, 60]))[1]
    for i in (6, 5):
        (rows, *others) = rows.through(net.nodes[i].op)
        assert all(isinstance(t, windows.Windows) and t.entries.shape[3:] == (3, 3) for t in (rows, *others))


@pytest.mark.parametrize("which", [[1, 1, 2, 0], [2, 0, 1], [2], [0, 1, 2, 0]])
def test_rows_of_a_channel_that_is_taken_again_are_added_up(which: list[int]) -> None:
    op = channels((3, 5, 4), which)
    places = torch.tensor([[-1, 0], [2, 2], [4, 1]])
    rows = windows.Windows(randn(2, 4, len(which), 3, 2), places, torch.tensor([0, 1, 1, 2]), op.output_shape)
    (found,), (whole,) = rows.through(op), rows.whole().through(op)
    assert isinstance(found, windows.Windows)
    torch.testing.assert_close(found.whole().entries, whole.whole().entries, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("name", NETWORKS)
def test_windows_say_what_whole_rows_say(name: str) -> None:
    net = NETWORKS[name]
    scale = torch.rand(net.d, dtype=torch.float64, generator=GENERATOR)
    scale[::3] = 0.0
    for noise_map in (None, scale, randn(net.d, 5)):
        relaxation = relaxed(net, points(2, net.d, 1), 0.3, noise_map)
        assert any(((low < 0) & (high > 0)).any() for low, high in relaxation.intervals.values())
        for node, size in deep(relaxation):
            found = relaxation.unit_forms(node, slice(0, size))
            hot = torch.eye(size, dtype=torch.float64)
            rows = torch.cat([hot, -hot]).reshape(1, 2 * size, *net.shape(node)).expand(2, -1, *net.shape(node))
            whole = relaxation.forms(node, rows, {})
            torch.testing.assert_close(found.constant, whole.constant, rtol=1e-11, atol=1e-11)
            torch.testing.assert_close(found.norm, whole.norm, rtol=1e-11, atol=1e-13)
            assert found.normal_error.max() < 1e-11


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_on_a_cell_are_those_of_jacobians(name: str) -> None:
    net, x = NETWORKS[name], points(1, NETWORKS[name].d, 2)
    relaxation = relaxed(net, x, 1e-9)
    assert all(((low >= 0) | (high <= 0)).all() for low, high in relaxation.intervals.values())
    for node, size in deep(relaxation):

        def value(y: Tensor, node: int = node) -> Tensor:
            return next(v for i, v in net.values(y[None]) if i == node).flatten()

        jacobian = torch.autograd.functional.jacobian(value, x[0])
        found = relaxation.unit_forms(node, slice(0, size))
        torch.testing.assert_close(found.norm[0], jacobian.norm(dim=1).repeat(2), rtol=1e-11, atol=1e-13)
        here = value(x[0])
        torch.testing.assert_close(found.constant[0], torch.cat([here, -here]), rtol=1e-9, atol=1e-11)


def assert_contains_samples(net: Network, radius: float, laws: tuple[Any, ...]) -> None:
    x = points(2, net.d, 3)
    relaxation = relaxed(net, x, radius)
    loose = 0
    for i in range(len(x)):
        y = x[i] + torch.cat([law.sample(300, net.d, GENERATOR) for law in laws])
        values = dict(net.values(y))
        for relu, (low, high) in relaxation.intervals.items():
            value = values[net.nodes[relu].inputs[0]]
            assert (value >= low[i]).all()
            assert (value <= high[i]).all()
            loose += int(((low[i] < 0) & (high[i] > 0)).sum())
    assert loose, "no unit is loose: the test has no teeth"


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("radius", [0.05, 0.6])
def test_bounds_contain_all_samples(name: str, radius: float) -> None:
    assert_contains_samples(NETWORKS[name], radius, (Ball(radius), Sphere(radius)))


def test_units_that_are_stable_by_intervals_are_not_pulled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on both sides those stable by rows that both ends share; what is said of the others is the same."""
    net, seen = NETWORKS["residual"], list[int]()
    monkeypatch.setattr(backward, "unit_rows", counting(seen))
    x = points(1, net.d, 4)
    few = relaxed(net, x, 0.03)
    first, total = sum(seen), sum(math.prod(net.shape(i)) for i in net.relus[1:])
    both = sum(few.loose(net.feeders[i]).sum().item() for i in net.relus[1:])
    monkeypatch.setattr(backward, "_FEW", 0.0)
    relaxed(net, x, 0.03)
    pulled = sum(seen) - first
    assert both < first - both == pulled < total / 2
    monkeypatch.setattr(Reach, "bound", blind(Reach.bound))
    every = relaxed(net, x, 0.03)
    assert sum(seen) == first + pulled + total
    for i, (low, high) in every.intervals.items():
        unstable = (few.intervals[i][0] < 0) & (few.intervals[i][1] > 0)
        torch.testing.assert_close(few.intervals[i][0][unstable], low[unstable], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(few.intervals[i][1][unstable], high[unstable], rtol=1e-9, atol=1e-11)


def assert_narrowed_intervals_contain_samples(net: Network, radius: float) -> None:
    """Those of all units behind the first layer, narrowed whether or not that is worth it."""
    x, narrower = points(2, net.d, 8), 0
    relaxation = relaxed(net, x, radius)
    before = {i: (low.clone(), high.clone()) for i, (low, high) in relaxation.reach.between.items()}
    for node, size in deep(relaxation):
        for b in range(len(x)):
            relaxation.narrow(node, b, torch.arange(size))
    for i in range(len(x)):
        values = dict(
            net.values(
                x[i] + torch.cat([law.sample(300, net.d, GENERATOR) for law in (Ball(radius), Sphere(radius))])
            )
        )
        for node, _ in deep(relaxation):
            low, high = (t[i] for t in relaxation.reach.between[node])
            assert ((values[node] >= low) & (values[node] <= high)).all()
            narrower += int((high - low < 0.9 * (before[node][1][i] - before[node][0][i])).sum())
    assert narrower, "nothing is narrowed: the test has no teeth"


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("radius", [0.05, 0.6])
def test_narrowed_intervals_contain_all_samples(name: str, radius: float) -> None:
    assert_narrowed_intervals_contain_samples(NETWORKS[name], radius)


def test_units_that_move_with_one_relu_are_told_by_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulled back they would be bounded no better."""
    net, seen, found = NETWORKS["clipped"], list[int](), []
    monkeypatch.setattr(backward, "unit_rows", counting(seen))
    query = Query(Hyperplanes(net), points(2, net.d, 3), [0, 1], Sphere(0.6), Settings())
    around = Support.ball(query, torch.full((2,), 0.6).double())
    for told in (True, False):
        if not told:
            monkeypatch.setattr(Relaxation, "_told_by_ends", lambda *_: torch.zeros(1, 1, dtype=torch.bool))
        found.append(relaxed_units(query, around).relaxation.intervals)
        pulled = sum(seen)
        seen.clear()
        if told:
            fewer = pulled
    assert fewer < pulled
    (low, high), (other_low, other_high) = (one[4] for one in found)
    assert (low >= other_low - 1e-9).all()
    assert (high <= other_high + 1e-9).all()


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_where_the_work_does_not_suffice_intervals_are_taken(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The units nearest to keeping a sign are pulled back first; bounds hold whatever is left out."""
    for net in NETWORKS.values():
        seen: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(backward, "unit_rows", counting(seen))
            before = relaxed(net, points(2, net.d, 3), 0.3)
            total, work = sum(seen), backward._MOST_WORK - before.work.max().item()
            assert work == 0.0, "nothing is counted where there is enough"
            work = sum(
                2 * before.loose(node).sum().item() * windows.unit_work(net, node)
                for node in {net.nodes[i].inputs[0] for i in net.relus} - before.first.keys()
            )
            patch.setattr(backward, "_MOST_WORK", share * work / 2)
            seen.clear()
            assert_contains_samples(net, 0.3, (Ball(0.3), Sphere(0.3)))
        assert sum(seen) < total


def counting(seen: list[int]) -> Callable[..., Any]:
    """`unit_rows`, the numbers of units kept."""

    def rows(net: Network, node: int, units: Tensor) -> Any:
        seen.append(len(units))
        return windows.unit_rows(net, node, units)

    return rows


def blind(right: Callable[..., None]) -> Callable[..., None]:
    """Intervals that know nothing."""

    def bound(self: Reach, i: int) -> None:
        right(self, i)
        if i not in self.between:
            return
        low, high = self.between[i]
        self.between[i] = torch.full_like(low, -math.inf), torch.full_like(high, math.inf)

    return bound


def test_a_batch_says_what_its_inputs_say_alone() -> None:
    net, x = NETWORKS["residual"], points(3, NETWORKS["residual"].d, 5)
    many = relaxed(net, x, 0.3)
    for i in range(3):
        one = relaxed(net, x[i : i + 1], 0.3)
        for relu, (low, high) in one.intervals.items():
            torch.testing.assert_close(many.intervals[relu][0][i : i + 1], low, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(many.intervals[relu][1][i : i + 1], high, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["residual", "pools and others"])
def test_noise_on_a_cube_has_rows_of_the_first_layer_too(name: str) -> None:
    """They are pulled back like all others, before any ReLU is known."""
    net, law = NETWORKS[name], Box(0.02)
    case = Query(Hyperplanes(net, isotropic=False), points(1, net.d, 9), [0], law, Settings())
    relaxation = relaxed_units(case, Support.of(case, case.sizes, 0.0)).relaxation
    values = dict(net.values(case.x + law.sample(500, net.d, GENERATOR)))
    for relu, (low, high) in relaxation.intervals.items():
        value = values[net.nodes[relu].inputs[0]]
        assert ((value >= low) & (value <= high)).all()


def test_bounds_on_a_good_event_hold_where_nothing_that_was_paid_for_fails() -> None:
    """Signs and half-spaces of the earlier layers narrow the intervals of the later ones."""
    net = NETWORKS["residual"]
    x, law = points(1, net.d, 6), Gaussian(0.05)
    case = Query(Hyperplanes(net), x, [0], law, Settings())
    reach, radius = torch.full((1,), 0.2).double(), torch.full((1,), 1.0).double()
    event = relaxed_units(case, Support.ball(case, radius), Budget(reach, Thrift()))
    y = x + law.sample(4000, net.d, GENERATOR)
    inside = torch.ones(len(y), dtype=torch.bool)
    for node, value in net.values(y):
        for relu, (low, high) in event.relaxation.intervals.items():
            if net.nodes[relu].inputs[0] == node:
                inside &= ((value >= low) & (value <= high)).flatten(1).all(1)
    missed = 1.0 - inside.double().mean().item()
    assert missed <= event.log_price.exp().item() + 4 * math.sqrt(missed / len(y) + 1e-9)


def fractions(values: Tensor) -> list[Fraction]:
    return [Fraction(v) for v in values.flatten().tolist()]


def exact_values(net: Network, x: Tensor) -> dict[int, list[Fraction]]:
    """Values of all nodes at x (d,), in rational arithmetic, by the matrices of the maps."""
    found = {0: fractions(x)}
    for i, node in enumerate(net.nodes[1:], start=1):
        if isinstance(node.op, Relu):
            found[i] = [max(v, Fraction(0)) for v in found[node.inputs[0]]]
            continue
        assert isinstance(node.op, Affine)
        shapes = node.op.input_shapes
        total = [Fraction(0)] * math.prod(node.op.output_shape)
        if node.op.offset is not None:
            total = fractions(node.op.offset.expand(node.op.output_shape))
        for k, j in enumerate(node.inputs):
            n = math.prod(shapes[k])
            hot = [torch.zeros(n, *shape, dtype=torch.float64) for shape in shapes]
            hot[k] = torch.eye(n, dtype=torch.float64).reshape(n, *shapes[k])
            for column, v in zip(node.op.linear(*hot).flatten(1), found[j], strict=True):
                for place in column.nonzero()[:, 0].tolist():
                    total[place] += Fraction(column[place].item()) * v
        found[i] = total
    return found


def assert_below_exact_values(net: Network) -> None:
    """All units' bounds at no distance lie below the exact values, and by no more than rounding."""
    x = points(1, net.d, 7)
    relaxation, truth = relaxed(net, x, 1e-30), exact_values(net, x[0])
    for node, size in deep(relaxation):
        lowest = relaxation.unit_forms(node, slice(0, size)).lower[0].tolist()
        for value, low, minus in zip(truth[node], lowest[:size], lowest[size:], strict=True):
            assert Fraction(low) <= value <= -Fraction(minus)
            assert -minus - low < 1e-9
        relaxation.narrow(node, 0, torch.arange(size))
        ends = (t[0].flatten().tolist() for t in relaxation.reach.between[node])
        assert all(low <= value <= high for value, low, high in zip(truth[node], *ends, strict=True))


def scaled(factor: float) -> Convolution:
    kernel = tensor(factor).expand(1, 1, 1, 1)
    return Convolution(kernel, None, (1, 3, 3), stride=(1, 1), padding=[(0, 0)] * 2, dilation=(1, 1))


SMALL = {
    "chain": chain((1, 6, 5), wide(3, 2), wide(3, 2), wide(2, 2)),
    "branches": network(
        (1, 5, 5),
        convolution((1, 5, 5), 2, 3), Relu((2, 5, 5)), convolution((2, 5, 5), 2, 3),
        (Sum((2, 5, 5), (1, -1)), (3, 2)), Relu((2, 5, 5)), convolution((2, 5, 5), 1, 2), Relu((1, 6, 6)),
        Reshape((1, 6, 6), (36,)), Dense(randn(2, 36)),
    ),
    "products that are all rounded down": network(
        (1, 3, 3), scaled(1.0), Relu((1, 3, 3)), *[scaled(1.0 + 3 * 2.0**-52)] * 60, scaled(1.1), Relu((1, 3, 3)),
        Reshape((1, 3, 3), (9,)), Dense(torch.ones(1, 9).double()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_bounds_lie_below_exact_values(name: str) -> None:
    assert_below_exact_values(SMALL[name])


def no_doubt(patch: pytest.MonkeyPatch, which: type) -> None:
    """The errors of one kind of node are forgotten."""
    right = Relaxation.pull_back

    def wrong(self: Relaxation, *given: Any, **named: Any) -> Any:
        nodes = self.network.nodes
        self.reach.doubts = {
            i: t * (0 if isinstance(nodes[i].op, which) else 1) for i, t in self.reach.doubts.items()
        }
        return right(self, *given, **named)

    patch.setattr(Relaxation, "pull_back", wrong)


def moved(by: int) -> Callable[[Convolution, Tensor], Tensor]:
    right = windows.moved
    return lambda op, places: right(op, places) + by


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "padding forgotten": lambda p: p.setattr(windows, "moved", lambda op, at: at * torch.tensor(op.stride)),
    "shifted by one": lambda p: p.setattr(windows, "moved", moved(1)),
    "entries outside kept": lambda p: p.setattr(windows.Windows, "inside", lambda self: self),
    "errors of maps dropped": lambda p: no_doubt(p, Affine),
    "bounds of a ReLU that is off are its slopes'": lambda p: p.setattr(backward, "relaxed_lines", flat),
    "distances of parallel lines forgotten": lambda p: p.setattr(backward, "pull_back", parallel_without_errors),
    "intervals too short": lambda p: p.setattr(Reach, "_bound_between", short(Reach._bound_between)),
}


def flat(lower: Tensor, upper: Tensor) -> tuple[Tensor, ...]:
    """Chords without their constant."""
    below, above, intercept = RELAXED(lower, upper)
    return below, above, 0.0 * intercept


RELAXED, PULL_BACK = backward.relaxed_lines, backward.pull_back


def parallel_without_errors(*given: Any, **named: Any) -> windows.Pulled:
    pulled = PULL_BACK(*given, **named)
    return replace(pulled, error=torch.zeros_like(pulled.error)) if named.get("parallel") else pulled


def short(right: Callable[..., None]) -> Callable[..., None]:
    def wrong(self: Reach, i: int, *rest: Any) -> None:
        right(self, i, *rest)
        low, high = self.between[i]
        self.between[i] = low / 2 + high / 2 - 1e-3, low / 2 + high / 2 + 1e-3

    return wrong


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_die(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)

    def every() -> None:
        for net in SMALL.values():
            assert_below_exact_values(net)
        for net in NETWORKS.values():
            assert_contains_samples(net, 0.6, (Ball(0.6), Sphere(0.6)))
            assert_narrowed_intervals_contain_samples(net, 0.6)

    with pytest.raises(AssertionError):
        every()
