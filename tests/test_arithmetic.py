"""Float32 arithmetic: every bound above what float32 programs do, and the back door that only rounding opens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from float32_programs import PROGRAMS, executed
from onnx import TensorProto, helper, numpy_helper
from shell import run, save_model
from torch import Tensor
from zoo import convolutional, dense, gaussian_layers, points, random_dense, residual

import calotte
from calotte.assess import Assessor
from calotte.network.affine import Dense
from calotte.network.graph import Network
from calotte.noise import Noise
from calotte.settings import Settings

PROVED = ["theorem", "cell", "relaxation", "concentration", "moments", "branching"]
QUIET = Settings(samples=2000, search=False)


def back_door(size: float) -> Network:
    """Outputs [0, 3 - 10 |h1 - h2 - size + 8|], h1 = relu(x + size), h2 = relu(x + 8): [0, 3] in real arithmetic.

    In float32 x is lost in h1 where size is 2**26: sums are rounded to multiples of 8, and the margin is 3 - 10 |x|.
    """
    first = [[1.0, 0.0], [1.0, 0.0]], [size, 8.0]
    second = [[1.0, -1.0], [-1.0, 1.0]], [8.0 - size, size - 8.0]
    return dense(first, second, ([[0.0, 0.0], [-10.0, -10.0]], [0.0, 3.0]))


def bounds(network: Network, x: Tensor, noise: Noise, **more: object) -> dict[str, float]:
    """Rung -> log p; skipped ones left out."""
    (one,) = calotte.assess(network, x[None], noise, settings=QUIET, **more)  # type: ignore[arg-type]
    return {b.rung: b.log_misclassification for b in one.bounds if b.skipped is None}


def test_a_back_door_that_only_rounding_opens() -> None:
    """Both are right: the real function never changes its answer, float32 does at most draws."""
    network, x, noise = back_door(2.0**26), torch.zeros(2, dtype=torch.float64), calotte.Sphere(1.0)
    draws = x + noise.sample(400, 2, torch.Generator().manual_seed(0))
    answers = executed(network, draws, "forward", False, False).argmax(1)
    assert 0.5 < (answers == 0).mean() < 1.0, "float32 changes the answer"
    real = bounds(network, x, noise)
    assert real["relaxation"] == -np.inf
    assert real["sampling"] < -5
    assert set(bounds(network, x, noise, arithmetic="float32").values()) == {0.0}
    (one,) = calotte.assess(network, x[None], noise, arithmetic="float32", rungs=["relaxation"], settings=QUIET)
    assert one.arithmetic == "float32"
    assert one.certified_radius == 0.0
    # small enough for float32 to see, it is no back door
    closed = bounds(back_door(64.0), x, noise, arithmetic="float32")
    assert closed["relaxation"] == -np.inf


def test_rounding_is_not_called_noise(tmp_path: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Where rounding may change each answer, and noise none, the remark says so, and how to tell."""
    monkeypatch.chdir(tmp_path)
    network, nodes, weights = back_door(2.0**26), [], {}
    for k, step in enumerate(network.nodes[1:], start=1):
        names = ["x" if k == 1 else f"v{k - 1}"], ["y" if k == network.last else f"v{k}"]
        if isinstance(step.op, Dense):
            weights |= {f"w{k}": step.op.weight, f"b{k}": step.op.offset}
            nodes.append(helper.make_node("Gemm", [*names[0], f"w{k}", f"b{k}"], names[1], transB=1))
        else:
            nodes.append(helper.make_node("Relu", *names))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(value.float().numpy(), name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.zeros((1, 2)))
    command = "assess net.onnx x.npy --eps 1e-3 --no-search --rungs relaxation,sampling"
    for arithmetic in ("float32", "real"):
        _, out, err = run(capsys, monkeypatch, f"{command} --arithmetic {arithmetic}")
        said = " ".join((out + err).split())
        assert ("or float32's rounding may: --arithmetic real tells which" in said) == (arithmetic == "float32")
        assert ("--rungs relaxation --arithmetic float32; where 0, rounding" in said) == (arithmetic == "float32")
        assert "noise changes nearly every" not in said


