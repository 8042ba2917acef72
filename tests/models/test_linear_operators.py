"""Operators that are linear though they do not look it, over their attributes, against onnxruntime."""

import numpy as np
import pytest
from agreement import floats, model_of, node, verify
from onnx import TensorProto

from calotte.errors import InvalidModel, UnsupportedOperator
from calotte.models.importer import import_graph
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


# Resizing

TRANSFORMS = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("sizes", [[1, 2, 7, 5], [1, 2, 2, 10], [1, 2, 1, 4]])
def test_resize_to_sizes(make_model, transform, mode, sizes):
    nodes = [
        node("Resize", ["x", "", "", "s"], ["v"], mode=mode, coordinate_transformation_mode=transform),
        node("Flatten", ["v"], ["y"]),
    ]
    verify(make_model(nodes, {"s": np.array(sizes)}, (1, 2, 4, 5), opset=19), units=0)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scales", [[1, 1, 2, 2], [1, 1, 0.5, 1.5], [1, 1, 2.5, 0.75]])
def test_resize_by_scales(make_model, transform, mode, scales):
    nodes = [
        node("Resize", ["x", "", "s"], ["v"], mode=mode, coordinate_transformation_mode=transform),
        node("Flatten", ["v"], ["y"]),
    ]
    verify(make_model(nodes, {"s": np.array(scales, dtype=np.float32)}, (1, 2, 4, 5), opset=19), units=0)


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("transform", ["half_pixel", "asymmetric"])
@pytest.mark.parametrize("scale", [2.0, 1.5, 0.5])
def test_nearest_modes(make_model, rounding, transform, scale):
    attributes = {"nearest_mode": rounding, "coordinate_transformation_mode": transform}
    nodes = [node("Resize", ["x", "", "s"], ["v"], mode="nearest", **attributes), node("Flatten", ["v"], ["y"])]
    verify(make_model(nodes, {"s": np.array([1, 1, scale, 1], np.float32)}, (1, 2, 4, 3), opset=13))


@pytest.mark.parametrize("attributes", [{"exclude_outside": 1}, {"cubic_coeff_a": -0.5}, {"axes": [3, 2]}])
def test_other_attributes_of_cubic_resizing(make_model, attributes):
    sizes = [7, 6] if "axes" in attributes else [1, 2, 7, 6]
    nodes = [node("Resize", ["x", "", "", "s"], ["v"], mode="cubic", **attributes), node("Flatten", ["v"], ["y"])]
    verify(make_model(nodes, {"s": np.array(sizes)}, (1, 2, 4, 5), opset=19), units=0)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_regions_of_interest(make_model, mode):
    attributes = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 0.75}
    nodes = [node("Resize", ["x", "roi", "", "s"], ["v"], mode=mode, **attributes), node("Flatten", ["v"], ["y"])]
    roi = np.array([0, 0, 0.25, -0.5, 1, 1, 0.75, 1.5], dtype=np.float32)
    verify(make_model(nodes, {"roi": roi, "s": np.array([1, 2, 3, 5])}, (1, 2, 4, 5), opset=19), units=0)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_aspect_ratios(make_model, policy):
    attributes = {"axes": [2, 3], "keep_aspect_ratio_policy": policy}
    nodes = [node("Resize", ["x", "", "", "s"], ["v"], mode="linear", **attributes), node("Flatten", ["v"], ["y"])]
    verify(make_model(nodes, {"s": np.array([7, 6])}, (1, 2, 4, 5), opset=19), units=0)


@pytest.mark.parametrize("opset", [8, 9, 10])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_the_older_upsample_and_resize(make_model, opset, mode):
    scales = np.array([1, 1, 2, 3], dtype=np.float32)
    op_type = "Resize" if opset == 10 else "Upsample"
    weights, attributes = ({"s": scales}, {}) if opset > 8 else ({}, {"scales": scales.tolist()})
    verify(model_of(make_model, op_type, weights, (1, 2, 4, 3), opset=opset, mode=mode, **attributes), units=0)


def test_weights_of_a_resize_are_whole_numbers_over_their_denominators(make_model):
    """1/3 is no float: it stays a quotient."""
    nodes = [node("Resize", ["x", "", "", "s"], ["v"], mode="linear"), node("Flatten", ["v"], ["y"])]
    network = from_onnx(make_model(nodes, {"s": np.array([1, 1, 3])}, (1, 1, 4), opset=19))
    numerators, divisors = (n.op for n in network.nodes if getattr(n.op, "weight", None) is not None)
    assert divisors.divide
    assert (numerators.weight == numerators.weight.round()).all()
    assert divisors.weight.reshape(-1).tolist() == [6.0, 2.0, 6.0]


def test_a_large_image_takes_little_memory(make_model):
    """224 x 224 to 448 x 448: a few numbers for each entry and no matrix of one image by another."""
    nodes = [node("Resize", ["x", "", "s"], ["y"], mode="linear")]
    model = make_model(nodes, {"s": np.array([1, 1, 2, 2], dtype=np.float32)}, (1, 3, 224, 224), opset=19)
    model.graph.node.add(op_type="Flatten", input=["y"], output=["z"])
    model.graph.output[0].name = "z"
    network = import_graph(model).network
    tensors = [t for n in network.nodes[1:] for t in vars(n.op).values() if hasattr(t, "numel")]
    held = sum(t.untyped_storage().nbytes() for t in tensors)
    assert held <= 64 * 3 * 448 * 448


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


# Sampling at constant places


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("opset", [16, 20])
def test_constant_grids(make_model, mode, padding, align, opset):
    """Inside and outside of the image, off the places where neighbours tie."""
    mode = mode if opset == 20 or mode == "nearest" else f"bi{mode}"
    grid = np.random.default_rng(3).uniform(-1.7, 1.7, (1, 3, 4, 2)).astype(np.float32)
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
    verify(model_of(make_model, "GridSample", {"g": grid}, (1, 2, 4, 5), opset=opset, **attributes), units=0)


def test_a_grid_that_depends_on_the_input_is_refused(make_model):
    nodes = [node("Reshape", ["x", "s"], ["g"]), node("GridSample", ["x", "g"], ["y"], name="it")]
    with pytest.raises(UnsupportedOperator, match=r"'it'.*needs a constant as input 1"):
        from_onnx(make_model(nodes, {"s": np.array([1, 2, 2, 2])}, (1, 2, 2, 2), opset=20))
