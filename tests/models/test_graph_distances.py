"""Distances and enclosures on imported graphs that are no chains, against exact values in 60 digits."""

import mpmath
import numpy as np
import pytest
import torch
from agreement import floats, node
from exact import assert_enclosed, exact_matrix, exact_values, randn

from calotte.cells.hyperplanes import Hyperplanes
from calotte.models.onnx import from_onnx
from calotte.network.affine import Diagonal
from calotte.network.enclosure import evaluate
from calotte.network.graph import Relu


def branching(make_model):
    """Convolutions, a pool with overlapping windows, an expansion, branches that meet, a mean."""
    nodes = [
        node("Div", ["x", "scale"], ["a"]),
        node("Conv", ["a", "k", "c"], ["b"], pads=[1, 1, 0, 1]),
        node("LeakyRelu", ["b"], ["d"], alpha=0.1),
        node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[1, 1]),
        node("ReduceMean", ["e"], ["f"], axes=[2, 3]),
        node("Expand", ["f", "wide"], ["g"]),
        node("Add", ["g", "e"], ["h"]),
        node("Relu", ["h"], ["i"]),
        node("Sub", ["i", "h"], ["j"]),
        node("Flatten", ["j"], ["l"]),
        node("Gemm", ["l", "w", "v"], ["y"]),
    ]
    weights = {"scale": np.float32(0.3), "k": floats(2, 1, 2, 3), "c": floats(2), "wide": np.array([1, 2, 2, 2])}
    return make_model(nodes, weights | {"w": floats(8, 3), "v": floats(3)}, (1, 1, 3, 3))


def folded(make_model):
    """Copies and absolute values, so that normals meet their own copies."""
    nodes = [
        node("Gather", ["x", "places"], ["a"], axis=1),
        node("Abs", ["a"], ["b"]),
        node("Concat", ["b", "x", "x"], ["c"], axis=1),
        node("MatMul", ["c", "w"], ["d"]),
        node("Clip", ["d", "low", "high"], ["e"]),
        node("Max", ["e", "d"], ["f"]),
        node("MatMul", ["f", "v"], ["y"]),
    ]
    weights = {"places": np.array([0, 0, 2, 2, 2]), "w": floats(11, 4), "v": floats(4, 3)}
    return make_model(nodes, weights | {"low": np.float32(-0.3), "high": np.float32(0.4)}, (1, 3))


def exact_rows(network, masks):
    """Normals and offsets of every feeder of a ReLU and of the outputs: lists of (normal, offset) by node."""
    zero = mpmath.mpf(0)
    rows = {0: [([mpmath.mpf(j == k) for k in range(network.d)], zero) for j in range(network.d)]}
    for i, step in enumerate(network.nodes[1:], start=1):
        if isinstance(step.op, Relu):
            kept = masks[i].reshape(-1).tolist()
            rows[i] = [
                r if on else ([zero] * network.d, zero) for r, on in zip(rows[step.inputs[0]], kept, strict=True)
            ]
            continue
        offset = torch.zeros(step.op.output_shape) if step.op.offset is None else step.op.offset
        rows[i] = []
        matrices = [exact_matrix(step.op, k) for k in range(len(step.inputs))]
        for j, b in enumerate(offset.expand(step.op.output_shape).reshape(-1).tolist()):
            terms = [
                (weight, row)
                for matrix, source in zip(matrices, step.inputs, strict=True)
                for weight, row in zip(matrix[j], rows[source], strict=True)
                if weight
            ]
            normal = [mpmath.fsum(w * n[k] for w, (n, _) in terms) for k in range(network.d)]
            rows[i].append((normal, mpmath.mpf(b) + mpmath.fsum(w * c for w, (_, c) in terms)))
    return rows


