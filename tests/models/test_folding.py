"""Arithmetic between constants: exact, or off by no more roundings than are counted, against rational arithmetic."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from agreement import assert_agrees, floats, node, verify
from onnx import TensorProto, helper

from calotte.errors import InvalidModel, UnsupportedOperator
from calotte.models.importer import import_graph
from calotte.models.onnx import from_onnx
from calotte.models.operators.sums import step_of
from calotte.network.affine import Dense, Inexact
from calotte.network.enclosure import evaluate
from calotte.rounding import gamma


def layer(model):
    """The map that reads the input, and how many roundings its coefficients are counted to be off."""
    op = import_graph(model).network.nodes[1].op
    return (op.op, op.extra) if isinstance(op, Inexact) else (op, 0)


def product(make_model, a, b):
    nodes = [node("MatMul", ["a", "b"], ["w"], name="fold"), node("MatMul", ["x", "w"], ["y"])]
    return make_model(nodes, {"a": a, "b": b}, (1, a.shape[0]))


def exact_product(a, b):
    return [
        [sum(Fraction(float(p)) * Fraction(float(q)) for p, q in zip(row, c, strict=True)) for c in b.T] for row in a
    ]


def test_products_of_few_bits_are_exact(make_model):
    a, b = (np.random.default_rng(1).integers(-99, 99, s).astype(np.float32) / 8 for s in ((6, 5), (5, 3)))
    op, extra = layer(product(make_model, a, b))
    assert extra == 0
    assert [[Fraction(v) for v in row] for row in op.weight.t().tolist()] == exact_product(a, b)


@pytest.mark.parametrize("inner", [1, 5, 300])
def test_other_products_are_off_by_no_more_than_is_counted(make_model, inner):
    a, b = floats(6, inner), floats(inner, 3)
    op, extra = layer(product(make_model, a, b))
    assert extra > 0
    for row, exact in zip(op.weight.t().tolist(), exact_product(a, b), strict=True):
        for value, truth in zip(row, exact, strict=True):
            assert abs(Fraction(value) - truth) <= Fraction(gamma(extra)) * abs(truth)
    verify(product(make_model, a, b))


def test_terms_that_cancel_are_refused(make_model):
    """1 - 1 + 2**-80: what is left is far below what can be known of the sum, unless that is exact."""
    a = np.ones((1, 3))
    b = np.array([[1.0 + 2.0**-40], [-1.0 - 2.0**-40], [2.0**-80 / 3.0]])
    nodes = [node("MatMul", ["a", "b"], ["w"], name="fold"), node("MatMul", ["x", "w"], ["y"])]
    with pytest.raises(UnsupportedOperator, match=r"'fold'.*terms cancel"):
        from_onnx(make_model(nodes, {"a": a, "b": b}, (1, 1), dtype=TensorProto.DOUBLE))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.75, -6.0, 2.0**-30 + 2.0**-50, 5e-324])
def test_lowest_bits(value):
    """Every number is a whole multiple of the step, and an odd one."""
    step = Fraction(step_of(np.array([value, 0.0])))
    assert value == 0 or Fraction(value) / step % 2 == 1


REDUCTIONS = {
    "ReduceSum": lambda row: mpmath.fsum(row),
    "ReduceMean": lambda row: mpmath.fsum(row) / len(row),
    "ReduceL1": lambda row: mpmath.fsum(abs(v) for v in row),
    "ReduceSumSquare": lambda row: mpmath.fsum(v * v for v in row),
    "ReduceL2": lambda row: mpmath.sqrt(mpmath.fsum(v * v for v in row)),
}


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize("dyadic", [True, False])
def test_reductions(make_model, op_type, dyadic):
    """As factors of the input: counted in the terms of the map."""
    a = np.abs(floats(6, 7)) + np.float32(0.1)
    a = np.round(a * 8) / np.float32(8) if dyadic else a
    names = ["a", "axes"] if op_type == "ReduceSum" else ["a"]
    attributes = {} if op_type == "ReduceSum" else {"axes": [1]}
    nodes = [
        node(op_type, names, ["s"], keepdims=0, **attributes),
        node("Mul", ["x", "s"], ["y"]),
    ]
    weights = {"a": a, "axes": np.array([1])} if op_type == "ReduceSum" else {"a": a}
    model = make_model(nodes, weights, (1, 6))
    op = verify(model).nodes[1].op
    if dyadic or op_type == "ReduceSumSquare":
        assert (op.terms == 2) == (dyadic and op_type not in ("ReduceL2", "ReduceMean"))
    with mpmath.workdps(60):
        for value, row in zip(op.weight.reshape(-1).tolist(), a, strict=True):
            truth = REDUCTIONS[op_type]([mpmath.mpf(float(v)) for v in row])
            assert abs(mpmath.mpf(value) - truth) <= gamma(op.terms - 1) * truth


@pytest.mark.parametrize(("exponent", "terms"), [(1.0, 2), (2.0, 2), (0.5, 3), (-1.0, 3)])
def test_powers(make_model, exponent, terms):
    a = np.abs(floats(6)) + np.float32(0.1)
    nodes = [node("Pow", ["a", "e"], ["s"]), node("Mul", ["x", "s"], ["y"])]
    network = verify(make_model(nodes, {"a": a, "e": np.float32(exponent)}, (1, 6)))
    assert network.nodes[1].op.terms == terms
    with mpmath.workdps(60):
        for value, v in zip(network.nodes[1].op.weight.reshape(-1).tolist(), a, strict=True):
            truth = mpmath.mpf(float(v)) ** exponent
            assert abs(mpmath.mpf(value) - truth) <= gamma(terms - 2) * truth


def weight_norm(make_model):
    """g v / |v|, as a weight normalised row by row is exported."""
    nodes = [
        node("ReduceL2", ["v"], ["n"], axes=[1], keepdims=1),
        node("Div", ["g", "n"], ["f"]),
        node("Mul", ["v", "f"], ["w"]),
        node("Gemm", ["x", "w", "c"], ["h"], transB=1),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "u"], ["y"]),
    ]
    weights = {"v": floats(5, 6), "g": floats(5, 1), "c": floats(5), "u": floats(5, 3)}
    return make_model(nodes, weights, (1, 6)), weights


def test_normalised_weights_are_enclosed(make_model):
    """Every value of the network in 60 digits lies in its enclosure."""
    model, weights = weight_norm(make_model)
    network = from_onnx(model)
    assert_agrees(network, model, floats(20, 6))
    assert isinstance(network.nodes[1].op, Inexact)
    x = torch.from_numpy(np.concatenate([floats(3, 6), np.zeros((1, 6))])).double()
    outputs = evaluate(network, x)[-1]
    with mpmath.workdps(60):
        v, g, c, u = ([[mpmath.mpf(float(e)) for e in np.atleast_1d(row)] for row in weights[k]] for k in "vgcu")
        for b, row in enumerate(x.tolist()):
            hidden = []
            for k in range(5):
                norm = mpmath.sqrt(mpmath.fsum(e * e for e in v[k]))
                w = [e * g[k][0] / norm for e in v[k]]
                hidden.append(max(mpmath.fsum(p * mpmath.mpf(q) for p, q in zip(w, row, strict=True)) + c[k][0], 0))
            for j in range(3):
                truth = mpmath.fsum(h * u[k][j] for k, h in enumerate(hidden))
                assert abs(mpmath.mpf(outputs.value[b, j].item()) - truth) <= outputs.error[b, j].item()


def test_normalised_kernels(make_model):
    nodes = [
        node("ReduceSumSquare", ["v"], ["n"], axes=[1, 2, 3], keepdims=1),
        node("Sqrt", ["n"], ["s"]),
        node("Div", ["v", "s"], ["w"]),
        node("Conv", ["x", "w", "c"], ["h"]),
        node("ConvTranspose", ["h", "w"], ["t"]),
        node("Flatten", ["t"], ["y"]),
    ]
    verify(make_model(nodes, {"v": floats(3, 2, 2, 2), "c": floats(3)}, (1, 2, 4, 4)), units=0)


QUANTISED = {
    "a tensor": ((4, 3), (), (), {}),
    "one number": ((4, 3), (1,), (1,), {}),
    "columns": ((4, 3), (3,), (3,), {"axis": 1}),
    "rows": ((4, 3), (4,), (4,), {"axis": 0}),
    "no zero point": ((4, 3), (3,), None, {}),
    "blocks": ((4, 3), (2, 3), (2, 3), {"axis": 0, "block_size": 2}),
    "uneven blocks": ((4, 3), (2, 3), None, {"axis": 0, "block_size": 3}),
}


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_weights_of_few_bits(make_model, name, kind):
    shape, scales, zeros, attributes = QUANTISED[name]
    random = np.random.default_rng(5)
    q = random.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape).astype(kind)
    weights = {"q": q, "s": np.asarray(np.abs(floats(*scales)), dtype=np.float32)}
    if zeros is not None:
        weights["z"] = np.asarray(random.integers(0, 9, zeros), dtype=kind)
    nodes = [node("DequantizeLinear", list(weights), ["w"], **attributes), node("MatMul", ["x", "w"], ["y"])]
    op = (
        from_onnx(make_model(nodes, weights, (1, 4), opset=21)).nodes[1].op
    )  # onnxruntime rounds such products coarsely
    assert isinstance(op, Dense), "int8 times float32 is a float64"

    def at(a, i, j):
        place = (
            [i // attributes["block_size"], j]
            if "block_size" in attributes
            else [i if attributes.get("axis") == 0 else j]
        )
        return Fraction(float(a.reshape(-1)[0] if a.size == 1 else a[tuple(place)]))

    zero = weights.get("z", np.zeros(()))
    expected = [
        [(Fraction(int(q[i, j])) - at(zero, i, j)) * at(weights["s"], i, j) for i in range(4)] for j in range(3)
    ]
    assert [[Fraction(v) for v in row] for row in op.weight.tolist()] == expected


def test_weights_of_four_bits(make_model):
    q = helper.make_tensor("q", TensorProto.INT4, [4, 3], np.arange(-6, 6))
    nodes = [node("DequantizeLinear", ["q", "s"], ["w"]), node("MatMul", ["x", "w"], ["y"])]
    model = make_model(nodes, {"s": np.float32(0.3)}, (1, 4), opset=21)
    model.ir_version = 10
    model.graph.initializer.append(q)
    weight = from_onnx(model).nodes[1].op.weight
    expected = [[Fraction(float(np.float32(0.3))) * (3 * i + j - 6) for i in range(4)] for j in range(3)]
    assert [[Fraction(v) for v in row] for row in weight.tolist()] == expected


def test_scales_that_do_not_fit_are_refused(make_model):
    weights = {"q": np.ones((4, 3), np.int8), "s": floats(5)}
    nodes = [node("DequantizeLinear", ["q", "s"], ["w"], name="it"), node("MatMul", ["x", "w"], ["y"])]
    with pytest.raises(InvalidModel, match="node 'it'"):
        from_onnx(make_model(nodes, weights, (1, 4)))


def test_activations_of_few_bits_are_refused(make_model):
    weights = {"s": np.float32(0.1), "z": np.int8(0)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], name="it"),
        node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    with pytest.raises(UnsupportedOperator, match=r"'it'.*rounds to a grid"):
        from_onnx(make_model(nodes, weights, (1, 4)))


def test_choices_between_constants(make_model):
    """TopK, ranges of whole numbers as floats, masks: nothing is rounded."""
    nodes = [
        node("Range", ["zero", "six", "one"], ["r"]),
        node("TopK", ["a", "k"], ["top", "places"], axis=0),
        node("Gather", ["r", "places"], ["g"]),
        node("Trilu", ["square"], ["t"], upper=0),
        node("Mul", ["x", "g"], ["b"]),
        node("MatMul", ["b", "t"], ["c"]),
        node("BitShift", ["bits", "shift"], ["s"], direction="LEFT"),
        node("Cast", ["s"], ["m"], to=TensorProto.FLOAT),
        node("Mul", ["c", "m"], ["y"]),
    ]
    weights = {"zero": np.float32(0), "six": np.float32(6), "one": np.float32(1), "a": floats(6), "k": np.array([6])}
    weights |= {
        "square": floats(6, 6),
        "bits": np.array([1, 2, 3, 4, 5, 6], np.uint8),
        "shift": np.array([1], np.uint8),
    }
    network = verify(make_model(nodes, weights, (1, 6)), units=0)
    assert all(n.op.terms <= 7 for n in network.nodes[1:])