NOISES = {
    "sphere": calotte.Sphere(0.9),
    "gaussian": calotte.Gaussian(0.4),
    "box": calotte.Box(0.6),
    "mapped": calotte.Ball(1.0, torch.tensor([1.0, 0.0, 0.5, 1.0, 0.7, 0.0])),
}


def rounding_matters(seed: int) -> tuple[Network, Tensor]:
    """A network with two hidden units whose large values cancel, so that float32 moves a margin a little."""
    (w1, b1), (w2, b2) = gaussian_layers((6, 8, 3), seed)
    first = torch.eye(6, dtype=torch.float64)[:1]
    size, gain = 2.0**15, torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.0, 0.0]])
    widened = torch.cat([w1, first, first]), torch.cat([b1, torch.tensor([size, 8.0])])
    bias = b2 + torch.tensor([0.0, 8.0 - size, 0.0])
    return dense(widened, (torch.cat([w2, gain], 1), bias)), points(1, 6, seed)[0]


@pytest.mark.parametrize("name", NOISES)
def test_bounds_are_above_what_programs_do(name: str) -> None:
    """All rungs, against draws that are wrong in any program, with 4 standard errors."""
    noise = NOISES[name]
    told = 0
    for seed in range(2):
        network, x = rounding_matters(seed)
        answer = int(network.predict(x[None]))
        u = noise.sample(800, 6, torch.Generator().manual_seed(1))
        each = [executed(network, x + u, *program, seed=k).argmax(1) != answer for k, program in enumerate(PROGRAMS)]
        some, every = (found.mean() for found in (np.any(each, 0), np.all(each, 0)))
        (one,) = calotte.assess(network, x[None], noise, arithmetic="float32", settings=QUIET)
        for bound in one.bounds:
            assert bound.probability >= some - 4 * np.sqrt(some * (1 - some) / len(u)), (bound.rung, seed)
            told += bound.log_misclassification < 0
        for below in one.lower:
            assert np.exp(below.log_misclassification) <= every + 4 * np.sqrt(every * (1 - every) / len(u)) + 1e-3
    assert told


def test_float32_costs_something_and_little() -> None:
    """Bounds are above those in real arithmetic, and near them where rounding is small."""
    for network in (random_dense((6, 8, 6, 3), 0), convolutional(0), residual(5, 3, 0)):
        x = points(1, network.d, 2)[0]
        for noise in (calotte.Sphere(0.1), calotte.Gaussian(0.03)):
            real, single = (bounds(network, x, noise, arithmetic=a, rungs=PROVED) for a in ("real", "float32"))
            assert set(real) == set(single)
            for rung in ("theorem", "cell", "relaxation"):
                assert real[rung] - 1e-9 <= single[rung] <= 0.98 * real[rung]


@pytest.mark.parametrize("rung", PROVED)
def test_proofs_and_plans_say_the_same(rung: str) -> None:
    network, noise = random_dense((6, 8, 6, 3), 4), calotte.Sphere(0.3)
    x = points(1, 6, 4)[0]
    proof = calotte.propose(network, x, noise, rung, QUIET, arithmetic="float32")
    found = bounds(network, x, noise, arithmetic="float32", rungs=[rung])[rung]
    assert calotte.prove(network, x, noise, proof, arithmetic="float32") == found
    if rung == "branching":
        return  # its search over sizes takes long
    size = calotte.largest_noise(network, x, noise, 1e-3, arithmetic="float32", rungs=[rung])
    assert size > 0
    assert bounds(network, x, noise.resized(size), arithmetic="float32", rungs=[rung])[rung] <= np.log(1e-3)


def test_overflow_proves_nothing() -> None:
    """Real arithmetic is not impressed by 1e39; float32 has no such number."""
    network = dense((torch.eye(2) * 1e30, None), (torch.eye(2) * 1e30, None))
    x, noise = torch.tensor([2.0, 1.0], dtype=torch.float64), calotte.Sphere(0.01)
    assert bounds(network, x, noise)["relaxation"] == -np.inf
    assert set(bounds(network, x, noise, arithmetic="float32").values()) == {0.0}


