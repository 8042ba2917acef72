"""Hyperplanes: distances to hyperplanes against rational arithmetic, on ordinary and on hostile floats."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import (
    affine_forms,
    dense,
    exact_planes,
    gaussian_layers,
    is_at_most,
    mp,
    network,
    points,
    random_dense,
    residual,
    tensor,
)

from calotte.cells.hyperplanes import Hyperplanes
from calotte.deadline import Deadline, OutOfTime
from calotte.network.affine import Dense, Diagonal, Reshape
from calotte.network.chain import chain_of, row_space
from calotte.network.graph import Network, Relu

ULP = 2.0**-52


def every_path(net: Network, noise_map=None) -> list[Hyperplanes]:
    """The same hyperplanes by every path that the network allows: as a chain, and streamed."""
    streamed = Hyperplanes(net, noise_map)
    streamed.chain = None
    return [streamed] + [Hyperplanes(net, noise_map)] * (chain_of(net) is not None)


def assert_sound(net: Network, x, noise_map=None, nearest: float | None = None) -> None:
    """`lower` is never above the exact signed distance; `nearest` is within a relative error of it, if given."""
    x = tensor(x)
    for form in every_path(net, noise_map):
        found = form.distances(x[None])
        pattern, predicted = net.pattern(x[None])[0], int(found.predicted[0])
        values, squares = exact_planes(net, x, pattern, predicted, noise_map)
        for k in range(net.units):
            lower, near = found.lower[0, k].item(), found.nearest[0, k].item()
            assert is_at_most(lower, values[k], squares[k]), (form.chain is None, net.unit_names(0)[k], lower)
            if nearest is None:
                continue
            if squares[k] == 0:
                assert near == math.inf
                continue
            square = values[k] ** 2 / squares[k]
            assert abs(Fraction(near) ** 2 - square) <= 2 * Fraction(nearest) * square
            assert is_at_most(near * (1 - 2 * nearest), values[k], squares[k])  # the right side, too
            assert lower >= near * (1 - 2 * nearest), "a lower end that says nothing is no use"


def normalised(widths: list[int], seed: int) -> Network:
    """Dense layers after (x - 0.1307) / 0.3081, as image classifiers begin."""
    d = widths[0]
    shift = Diagonal((d,), None, tensor(-0.1307))
    scale = Diagonal((d,), tensor(0.3081), None, divide=True)
    return dense(*gaussian_layers(widths, seed), first=(shift, scale))


def scaled_between(seed: int) -> Network:
    """Two dense layers in a row, a scale between them (batch norm), reshapes, ReLUs after the logits."""
    (w1, b1), (w2, b2), (w3, b3) = gaussian_layers((6, 3, 4, 3), seed)
    norm = Diagonal((4,), tensor([0.3, -2.0, 1e-3, 7.0]), tensor([0.1, 0.2, -0.3, 0.0]))
    return network(
        (2, 3), Reshape((2, 3), (6,)), Dense(w1, b1), Dense(w2, b2), norm, Relu((4,)), Dense(w3, b3), Relu((3,))
    )


ORDINARY = {
    "perceptron": random_dense((3, 1), 0),
    "logistic": random_dense((4, 3), 1),
    "d <= n": random_dense((2, 6, 5, 3), 2),
    "d > n": random_dense((9, 4, 5, 3), 3),
    "d > n, sign": random_dense((7, 3, 3, 1), 4),
    "d > n, linear": random_dense((7, 3), 5),
    "argmin": random_dense((5, 4, 4), 6, rule="argmin"),
    "no bias": random_dense((5, 4, 4, 2), 7, bias=0.0),
    "relu after the logits": random_dense((6, 4, 3), 8, final_relu=True),
    "diagonal first, d > n": normalised([6, 4, 3], 9),
    "diagonal first, d <= n": normalised([3, 5, 3], 10),
    "two dense in a row": scaled_between(11),
    "residual": residual(4, 3, 12),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_random_networks_in_rational_arithmetic(name: str) -> None:
    net = ORDINARY[name]
    for x in points(6, net.d, seed=len(name)):
        assert_sound(net, x, nearest=1e-9)


@pytest.mark.parametrize("name", ["d <= n", "d > n", "diagonal first, d > n", "two dense in a row", "residual"])
def test_noise_maps_in_rational_arithmetic(name: str) -> None:
    net = ORDINARY[name]
    scale = torch.linspace(0.0, 2.0, net.d, dtype=torch.float64)
    scale[-1] = 0.0
    for noise_map in (scale, points(net.d, 2, 1), points(net.d, net.d + 1, 2), torch.ones(net.d, 1).double()):
        for x in points(2, net.d, seed=5):
            assert_sound(net, x, noise_map, nearest=1e-9)


def test_qr_over_several_blocks_of_columns() -> None:
    net = random_dense((2100, 3, 4, 2), 13)  # blocks of 1024 columns
    assert Hyperplanes(net).space.rows.shape == (3, 3)
    assert_sound(net, points(1, 2100, 6)[0], nearest=1e-9)


third = 1 / 3
BIG, TINY = 1e150, 1e-200
HOSTILE = {
    "rows of very different size": (
        [([[TINY, -TINY], [BIG, BIG], [1.0, third]], [0.0, 1.0, 0.1]), ([[TINY, 0.5, 3.0], [BIG, TINY, 1.0]], None)],
        [0.3, -0.7],
    ),
    "very different size within a row": ([([[TINY, BIG, 1.0], [1.0, 1e-30, -1e30]], [1e10, 0.0])], [0.1, TINY, 7.0]),
    "d > n, different sizes": (
        [([[TINY] * 6, [BIG, 0, 1, 0, 0, TINY], [1.0, 2, 3, 4, 5, 6]], None), ([[1.0, TINY, -1.0]], [0.1])],
        [1.0, -1, 2, 0, 1, 1],
    ),
    "overflow of a square": ([([[1e200, 1.0], [1.0, 0.5]], [-1.0, 1.0]), ([[0.0, 1.0]], [1.0])], [1e-201, 1.0]),
    "overflow of a value": ([([[1e8, 1e8, -1e8, -1e8]], [-5.0])], [1e300] * 4),
    "overflow hidden by a zero": (
        [([[1e200, 1e200], [0.1, 0.7]], [0.0, 0.3]), ([[0.0, 1.0], [0.0, -third]], [0.0, 0.1])],
        [1e200, -1.0],
    ),
    "overflow of an inactive unit": (
        [([[-1e200, 0], [0.1, 0.7], [0.2, 1.4]], [0.0, 0.3, 0.6]), ([[1.0, 2.0, -1.0], [0, 1, 1]], [1e-17, 0.5])],
        [1e200, 1.0],
    ),
    "subnormals": ([([[5e-324, 1e-310], [1e-320, 0.0]], [5e-324, 0.0]), ([[1.0, -1.0]], [1e-322])], [1.0, 1e-3]),
    "underflow of products": ([([[1e-200, 1e-200], [1e-160, 0]], None), ([[1e-200, 1.0]], [0.0])], [1e-200, 1e-170]),
    "dead layer": ([([[1.0, 0], [0, 1.0]], [-5.0, -5.0]), ([[1.0, 2], [3, 4]], [1.0, 0.0])], [1.0, 1.0]),
    "dead layer, tie": ([([[1.0, 0], [0, 1.0]], [-5.0, -5.0]), ([[1.0, 2], [3, 4]], [0.0, 0.0])], [1.0, 1.0]),
    "dead layer, only zero": ([([[1.0, 0]], [-5.0]), ([[1.0], [0.1]], None), ([[0.3, 1.0]], None)], [1.0, 1.0]),
    "duplicated units": (
        [([[0.1, 0.7]] * 3, [0.3] * 3), ([[1.0, -1.0, 0.0], [0.1, 0.2, -0.3]], [0.0, 1e-17]), ([[1.0, 1.0]], [0.0])],
        [0.4, 0.9],
    ),
    "duplicated logits": ([([[0.1, 0.7], [0.1, 0.7], [0.0, 1.0]], [0.3, 0.3, 0.0])], [0.4, 0.9]),
    "zero rows": (
        [([[0.0, 0.0], [1.0, 2.0], [0, 0], [0, 0]], [1.0, 0.5, 0.0, -1.0]), ([[1.0, 1, 1, 1], [0.0] * 4], [0.1, 0])],
        [0.4, 0.9],
    ),
    "zero rows, d > n": ([([[0.0] * 5, [1.0, 2, 3, 4, 5]], [1.0, 0.5]), ([[1.0, 0.0]], [-1.0])], [0.1] * 5),
    "constant image": ([([[1.0, -1.0, 1 / 7] * 4, [0.1] * 12], None), ([[1.0, -10.0]], None)], [0.1] * 12),
    "zero image, no bias": ([([[1.0, 2.0], [3.0, 4.0]], None), ([[1.0, 1.0], [1.0, 2.0]], None)], [0.0, 0.0]),
    "cancelling biases": ([([[1.0, third], [-1.0, 0.1]], [1e16, -1e16]), ([[1.0, 1.0]], [-1e16])], [0.5, 0.25]),
    "cancelling weights": ([([[0.1, 0.2], [0.3, 0.4]], [0, 0]), ([[0.3, -0.1]], [0]), ([[1.0]], [0.0])], [0.1, 0.2]),
    "nearly parallel": ([([[1.0, 1.0], [1.0, 1.0 + ULP]], None), ([[1.0, -1.0]], None), ([[1.0]], None)], [0.3, 0.1]),
    "on a hyperplane": ([([[1.0, 1.0], [2.0, -1.0]], [0.0, 0.5]), ([[1.0, 1.0]], [0.0])], [1.0, -1.0]),
    "negative zero": ([([[-0.0, 1.0], [-0.0, -0.0]], [-0.0, -0.0]), ([[1.0, -0.0]], [-0.0])], [-0.0, -0.0]),
    "the largest numbers": ([([[1.7e308, 1.7e308], [1.0, 1.0]], [-1.7e308, 0]), ([[1.0, 1.0]], [1e308])], [1.0, 0.5]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_floats_in_rational_arithmetic(name: str) -> None:
    layers, x = HOSTILE[name]
    scale = tensor([0.3] * (len(x) - 1) + [0.0])
    for noise_map in (None, scale, torch.ones(len(x), 1, dtype=torch.float64)):
        assert_sound(dense(*layers), x, noise_map)
        assert_sound(dense(*layers, final_relu=True), x, noise_map)


def test_within_an_ulp_of_a_hyperplane() -> None:
    """Moved by single ulps across a hyperplane of each layer, x meets every sign of every rounding error."""
    net = random_dense((3, 4, 4, 2), 20)
    x = points(1, 3, 0)[0]
    values, normals = affine_forms(net, x.tolist(), None, float)
    crossed = 0
    for value, normal in zip(values[:8], normals[:8], strict=True):
        square = sum(a * a for a in normal)
        low, high = x.clone(), x - 1.5 * value / max(square, 1e-9) * tensor(normal.tolist())
        if torch.equal(net.pattern(low[None]), net.pattern(high[None])):
            continue
        crossed += 1
        while True:  # bisect to neighbouring floats with different patterns
            middle = (low + high) / 2
            if torch.equal(middle, low) or torch.equal(middle, high):
                break
            same = torch.equal(net.pattern(middle[None]), net.pattern(x[None]))
            low, high = (middle, high) if same else (low, middle)
        for steps in range(-3, 4):
            y = low + steps * ULP * low.abs()
            assert_sound(net, y)
            assert Hyperplanes(net).distances(y[None]).rho[0] < 1e-13
    assert crossed >= 5


NASTY = [0.0, -0.0, 5e-324, -1e-310, TINY, 1e-154, 1e-17, 0.1, third, 1.0, 1 + ULP, -1.0, 1e16, -1e16, BIG, 1e300]
floats = st.sampled_from(NASTY) | st.floats(-1.0, 1.0) | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def hostile_networks(draw):
    widths = [draw(st.integers(1, 4)) for _ in range(draw(st.integers(2, 4)))]
    pool = [1.0, 0.0, *draw(st.lists(floats, min_size=1, max_size=4))]  # few numbers: they meet and cancel
    number = st.sampled_from(pool) | floats
    layers = [
        ([[draw(number) for _ in range(n_in)] for _ in range(n_out)], [draw(number) for _ in range(n_out)])
        for n_in, n_out in pairwise(widths)
    ]
    x = [draw(number) for _ in range(widths[0])]
    noise_map = draw(st.none() | st.lists(number, min_size=widths[0], max_size=widths[0]).filter(any))
    return layers, x, noise_map, draw(st.booleans())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(hostile_networks())
def test_any_floats_in_rational_arithmetic(case) -> None:
    layers, x, noise_map, final_relu = case
    net = dense(*layers, final_relu=final_relu)
    assert_sound(net, x, None if noise_map is None else tensor(noise_map))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(hostile_networks(), st.integers(1, 3), st.integers(0, 1000))
def test_any_floats_through_a_diagonal_and_a_matrix(case, columns, seed) -> None:
    layers, x, noise_map, _ = case
    d = len(x)
    first = Diagonal((d,), tensor(0.3081), tensor(-0.1307 / 0.3081), divide=True)
    net = dense(*layers, first=(first, Dense(points(d, d, seed))))
    noise_map = tensor(noise_map or [1.0] * d).clamp(-1e307, 1e307)
    assert_sound(net, x, points(d, columns, seed + 1) * noise_map[:, None])


def test_what_floats_lost_on_the_way_to_the_distance() -> None:
    """Found by the searches above: quotients, products and transposed products that underflow."""
    quotient = dense(([[-8.391255041583873e-17], [1.0]], [0.0, 1.0]), final_relu=True)
    assert_sound(quotient, [-2.225073858507e-311], tensor([4.502178956036883e38]))
    assert_sound(dense(([[0, 1, 5e-324], [1, 1, 1]], [1, 1]), ([[1, 1]], [1])), [1.0] * 3, tensor([1, 0, 5e-324]))
    first = ([[2.3751628472982996e-133, 1, 1], [1, 1, 1], [1, 1, 1]], [1, -1, 1])
    layers = first, ([[1.7404811482179313e-299, 1, 0], [1, 1, 1]], [1, 1]), ([[1, 1]] * 4, [1] * 4)
    assert_sound(dense(*layers), [1.0, 0.0, 0.0], tensor([7.748887688280422e286, 1, 1]))


@pytest.mark.parametrize("d", [5, 2500])
def test_the_row_space_keeps_norms_within_what_it_says(d: int) -> None:
    """Norms of combinations of rows, differences of nearly equal ones above all, in rational arithmetic."""
    r, q = points(2, d, d)
    weight = torch.stack([r, r + 1e-13 * q, 1e-5 * q, 0.0 * q])
    space = row_space(weight, torch.zeros(4, dtype=torch.float64))
    assert space.rows.shape == (4, 4)
    assert not space.rows[3].any()
    assert space.errors[3] == 0.0

    def norm(c: list[int], rows: torch.Tensor) -> mpmath.mpf:
        combined = [sum(k * Fraction(v) for k, v in zip(c, row, strict=True)) for row in rows.t().tolist()]
        return mpmath.sqrt(mp(sum(v * v for v in combined)))

    with mpmath.workdps(50):
        for c in ([1, 0, 0, 7], [1, -1, 0, 0], [1, 1, 1, 0], [2, -2, 1, 0], [0, 0, 1, 0]):
            exact, found = norm(c, weight), norm(c, space.rows)
            room = sum(abs(k) * mp(e) for k, e in zip(c, space.errors.tolist(), strict=True))
            assert abs(exact - found) <= space.stretch * found + room
            assert room <= 1e-10 * norm([1, 0, 0, 0], weight)


@pytest.mark.parametrize("first", [[], [[1.7e308, 1.7e308]]])
def test_normals_that_cancel(first: list[list[float]]) -> None:
    """10^17 r + r - 10^17 r: floats find no normal, the distance is 1000 / ||r||. A row too long for a norm beside it
    must not hide that."""
    zeros = [0.0] * len(first)
    layers = [([*first, *[[0.05, 0.06]] * 3], None), ([[*zeros, 1e17, 1.0, -1e17], [*zeros, 1, 0, 0]], [1000.0, 0.5])]
    net = dense(*layers, ([[1.0, 1.0]], [0.0]))
    x = tensor([1e-308, 1e-308])
    values, squares = exact_planes(net, x, net.pattern(x[None])[0], 1)
    assert 1e4 < math.sqrt(values[len(first) + 3] ** 2 / squares[len(first) + 3]) < 1.3e4
    assert_sound(net, x)


@pytest.mark.parametrize("d", [5, 1200])
def test_differences_of_nearly_equal_rows_in_the_row_space(d: int) -> None:
    """What QR leaves is small beside the rows, not beside their differences."""
    for seed in range(12 if d < 10 else 2):
        r, q = points(2, d, seed)
        weight = torch.stack([r, r + 1e-13 * q, r - 1e-13 * q])
        net = dense(
            (weight, [9.0, 9.0, 9.0]), ([[1.0, -1.0, 0.0], [1.0, -2.0, 1.0]], [1.0, 1.0]), ([[1.0, 2.0]], [0])
        )
        assert_sound(net, 0.01 * points(1, d, seed + 50)[0])


@pytest.mark.parametrize("columns", [1, 3])
def test_errors_of_first_rows_through_a_matrix(columns: int) -> None:
    """Rows that are wrong by a tenth, and say so: through S their error grows by its norm, not its longest row."""
    d = 30
    net, x = dense(([[1.0] * d, [1.0, -1.0] * (d // 2)], [0.5, 0.1]), ([[1.0, 2.0]], [0.3])), torch.zeros(d).double()
    noise_map = torch.ones(d, columns, dtype=torch.float64)
    form = Hyperplanes(net, noise_map)
    weights = (0.9 * form.chain.weights[0], *form.chain.weights[1:])
    form.chain = replace(form.chain, weights=weights, first_error=torch.full((2,), 0.1001 * math.sqrt(d)).double())
    lower = form.distances(x[None]).lower[0]
    values, squares = exact_planes(net, x, net.pattern(x[None])[0], 1, noise_map)
    for k in (0, 2):
        assert is_at_most(lower[k].item(), values[k], squares[k])
        assert lower[k] > 0.5 * math.sqrt(values[k] ** 2 / squares[k])


@pytest.mark.parametrize("noise_map", [tensor([0, 1.5, 2, 0, 0.1, -1, 3]), points(7, 4, 0), points(7, 9, 1)])
def test_a_noise_map_is_the_network_of_w1_s(noise_map) -> None:
    """r = S u: distances in u-space are those of u -> f(x + S u) at u = 0, whose first matrix is W_1 S."""
    layers = gaussian_layers((7, 5, 4, 3), 30)
    net, (w1, b1) = dense(*layers), layers[0]
    s = torch.diag(noise_map)[:, noise_map != 0] if noise_map.ndim == 1 else noise_map
    for x in points(5, 7, 31):
        composed = dense((w1 @ s, w1 @ x + b1), *layers[1:])
        expected = Hyperplanes(composed).distances(torch.zeros(1, s.shape[1], dtype=torch.float64))
        for form in every_path(net, noise_map):
            assert form.m == s.shape[1]
            found = form.distances(x[None])
            assert torch.equal(found.predicted, expected.predicted)
            torch.testing.assert_close(found.nearest, expected.nearest, rtol=1e-10, atol=0.0)
            torch.testing.assert_close(found.lower, expected.lower, rtol=1e-10, atol=0.0)


def test_a_feature_without_noise_and_a_unit_that_reads_nothing_else() -> None:
    net = dense(([[1.0, 0.0], [0.5, 0.5]], [0.3, -0.1]), ([[1.0, 1.0]], [0.2]))
    for form in every_path(net, tensor([0.0, 2.0])):
        found = form.distances(tensor([[0.4, 0.6]]))
        assert found.lower[0, 0] == found.nearest[0, 0] == math.inf
        assert found.lower[0, 1] == pytest.approx(0.4, rel=1e-12)


@pytest.mark.parametrize("widths", [(9, 4, 5, 3), (784, 64, 32, 10), (300, 257, 130, 7), (31, 2)])
def test_an_input_has_the_same_distances_in_any_batch(widths: tuple[int, ...]) -> None:
    """To the last bit: alone, among others, in another order."""
    net = random_dense(widths, 39)
    assert_same_in_any_batch(net, points(70, net.d, 40))


def test_an_input_of_a_graph_has_the_same_distances_in_any_batch() -> None:
    assert_same_in_any_batch(ORDINARY["residual"], points(5, ORDINARY["residual"].d, 40))


def assert_same_in_any_batch(net: Network, x: torch.Tensor) -> None:
    form = Hyperplanes(net)
    together = form.distances(x)
    assert together.nearest.shape == together.lower.shape == (len(x), net.units)
    turned = form.distances(x.flip(0))
    for name in ("predicted", "nearest", "lower"):
        assert torch.equal(getattr(together, name).flip(0), getattr(turned, name))
        for i in range(0, len(x), 7):
            assert torch.equal(getattr(Hyperplanes(net).distances(x[i : i + 1]), name)[0], getattr(together, name)[i])
    assert torch.equal(together.unit, together.lower.argmin(1))


def test_memory_limit_changes_blocks_and_nothing_but_last_digits() -> None:
    net = residual(5, 3, 41)
    x = points(3, 5, 42)
    whole, blocks = Hyperplanes(net), Hyperplanes(net, memory_limit=300)
    assert blocks.plan.block == 1 < whole.plan.block
    torch.testing.assert_close(whole.distances(x).lower, blocks.distances(x).lower, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("net", [ORDINARY["d > n"], ORDINARY["residual"]])
def test_a_passed_deadline_ends_it(net: Network) -> None:
    form = Hyperplanes(net)
    with pytest.raises(OutOfTime, match="time limit of 0 s reached"):
        form.distances(points(1, net.d, 0), Deadline.after(0.0))
    form.distances(points(1, net.d, 0), Deadline.after(60.0))


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    form = Hyperplanes(ORDINARY["d > n"], torch.ones(9, dtype=torch.float64))
    assert not {"chain", "space", "coordinates", "fields", "plan"} & vars(form).keys()


def test_cost_per_input_does_not_depend_on_d(monkeypatch: pytest.MonkeyPatch) -> None:
    """At d = 20,000 nothing d wide is touched per input but the first layer's product."""
    d = 20_000
    layers = gaussian_layers((d, 16, 12, 4), 50)
    net = dense(*layers)
    form = Hyperplanes(net)
    assert form.space.rows.shape == (16, 16)
    monkeypatch.setattr(Hyperplanes, "_planned_norms", None)
    x = points(3, d, 51)
    found = form.distances(x)
    for i in range(3):
        w, v, first = layers[0][0], layers[0][0] @ x[i] + layers[0][1], found.nearest[i]
        torch.testing.assert_close(first[:16], v.abs() / w.norm(dim=1), rtol=1e-10, atol=0.0)
        w, v = layers[1][0] @ (w * (v > 0)[:, None]), layers[1][0] @ v.clamp_min(0) + layers[1][1]
        torch.testing.assert_close(first[16:28], v.abs() / w.norm(dim=1), rtol=1e-10, atol=0.0)
