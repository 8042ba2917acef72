"""Which value of a file is judged: what it does not need is left out, and several outputs or inputs have names."""

import numpy as np
import onnx
import pytest
import torch
from agreement import assert_agrees, floats, node, session_outputs
from onnx import TensorProto, helper, numpy_helper

from calotte.errors import InvalidInput, InvalidModel, SourceMismatch, UnsupportedOperator
from calotte.models.onnx import from_onnx, load

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
value = helper.make_tensor_value_info


def model_with(nodes, weights, inputs, outputs, *, domains=(), functions=()):
    """A model of any inputs and outputs."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(name, 1) for name in domains)]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def weights():
    return {"w": floats(6, 5), "b": floats(5), "v": floats(5, 3)}


BODY = [
    node("Gemm", ["x", "w", "b"], ["h"], name="first"),
    node("Relu", ["h"], ["r"], name="relu"),
    node("MatMul", ["r", "v"], ["z"], name="last"),
]
X, Z = value("x", FLOAT, ("n", 6)), value("z", FLOAT, ("n", 3))


def plain_outputs(w, x):
    """z in float64."""
    return np.maximum(x @ w["w"].astype(float) + w["b"], 0.0) @ w["v"].astype(float)


def same_as_plain(network, w):
    x = floats(20, 6).astype(np.float64)
    ours = network.forward(torch.from_numpy(x)).numpy()
    return np.allclose(ours, plain_outputs(w, x), rtol=1e-12, atol=1e-12)


def skl2onnx_graph(zipmap):
    """What skl2onnx writes for StandardScaler and MLPClassifier: labels beside the probabilities."""
    w = weights() | {
        "v": np.eye(5, 3, dtype=np.float32) - np.float32(0.3),
        "classes": np.array([3, 5, 8]), "flat": np.array([-1]), "offset": floats(6), "scale": floats(6) ** 2 + 0.5,
    }  # fmt: skip
    nodes = [
        node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=w["offset"].tolist(), scale=w["scale"].tolist()),
        node("Cast", ["s"], ["c"], to=FLOAT),
        node("MatMul", ["c", "w"], ["m"]),
        node("Add", ["m", "b"], ["h"]),
        *BODY[1:],
        node("Softmax", ["z"], ["p"]),
        node("ArgMax", ["p"], ["k"], axis=1),
        node("ArrayFeatureExtractor", ["classes", "k"], ["a"], domain="ai.onnx.ml"),
        node("Reshape", ["a", "flat"], ["label"]),
    ]
    outputs = [value("label", INT64, (None,))]
    if zipmap:
        nodes.append(node("ZipMap", ["p"], ["map"], domain="ai.onnx.ml", classlabels_int64s=[3, 5, 8]))
        kind = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, ()))
        outputs.append(helper.make_value_info("map", helper.make_sequence_type_proto(kind)))
    else:
        outputs.append(value("p", FLOAT, ("n", 3)))
    return w, model_with(nodes, w, [X], outputs, domains=["ai.onnx.ml"])


@pytest.mark.parametrize("zipmap", [False, True])
def test_classifiers_of_scikit_learn(zipmap):
    """The probabilities are judged, and the answers are the labels that onnxruntime gives."""
    import onnxruntime

    w, model = skl2onnx_graph(zipmap)
    network = from_onnx(model)
    name = "map" if zipmap else "p"
    assert network.notices[0].startswith(f"of the outputs ('label', '{name}') '{name}' is judged")
    assert network.units == 5 + 2
    x = w["offset"] + 5 * floats(200, 6)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    labels = session.run(["label"], {"x": x})[0]
    assert np.array_equal(w["classes"][network.predict(network.inputs(x)).numpy()], labels)
    assert len(set(labels)) > 1
    assert network.original is not None
    assert torch.equal(network.original.answers(network.inputs(x)), network.predict(network.inputs(x)))


def test_a_scaler_is_exact():
    """(x - offset) scale of the file's float32 numbers, against rational arithmetic."""
    from fractions import Fraction

    offset, scale = floats(6), floats(6)
    nodes = [node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=offset.tolist(), scale=scale.tolist())]
    model = model_with(nodes, {}, [X], [value("y", FLOAT, ("n", 6))], domains=["ai.onnx.ml"])
    x = floats(6)
    ours = from_onnx(model).forward(torch.from_numpy(x[None]).double())[0].tolist()
    for got, a, o, s in zip(ours, x.tolist(), offset.tolist(), scale.tolist(), strict=True):
        exact = (Fraction(a) - Fraction(o)) * Fraction(s)
        assert abs(Fraction(got) - exact) <= abs(exact) * Fraction(4, 2**53)


