"""Branches and loops inside graphs, against onnxruntime."""

import numpy as np
import pytest
from agreement import floats, node, verify
from onnx import TensorProto, helper, numpy_helper

from calotte.errors import UnsupportedOperator
from calotte.models.onnx import from_onnx


def graph(name, nodes, outputs, inputs=(), weights=None):
    ends = [[helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in side] for side in (inputs, outputs)]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()]
    return helper.make_graph(nodes, name, *ends, tensors)


FLOAT, BOOL, INT = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64


@pytest.mark.parametrize("chosen", [True, False])
def test_a_constant_takes_a_branch(make_model, chosen):
    """The branches read values from outside; the one that is not taken may be anything."""
    ends = [("e", FLOAT, (1, 4))]
    other = graph("other", [node("Softplus", ["h"], ["b"]), node("Exp", ["b"], ["e"])], ends)
    taken = graph("taken", [node("Relu", ["h"], ["a"]), node("Mul", ["a", "c"], ["f"])], [("f", FLOAT, (1, 4))],
                  weights={"c": floats(4)})  # fmt: skip
    branches = (
        {"then_branch": taken, "else_branch": other} if chosen else {"then_branch": other, "else_branch": taken}
    )
    nodes = [node("Gemm", ["x", "w"], ["h"]), node("If", ["cond"], ["y"], name="if", **branches)]
    verify(make_model(nodes, {"w": floats(6, 4), "cond": np.array(chosen)}, (1, 6)), units=4)


def test_a_condition_made_of_shapes(make_model):
    """What exporters write for x.dim() checks: the condition is folded first."""
    one = graph("one", [node("Neg", ["x"], ["a"])], [("a", FLOAT, (1, 6))])
    two = graph("two", [node("Identity", ["x"], ["b"])], [("b", FLOAT, (1, 6))])
    nodes = [
        node("Size", ["x"], ["n"]),
        node("Equal", ["n", "six"], ["cond"]),
        node("If", ["cond"], ["y"], then_branch=one, else_branch=two),
    ]
    network = verify(make_model(nodes, {"six": np.array(6)}, (1, 6)), units=0)
    assert len(network.nodes) == 2


def test_a_condition_on_the_input_is_refused(make_model):
    one = graph("one", [node("Neg", ["x"], ["a"])], [("a", FLOAT, (1, 1))])
    two = graph("two", [node("Identity", ["x"], ["b"])], [("b", FLOAT, (1, 1))])
    nodes = [
        node("Greater", ["x", "zero"], ["cond"]),
        node("If", ["cond"], ["y"], name="if", then_branch=one, else_branch=two),
    ]
    with pytest.raises(UnsupportedOperator, match=r"node 'if'.*condition that depends on the network's input"):
        from_onnx(make_model(nodes, {"zero": np.float32(0)}, (1, 1)))


def loop_body(last):
    """v <- relu(v w), stopped after round `last`; every v and a constant are gathered."""
    return graph(
        "body",
        [
            node("MatMul", ["v", "w"], ["m"]),
            node("Relu", ["m"], ["v2"]),
            node("Less", ["k", "last"], ["go2"]),
            node("Cast", ["k"], ["kf"], to=FLOAT),
            node("Add", ["v2", "kf"], ["s"]),
        ],
        [("go2", BOOL, ()), ("v2", FLOAT, (1, 4)), ("s", FLOAT, (1, 4)), ("kf", FLOAT, ())],
        [("k", INT, ()), ("go", BOOL, ()), ("v", FLOAT, (1, 4))],
        {"last": np.array(last)},
    )


@pytest.mark.parametrize(("most", "last", "expected"), [(3, 99, 3), (9, 1, 2), (1, 0, 1)])
def test_loops_are_written_out(make_model, most, last, expected):
    nodes = [
        node("Loop", ["most", "go_on", "x"], ["v_end", "all", "ks"], name="loop", body=loop_body(last)),
        node("Reshape", ["all", "row"], ["a"]),
        node("ReduceSum", ["ks"], ["n"], keepdims=0),
        node("Mul", ["v_end", "n"], ["b"]),
        node("Concat", ["a", "b"], ["y"], axis=1),
    ]
    weights = {"w": floats(4, 4), "most": np.array(most), "go_on": np.array(True), "row": np.array([1, -1])}
    verify(make_model(nodes, weights, (1, 4)), units=4 * expected)


def test_a_loop_that_never_ends_is_refused(make_model):
    nodes = [node("Loop", ["", "go_on", "x"], ["y", "all", "ks"], name="loop", body=loop_body(10**9))]
    with pytest.raises(UnsupportedOperator, match=r"node 'loop'.*more than 4096 rounds"):
        from_onnx(make_model(nodes, {"w": floats(4, 4), "go_on": np.array(True)}, (1, 4)))
