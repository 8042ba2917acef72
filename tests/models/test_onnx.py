"""Dense ONNX files: agreement with onnxruntime on real networks, and what is said about bad files."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
import torch
from agreement import assert_agrees, floats, node, session_outputs
from onnx import TensorProto, helper

from calotte.errors import InvalidInput, InvalidModel, SourceMismatch, UnsupportedOperator
from calotte.models.agreement import Source, check
from calotte.models.importer import import_graph
from calotte.models.onnx import from_onnx, in_float64, load
from calotte.network.affine import Dense, Diagonal, Reshape
from calotte.network.graph import Relu


@pytest.mark.parametrize(
    ("file", "units", "accuracy"),
    [
        ("mnistfc/mnist-net_256x2.onnx", 2 * 256 + 9, 0.9808),
        ("mnistfc/mnist-net_256x4.onnx", 4 * 256 + 9, 0.9764),
        ("mnistfc/mnist-net_256x6.onnx", 6 * 256 + 9, 0.9689),
        ("eran_mnist/mnist_relu_9_200.onnx", 8 * 200 + 10 + 9, 0.9495),
    ],
)
def test_mnist_networks_agree_with_onnxruntime(data, mnist, file, units, accuracy):
    network = load(data / file)
    images, labels = mnist
    assert network.units == units
    assert network.decision.rule == "argmax"
    assert network.sha256 is not None
    special = [np.zeros((1, 784)), np.ones((1, 784)), np.full((1, 784), 0.5), 1e6 * images[:3]]
    x = np.concatenate([images[:200], *special]).astype(np.float32)
    assert_agrees(network, data / file, x)
    predicted = network.predict(network.inputs(images)).numpy()
    assert abs((predicted == labels).mean() - accuracy) < 2e-4


@pytest.mark.parametrize("name", ["1_1", "1_2", "2_1", "3_3"])
def test_acasxu_networks_agree_with_onnxruntime(data, name):
    path = data / "acasxu" / f"ACASXU_run2a_{name}_batch_2000.onnx"
    network = load(path, decision="argmin")
    assert (network.input_shape, network.units) == ((1, 1, 5), 6 * 50 + 4)
    x = np.concatenate([floats(200, 5), np.zeros((1, 5)), np.ones((1, 5)), 1e6 * floats(3, 5)]).astype(np.float32)
    theirs = assert_agrees(network, path, x)
    assert (network.predict(network.inputs(x)).numpy() == theirs.argmin(1)).mean() > 0.99


def test_separate_bias_is_merged_and_shapes_are_kept_short(make_model):
    nodes = [
        node("Flatten", ["x"], ["a"]),
        node("MatMul", ["a", "w"], ["b"], name="first"),
        node("Add", ["c", "b"], ["h"]),
        node("Relu", ["h"], ["r"], name="relu"),
        node("MatMul", ["r", "v"], ["o"], name="second"),
        node("Sub", ["o", "s"], ["y"]),
    ]
    weights = {"w": floats(6, 4), "c": floats(4), "v": floats(4, 3), "s": floats(1, 3)}
    network = from_onnx(make_model(nodes, weights, ("batch", 2, 3)))
    assert [type(n.op) for n in network.nodes[1:]] == [Reshape, Dense, Relu, Dense]
    assert [n.name for n in network.nodes[2:]] == ["first", "relu", "second"]
    assert torch.equal(network.nodes[2].op.offset, torch.from_numpy(weights["c"]).double())
    assert torch.equal(network.nodes[4].op.offset, -torch.from_numpy(weights["s"][0]).double())


def test_a_product_that_is_read_twice_keeps_its_bias_apart(make_model):
    nodes = [
        node("MatMul", ["x", "w"], ["b"]),
        node("Identity", ["b"], ["b2"]),
        node("Add", ["b2", "c"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Add", ["r", "b"], ["y"]),
    ]
    model = make_model(nodes, {"w": floats(6, 4), "c": floats(4)}, (1, 6))
    network = from_onnx(model)
    assert any(isinstance(n.op, Diagonal) for n in network.nodes)
    x = floats(20, 6)
    assert_agrees(network, model, x)


def test_what_the_output_does_not_need_is_dropped(make_model):
    nodes = [
        node("Gemm", ["x", "w"], ["h"]),
        node("Relu", ["h"], ["unused"]),
        node("Gemm", ["x", "w"], ["y"]),
    ]
    network = from_onnx(make_model(nodes, {"w": floats(6, 4)}, (1, 6)))
    assert network.hidden_units == 0


@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("beta", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("bias", [None, (), (4,), (1, 4), (1, 1)])
@pytest.mark.parametrize("trans", [0, 1])
def test_gemm(make_model, alpha, beta, bias, trans):
    weights = {"w": floats(4, 6) if trans else floats(6, 4)}
    if bias is not None:
        weights["c"] = np.asarray(floats(*bias), dtype=np.float32)
    gemm = node("Gemm", ["x", *weights], ["y"], alpha=alpha, beta=beta, transB=trans)
    model = make_model([gemm], weights, ("n", 6))
    x = floats(20, 6)
    assert_agrees(from_onnx(model), model, x)


@pytest.mark.parametrize("shape", [(5,), (1, 5), ("batch", 5), (1, 1, 5), (1, 5, 1)])
@pytest.mark.parametrize("target", [[-1], [1, 5], [1, 1, 5], [-1, 5], [1, -1]])
def test_input_ranks_and_hard_coded_reshapes(make_model, shape, target):
    nodes = [
        node("Div", ["x", "scale"], ["a"]),
        node("Reshape", ["a", "target"], ["b"]),
        node("MatMul", ["b", "w"], ["c"]),
        node("Relu", ["c"], ["y"]),
    ]
    weights = {"scale": np.float32(0.3), "target": np.array(target), "w": floats(5, 3)}
    model = make_model(nodes, weights, shape)
    network = from_onnx(model)
    assert network.input_shape == (shape if len(shape) == 1 else shape[1:])
    x = floats(20, 5)
    assert_agrees(network, model, x)


@pytest.mark.parametrize("opset", [8, 11, 13, 17, 21])
def test_squeeze_and_unsqueeze(make_model, opset):
    axes = {"one": np.array([1]), "two": np.array([0, -1])}
    if opset < 13:
        nodes = [node("Unsqueeze", ["x"], ["a"], axes=[0, 3]), node("Squeeze", ["a"], ["b"], axes=[1, 3])]
    else:
        axes = {"one": np.array([0, 3]), "two": np.array([1, 3])}
        nodes = [node("Unsqueeze", ["x", "one"], ["a"]), node("Squeeze", ["a", "two"], ["b"])]
    nodes.append(node("MatMul", ["b", "w"], ["y"]))
    weights = {"w": floats(5, 3)} | (axes if opset >= 13 else {})
    model = make_model(nodes, weights, (1, 5), opset=opset)
    x = floats(10, 5)
    assert_agrees(from_onnx(model), model, x)


def test_one_output_decides_by_sign(make_model):
    model = make_model([node("MatMul", ["x", "w"], ["y"])], {"w": floats(5, 1)}, (1, 5))
    assert from_onnx(model).decision.rule == "sign"
    with pytest.raises(InvalidInput, match="needs at least two outputs"):
        from_onnx(model, "argmax")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_weights_of_other_widths_are_exact(make_model, kind):
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    w = floats(5, 3).astype(dtype)
    model = make_model([node("MatMul", ["x", "w"], ["y"])], {"w": w}, (1, 5), dtype=kind)
    assert np.array_equal(from_onnx(model).nodes[1].op.weight.numpy(), w.astype(np.float64).T)


def test_the_real_arithmetic_function_of_the_file(make_model):
    """Evaluated in rational numbers, from the weights of the file, the network gives the same to rounding."""
    w, c, v = floats(3, 4), floats(4), floats(4, 2)
    nodes = [
        node("Sub", ["x", "mean"], ["a"]),
        node("Div", ["a", "scale"], ["b"]),
        node("MatMul", ["b", "w"], ["d"]),
        node("Add", ["d", "c"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "v"], ["y"]),
    ]
    mean, scale = np.float32(0.1307), np.float32(0.3081)
    network = from_onnx(make_model(nodes, {"mean": mean, "scale": scale, "w": w, "c": c, "v": v}, (1, 3)))
    for x in floats(20, 3):
        hidden = [
            sum(
                (Fraction(float(x[i])) - Fraction(float(mean))) / Fraction(float(scale)) * Fraction(float(w[i, j]))
                for i in range(3)
            )
            + Fraction(float(c[j]))
            for j in range(4)
        ]
        exact = [sum(max(hidden[j], 0) * Fraction(float(v[j, k])) for j in range(4)) for k in range(2)]
        got = network.forward(torch.from_numpy(x[None]).double())[0]
        assert got.tolist() == pytest.approx([float(e) for e in exact], rel=1e-13, abs=1e-14)


def gemm_model(make_model, **changes):
    return make_model([node("Gemm", ["x", "w"], ["y"], name="first")], {"w": floats(6, 4)}, (1, 6), **changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the model"),
        (b"", "empty file"),
        (b"this is no model, it is a text file\n", "not an ONNX file"),
        (b"\x08\x07", "no nodes"),
        ("truncated", "not an ONNX file, or it is damaged"),
        ("folder", "cannot read the model"),
    ],
)
def test_bad_files(tmp_path, make_model, content, message):
    path = tmp_path / "model.onnx"
    if content == "truncated":
        path.write_bytes(gemm_model(make_model).SerializeToString()[:-30])
    elif content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidModel, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def broken(change):
    """The weights, nodes and shape of a small model after a change."""
    state = {
        "nodes": [
            node("Gemm", ["x", "w", "b"], ["h"], name="first"),
            node("Relu", ["h"], ["r"], name="relu"),
            node("Gemm", ["r", "v"], ["y"], name="last"),
        ],
        "weights": {"w": floats(6, 4), "b": floats(4), "v": floats(4, 3)},
        "shape": (1, 6),
    }
    change(state)
    return state


def put(key, *path_and_value):
    *path, value = path_and_value

    def change(state):
        target = state[key] if path else state
        if path:
            target[path[0]] = value
        else:
            target[key] = value

    return change


BROKEN = {
    "missing initialiser": (lambda s: s["weights"].pop("v"), InvalidModel, "'last'.*reads 'v'"),
    "nan": (put("weights", "w", np.full((6, 4), np.nan, np.float32)), InvalidModel, "'first'.*NaN"),
    "inf": (put("weights", "b", np.full(4, np.inf, np.float32)), InvalidModel, "'first'.*NaN or inf"),
    "weight shape": (put("weights", "w", floats(5, 4)), InvalidModel, "'first'.*shapes do not fit"),
    "bias shape": (put("weights", "b", floats(3)), InvalidModel, "'first'.*shapes do not fit"),
    "cycle": (put("nodes", 0, node("Gemm", ["r", "w"], ["h"], name="first")), InvalidModel, "cycle.*'first'"),
    "twice": (put("nodes", 1, node("Relu", ["h"], ["h"])), InvalidModel, "defined twice"),
    "no output": (put("nodes", 2, node("Gemm", ["r", "v"], ["z"])), InvalidModel, "computed by no node"),
    "open size": (put("shape", (1, "n")), InvalidModel, "that of the batch axis"),
    "unsupported": (put("nodes", 1, node("Softplus", ["h"], ["r"], name="soft")), UnsupportedOperator,
                    "node 'last': operator 'Gemm' reads.*'Softplus' .node 'soft'.*middle use ReLU"),
    "custom": (put("nodes", 1, node("Relu", ["h"], ["r"], domain="my.own")), UnsupportedOperator, "my.own.Relu"),
    "product": (put("nodes", 1, node("Mul", ["h", "h"], ["r"], name="square")), UnsupportedOperator, "square.*both"),
    "quotient": (put("nodes", 1, node("Div", ["b", "h"], ["r"])), UnsupportedOperator, "Div.*depends on"),
    "constant": (put("nodes", 2, node("Identity", ["b"], ["y"])), InvalidModel, "does not depend on the input"),
    "several rows": (put("nodes", 2, node("Reshape", ["r", "rows"], ["y"])), InvalidModel, "one row of scores"),
    "transposed": (put("nodes", 0, node("Gemm", ["x", "w"], ["h"], transA=1)), InvalidModel, "shapes do not fit"),
    "zero divisor": (put("nodes", 1, node("Div", ["h", "zero"], ["r"])), InvalidModel, "divides by zero"),
    "strange attribute": (put("nodes", 0, node("Gemm", ["x", "w"], ["h"], alpha="a")), InvalidModel, "'Gemm_0'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_graphs_are_refused_in_one_line_that_names_the_node(make_model, case):
    change, error, message = BROKEN[case]
    state = broken(change)
    state["weights"] |= {"zero": np.zeros(4, np.float32), "rows": np.array([2, 2])}
    model = make_model(state["nodes"], state["weights"], state["shape"])
    with pytest.raises(error, match=message) as caught:
        from_onnx(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("opset", [7, 99])
def test_opsets_out_of_range(make_model, opset):
    with pytest.raises(InvalidModel, match=f"opset {opset}: expected 8 to"):
        from_onnx(gemm_model(make_model, opset=opset))


def test_a_wrong_network_is_not_handed_out(data):
    """A weight off by 1 %, or a unit swapped, in any layer of a real network is caught."""
    path = data / "mnistfc" / "mnist-net_256x2.onnx"
    network = load(path)
    source = Source(lambda x: session_outputs(path, x), "it", 2.0**-24)
    model = onnx.load(path)
    exact = in_float64(import_graph(model))
    check(network, source)
    for layer in network.nodes:
        if isinstance(layer.op, Dense):
            weight = layer.op.weight.clone()
            layer.op.weight *= 1.01
            layer.op.__dict__.pop("absolute", None)
            with pytest.raises(SourceMismatch, match="differ at a"):
                check(network, source, lambda: exact)
            layer.op.weight = weight
            layer.op.__dict__.pop("absolute", None)


def test_cancellation_raises_no_alarm(make_model):
    """1e8 x - 1e8 x + small: float32 loses everything, the float64 source settles it."""
    w = np.array([[1e8, 0.0], [-1e8, 0.0], [1.0, 1e-3]], np.float32)
    nodes = [node("MatMul", ["x", "s"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    s = np.array([[1.1, 1.1, 0.3], [0.7, 0.7, 0.9]], np.float32)
    from_onnx(make_model(nodes, {"s": s, "w": w}, (1, 2)))
