"""Files as they are found: opsets, batch axes, number types, weights elsewhere, layouts, endings."""

import hashlib
from fractions import Fraction

import numpy as np
import onnx
import pytest
import torch
from agreement import assert_agrees, floats, node
from onnx import TensorProto, helper

from calotte.errors import InvalidModel, UnsupportedOperator
from calotte.models.onnx import from_onnx, load
from calotte.models.operators.folding import product_is_exact, sum_is_exact

NEWEST = onnx.defs.onnx_opset_version()


def agrees(model, network=None, n=20):
    network = network or from_onnx(model)
    assert_agrees(network, model, floats(n, network.d))
    return network


def dense(make_model, shape=(1, 6), **options):
    nodes = [node("Gemm", ["x", "w", "b"], ["h"]), node("Relu", ["h"], ["r"]), node("Gemm", ["r", "v"], ["y"])]
    return make_model(nodes, {"w": floats(6, 5), "b": floats(5), "v": floats(5, 3)}, shape, **options)


@pytest.mark.parametrize("opset", range(8, 26))
def test_opsets(make_model, opset):
    nodes = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "s", "s", "m", "s"], ["n"]),
        node("LeakyRelu", ["n"], ["l"], alpha=0.1),
        node("MaxPool", ["l"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w", "b"], ["g"]),
        node("Softmax", ["g"], ["y"]),
    ]
    ones = np.ones(3, np.float32)
    weights = {"k": floats(3, 2, 3, 3), "s": ones * 2, "m": ones, "w": floats(12, 4), "b": floats(4)}
    network = from_onnx(make_model(nodes, weights, (1, 2, 4, 4), opset=opset))
    assert network.hidden_units == 48 + 36
    assert "Softmax" in network.notices[0]


def test_the_newest_opset_is_taken(make_model):
    assert from_onnx(dense(make_model, opset=NEWEST)).units == 7


@pytest.mark.parametrize("shape", [(1, 6), ("batch", 6), (None, 6), (4, 6)])
def test_batch_axes(make_model, shape):
    model = dense(make_model, shape)
    network = from_onnx(model)
    assert network.input_shape == (6,)
    single = dense(make_model)
    single.graph.CopyFrom(model.graph)
    single.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 6)))
    agrees(single, network)


