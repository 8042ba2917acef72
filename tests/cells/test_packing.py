"""Normals by packed columns: what they give is what one transposed product for each unit gives."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from calotte.cells.fields import grid, receptive_fields
from calotte.cells.hyperplanes import Hyperplanes
from calotte.cells.packing import Columns
from calotte.cells.products import one_hot_rows, pull_back, row_norms
from calotte.cells.stages import RATE, make_plan
from calotte.network.affine import Affine, Dense, Diagonal, Reshape, Sum
from calotte.network.convolution import Convolution, TransposedConvolution
from calotte.network.decision import Decision
from calotte.network.event import CHANGE
from calotte.network.graph import Network, Node, Relu

GENERATOR = torch.Generator().manual_seed(0)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)


def convolution(shape: tuple[int, ...], out: int, size: int, stride: int, pad: int) -> Convolution:
    kernel = randn(out, shape[0], size, size)
    return Convolution(kernel, randn(out), shape, stride=(stride,) * 2, padding=[(pad, pad)] * 2, dilation=(1, 1))


def graph(shape: tuple[int, ...], rule: str, *steps: tuple[Affine | Relu, tuple[int, ...]]) -> Network:
    nodes = [Node("x", None), *(Node(f"n{i}", op, inputs) for i, (op, inputs) in enumerate(steps, 1))]
    outputs = math.prod(steps[-1][0].output_shape)
    return Network(tuple(nodes), shape, Decision(rule, outputs))


def residual(flat: bool = False, rule: str = "argmax") -> Network:
    """A strided convolution, two residual blocks (one reads the image again), a dense layer; 3 x 12 x 12 inputs."""
    shape = (3, 12, 12)
    first = convolution(shape, 4, 3, 2, 1)
    second, third = convolution((4, 6, 6), 4, 3, 1, 1), convolution((4, 6, 6), 5, 3, 1, 1)
    again, last = convolution(shape, 5, 1, 2, 0), Dense(randn(4 if rule != "sign" else 1, 180))
    ops = [
        (first, (0,)), (Relu((4, 6, 6)), (1,)), (second, (2,)), (Sum((4, 6, 6), (1, 1)), (2, 3)),
        (Relu((4, 6, 6)), (4,)),
        (third, (5,)), (again, (0,)), (Sum((5, 6, 6), (1, -1)), (6, 7)), (Relu((5, 6, 6)), (8,)),
        (Reshape((5, 6, 6), (180,)), (9,)), (last, (10,)),
    ]  # fmt: skip
    if not flat:
        return graph(shape, rule, *ops)
    start = [(Diagonal((432,), torch.full((), 0.3, dtype=torch.float64), None), (0,)), (Reshape((432,), shape), (1,))]
    return graph((432,), rule, *start, *((op, tuple(j + 2 for j in inputs)) for op, inputs in ops))


def generator_network() -> Network:
    """Seven latent numbers to an image by transposed convolutions, and two outputs."""
    up = Convolution(randn(3, 2, 4, 4), None, (2, 8, 8), stride=(2, 2), padding=[(1, 1)] * 2, dilation=(1, 1))
    return graph(
        (7,), "argmin", (Dense(randn(48, 7)), (0,)), (Relu((48,)), (1,)), (Reshape((48,), (3, 4, 4)), (2,)),
        (TransposedConvolution(up, randn(2)), (3,)), (Relu((2, 8, 8)), (4,)), (Reshape((2, 8, 8), (128,)), (5,)),
        (Dense(randn(2, 128)), (6,)),
    )  # fmt: skip


NETWORKS = {
    "residual": residual(),
    "residual, flat inputs, sign": residual(flat=True, rule="sign"),
    "generator": generator_network(),
}


def one_by_one(hyperplanes: Hyperplanes, x: torch.Tensor) -> torch.Tensor:
    """Distances of one input (N,), a transposed product for each."""
    network, last = hyperplanes.network, len(hyperplanes.network.nodes) - 1
    masks = {i: mask[0] for i, mask in network.masks(network.pattern(x[None])).items()}
    values = dict(network.values(x[None]))
    answer = network.predict(x[None])
    found = []
    for node in [*(network.nodes[i].inputs[0] for i in network.relus), last]:
        if node == last:
            margins = CHANGE.margins(network, x[None], answer)
            value = margins.of(values[node].reshape(1, -1))
            rows = margins.rows[0].reshape(-1, *network.shape(last))
        else:
            value, rows = values[node], one_hot_rows(network, node, 0, math.prod(network.shape(node)))
        norms = hyperplanes.scaled(pull_back(network, masks, node, rows)).norm(dim=1)
        found.append(torch.where(norms > 0, value.flatten().abs() / norms, torch.inf))
    return torch.cat(found)


@pytest.mark.parametrize("memory", [2e9, 4e5, 1e3])
@pytest.mark.parametrize("name", NETWORKS)
def test_distances_by_columns_are_those_of_single_products(name: str, memory: float) -> None:
    network = NETWORKS[name]
    scale = torch.rand(network.d, dtype=torch.float64, generator=GENERATOR)
    scale[::3] = 0.0
    for noise_map in (None, scale, randn(network.d, 4)):
        hyperplanes = Hyperplanes(network, noise_map, memory)
        for x in randn(2, network.d):
            found = hyperplanes.distances(x[None]).nearest[0]
            torch.testing.assert_close(found, one_by_one(hyperplanes, x), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("memory", [2e9, 4e5])
@pytest.mark.parametrize("through", range(5))
def test_every_split_into_columns_and_rows_gives_the_same(through: int, memory: float) -> None:
    """All first `through` nodes by columns, whatever costs less: entries are carried from stage to stage."""
    network = NETWORKS["residual"]
    targets = {1: 144, 4: 144, 8: 180, 11: 3}
    hyperplanes = Hyperplanes(network, None, memory)
    chosen = make_plan(
        network, {t: 10**9 if k < through else 0 for k, t in enumerate(targets)}, hyperplanes.widths, memory
    )
    assert [t for stage in chosen.stages for t in stage.targets] == list(targets)[:through]
    if memory > 1e6 and through > 2:
        assert [stage.columns for stage in chosen.stages[:3]] == [27, 147, 363]
        assert [stage.carries for stage in chosen.stages[:2]] == [(1,), (4,)]
    hyperplanes.plan = chosen
    x = randn(1, network.d)
    torch.testing.assert_close(
        hyperplanes.distances(x).nearest[0], one_by_one(hyperplanes, x[0]), rtol=1e-9, atol=0.0
    )


def test_a_generator_takes_a_product_for_each_latent_number() -> None:
    (stage,) = Hyperplanes(NETWORKS["generator"]).plan.stages
    assert stage.columns == 7
    assert set(stage.targets) >= {1, 4}


def test_a_matrix_takes_a_product_for_each_of_its_columns_and_a_scale_packs() -> None:
    network = NETWORKS["residual"]
    assert [s.columns for s in Hyperplanes(network, randn(network.d, 4)).plan.stages] == [4]
    assert Hyperplanes(network, torch.rand(network.d).double()).plan.stages[0].columns == 27


@pytest.mark.parametrize("widths", [(3, 5, 4), (1, 1, 1), (3, 12, 12)])
def test_inputs_of_one_column_are_a_width_apart(widths: tuple[int, ...]) -> None:
    network = NETWORKS["residual"]
    assert grid(network) == (3, 12, 12)
    columns = Columns(network, None).inputs(torch.arange(math.prod(widths)), widths)
    assert torch.equal(columns.sum(0), torch.ones(3, 12, 12, dtype=torch.float64))  # every input in one of them
    for column in columns:
        places = column.nonzero()
        apart = (places[:, None] - places).abs()
        assert (
            (apart == 0).all(2) | (apart >= torch.tensor(widths)).any(2)
        ).all()  # never in one box of these widths


def test_flat_inputs_are_seen_as_the_image_that_they_become() -> None:
    assert grid(residual(flat=True)) == (3, 12, 12)
    flat, image = residual(flat=True), receptive_fields(residual())
    assert [fields.widths for fields in receptive_fields(flat).values()][2:] == [f.widths for f in image.values()]


@pytest.mark.parametrize("dim", [0, 1])
def test_norms_survive_overflow_and_underflow_of_squares(dim: int) -> None:
    rows = torch.tensor([[3e-200, 4e-200], [3e200, 4e200], [3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([5e-200, 5e200, 5.0, 0.0], dtype=torch.float64)
    found = row_norms(rows if dim else rows.t(), dim)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0.0)
    assert row_norms(torch.tensor([[math.nan, 1.0], [math.inf, 1.0]])).isfinite().sum() == 0


def test_costs_are_told_beforehand_and_grow_with_the_network() -> None:
    small, large = (Hyperplanes(graph((3, n, n), "argmax", *convolutions(n))).cost() for n in (16, 224))
    assert small.hyperplanes == 2 * 8 * 16**2 + 1
    assert small.seconds < 1.0
    assert large.operations > 100 * small.operations
    assert large.bytes > 8 * large.hyperplanes
    assert "about" in str(large)
    assert f"for {large.hyperplanes:,} hyperplanes" in str(large)
    hours = replace(large, operations=RATE * 3600 * 40)
    assert str(hours) == f"about 40 hours for {large.hyperplanes:,} hyperplanes"


def convolutions(n: int) -> list[tuple[Affine | Relu, tuple[int, ...]]]:
    first, second = convolution((3, n, n), 8, 3, 1, 1), convolution((8, n, n), 8, 3, 1, 1)
    shape = (8, n, n)
    head = convolution(shape, 2, n, 1, 0)
    return [(first, (0,)), (Relu(shape), (1,)), (second, (2,)), (Relu(shape), (3,)), (head, (4,))]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_cost_is_not_below_the_multiplications_done(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS[name]
    hyperplanes = Hyperplanes(network)
    said = hyperplanes.cost().operations
    done = []
    for kind, f in ((Convolution, "linear"), (Dense, "linear"), (Convolution, "adjoint"), (Dense, "adjoint")):
        right = getattr(kind, f)

        def counted(self, *xs, right=right):
            done.append(len(xs[0]) * (self.terms - 1) * math.prod(self.output_shape))
            return right(self, *xs)

        monkeypatch.setattr(kind, f, counted)
    hyperplanes.distances(randn(1, network.d))
    assert sum(done) <= said


@pytest.mark.parametrize("groups", [1, 3])
def test_a_margin_reads_what_two_outputs_read(groups: int) -> None:
    """Outputs that each see one pixel: the distance to x_i = x_j is |x_i - x_j| / sqrt(2), never farther."""
    kernel = torch.ones(3, 1, 1, 1) if groups == 3 else torch.eye(3).reshape(3, 3, 1, 1)
    kernel = kernel.double()
    one = Convolution(kernel, None, (3, 1, 1), stride=(1, 1), padding=[(0, 0)] * 2, dilation=(1, 1), groups=groups)
    network = graph(
        (3, 1, 1), "argmax", (one, (0,)), (Relu((3, 1, 1)), (1,)), (Diagonal((3, 1, 1), None, None), (2,))
    )
    x = torch.tensor([[5.0, 4.0, 3.5]], dtype=torch.float64)
    margins = Hyperplanes(network).distances(x)
    expected = torch.tensor([1.0, 1.5], dtype=torch.float64) / math.sqrt(2.0)
    torch.testing.assert_close(margins.nearest[0, 3:], expected)
    assert bool((margins.lower[0, 3:] <= expected).all())
