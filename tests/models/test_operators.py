"""Operators one by one, over a grid of attributes, against onnxruntime; adjoints of every map that comes out."""

import itertools

import numpy as np
import pytest
import torch
from agreement import floats, model_of, node, verify
from onnx import TensorProto

from calotte.errors import InvalidModel, UnsupportedOperator
from calotte.models.importer import import_graph
from calotte.models.onnx import from_onnx


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 5), (1, 4, 3, 2)])
@pytest.mark.parametrize("opset", [8, 9, 15, 22])
def test_batch_normalisation(make_model, shape, opset):
    weights = {"s": floats(4), "b": floats(4), "m": floats(4), "v": floats(4) ** 2 + np.float32(0.1)}
    verify(model_of(make_model, "BatchNormalization", weights, shape, opset=opset, epsilon=1e-3))


@pytest.mark.parametrize("opset", [8, 9, 13, 14, 15])
def test_batch_normalisation_whose_float32_cancels_is_not_refused(make_model, opset):
    """What decides then is ONNX's reference: before opset 14 it normalised by the batch and refused what is right."""
    scale, variance, mean = np.float32([0.3, 2.1, 1.7]), np.float32([0.7, 0.3, 5.0]), np.float32([1e5, -3e5, 2e5])
    bias = (mean.astype(np.float64) * scale / np.sqrt(variance)).astype(np.float32)
    weights = {"scale": scale, "bias": bias, "mean": mean, "variance": variance}
    model = model_of(make_model, "BatchNormalization", weights, ("n", 3), opset=opset, epsilon=0.0)
    network = from_onnx(model)
    x = np.array([[0.5, -1.0, 2.0]])
    exact = (x - mean.astype(np.float64)) / np.sqrt(variance.astype(np.float64)) * scale + bias.astype(np.float64)
    assert network.forward(torch.from_numpy(x)).numpy() == pytest.approx(exact, abs=1e-9)


CONSTANTS = [(), (1,), (5,), (3, 1, 1), (1, 3, 4, 5), (1, 1, 1, 1), (4, 1)]


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("constant", CONSTANTS)
def test_arithmetic_with_constants(make_model, op_type, constant):
    weights = {"c": np.asarray(floats(*constant) + np.float32(0.1), dtype=np.float32)}
    verify(model_of(make_model, op_type, weights, ("n", 3, 4, 5)))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize(
    ("shape", "constant"), [((1, 5), (3, 1)), ((5,), (2, 1)), ((1, 1, 4), (1, 3, 1)), ((4,), ())]
)
def test_constants_that_come_first_or_widen(make_model, op_type, shape, constant):
    weights = {"c": np.asarray(floats(*constant), dtype=np.float32)}
    target = {"row": np.array([1, -1])}
    nodes = [node(op_type, ["c", "x"], ["v"]), node("Reshape", ["v", "row"], ["y"])]
    verify(make_model(nodes, weights | target, shape))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Max", "Min", "Sum"])
@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 3, 1), (1, 1, 4)])
def test_two_branches(make_model, op_type, shape):
    reduce = [node("ReduceSum", ["x", "axes"], ["v"])] if 1 in shape[1:] else [node("Neg", ["x"], ["v"])]
    axes = np.array([axis for axis in (1, 2) if shape[axis] == 1])
    nodes = [*reduce, node(op_type, ["x", "v"], ["s"]), node("Flatten", ["s"], ["y"])]
    weights = {"axes": axes} if len(axes) else {}
    verify(make_model(nodes, weights, (1, 3, 4)), units=12 if op_type in ("Max", "Min") else 0)


