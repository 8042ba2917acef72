"""Float32 bounds against models as programs run them: onnxruntime, fusing and not, and sums merged by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper
from torch import Tensor

import calotte
from calotte.network.float32 import Bounds, Float32Errors
from calotte.network.graph import Network
from calotte.network.normalise import normalised
from calotte.settings import Settings

Level = onnxruntime.GraphOptimizationLevel
LEVELS = [Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_BASIC, Level.ORT_ENABLE_ALL]
node = helper.make_node


def saved(
    path: Path, shape: Sequence[int], nodes: Sequence[onnx.NodeProto], constants: dict[str, ArrayLike], dtype: type
) -> Path:
    """A model from 'x', of this shape with its batch axis, to 'y', whose weights are numbers of a type."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value, dtype), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opset, ir_version=8)), path)
    return path


def network_of(path: Path, shape: Sequence[int], nodes: Sequence[onnx.NodeProto], **constants: ArrayLike) -> Network:
    return calotte.load(saved(path, shape, nodes, constants, np.float32))


def bounds(network: Network, x: Tensor, radius: float) -> NDArray[np.float64]:
    """Bounds (K,) on the errors of outputs under noise of at most that norm."""
    entries = torch.full((1, *network.input_shape), radius, dtype=torch.float64)
    errors = Float32Errors(network, x[None], Bounds.of(entries, torch.tensor([radius], dtype=torch.float64)))
    for relu in network.relus:
        errors.settle(relu)
    return errors.outputs().entries[0].numpy()