def test_a_constant_network_may_overflow_at_some_size() -> None:
    network = dense(([[0.0, 0.0], [0.0, 0.0]], [0.0, 1.0]))
    x = torch.zeros(1, 2, dtype=torch.float64)
    (real,) = calotte.plan(network, x, calotte.Sphere(1.0), 1e-3, rungs=["cell"])
    (single,) = calotte.plan(network, x, calotte.Sphere(1.0), 1e-3, rungs=["cell"], arithmetic="float32")
    assert real.largest_eps["cell"] is None
    assert 1.0 < single.largest_eps["cell"] < 2.0**128
    assert single.scope == {}


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    network = random_dense((6, 8, 3), 0)
    with pytest.raises(calotte.InvalidInput, match="expected real or float32"):
        Assessor(network, calotte.Sphere(1.0), arithmetic="float16")
    with pytest.raises(calotte.InvalidInput, match="estimates speak of real arithmetic"):
        Assessor(network, calotte.Sphere(1.0), arithmetic="float32", estimates=["splitting"])
    save_model(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    model.graph.node.append(helper.make_node("Softmax", ["y"], ["p"], "soft", axis=1))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["batch", 3]))
    onnx.save(model, tmp_path / "soft.onnx")
    soft = calotte.load(tmp_path / "soft.onnx")
    with pytest.raises(calotte.InvalidInput, match=r"Softmax is left off.*--output y"):
        calotte.assess(soft, np.zeros((1, 6)), calotte.Sphere(1.0), arithmetic="float32")
    assert calotte.assess(
        calotte.load(tmp_path / "soft.onnx", output="y"), np.zeros((1, 6)), calotte.Sphere(0.1), arithmetic="float32"
    )


def test_interpolation_is_refused(tmp_path: Path) -> None:
    """Its coefficients are what each program finds them to be; the nearest neighbour has none."""
    for mode in ("linear", "nearest"):
        nodes = [
            helper.make_node("Resize", ["x", "", "scales"], ["big"], mode=mode),
            helper.make_node("Flatten", ["big"], ["y"]),
        ]
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])],
            [helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, 1.0, 2.0, 2.0])],
        )
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "net.onnx")
        network = calotte.load(tmp_path / "net.onnx")
        if mode == "linear":
            with pytest.raises(calotte.InvalidInput, match="numbers of Resize"):
                Assessor(network, calotte.Sphere(1.0), arithmetic="float32")
        else:
            Assessor(network, calotte.Sphere(1.0), arithmetic="float32")


def test_the_command_line(tmp_path: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "in.npz", x=np.random.default_rng(0).standard_normal((2, 6)))
    save_model(tmp_path / "net.onnx")
    command = "assess net.onnx in.npz --eps 0.1 --no-search --rungs cell,relaxation --json --out kept"
    status, out, err = run(capsys, monkeypatch, f"{command} --arithmetic float32 --require p<=0.99")
    assert status == 0, err
    assert "in float32 arithmetic" in err
    assert {json.loads(line)["arithmetic"] for line in out.splitlines()} == {"float32"}
    status, _, err = run(capsys, monkeypatch, command)
    assert status == 2
    assert "options.arithmetic was" in err
    status, out, _ = run(
        capsys, monkeypatch, "plan net.onnx in.npz --delta 1e-3 --rungs cell --arithmetic float32 --json"
    )
    assert {json.loads(line)["arithmetic"] for line in out.splitlines()} == {"float32"}


OTHERS = ["sums of sums", "sums of many", "one sum", "floor of a sum", "integer of a sum", "equal sums", "float64"]


