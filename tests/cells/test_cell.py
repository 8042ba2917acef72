"""Cell: Theorem 4.1 against enumeration of sign patterns, dense grids, and points moved across each hyperplane."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from zoo import dense, exact_planes, gaussian_layers, points, random_dense, residual, signed_planes, tensor

from calotte.cells.cell import Cell
from calotte.cells.hyperplanes import Hyperplanes
from calotte.errors import InvalidInput
from calotte.network.graph import Network

NETWORKS = {
    "perceptron": random_dense((3, 1), 0),
    "plane": random_dense((2, 5, 4, 3), 1),
    "wide input": random_dense((12, 4, 4, 2), 2),
    "sign": random_dense((4, 3, 3, 1), 3),
    "argmin": random_dense((3, 6, 4), 4, rule="argmin"),
    "residual": residual(3, 3, 5),
    "relu after the logits": random_dense((3, 4, 3), 6, final_relu=True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_normals_offsets_and_distances_in_rational_arithmetic(name: str) -> None:
    net = NETWORKS[name]
    for x in points(4, net.d, 10):
        cell = Cell(net, x)
        assert cell.normals.shape == (net.units, net.d)
        assert cell.offsets.shape == cell.distances.shape == cell.signs.shape == (net.units,)
        assert len(cell.names) == net.units
        values, normals = signed_planes(net, x.tolist(), cell.pattern, cell.predicted, Fraction)
        _, squares = exact_planes(net, x, cell.pattern, cell.predicted)
        for k in range(net.units):
            sign = int(cell.signs[k]) if k < net.hidden_units else 1
            assert cell.has_hyperplane[k] == (squares[k] != 0)
            exact = tensor([float(sign * a) for a in normals[k]])
            torch.testing.assert_close(cell.normals[k], exact, rtol=1e-12, atol=1e-14)
            offset = sign * (values[k] - sum(a * Fraction(v) for a, v in zip(normals[k], x.tolist(), strict=True)))
            assert cell.offsets[k].item() == pytest.approx(float(offset), rel=1e-12, abs=1e-13)
            expected = math.sqrt(values[k] ** 2 / squares[k]) if squares[k] else math.inf
            assert cell.distances[k].item() == pytest.approx(expected, rel=1e-9)
        assert cell.distance == pytest.approx(cell.distances.min().item(), rel=1e-9)
        assert cell.nearest_unit == cell.distances.argmin()


def within(cell: Cell, y: torch.Tensor) -> bool:
    """y on the cell's side of each of its N half-spaces, as Theorem 4.1 describes the cell."""
    return bool((cell.signs * (cell.normals @ y + cell.offsets) >= 0).all())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_half_spaces_are_the_set_of_equal_patterns(name: str) -> None:
    """Near and far points: in all half-spaces <=> same signs and same answer <=> contains <=> equal cells."""
    net = NETWORKS[name]
    inside = 0
    for x in points(3, net.d, 20):
        cell = Cell(net, x)
        reach = 2.0 * cell.distance
        for y in torch.cat([x + reach * points(60, net.d, 21) / math.sqrt(net.d), points(60, net.d, 22, 3.0)]):
            same = torch.equal(net.pattern(y[None])[0], cell.pattern) and int(net.predict(y[None])) == cell.predicted
            assert within(cell, y) == cell.contains(y) == (Cell(net, y) == cell) == same
            if same:
                inside += 1
                assert hash(Cell(net, y)) == hash(cell)
    assert 20 < inside < 300


def pre_activations_and_margins(net: Network, y: torch.Tensor) -> torch.Tensor:
    values, z = dict(net.values(y[None])), net.forward(y[None])[0]
    hidden = [values[net.nodes[i].inputs[0]].flatten() for i in net.relus]
    if net.decision.rule == "sign":
        return torch.cat([*hidden, z.abs()])
    best = int(net.predict(y[None]))
    return torch.cat([*hidden, (z[best] - z[torch.arange(len(z)) != best]).abs()])