def in_a_ball(x: Tensor, radius: float, count: int) -> Tensor:
    r = torch.randn(count, len(x), dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return x + 0.999 * radius * r / r.norm(dim=1, keepdim=True)


def run(path: Path, level: Level, points: Tensor) -> NDArray[np.float64]:
    """What onnxruntime answers at points (n, d), rounded to float32 first: (n, K)."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.intra_op_num_threads, options.log_severity_level = level, 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    shape = [1, *session.get_inputs()[0].shape[1:]]
    rows = points.numpy().astype(np.float32)
    return np.stack([session.run(None, {"x": row.reshape(shape)})[0].ravel() for row in rows]).astype(np.float64)


def convolutional(seed: int, size: float) -> tuple[list[onnx.NodeProto], dict[str, ArrayLike]]:
    """Batch normalisation, a clip, a residual sum, a leaky ReLU and pools; `size` of what joins sums late."""
    rng = np.random.default_rng(seed)
    constants = {
        "k1": 0.3 * rng.standard_normal((6, 3, 3, 3)),
        "k2": 0.2 * rng.standard_normal((6, 6, 3, 3)),
        "scale": rng.uniform(0.5, 2.0, 6),
        "bias": size * rng.standard_normal(6),
        "mean": size * rng.standard_normal(6),
        "var": rng.uniform(0.1, 2.0, 6),
        "low": 0.0,
        "six": 6.0,
        "much": 3.4e38,
        "little": -3.4e38,
        "w": rng.standard_normal((54, 4)),
        "b": size * rng.standard_normal(4),
    }
    nodes = [
        node("Conv", ["x", "k1"], ["c1"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "scale", "bias", "mean", "var"], ["n1"]),
        node("Clip", ["n1", "low", "six"], ["r1"]),
        node("Conv", ["r1", "k2"], ["c2"], pads=[1, 1, 1, 1]),
        node("Clip", ["c2", "little", "much"], ["f2"]),
        node("Add", ["f2", "n1"], ["s2"]),
        node("LeakyRelu", ["s2"], ["r2"], alpha=0.1),
        node("MaxPool", ["r2"], ["p2"], kernel_shape=[2, 2], strides=[1, 1]),
        node("AveragePool", ["p2"], ["p3"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Flatten", ["p3"], ["flat"]),
        node("MatMul", ["flat", "w"], ["z"]),
        node("Add", ["z", "b"], ["y"]),
    ]
    return nodes, constants


@pytest.mark.parametrize("size", [0.3, 1e4])
def test_bounds_hold_for_onnxruntime_with_fusions_and_without(tmp_path: Path, size: float) -> None:
    """Inputs are no float32 numbers; answers that are certain are those of each run."""
    shape, certain = (1, 3, 6, 6), 0
    for seed in range(2):
        nodes, constants = convolutional(seed, size)
        network = network_of(tmp_path / "net.onnx", shape, nodes, **constants)
        x = torch.randn(network.d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for radius in (1e-6, 0.05):
            points = in_a_ball(x, radius, 20)
            bound, exact = bounds(network, x, radius), network.forward(points).numpy()
            (one,) = calotte.assess(
                network,
                x[None],
                calotte.Ball(radius),
                arithmetic="float32",
                rungs=["relaxation"],
                settings=Settings(search=False),
            )
            for level in LEVELS:
                found = run(tmp_path / "net.onnx", level, points)
                assert (np.abs(found - exact) <= bound).all()
                if one.bounds[0].certain:
                    certain += 1
                    assert (found.argmax(1) == one.predicted).all()
    assert certain >= 3


def test_clips_that_do_nothing_cost_little(tmp_path: Path) -> None:
    """A clip at +-3.4e38, or at a million, that no value reaches is no operation."""
    x = torch.linspace(-1.0, 1.0, 8, dtype=torch.float64)
    product = node("MatMul", ["x", "w"], ["z"])
    w = np.random.default_rng(0).standard_normal((8, 3))
    plain = network_of(tmp_path / "plain.onnx", (1, 8), [node("MatMul", ["x", "w"], ["y"])], w=w)
    for far in (3.4e38, 1e6):
        clip = node("Clip", ["z", "low", "high"], ["y"])
        clipped = network_of(tmp_path / "clip.onnx", (1, 8), [product, clip], w=w, low=-far, high=far)
        assert torch.equal(clipped.forward(x[None]), plain.forward(x[None]))
        assert (bounds(clipped, x, 0.1) <= 1.6 * bounds(plain, x, 0.1)).all()
    met = network_of(tmp_path / "met.onnx", (1, 8), [product, clip], w=1e6 * w, low=-1e6, high=1e6)
    points = in_a_ball(x, 2.0, 20)
    exact, inside = met.forward(points), points @ torch.from_numpy((1e6 * w).astype(np.float32)).double()
    assert (inside.abs() > 1e6).any()
    assert torch.allclose(exact, inside.clamp(-1e6, 1e6), rtol=1e-12)
    assert (np.abs(run(tmp_path / "met.onnx", LEVELS[0], points) - exact.numpy()) <= bounds(met, x, 2.0)).all()


def test_maxima_cost_nothing(tmp_path: Path) -> None:
    """A maximum is off by no more than what it is of: after four pools as much as after none."""
    x = torch.randn(36, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernel = np.random.default_rng(0).standard_normal((1, 1, 3, 3))
    first = node("Conv", ["x", "k"], ["p0"], pads=[1, 1, 1, 1])
    shape, some = (1, 1, 6, 6), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    pools = [node("MaxPool", [f"p{i}"], [f"p{i + 1}"], **some) for i in range(4)]
    flat = [node("Flatten", [f"p{i}"], ["y"]) for i in (0, 4)]
    none = network_of(tmp_path / "none.onnx", shape, [first, flat[0]], k=kernel)
    four = network_of(tmp_path / "four.onnx", shape, [first, *pools, flat[1]], k=kernel)
    least, most = bounds(none, x, 0.1), bounds(four, x, 0.1)
    assert 0 < most.max() <= least.max() * (1 + 1e-9)
    points = in_a_ball(x, 0.1, 20)
    assert (np.abs(run(tmp_path / "four.onnx", LEVELS[2], points) - four.forward(points).numpy()) <= most).all()


def bias_first(x: NDArray[np.float32], w: NDArray[np.float32], start: float) -> float:
    """start + x . w by a program that adds to what joins the sum, term by term."""
    total = np.float32(start)
    for v, c in zip(x, w, strict=True):
        total = np.float32(total + np.float32(v * c))
    return float(total)


MANY, BIG = 600, 1e6


def folded(path: Path) -> Network:
    """A convolution and a batch normalisation with a large bias."""
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("BatchNormalization", ["c", "one", "big", "zero", "one"], ["n"], epsilon=0.0),
        node("Flatten", ["n"], ["y"]),
    ]
    w = np.full((1, MANY, 1, 1), 0.02)
    return network_of(path, (1, MANY, 1, 1), nodes, w=w, one=[1.0], zero=[0.0], big=[BIG])


def centred(path: Path) -> Network:
    """The same with a large mean, and the bias that takes it back."""
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("BatchNormalization", ["c", "one", "zero", "big", "one"], ["n"], epsilon=0.0),
        node("Flatten", ["n"], ["y"]),
    ]
    w = np.full((1, MANY, 1, 1), 0.02)
    return network_of(path, (1, MANY, 1, 1), nodes, w=w, one=[1.0], zero=[0.0], big=[-BIG])


def two_biases(path: Path) -> Network:
    nodes = [node("Gemm", ["x", "w", "zero"], ["z"], alpha=0.5), node("Add", ["z", "big"], ["y"])]
    return network_of(path, (1, MANY), nodes, w=np.full((MANY, 1), 0.04), zero=[0.0], big=[BIG])


def residual(path: Path) -> Network:
    """A sum with a large branch, which the product may be added to term by term."""
    nodes = [
        node("MatMul", ["x", "w"], ["z"]),
        node("MatMul", ["x", "large"], ["branch"]),
        node("Add", ["z", "branch"], ["y"]),
    ]
    large = np.zeros((MANY, 1))
    large[0] = BIG
    return network_of(path, (1, MANY), nodes, w=np.full((MANY, 1), 0.02), large=large)


@pytest.mark.parametrize("model", [folded, centred, two_biases, residual])
def test_what_joins_a_sum_late_may_meet_all_its_roundings(tmp_path: Path, model: Callable[[Path], Network]) -> None:
    """Added to 1e6 term by term, 600 terms of 0.02 are lost: float32 is off by 12."""
    network = model(tmp_path / "net.onnx")
    x = torch.ones(MANY, dtype=torch.float64)
    ones, w = np.ones(MANY, np.float32), np.full(MANY, 0.02, np.float32)
    off = abs(network.forward(x[None]).item() - bias_first(ones, w, BIG))
    assert off > 11.9
    assert off <= bounds(network, x, 1e-6).item()


def test_normalised_inputs(tmp_path: Path) -> None:
    """(x - mean) / std of inputs that are no float32 numbers, by three programs."""
    rng = np.random.default_rng(0)
    product, w = [node("MatMul", ["x", "w"], ["y"])], rng.standard_normal((8, 3))
    inner = network_of(tmp_path / "net.onnx", (1, 8), product, w=w)
    network = normalised(inner, 130.1, 0.3)
    x = torch.from_numpy(130.1 + 0.3 * rng.standard_normal(8))
    points = in_a_ball(x, 0.1, 50)
    exact, bound = network.forward(points).numpy(), bounds(network, x, 0.1)
    single, mean, std = points.numpy().astype(np.float32), np.float32(130.1), np.float32(0.3)
    programs = (
        (single - mean) / std,
        (single - mean) * (np.float32(1) / std),
        single * (np.float32(1) / std) - mean / std,
        (points.numpy() - 130.1) / 0.3,
    )
    for given in programs:
        found = run(tmp_path / "net.onnx", LEVELS[2], torch.from_numpy(given.astype(np.float64)))
        assert (np.abs(found - exact) <= bound).all()