@pytest.mark.parametrize("of", OTHERS)
def test_constants_that_may_be_others_in_float32_are_refused(tmp_path: Path, of: str) -> None:
    """(1e8 + 0.5) - 1e8 is 0.5, and 0 in float32: the answer is another at every draw. Sums that differ are equal."""
    double = TensorProto.DOUBLE if of == "float64" else TensorProto.FLOAT
    big = helper.make_tensor("big", TensorProto.FLOAT, [2], [1e8, 1e8])
    small = helper.make_tensor("small", double, [2], [0.5 + 1e-9, 0.0] if of == "float64" else [0.5, 0.0])
    all_ = helper.make_tensor("all", TensorProto.FLOAT, [3, 2], [1e8, 1e8, 0.5, 0.0, -1e8, -1e8])
    first = {
        "sums of sums": [
            helper.make_node("Add", ["big", "small"], ["sum"]),
            helper.make_node("Sub", ["sum", "big"], ["c"]),
        ],
        "sums of many": [helper.make_node("ReduceSum", ["all", "axes"], ["c"], keepdims=0)],
        "one sum": [helper.make_node("Add", ["small", "small"], ["c"])],
        "float64": [helper.make_node("Add", ["small", "small"], ["c"])],
        "floor of a sum": [
            helper.make_node("Add", ["big", "small"], ["sum"]),
            helper.make_node("Floor", ["sum"], ["c"]),
        ],
        "integer of a sum": [
            helper.make_node("Add", ["big", "small"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["integers"], to=TensorProto.INT64),
            helper.make_node("Cast", ["integers"], ["c"], to=TensorProto.FLOAT),
        ],
        "equal sums": [
            helper.make_node("Add", ["big", "small"], ["sum"]),
            helper.make_node("Neg", ["big"], ["other"]),
            helper.make_node("Equal", ["sum", "other"], ["same"]),
            helper.make_node("Where", ["same", "big", "big"], ["c"]),
        ],
    }[of]
    graph = helper.make_graph(
        [*first, helper.make_node("Add", ["x", "c"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", double, [1, 2])],
        [helper.make_tensor_value_info("y", double, [1, 2])],
        [big, small, all_, helper.make_tensor("axes", TensorProto.INT64, [1], [0])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "net.onnx"
    )
    network = calotte.load(tmp_path / "net.onnx")
    if of == "one sum":
        Assessor(network, calotte.Sphere(1.0), arithmetic="float32")
        return
    with pytest.raises(calotte.InvalidInput, match="of constants"):
        Assessor(network, calotte.Sphere(1.0), arithmetic="float32")


def saved(folder: Path, *nodes: onnx.NodeProto, type: int = TensorProto.FLOAT) -> Network:
    ends = [helper.make_tensor_value_info(name, type, [1, 2]) for name in "xy"]
    eye = helper.make_tensor("w", TensorProto.FLOAT, [2], [1e-38, 1e-38])
    graph = helper.make_graph(list(nodes), "net", ends[:1], ends[1:], [eye] if nodes[0].op_type == "Div" else [])
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "net.onnx")
    return calotte.load(folder / "net.onnx")


def test_float16_within_is_refused(tmp_path: Path) -> None:
    """1 and 1.0004 are the same in float16."""
    there = helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16)
    back = helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT)
    for network in (
        saved(tmp_path, there, back),
        saved(tmp_path, helper.make_node("Neg", ["x"], ["y"]), type=TensorProto.FLOAT16),
    ):
        with pytest.raises(calotte.InvalidInput, match="float16"):
            Assessor(network, calotte.Sphere(1.0), arithmetic="float32")


def test_divisors_that_may_be_taken_for_zero_prove_nothing(tmp_path: Path) -> None:
    network = saved(tmp_path, helper.make_node("Div", ["x", "w"], ["y"]))
    x = np.array([[1.0, 0.0]])
    (one,) = calotte.assess(network, x, calotte.Sphere(1e-3), rungs=["theorem", "cell", "relaxation"])
    assert one.best is not None
    assert one.best.certain
    (one,) = calotte.assess(
        network, x, calotte.Sphere(1e-3), arithmetic="float32", rungs=["theorem", "cell", "relaxation"]
    )
    assert all(bound.log_misclassification == 0.0 for bound in one.bounds)