@pytest.mark.parametrize("op_type", ["Max", "Min", "Sum"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_many_branches_and_constants(make_model, op_type, count):
    nodes = [node("Mul", ["x", f"w{k}"], [f"b{k}"]) for k in range(count)]
    weights = {f"w{k}": floats(6) for k in range(count)} | {"c": floats(1), "e": floats(6)}
    nodes.append(node(op_type, [*(f"b{k}" for k in range(count)), "c", "e"], ["y"]))
    verify(make_model(nodes, weights, (1, 6)), units=6 * count if op_type != "Sum" else 0)


@pytest.mark.parametrize("low", [None, -0.5, 0.0, -np.inf])
@pytest.mark.parametrize("high", [None, 0.5, 3.0, np.inf])
@pytest.mark.parametrize("opset", [8, 13])
def test_clip(make_model, low, high, opset):
    bounds = {"min": low, "max": high}
    ends = sum(b is not None and np.isfinite(b) for b in bounds.values())
    if opset < 11:
        given = {key: float(b) for key, b in bounds.items() if b is not None}
        model = model_of(make_model, "Clip", {}, (1, 9), opset=opset, **given)
    else:
        names = [key if b is not None else "" for key, b in bounds.items()]
        weights = {key: np.float32(b) for key, b in bounds.items() if b is not None}
        model = make_model([node("Clip", ["x", *names], ["y"])], weights, (1, 9), opset=opset)
    verify(model, units=9 * ends)


@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.0, 1.0, 2.0, -0.5])
def test_leaky_relu(make_model, alpha):
    verify(model_of(make_model, "LeakyRelu", {}, (1, 9), alpha=alpha), units=9)


@pytest.mark.parametrize("slope", [(1,), (3, 1, 1), (3, 2, 2)])
def test_prelu(make_model, slope):
    verify(model_of(make_model, "PRelu", {"s": floats(*slope)}, (1, 3, 2, 2)), units=12)


@pytest.mark.parametrize("op_type", ["Abs", "Relu"])
def test_one_unit_each(make_model, op_type):
    verify(model_of(make_model, op_type, {}, (1, 3, 2)), units=6)


@pytest.mark.parametrize("op_type", ["Neg", "Identity", "Dropout"])
def test_no_units(make_model, op_type):
    verify(model_of(make_model, op_type, {}, (1, 3, 2)), units=0)


@pytest.mark.parametrize("opset", [8, 12, 13, 18])
@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("axes", [None, [1], [-1, 1], [2, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(make_model, opset, op_type, axes, keep):
    before = [node("Concat", ["x", "x"], ["v"], axis=1)]
    since = 13 if op_type == "ReduceSum" else 18
    if axes is None:
        model = model_of(make_model, op_type, {}, (1, 3, 2, 2), opset=opset, before=before, keepdims=keep)
    elif opset < since:
        model = model_of(make_model, op_type, {}, (1, 3, 2, 2), opset=opset, before=before, axes=axes, keepdims=keep)
    else:
        weights = {"axes": np.array(axes)}
        model = model_of(make_model, op_type, weights, (1, 3, 2, 2), opset=opset, before=before, keepdims=keep)
    verify(model)


@pytest.mark.parametrize("perm", [*itertools.permutations(range(3)), None])
@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 3, 4)])
def test_transpose(make_model, perm, shape):
    attributes = {} if perm is None else {"perm": perm}
    before = [node("Reshape", ["x", "shape"], ["v"])]
    model = model_of(make_model, "Transpose", {}, (1, int(np.prod(shape))), before=before, **attributes)
    model.graph.initializer.add(name="shape", data_type=7, int64_data=shape, dims=[3])
    verify(model)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1], [3], [1], None),
        ([0, -3], [2, 2**62], [1, 2], [1, 2]),
        ([-1], [-(2**62)], [2], [-1]),
        ([3, 0], [0, 9], [-1, 1], [-2, 1]),
        ([0, 1, 0], [1, 3, 2], None, None),
    ],
)
@pytest.mark.parametrize("opset", [9, 11, 13])
def test_slice(make_model, starts, ends, axes, steps, opset):
    if opset < 10:
        if steps:
            pytest.skip("no steps before opset 10")
        attributes = {"starts": starts, "ends": ends} | ({"axes": axes} if axes else {})
        verify(model_of(make_model, "Slice", {}, (1, 4, 5), opset=opset, **attributes))
        return
    given = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    weights = {key: np.array(value) for key, value in given.items() if value is not None}
    verify(model_of(make_model, "Slice", weights, (1, 4, 5), opset=opset))