@pytest.mark.parametrize("setting", [{"offset": [1.0, 2.0]}, {"scale": [float("nan")]}])
def test_a_damaged_scaler_is_refused(setting):
    nodes = [node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", name="it", **setting)]
    model = model_with(nodes, {}, [X], [value("y", FLOAT, ("n", 6))], domains=["ai.onnx.ml"])
    with pytest.raises(InvalidModel, match=r"'it'.*expected 1 or 6"):
        from_onnx(model)


def test_what_no_output_needs_is_left_out():
    """Nodes that are not piecewise linear, of unknown domains, on strings; weights that are damaged."""
    w = weights()
    rest = [
        node("Exp", ["h"], ["e"]),
        node("Mystery", ["e"], ["f"], domain="my.own"),
        node("Identity", ["words"], ["g"]),
        node("Relu", ["damaged"], ["i"]),
    ]
    extra = {"words": np.array(["a", "b"]), "damaged": np.full(3, np.nan, np.float32)}
    model = model_with([*rest[:1], *BODY, *rest[1:]], w | extra, [X], [Z], domains=["my.own"])
    assert same_as_plain(from_onnx(model), w)


def test_a_chosen_output():
    w = weights()
    outputs = [value("h", FLOAT, ("n", 5)), value("r", FLOAT, ("n", 5)), Z]
    model = model_with(BODY, w, [X], outputs)
    assert same_as_plain(from_onnx(model, output="z"), w)
    hidden = from_onnx(model, output="h")
    assert (hidden.decision.outputs, hidden.hidden_units) == (5, 0)
    assert hidden.notices == ()
    x = floats(10, 6)
    (*_, chosen) = hidden.values(torch.from_numpy(x).double())
    assert np.allclose(chosen[1].numpy(), session_outputs(model, x), rtol=1e-5, atol=1e-5)


def test_an_inner_value_may_be_judged():
    """Before a layer that is not supported, say."""
    w = weights()
    nodes = [*BODY, node("Mul", ["z", "z"], ["y"], name="square")]
    model = model_with(nodes, w, [X], [value("y", FLOAT, ("n", 3))])
    with pytest.raises(UnsupportedOperator, match="'square'"):
        from_onnx(model)
    network = from_onnx(model, output="z")
    assert same_as_plain(network, w)
    assert network.original is not None


def test_several_outputs_that_can_be_scores_are_asked_about(tmp_path):
    model = model_with(BODY, weights(), [X], [value("h", FLOAT, ("n", 5)), Z])
    path = tmp_path / "two.onnx"
    onnx.save(model, path)
    with pytest.raises(InvalidModel, match=r"2 outputs, 'h', 'z', and several can be scores.*output=NAME.*--output"):
        load(path)
    assert load(path, output="z").decision.outputs == 3
    with pytest.raises(InvalidInput, match=r"output 'q' is no value of the model; its outputs are 'h', 'z'"):
        load(path, output="q")


def test_images_beside_scores_are_no_scores():
    """Of a row of scores and a map of features only the scores can be meant."""
    nodes = [*BODY, node("Reshape", ["r", "square"], ["f"])]
    outputs = [value("f", FLOAT, ("n", 2, 2)), Z]
    w = weights() | {"w": floats(6, 4), "b": floats(4), "v": floats(4, 3), "square": np.array([-1, 2, 2])}
    network = from_onnx(model_with(nodes, w, [X], outputs))
    assert network.decision.outputs == 3
    assert "'z' is judged" in network.notices[0]
    open_end = [value("f", FLOAT, ("n", "m")), value("g", INT64, ("n",))]
    with pytest.raises(InvalidModel, match="'f', 'g', and none can be scores"):
        from_onnx(model_with([*nodes, node("ArgMax", ["z"], ["g"], axis=1)], w, [X], open_end))


def test_inputs_that_the_output_does_not_need_do_not_count():
    w, other = weights(), value("mask", FLOAT, ("n", 6))
    nodes = [*BODY, node("Mul", ["x", "mask"], ["masked"])]
    model = model_with(nodes, w, [other, X], [Z])
    network = from_onnx(model)
    assert same_as_plain(network, w)
    with pytest.raises(InvalidModel, match=r"depends on 2 \('mask', 'x'\)"):
        from_onnx(model, output="masked")


def test_functions_of_the_model_are_written_out():
    w = weights()
    layer = helper.make_function(
        "own", "Layer", ["a", "m", "c"], ["y"],
        [node("MatMul", ["a", "m"], ["p"]), node("Add", ["p", "c"], ["s"]), node("Relu", ["s"], ["y"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [node("Layer", ["x", "w", "b"], ["r"], domain="own"), BODY[2]]
    model = model_with(nodes, w, [X], [Z], domains=["own"], functions=[layer])
    network = from_onnx(model)
    assert same_as_plain(network, w)
    assert_agrees(network, model, floats(20, 6))


def test_subgraphs_keep_what_they_read():
    """The branch that a constant chooses reads 'h' and 'b' from outside, which nothing else reads."""
    then = [node("Sub", ["h", "b"], ["d"]), node("Relu", ["d"], ["o0"])]
    branches = [
        helper.make_graph(nodes, f"branch{k}", [], [value(f"o{k}", FLOAT, None)])
        for k, nodes in enumerate([then, [node("Identity", ["h"], ["o1"])]])
    ]
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("If", ["c"], ["y"], name="choice", then_branch=branches[0], else_branch=branches[1]),
    ]
    w = weights() | {"c": np.array(True)}
    model = model_with(nodes, w, [X], [value("y", FLOAT, ("n", 5))])
    x = floats(20, 6).astype(np.float64)
    ours = from_onnx(model).forward(torch.from_numpy(x)).numpy()
    assert np.allclose(ours, np.maximum(x @ w["w"].astype(float) - w["b"], 0.0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", ["n", 4])
@pytest.mark.parametrize("how", ["mean", "largest", "sum"])
def test_rows_of_a_batch_that_mix_are_refused(how, batch):
    """Each is a fine function of one input at batch size 1."""
    x = value("x", FLOAT, (batch, 6))
    nodes = {
        "mean": [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["d"])],
        "largest": [node("ReduceMax", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["d"])],
        "sum": [node("ReduceSum", ["x", "zero"], ["m"], keepdims=1), node("Add", ["m", "x"], ["d"])],
    }[how]
    w = weights() | {"zero": np.array([0])}
    model = model_with([*nodes, node("Gemm", ["d", "w"], ["y"])], w, [x], [value("y", FLOAT, (batch, 5))])
    with pytest.raises(SourceMismatch, match="rows"):
        from_onnx(model)


def test_rows_that_lose_digits_do_not_mix():
    """Float32 may round a batch otherwise than a row: float64 settles it."""
    w = {"s": np.array([[1e8, 1e8], [-1e8, -1e8]], np.float32), "t": floats(40, 2)}
    nodes = [node("MatMul", ["x", "t"], ["a"]), node("MatMul", ["a", "s"], ["y"])]
    x = value("x", FLOAT, ("n", 40))
    assert from_onnx(model_with(nodes, w, [x], [value("y", FLOAT, ("n", 2))])).d == 40


def test_a_file_with_an_open_batch_that_takes_one_row_only():
    w = weights() | {"one": np.array([1, 6])}
    nodes = [node("Reshape", ["x", "one"], ["q"]), node("Gemm", ["q", "w", "b"], ["h"]), *BODY[1:]]
    assert same_as_plain(from_onnx(model_with(nodes, w, [X], [Z])), w)


ENDS = {
    "nothing": ([], False),
    "a hidden Relu": ([node("Relu", ["z"], ["q"])], False),
    "Sign": ([node("Sign", ["z"], ["q"])], True),
    "Greater": ([node("Greater", ["z", "c"], ["q"])], True),
}


@pytest.mark.parametrize("end", ENDS)
def test_one_output_judged_by_its_sign_is_said(end):
    nodes, says_so = ENDS[end]
    w = weights() | {"v": floats(5, 1), "c": np.zeros((), np.float32)}
    last = nodes[-1].output[0] if nodes else "z"
    kind = TensorProto.BOOL if end == "Greater" else FLOAT
    model = model_with([*BODY, *nodes], w, [X], [value(last, kind, ("n", 1))])
    network = from_onnx(model)
    assert network.decision.rule == "sign"
    assert any("the answer judged is its sign" in notice for notice in network.notices) == (not says_so)
    assert not any("judged is its sign" in notice for notice in from_onnx(model, "sign").notices)
