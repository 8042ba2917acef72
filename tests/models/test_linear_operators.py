"""Operators that are linear though they do not look it, over their attributes, against onnxruntime."""

import numpy as np
import pytest
from agreement import floats, model_of, node, verify
from onnx import TensorProto

from calotte.errors import InvalidModel, UnsupportedOperator
from calotte.models.onnx import from_onnx


def constants(**arrays):
    return {name: np.asarray(array) for name, array in arrays.items()}


# Choices by constants


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_and_back(make_model, mode):
    verify(model_of(make_model, "DepthToSpace", {}, (1, 8, 2, 3), blocksize=2, mode=mode), units=0)
    verify(model_of(make_model, "SpaceToDepth", {}, (1, 2, 4, 6), blocksize=2), units=0)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, 0, 1, -2, 9])
def test_triangles(make_model, upper, k):
    weights = {} if k is None else constants(k=np.int64(k))
    verify(model_of(make_model, "Trilu", weights, (1, 3, 4), upper=upper), units=0)


def test_compress(make_model):
    keep = np.array([True, False, True])
    verify(model_of(make_model, "Compress", {"c": keep}, (1, 3, 4), axis=1))
    verify(model_of(make_model, "Compress", {"c": np.array([False, True, True, False, True])}, (1, 3, 4)))


@pytest.mark.parametrize("axes", [None, [1, 2], [-1, 1]])
@pytest.mark.parametrize("shape", [[2, 7], [5, 3], [3, 4]])
def test_centre_crop_and_pad(make_model, axes, shape):
    attributes = {} if axes is None else {"axes": axes}
    target = np.array([1, *shape] if axes is None else shape)
    verify(model_of(make_model, "CenterCropPad", {"s": target}, (1, 3, 4), opset=18, **attributes))


@pytest.mark.parametrize("axis", [1, -1])
def test_gather_elements(make_model, axis):
    places = np.array([[[0, 2, 1, -1], [1, 1, 0, 0], [2, 2, 0, 1]]])
    verify(model_of(make_model, "GatherElements", {"i": places}, (1, 3, 4), axis=axis))


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_gather_nd(make_model, batch):
    places = {0: [[0, 2, 1], [0, 0, 4]], 1: [[[2, 1], [0, 4]]], 2: [[[3], [0], [4], [1]]]}[batch]
    verify(model_of(make_model, "GatherND", {"i": np.array(places)}, (1, 4, 5), batch_dims=batch))


@pytest.mark.parametrize("time", [0, 1])
def test_reverse_sequence(make_model, time):
    """Rows or columns of a matrix reversed up to a place of their own."""
    nodes = [
        node("Reshape", ["x", "square"], ["v"]),
        node("ReverseSequence", ["v", "lengths"], ["u"], time_axis=time, batch_axis=1 - time),
        node("Reshape", ["u", "row"], ["y"]),
    ]
    verify(make_model(nodes, constants(square=[4, 4], lengths=[3, 1, 2, 4], row=[1, -1]), (1, 16)), units=0)


@pytest.mark.parametrize("shape", [(1, 3, 4), (4,), (3, 1), (2, 3, 4)])
def test_where_with_a_constant_condition(make_model, shape):
    condition = np.random.default_rng(1).random(shape) < 0.5
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Where", ["c", "x", "r"], ["a"]),
        node("Where", ["c", "k", "x"], ["b"]),
        node("Where", ["c", "x", "s"], ["d"]),
        *(node("Reshape", [n, "row"], [f"{n}1"]) for n in "abd"),
        node("Concat", ["a1", "b1", "d1"], ["y"], axis=1),
    ]
    weights = {"c": condition, "k": floats(3, 4), "s": np.float32(0.7), "row": np.array([1, -1])}
    verify(make_model(nodes, weights, (1, 3, 4)), units=12)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_elements(make_model, axis):
    places = np.array([[[0, 0, 0, 0]]]) if axis == 0 else np.array([[[2, 0, 1, 0]]] if axis == 1 else [[[2, 0]]])
    for reduction in ("none", "add"):
        nodes = [
            node("Relu", ["u"], ["v"]),
            node("ScatterElements", ["x", "i", "v"], ["s"], axis=axis, reduction=reduction),
            node("Flatten", ["s"], ["y"]),
        ]
        begin = [node("Slice", ["x", "zero", "end", "axes"], ["u"])]
        weights = constants(i=places, zero=[0, 0], end=places.shape[1:], axes=[1, 2])
        verify(make_model([*begin, *nodes], weights, (1, 3, 4), opset=18))