@pytest.mark.parametrize("name", NETWORKS)
def test_normals_and_offsets_give_the_pre_activations_inside_the_cell(name: str) -> None:
    net = NETWORKS[name]
    for x in points(3, net.d, 30):
        cell = Cell(net, x)
        r = points(20, net.d, 31)
        for y in x + 0.999 * cell.distance * r / r.norm(dim=1, keepdim=True):
            assert cell.contains(y)
            found = cell.normals @ y + cell.offsets
            torch.testing.assert_close(found, pre_activations_and_margins(net, y), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_cell_ends_at_its_nearest_hyperplane(name: str) -> None:
    """rho_x is no smaller than it must be: just beyond the nearest hyperplane its unit has another sign."""
    net = NETWORKS[name]
    for x in points(5, net.d, 40):
        cell = Cell(net, x)
        k = cell.nearest_unit
        step = -cell.signs[k] * cell.normals[k] / cell.normals[k].norm() * cell.distance
        assert cell.contains(x + step * 0.999999)
        beyond = x + step * 1.000001
        assert not cell.contains(beyond)
        changed = net.pattern(beyond[None])[0] != cell.pattern
        assert changed.sum() == 1 if k < net.hidden_units else not changed.any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cells_of_a_small_plane_by_enumeration(seed: int) -> None:
    """All 2^6 patterns x 3 answers: those whose half-spaces hold a disc are the cells that a dense grid meets."""
    net, side, n = random_dense((2, 4, 2, 3), 50 + seed, bias=0.5), 3.0, 241
    axis = torch.linspace(-side, side, n, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis) + 1e-4
    seen = {}
    for y, pattern, answer in zip(grid, net.pattern(grid), net.predict(grid), strict=True):
        seen.setdefault((tuple(pattern.tolist()), int(answer)), []).append(y)
    discs, spacing = 0, 2 * side / (n - 1)
    for bits, answer in product(product([False, True], repeat=6), range(3)):
        values, normals = signed_planes(net, [0.0, 0.0], torch.tensor(bits), answer, float)
        values, normals = values.astype(float), np.array(normals.tolist(), dtype=float)
        norms = np.sqrt((normals**2).sum(1))
        walls = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
        a = np.column_stack([np.vstack([-normals, walls]), np.append(norms, np.ones(4))])
        room = np.append(values, np.full(4, side))  # normal.y + value >= radius norm, for the walls of the box too
        solved = linprog([0, 0, -1], A_ub=a, b_ub=room, bounds=(None, None))
        radius = -solved.fun if solved.status == 0 else -math.inf
        if (bits, answer) in seen:
            assert radius > -1e-9
        if radius > spacing:
            discs += 1
            assert (bits, answer) in seen
    assert discs >= 8
    cells = [Cell(net, group[0]) for group in seen.values()]
    assert len(set(cells)) == len(seen) > 8
    for cell, group in zip(cells, seen.values(), strict=True):
        assert int(cell.has_hyperplane.sum()) <= net.units == len(cell.distances)
        assert all(cell.contains(y) and within(cell, y) for y in group[:: max(1, len(group) // 20)])
        others = (other[0] for key, other in seen.items() if key != (tuple(cell.pattern.tolist()), cell.predicted))
        assert not any(cell.contains(y) or within(cell, y) for y in others)


def test_the_distance_to_other_cells_on_a_grid() -> None:
    """The nearest grid point of another cell is just beyond rho_x, never before it."""
    net = random_dense((2, 6, 5, 2), 60)
    angle = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)[:-1]
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    for x in points(10, 2, 61):
        cell = Cell(net, x)
        for factor, leaves in ((0.999, False), (1.001, True)):
            y = x + factor * cell.distance * circle
            same = (net.pattern(y) == cell.pattern).all(1) & (net.predict(y) == cell.predicted)
            assert bool(same.all()) != leaves


def test_units_without_a_hyperplane() -> None:
    net = dense(([[1.0, 0], [0, 1], [0, 0]], [-5.0, -5, 1]), ([[1.0, 2, 3], [0, 0, 0]], [1.0, 0]), ([[1.0, 1]], [0]))
    cell = Cell(net, [1.0, 1.0])
    assert cell.has_hyperplane.tolist() == [True, True, False, False, False, False]
    assert cell.distances.tolist() == [pytest.approx(4.0), pytest.approx(4.0)] + [math.inf] * 4
    assert not cell.normals[2:].any()
    assert cell.offsets.tolist() == [-5.0, -5.0, 1.0, 4.0, 0.0, 4.0]
    constant = Cell(dense(([[0.0, 0.0]], [1.0])), [1.0, 1.0])
    assert constant.distance is None
    assert constant.nearest_unit is None
    assert constant.contains([1e9, -1e9])


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160, 1e300])
def test_weights_of_any_size_have_hyperplanes(scale: float) -> None:
    """A distance does not change when a row and its bias are scaled, even where squares leave the floats."""
    (w, b), last = gaussian_layers((3, 4, 2), 70)
    x = points(1, 3, 71)[0]
    plain, scaled = Cell(dense((w, b), last), x), Cell(dense((w * scale, b * scale), last), x)
    assert scaled.has_hyperplane.all()
    torch.testing.assert_close(scaled.distances[:4], plain.distances[:4], rtol=1e-9, atol=0.0)


def test_a_shared_geometry_gives_the_same_cell() -> None:
    net = NETWORKS["wide input"]
    shared = Hyperplanes(net)
    for x in points(3, net.d, 80):
        assert torch.equal(Cell(net, x, shared).distances, Cell(net, x).distances)
        assert Cell(net, x, shared) == Cell(net, x)


def test_cells_of_different_networks_differ() -> None:
    x = points(1, 3, 90)[0]
    a, b = random_dense((3, 4, 2), 91), random_dense((3, 4, 2), 91)
    assert Cell(a, x) != Cell(b, x)
    assert Cell(a, x) != "a cell"


@pytest.mark.parametrize("bad", [[[1.0, 2.0, 3.0]] * 2, [1.0, 2.0], [1.0, math.nan, 0.0], [], [math.inf, 0.0, 0.0]])
def test_bad_inputs_are_refused(bad) -> None:
    net = NETWORKS["perceptron"]
    with pytest.raises(InvalidInput):
        Cell(net, bad)
    with pytest.raises(InvalidInput):
        Cell(net, [1.0, 2.0, 3.0]).contains(bad)


def edges(cell: Cell) -> set[int]:
    """Hyperplanes that carry an edge of the cell in the plane: the segment of each line within all half-planes."""
    normals, values = cell.signs[:, None] * cell.normals, cell.signs * cell.values
    found = set()
    for i in cell.has_hyperplane.nonzero().flatten().tolist():
        norm = normals[i].norm()
        foot = -values[i] * normals[i] / norm**2
        along = torch.stack([-normals[i, 1], normals[i, 0]]) / norm
        slope, height = normals @ along, normals @ foot + values
        others = torch.arange(len(values)) != i
        low = (-height / slope)[others & (slope > 0)].amax().item() if (others & (slope > 0)).any() else -math.inf
        high = (-height / slope)[others & (slope < 0)].amin().item() if (others & (slope < 0)).any() else math.inf
        flat = others & (slope == 0) & (height < 0)
        if low < high - 1e-7 and not flat.any():
            found.add(i)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_faces_in_the_plane_are_the_edges_of_the_polygon(seed: int) -> None:
    cell = Cell(random_dense((2, 9, 9, 3), seed), points(1, 2, 100 + seed)[0])
    faces = cell.faces()
    assert set((faces == 1).nonzero().flatten().tolist()) == edges(cell)
    assert not (faces == -1).any()
    assert faces[cell.nearest_unit] == 1


def test_rays_only_leave_through_faces() -> None:
    cell = Cell(random_dense((15, 40, 40, 4), 5), points(1, 15, 6)[0])
    faces = cell.faces()
    directions = points(4000, 15, 7)
    speed = -(cell.signs[:, None] * cell.normals) @ directions.t()
    times = torch.where(speed > 0, (cell.signs * cell.values)[:, None] / speed, math.inf)
    left = times.argmin(0)[times.amin(0).isfinite()]
    assert len(left.unique()) >= 10
    assert (faces[left] == 1).all()
    assert (faces == 0).any()


def test_a_repeated_hyperplane_counts_once_and_time_can_run_out() -> None:
    weight = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    cell = Cell(dense((weight, [1.0, 2.0, 1.0]), ([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], None)), [0.0, 0.5])
    assert int((cell.faces()[:2] == 1).sum()) == 1
    assert cell.faces()[2] == 1
    large = Cell(random_dense((300, 400, 3), 8), points(1, 300, 9)[0])
    assert (large.faces(time_limit=0.0) == -1).any()


def test_a_number_that_overflowed_has_no_sign_and_no_face() -> None:
    """inf - inf is NaN behind the first layer: not above zero, and not below it either."""
    network = dense(
        ([[1e200, 0.0], [1e200, 1.0]], [1.0, 1.0]), ([[1.0, -1.0]] * 2, [1.0, -1.0]), ([[1.0, 1.0]], [1.0])
    )
    y = [1e200, 0.5]
    cell = Cell(network, [0.0, 0.5])
    assert cell.contains([0.0, 0.5])
    assert not network.forward(tensor([y])).isfinite().all()
    assert not Cell(network, y).contains(y)
    assert Cell(network, y).distance == 0.0
    large = Cell(dense(([[1e308, 1e308]] * 2, [1.0, 2.0]), ([[1e10, 1.0]], [1.0])), [1e-308, 0.0])
    assert not large.normals.isfinite().all()
    assert not (large.faces() == 1).any()


def test_normals_beyond_the_memory_limit_are_refused() -> None:
    network = NETWORKS["plane"]
    cell = Cell(network, [0.1, 0.2], Hyperplanes(network, memory_limit=100.0))
    with pytest.raises(InvalidInput, match=r"normals of 11 hyperplanes in 2 dimensions take .* memory limit"):
        _ = cell.normals
    assert cell.distance is not None


def test_a_cell_says_what_it_is_in_one_line() -> None:
    assert repr(Cell(NETWORKS["plane"], [0.1, 0.2])).startswith("Cell(N=11, d=2, predicted=")