@pytest.mark.parametrize("places", [2, [0, 0, 3], [[1], [-1]]])
@pytest.mark.parametrize("axis", [1, -1])
def test_gather(make_model, places, axis):
    verify(model_of(make_model, "Gather", {"i": np.array(places)}, (1, 4, 5), axis=axis))


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("sizes", [None, [1, 2, 1]])
def test_split(make_model, opset, sizes):
    outputs = 3 if sizes else 2
    if sizes and opset >= 13:
        model = model_of(make_model, "Split", {"s": np.array(sizes)}, (1, 4, 3), opset=opset, outputs=3, axis=1)
    else:
        attributes = {"split": sizes} if sizes else {"num_outputs": 2} if opset == 18 else {}
        model = model_of(make_model, "Split", {}, (1, 4, 3), opset=opset, outputs=outputs, axis=1, **attributes)
    verify(model)


def test_uneven_split(make_model):
    verify(model_of(make_model, "Split", {}, (1, 5, 3), opset=18, outputs=3, axis=1, num_outputs=3))


@pytest.mark.parametrize("size", [np.array(2), np.array([2, 3]), None])
def test_sequences(make_model, size):
    weights = {"place": np.array(-1)} | ({} if size is None else {"size": size})
    names = ["x", "size"] if size is not None else ["x"]
    nodes = [
        node("SplitToSequence", names, ["s"], axis=1),
        node("SequenceAt", ["s", "place"], ["a"]),
        node("Flatten", ["a"], ["y"]),
    ]
    verify(make_model(nodes, weights, (1, 5, 3)))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [[0, 0, 1, 2, 0, 0, 2, 1], [0, 0, -1, 0, 0, 0, 1, -1], [0] * 8])
@pytest.mark.parametrize("value", [None, 0.7])
def test_pad(make_model, mode, pads, value):
    if mode != "constant" and (value is not None or min(pads) < 0):
        pytest.skip("values and cuts are for constant padding")
    weights = {"pads": np.array(pads)} | ({} if value is None else {"value": np.float32(value)})
    verify(model_of(make_model, "Pad", weights, (1, 2, 4, 5), mode=mode, opset=19))


def test_pad_in_other_forms(make_model):
    verify(model_of(make_model, "Pad", {}, (1, 2, 4), opset=9, pads=[0, 0, 1, 0, 0, 2], value=0.5))
    weights = {"pads": np.array([1, 3, 2, 0]), "value": np.float32(0.0), "axes": np.array([-1, 1])}
    verify(model_of(make_model, "Pad", weights, (1, 2, 4), opset=18))


@pytest.mark.parametrize("shape", [[1, 3, 4], [2, 3, 4], [1, 1, 1], [3, 1]])
def test_expand(make_model, shape):
    verify(model_of(make_model, "Expand", {"s": np.array(shape)}, (1, 3, 1)))


def test_tile(make_model):
    verify(model_of(make_model, "Tile", {"r": np.array([1, 2, 3])}, (1, 3, 2)))


@pytest.mark.parametrize("axis", [1, -1, 0])
def test_concatenation_with_constants(make_model, axis):
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Concat", ["c", "x", "e", "r"], ["v"], axis=axis),
        node("Reshape", ["v", "row"], ["y"]),
    ]
    weights = {"c": floats(1, 3, 2), "e": floats(1, 3, 2), "row": np.array([1, -1])}
    verify(make_model(nodes, weights, (1, 3, 2)))


@pytest.mark.parametrize(
    ("left", "shape", "constant"),
    [
        (False, (1, 3, 4), (4, 5)),
        (False, (1, 3, 4), (4,)),
        (False, (1, 3, 4), (1, 4, 2)),
        (True, (1, 3, 4), (5, 3)),
        (True, (3, 4), (5, 3)),
        (True, (3, 4), (3,)),
        (True, (4,), (5, 4)),
        (True, (4, 1), (5, 4)),
        (False, (4,), (4, 3)),
        (False, (2, 4), (4, 3)),
    ],
)
def test_matmul(make_model, left, shape, constant):
    names = ["w", "x"] if left else ["x", "w"]
    nodes = [node("MatMul", names, ["v"]), node("Reshape", ["v", "row"], ["y"])]
    model = make_model(nodes, {"w": floats(*constant), "row": np.array([-1])}, shape)
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=-1)
    verify(model)