@pytest.mark.parametrize("where", ["variable", "constant"])
def test_scatter_nd(make_model, where):
    """Values put at constant places: of a constant, or constants in a value."""
    nodes = [
        node("Slice", ["x", "zero", "two", "axis"], ["u"]),
        node("Squeeze", ["u", "first"], ["v"]),
        node("ScatterND", ["x", "i", "k"] if where == "constant" else ["d", "i", "v"], ["s"]),
        node("Flatten", ["s"], ["y"]),
    ]
    weights = constants(zero=[0], two=[2], axis=[1], first=[0], i=[[0, 2], [0, 0]], d=floats(1, 3, 4), k=floats(2, 4))
    verify(make_model(nodes, weights, (1, 3, 4)))


def test_the_older_scatter(make_model):
    weights = {"i": np.array([[1, 0, 2]]), "k": floats(1, 3)}
    verify(model_of(make_model, "Scatter", weights, (1, 4), opset=9, axis=1))


def test_places_hit_twice_are_refused(make_model):
    weights = {"i": np.array([[1, 1]]), "k": floats(1, 2)}
    with pytest.raises(UnsupportedOperator, match=r"node 'it'.*several entries at one place"):
        from_onnx(model_of(make_model, "ScatterElements", weights, (1, 4), axis=1))


# Sums


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sums(make_model, axis, exclusive, reverse):
    weights = {"a": np.array(axis)}
    verify(model_of(make_model, "CumSum", weights, (1, 3, 4), exclusive=exclusive, reverse=reverse), units=0)
    verify(model_of(make_model, "CumSum", {"a": np.array([1])}, (1, 5), exclusive=exclusive, reverse=reverse))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_mean_of_branches(make_model, count):
    nodes = [node("Mul", ["x", f"w{k}"], [f"b{k}"]) for k in range(count)]
    weights = {f"w{k}": floats(6) for k in range(count)} | {"c": floats(1)}
    verify(
        make_model([*nodes, node("Mean", [*(f"b{k}" for k in range(count)), "c"], ["y"])], weights, (1, 6)), units=0
    )


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [None, [1], [-1, 1]])
@pytest.mark.parametrize("opset", [13, 18])
def test_sums_of_absolute_values(make_model, opset, axes, keep):
    attributes = {"axes": axes} if axes and opset < 18 else {}
    weights = {"a": np.array(axes)} if axes and opset >= 18 else {}
    verify(model_of(make_model, "ReduceL1", weights, (1, 3, 4), opset=opset, keepdims=keep, **attributes), units=12)


@pytest.mark.parametrize("strides", [[1, 1], [2, 1]])
@pytest.mark.parametrize("pads", [[0] * 4, [1, 0, 0, 1]])
def test_pools_of_absolute_values(make_model, strides, pads):
    shape = (1, 2, 4, 5)
    model = model_of(make_model, "LpPool", {}, shape, p=1, kernel_shape=[2, 3], strides=strides, pads=pads)
    verify(model, units=40)
    verify(model_of(make_model, "GlobalLpPool", {}, shape, p=1), units=40)


@pytest.mark.parametrize(
    ("shape", "image", "block", "attributes"),
    [
        ((1, 8, 9), [4, 4], [2, 2], {}),
        ((1, 4, 4), [4, 4], [2, 2], {"strides": [2, 2]}),
        ((1, 6, 16), [5, 5], [2, 3], {"pads": [0, 1, 0, 0], "strides": [1, 1]}),
        ((1, 4, 4), [4, 4], [2, 2], {"dilations": [2, 2]}),
    ],
)
def test_columns_to_images(make_model, shape, image, block, attributes):
    weights = constants(i=image, b=block)
    verify(model_of(make_model, "Col2Im", weights, shape, opset=18, **attributes), units=0)