def test_a_hard_coded_batch_size(make_model):
    nodes = [
        node("Reshape", ["x", "image"], ["i"]),
        node("Conv", ["i", "k"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("Reshape", ["r", "rows"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    weights = {
        "image": np.array([16, 2, 3, 3]),
        "k": floats(4, 2, 2, 2),
        "rows": np.array([16, -1]),
        "w": floats(16, 3),
    }
    network = from_onnx(make_model(nodes, weights, (16, 18)))
    weights |= {"image": np.array([1, 2, 3, 3]), "rows": np.array([1, -1])}
    agrees(make_model(nodes, weights, (1, 18)), network)


def test_rows_that_depend_on_each_other_are_no_batch(make_model):
    model = make_model([node("Sub", ["x", "m"], ["d"]), node("Relu", ["d"], ["y"])], {}, (4, 3))
    model.graph.node.insert(0, node("ReduceMean", ["x"], ["m"], axes=[0]))
    with pytest.raises(InvalidModel, match="the 4 rows of input 'x' are not treated one by one"):
        from_onnx(model)


def test_two_axes_without_batch(make_model):
    model = make_model(
        [node("Reshape", ["x", "flat"], ["f"]), node("MatMul", ["f", "w"], ["y"])],
        {"flat": np.array([-1]), "w": floats(12, 4)},
        (4, 3),
    )
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (4,)))
    assert agrees(model).input_shape == (4, 3)


def test_initialisers_listed_as_inputs(make_model):
    model = dense(make_model)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    agrees(model)


def test_nodes_in_any_order(make_model):
    model = dense(make_model)
    ordered = from_onnx(model)
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(model)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(reversed(model.graph.node))
    x = torch.randn(5, 6, dtype=torch.float64)
    assert torch.equal(from_onnx(shuffled).forward(x), ordered.forward(x))


def test_weights_beside_the_model(make_model, tmp_path):
    model = dense(make_model)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    network = load(path)
    assert_agrees(network, path, floats(20, 6))
    content = path.read_bytes() + (tmp_path / "weights.bin").read_bytes()
    assert network.sha256 == hashlib.sha256(content).hexdigest()
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InvalidModel, match=r"keeps weights in 'weights.bin', which cannot be read"):
        load(path)


def test_the_digest_is_that_of_the_file(make_model, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(dense(make_model), path)
    assert load(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_number_types(make_model, kind):
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        node("Conv", ["x", "k", "b"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2]),
        node("GlobalAveragePool", ["p"], ["g"]),
        node("Flatten", ["g"], ["y"]),
    ]
    weights = {"k": floats(4, 2, 2, 2).astype(dtype), "b": floats(4).astype(dtype)}
    network = from_onnx(make_model(nodes, weights, (1, 2, 5, 5), dtype=kind))
    assert np.array_equal(network.nodes[1].op.kernel.numpy(), weights["k"].astype(np.float64))


def test_float16_weights_cast_to_float32(make_model):
    nodes = [node("Cast", ["h"], ["w"], to=TensorProto.FLOAT), node("MatMul", ["x", "w"], ["y"])]
    h = floats(6, 3).astype(np.float16)
    network = agrees(make_model(nodes, {"h": h}, (1, 6)))
    assert np.array_equal(network.nodes[1].op.weight.numpy(), h.T.astype(np.float64))


def test_channel_last_inputs(make_model):
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "k"], ["c"], strides=[2, 2]),
        node("Relu", ["c"], ["r"]),
        node("Transpose", ["r"], ["b"], perm=[0, 2, 3, 1]),
        node("Reshape", ["b", "row"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    weights = {"k": floats(4, 3, 3, 3), "row": np.array([-1, 16]), "w": floats(16, 3)}
    assert agrees(make_model(nodes, weights, ("n", 5, 5, 3))).input_shape == (5, 5, 3)


def test_a_relu_after_the_logits_counts(make_model):
    model = make_model([node("Gemm", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])], {"w": floats(6, 3)}, (1, 6))
    assert agrees(model).units == 3 + 2


# Constants ----------------------------------------------------------------------------------------------------------


def test_arithmetic_on_constants_is_exact_or_counted(make_model):
    """x / sqrt(variance + 1/4) * (a * b): the root is one rounding, the sum and the product none."""
    nodes = [
        node("Add", ["v", "quarter"], ["u"]),
        node("Sqrt", ["u"], ["s"]),
        node("Div", ["x", "s"], ["d"]),
        node("Mul", ["a", "b"], ["ab"]),
        node("Mul", ["ab", "d"], ["y"]),
    ]
    weights = {"v": floats(6) ** 2, "quarter": np.float32(0.25), "a": floats(6), "b": floats(6)}
    network = agrees(make_model(nodes, weights, (1, 6)))
    assert [n.op.terms for n in network.nodes[1:]] == [3, 2]
    exact = weights["a"].astype(np.float64) * weights["b"]
    assert np.array_equal(network.nodes[2].op.weight.numpy(), exact)


@pytest.mark.parametrize("op_type", ["Mul", "Add", "Sub"])
def test_what_counts_as_exact(op_type):
    """Against rational arithmetic: float64 constants whose sum or product is rounded are told from the others."""
    random = np.random.default_rng(0)
    exact = {"Mul": product_is_exact, "Add": sum_is_exact, "Sub": lambda a, b: sum_is_exact(a, -b)}[op_type]
    operation = {"Mul": lambda a, b: a * b, "Add": lambda a, b: a + b, "Sub": lambda a, b: a - b}[op_type]
    seen = set()
    for _ in range(2000):
        a, b = (
            np.array([np.ldexp(float(random.integers(-(2**n), 2**n)), random.integers(-20, 20))])
            for n in random.integers(1, 54, 2)
        )
        truth = Fraction(operation(a, b)[0]) == operation(Fraction(a[0]), Fraction(b[0]))
        seen.add(truth)
        assert exact(a, b) == truth
    assert seen == {True, False}


def test_inexact_constants_are_not_added(make_model):
    nodes = [node("Div", ["a", "b"], ["c"], name="third"), node("Add", ["x", "c"], ["y"], name="sum")]
    model = make_model(nodes, {"a": np.float32(1), "b": np.float32(3)}, (1, 6))
    with pytest.raises(UnsupportedOperator, match=r"'sum'.*computed inexactly"):
        from_onnx(model)


@pytest.mark.parametrize(
    ("op_type", "given"),
    [
        ("ConstantOfShape", {"s": np.array([2**40, 2**40])}),
        ("Range", {"a": np.array(0), "b": np.array(2**50), "c": np.array(1)}),
        ("Expand", {"a": np.ones(2, np.float32), "s": np.array([2**50, 2])}),
        ("Tile", {"a": np.ones(2, np.float32), "s": np.array([2**50])}),
        ("Pad", {"a": np.ones(2, np.float32), "s": np.array([2**50, 2])}),
        ("Exp", {"a": np.ones(2, np.float32)}),
        ("Pow", {"a": np.ones(2, np.float32), "b": 3 * np.ones(2, np.float32)}),
    ],
)
def test_constants_that_are_not_folded(make_model, op_type, given):
    nodes = [node(op_type, list(given), ["out"], name="it"), node("Add", ["x", "out"], ["y"])]
    with pytest.raises(InvalidModel, match="node 'it'"):
        from_onnx(make_model(nodes, given, (1, 6)))
