"""Convolutions and pools over a grid of attributes, against onnxruntime; adjoints of every map that comes out."""

import itertools

import pytest
from agreement import floats, model_of, node, verify


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "pads", "groups", "bias"),
    [
        ((3, 3), (1, 1), (1, 1), (0, 0, 0, 0), 1, True),
        ((3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, False),
        ((3, 2), (2, 1), (1, 1), (1, 0, 1, 0), 1, True),
        ((3, 3), (2, 2), (1, 1), (0, 1, 1, 0), 2, True),
        ((2, 3), (3, 2), (2, 1), (2, 1, 0, 3), 4, True),
        ((1, 1), (2, 2), (1, 1), (0, 0, 0, 0), 2, False),
        ((2, 2), (1, 1), (3, 2), (0, 0, 0, 0), 1, True),
    ],
)
def test_conv_2d(make_model, kernel, stride, dilation, pads, groups, bias):
    weights = {"w": floats(8, 4 // groups, *kernel)} | ({"b": floats(8)} if bias else {})
    attributes = {"strides": stride, "dilations": dilation, "pads": pads, "group": groups}
    verify(model_of(make_model, "Conv", weights, ("n", 4, 7, 8), **attributes))


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [2, 3])
def test_conv_1d_and_automatic_padding(make_model, auto, stride, kernel):
    weights = {"w": floats(5, 3, kernel), "b": floats(5)}
    verify(model_of(make_model, "Conv", weights, (1, 3, 11), strides=[stride], auto_pad=auto, kernel_shape=[kernel]))


def test_conv_3d(make_model):
    verify(model_of(make_model, "Conv", {"w": floats(2, 3, 2, 2, 2)}, (1, 3, 3, 4, 3), strides=[1, 2, 1]))


@pytest.mark.parametrize(
    ("stride", "dilation", "pads", "extra", "groups"),
    [
        ((1, 1), (1, 1), (0, 0, 0, 0), (0, 0), 1),
        ((2, 2), (1, 1), (1, 1, 1, 1), (1, 1), 1),
        ((2, 3), (1, 1), (0, 1, 1, 0), (0, 2), 2),
        ((3, 2), (2, 1), (1, 0, 2, 1), (1, 0), 2),
    ],
)
def test_conv_transpose(make_model, stride, dilation, pads, extra, groups):
    weights = {"w": floats(4, 3, 3, 2), "b": floats(3 * groups)}
    attributes = {"strides": stride, "dilations": dilation, "pads": pads, "output_padding": extra, "group": groups}
    verify(model_of(make_model, "ConvTranspose", weights, (1, 4, 4, 5), **attributes))


@pytest.mark.parametrize(
    ("auto", "size"), [("NOTSET", 10), ("SAME_UPPER", None), ("SAME_LOWER", None), ("VALID", None)]
)
def test_conv_transpose_with_automatic_padding(make_model, auto, size):
    attributes = {"auto_pad": auto, "strides": [2]} | ({"output_shape": [size]} if size else {})
    verify(model_of(make_model, "ConvTranspose", {"w": floats(3, 2, 3)}, (1, 3, 5), **attributes))


POOLS = list(itertools.product([(2, 2), (3, 2)], [(1, 1), (2, 2), (3, 2)], [(0, 0, 0, 0), (1, 0, 1, 1)], [0, 1]))


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize(("kernel", "stride", "pads", "ceil"), POOLS)
def test_average_pool(make_model, kernel, stride, pads, ceil, include):
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": pads, "ceil_mode": ceil}
    model = model_of(make_model, "AveragePool", {}, (1, 3, 7, 8), opset=19, count_include_pad=include, **attributes)
    verify(model)


@pytest.mark.parametrize(("kernel", "stride", "pads", "ceil"), POOLS)
def test_max_pool(make_model, kernel, stride, pads, ceil):
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": pads, "ceil_mode": ceil}
    before = [node("Sub", ["x", "five"], ["v"])]  # all values are negative: a zero of the padding would win
    model = model_of(make_model, "MaxPool", {}, (1, 3, 7, 8), before=before, **attributes)
    model.graph.initializer.add(name="five", data_type=1, float_data=[5.0])
    verify(model)


@pytest.mark.parametrize(
    ("op_type", "dims"), [("MaxPool", 1), ("MaxPool", 3), ("AveragePool", 1), ("AveragePool", 3)]
)
def test_pools_of_other_ranks(make_model, op_type, dims):
    verify(model_of(make_model, op_type, {}, (1, 2, *(5, 4, 6)[:dims]), kernel_shape=[2] * dims, strides=[2] * dims))


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_pools_with_automatic_padding(make_model, op_type, auto):
    verify(model_of(make_model, op_type, {}, (1, 2, 7, 5), kernel_shape=[3, 2], strides=[2, 2], auto_pad=auto))


def test_dilated_max_pool(make_model):
    verify(model_of(make_model, "MaxPool", {}, (1, 2, 8, 8), kernel_shape=[3, 2], strides=[1, 2], dilations=[2, 3]))


@pytest.mark.parametrize(
    ("kernel", "stride", "units"),
    [
        ((2, 2), (2, 2), 3 * 16),  # three comparisons for each of 4 x 4 windows
        ((4, 4), (4, 4), 15 * 4),
        ((3, 3), (1, 1), (6 + 6) * 8 + (6 + 6) * 6),  # neighbours share pairs: 4.5, not 8, for each of 6 x 6 windows
        ((1, 1), (3, 3), 0),
    ],
)
def test_max_pools_take_few_units(make_model, kernel, stride, units):
    verify(model_of(make_model, "MaxPool", {}, (1, 1, 8, 8), kernel_shape=kernel, strides=stride), units=units)


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(1, 3, 5, 4), (1, 3, 7)])
def test_global_pools(make_model, op_type, shape):
    verify(model_of(make_model, op_type, {}, shape))