@pytest.mark.parametrize("make", [branching, folded])
def test_signed_distances_are_enclosed(make_model, make):
    network = from_onnx(make(make_model))
    x = torch.randn(4, network.d, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = Hyperplanes(network).distances(x)
    pattern = network.pattern(x)
    assert any(isinstance(n.op, Diagonal) for n in network.nodes)
    with mpmath.workdps(60):
        for b in range(len(x)):
            point = [mpmath.mpf(v) for v in x[b].tolist()]
            rows = exact_rows(network, network.masks(pattern[b : b + 1]))
            units = [row for i in network.relus for row in rows[network.nodes[i].inputs[0]]]
            out, y = rows[len(network.nodes) - 1], int(found.predicted[b])
            for k in range(len(out)):
                if k != y:
                    units.append(([p - q for p, q in zip(out[y][0], out[k][0], strict=True)], out[y][1] - out[k][1]))
            signs = [1 if on else -1 for on in pattern[b].tolist()] + [1] * (len(out) - 1)
            for unit, (normal, offset) in enumerate(units):
                value = signs[unit] * (mpmath.fsum(n * p for n, p in zip(normal, point, strict=True)) + offset)
                norm = mpmath.sqrt(mpmath.fsum(n * n for n in normal))
                lower, nearest = found.lower[b, unit].item(), found.nearest[b, unit].item()
                if norm == 0:
                    assert value >= 0
                    continue
                assert mpmath.mpf(lower) <= value / norm
                if norm > 1e-9:
                    assert lower >= value / norm - 1e-9
                    assert nearest == pytest.approx(float(abs(value) / norm), abs=1e-9)


def test_enclosures_of_an_imported_graph_hold_the_exact_values(make_model):
    """Convolution, pools, branches, a concatenation, a mean, from a file."""
    nodes = [
        node("Sub", ["x", "mean"], ["a"]),
        node("Div", ["a", "scale"], ["b"]),
        node("Conv", ["b", "k", "c"], ["h"], pads=[1, 1, 0, 1]),
        node("LeakyRelu", ["h"], ["l"], alpha=0.1),
        node("MaxPool", ["l"], ["m"], kernel_shape=[2, 2], strides=[2, 1]),
        node("AveragePool", ["l"], ["p"], kernel_shape=[2, 2], strides=[2, 1]),
        node("Concat", ["m", "p"], ["q"], axis=1),
        node("Abs", ["q"], ["r"]),
        node("ReduceMean", ["r"], ["s"], axes=[2], keepdims=0),
        node("Flatten", ["s"], ["t"]),
        node("Gemm", ["t", "w"], ["y"], alpha=0.3),
    ]
    weights = {"mean": floats(2, 1, 1), "scale": np.float32(0.3), "k": floats(3, 2, 2, 3), "c": floats(3)}
    network = from_onnx(make_model(nodes, weights | {"w": floats(18, 3)}, (1, 2, 4, 4)))
    x = randn(3, 32)
    x[1] = 0.25
    for masks in (None, network.masks(network.pattern(x))):
        enclosed = evaluate(network, x, masks)
        with mpmath.workdps(60):
            for b in range(len(x)):
                assert_enclosed(enclosed, exact_values(network, x[b]), b)


def test_batch_norm_is_enclosed(make_model):
    names = ["scale", "bias", "mean", "variance"]
    weights = {name: floats(3) for name in names}
    weights["variance"] = weights["variance"] ** 2
    model = make_model([node("BatchNormalization", ["x", *names], ["y"], epsilon=1e-5)], weights, (1, 3))
    network, epsilon = from_onnx(model), float(np.float32(1e-5))
    x = torch.cat(
        [randn(50, 3), torch.zeros(1, 3, dtype=torch.float64), torch.from_numpy(weights["mean"])[None].double()]
    )
    out = evaluate(network, x)[-1]
    with mpmath.workdps(60):
        for row, value, error in zip(x.tolist(), out.value.tolist(), out.error.tolist(), strict=True):
            for k in range(3):
                scale, bias, mean, variance = (mpmath.mpf(float(weights[name][k])) for name in names)
                true = scale * (mpmath.mpf(row[k]) - mean) / mpmath.sqrt(variance + mpmath.mpf(epsilon)) + bias
                assert abs(mpmath.mpf(value[k]) - true) <= mpmath.mpf(error[k])