def test_gemm_of_a_transposed_input(make_model):
    model = model_of(make_model, "Gemm", {"w": floats(3, 4), "c": floats(5, 1)}, (3, 5), transA=1)
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1)
    verify(model)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_casts_between_floats(make_model, kind):
    """They are nothing in real arithmetic, of which the network is a statement."""
    model = make_model([node("Cast", ["x"], ["v"], to=kind), node("Cast", ["v"], ["y"], to=1)], {}, (1, 5))
    assert len(import_graph(model).network.nodes) == 1
    if kind != TensorProto.FLOAT16:
        verify(model)


def test_shape_arithmetic_is_folded(make_model):
    """What exporters put around x.view(x.size(0), -1) and friends."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Slice", ["s", "one", "three"], ["rest"]),
        node("ReduceProd", ["rest"], ["m"], keepdims=1),
        node("Mul", ["m", "two"], ["m2"]),
        node("Div", ["m2", "two"], ["m3"]),
        node("Cast", ["m3"], ["m4"], to=TensorProto.FLOAT),
        node("Floor", ["m4"], ["m5"]),
        node("Cast", ["m5"], ["m6"], to=TensorProto.INT64),
        node("Concat", ["n1", "m6"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["a"]),
        node("ConstantOfShape", ["target"], ["zeros"]),
        node("Add", ["a", "zeros"], ["y"]),
    ]
    weights = {"zero": np.array(0), "axes": np.array([0]), "one": np.array([1]), "three": np.array([3])}
    network = verify(make_model(nodes, weights | {"two": np.array([2])}, ("n", 3, 2)))
    assert len(network.nodes) == 2


REFUSED = [
    ("Mul", ["x", "x"], {}, {}, UnsupportedOperator),
    ("MatMul", ["x", "x"], {}, {}, UnsupportedOperator),
    ("Div", ["c", "x"], {"c": floats(4)}, {}, UnsupportedOperator),
    ("PRelu", ["x", "x"], {}, {}, UnsupportedOperator),
    (
        "BatchNormalization",
        ["x", *"abcd"],
        {k: floats(4) ** 2 for k in "abcd"},
        {"training_mode": 1},
        UnsupportedOperator,
    ),
    ("BatchNormalization", ["x", *"abcd"], {k: -np.ones(4, np.float32) for k in "abcd"}, {}, InvalidModel),
    ("Clip", ["x", "a", "b"], {"a": np.float32(1), "b": np.float32(0)}, {}, InvalidModel),
    ("Reshape", ["x", "s"], {"s": np.array([3, -1])}, {}, InvalidModel),
    ("Transpose", ["x"], {}, {"perm": [0, 0]}, InvalidModel),
    ("Cast", ["x"], {}, {"to": TensorProto.INT64}, UnsupportedOperator),
    ("Greater", ["x", "c"], {"c": np.float32(0)}, {}, UnsupportedOperator),
    ("Sign", ["x"], {}, {}, UnsupportedOperator),
    ("Gather", ["x", "i"], {"i": np.array([9])}, {"axis": 1}, InvalidModel),
    ("Softmax", ["x"], {}, {"axis": 0}, UnsupportedOperator),
    ("Expand", ["x", "s"], {"s": np.array([2**40, 4])}, {}, InvalidModel),
    ("Tile", ["x", "s"], {"s": np.array([2**40, 4])}, {}, InvalidModel),
    ("Pad", ["x", "s"], {"s": np.array([0, 2**40, 0, 0])}, {}, InvalidModel),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refusals(make_model, case):
    op_type, names, weights, attributes, error = REFUSED[case]
    model = make_model([node(op_type, names, ["y"], name="it", **attributes)], weights, (1, 4))
    with pytest.raises(error, match="node 'it'") as caught:
        from_onnx(model)
    assert "\n" not in str(caught.value)