# Products with constants


@pytest.mark.parametrize(
    ("equation", "shape", "constant"),
    [
        ("bi,ij->bj", (1, 4), (4, 3)),
        ("bi,ji->bj", (1, 4), (3, 4)),
        ("bij,jk->bik", (1, 3, 4), (4, 2)),
        ("bij,ik->bkj", (1, 3, 4), (3, 2)),
        ("bhwc,hkc->bhwk", (1, 2, 3, 4), (2, 5, 4)),
        ("bhwc,hkc->bkwh", (1, 2, 3, 4), (2, 5, 4)),
        ("bij,ij->b", (1, 3, 4), (3, 4)),
        ("bij,ij->bij", (1, 3, 4), (3, 4)),
        ("bij,jk->bijk", (1, 3, 4), (4, 2)),
        ("bij,k->bkij", (1, 3, 4), (2,)),
        ("bij,j", (1, 3, 4), (4,)),
        ("bij,b->ji", (1, 3, 4), (1,)),
        ("bij,jj->bi", (1, 3, 4), (4, 4)),
        ("bii,ij->bj", (1, 3, 3), (3, 2)),
        ("bij->bji", (1, 3, 4), None),
        ("bij->bi", (1, 3, 4), None),
        ("bii->bi", (1, 3, 3), None),
        ("bii->b", (1, 3, 3), None),
        ("bij, jk -> b k", (1, 3, 4), (4, 2)),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_einsum(make_model, equation, shape, constant, first):
    if constant is None:
        verify(model_of(make_model, "Einsum", {}, shape, equation=equation), units=0)
        return
    weights = {"w": floats(*constant), "row": np.array([1, -1])}
    names = ["x", "w"]
    if not first:
        left, arrow, right = equation.partition("->")
        one, two = left.split(",")
        equation, names = f"{two},{one}{arrow}{right}", ["w", "x"]
    nodes = [node("Einsum", names, ["v"], equation=equation), node("Reshape", ["v", "row"], ["y"])]
    verify(make_model(nodes, weights, shape), units=0)


@pytest.mark.parametrize(
    ("left", "shape", "constant"),
    [
        (False, (1, 3, 4), (2, 4, 5)),
        (False, (2, 3, 4), (2, 4, 5)),
        (False, (1, 2, 3, 4), (2, 4, 5)),
        (False, (1, 2, 3, 4), (1, 2, 4, 5)),
        (False, (1, 2, 3, 4), (6, 1, 4, 5)),
        (False, (1, 4), (2, 4, 5)),
        (False, (4,), (2, 4, 5)),
        (True, (2, 3, 4), (2, 5, 3)),
        (True, (1, 3, 4), (2, 5, 3)),
        (True, (1, 2, 3, 4), (2, 5, 3)),
        (True, (3,), (2, 5, 3)),
    ],
)
def test_stacks_of_matrices(make_model, left, shape, constant):
    before = node("Reshape", ["x", "shape"], ["v"])
    nodes = [before, node("MatMul", ["w", "v"] if left else ["v", "w"], ["u"]), node("Reshape", ["u", "row"], ["y"])]
    weights = constants(w=floats(*constant), shape=shape, row=[1, -1])
    verify(make_model(nodes, weights, (1, int(np.prod(shape)))), units=0)


# Piecewise linear


@pytest.mark.parametrize("attributes", [{}, {"alpha": 0.5, "beta": 0.25}, {"alpha": -0.3, "beta": 0.7}])
def test_hard_sigmoid(make_model, attributes):
    verify(model_of(make_model, "HardSigmoid", {}, (1, 3, 4), **attributes), units=24)


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_soft_thresholding(make_model, level):
    verify(model_of(make_model, "Shrink", {}, (1, 9), bias=level, lambd=level), units=18)


# Constants that the input does not change, and sequences


def test_values_that_only_the_shape_decides(make_model):
    nodes = [
        node("Squeeze", ["x", "zero"], ["m"]),
        node("EyeLike", ["m"], ["e"], k=1),
        node("Add", ["m", "e"], ["a"]),
        node("IsNaN", ["a"], ["n"]),
        node("IsInf", ["a"], ["i"]),
        node("Where", ["n", "e", "a"], ["b"]),
        node("Where", ["i", "e", "b"], ["c"]),
        node("Reshape", ["c", "row"], ["y"]),
    ]
    verify(make_model(nodes, constants(zero=[0], row=[1, -1]), (1, 3, 4)), units=0)


@pytest.mark.parametrize("new", [0, 1])
def test_sequences_built_by_hand(make_model, new):
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("SequenceConstruct", ["x", "r", "k"], ["s"]),
        node("SequenceInsert", ["s", "r", "zero"], ["t"]),
        node("SequenceErase", ["t", "one"], ["u"]),
        node("SequenceLength", ["u"], ["n"]),
        node("Cast", ["n"], ["m"], to=TensorProto.FLOAT),
        node("ConcatFromSequence", ["u"], ["v"], axis=1, new_axis=new),
        node("Mul", ["v", "m"], ["w"]),
        node("Flatten", ["w"], ["y"]),
    ]
    verify(make_model(nodes, constants(k=floats(1, 3, 2), zero=0, one=1), (1, 3, 2)), units=6)


def test_lists_that_grow(make_model):
    nodes = [
        node("SequenceEmpty", [], ["s"]),
        node("SequenceInsert", ["s", "x"], ["t"]),
        node("Neg", ["x"], ["n"]),
        node("SequenceInsert", ["t", "n"], ["u"]),
        node("ConcatFromSequence", ["u"], ["y"], axis=-1),
    ]
    verify(make_model(nodes, {}, (1, 4)), units=0)


REFUSED = [
    ("Einsum", ["x", "x"], {}, {"equation": "bi,bi->b"}, UnsupportedOperator),
    ("Einsum", ["x", "w"], {"w": floats(4, 3)}, {"equation": "bi,ij->b"}, UnsupportedOperator),
    ("Einsum", ["x", "w"], {"w": floats(3, 3)}, {"equation": "bi,ij->bj"}, InvalidModel),
    ("Einsum", ["x"], {}, {"equation": "...i->i"}, UnsupportedOperator),
    ("CumSum", ["x", "a"], {"a": np.array([0, 1])}, {}, InvalidModel),
    ("LpPool", ["x"], {}, {"kernel_shape": [2]}, UnsupportedOperator),
    ("Shrink", ["x"], {}, {"lambd": 0.5}, UnsupportedOperator),
    ("Where", ["x", "x", "w"], {"w": floats(4)}, {}, UnsupportedOperator),
    ("Trilu", ["x", "k"], {"k": np.array([1, 2])}, {}, InvalidModel),
    ("Resize", ["x", "", "s"], {"s": np.array([1.0, 2.0], np.float32)}, {"antialias": 1}, UnsupportedOperator),
    ("Resize", ["x", "", "s"], {"s": np.array([1.0, -2.0], np.float32)}, {}, InvalidModel),
    ("Resize", ["x", "", "s"], {"s": np.array([1.0, 1e9], np.float32)}, {}, InvalidModel),
    ("Resize", ["x", "", "s"], {"s": np.array([1.0, np.pi], np.float32)}, {"mode": "cubic"}, UnsupportedOperator),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refusals(make_model, case):
    op_type, names, weights, attributes, error = REFUSED[case]
    model = make_model([node(op_type, names, ["y"], name="it", **attributes)], weights, (1, 4), opset=19)
    with pytest.raises(error, match="node 'it'") as caught:
        from_onnx(model)
    assert "\n" not in str(caught.value)
