"""Resizing and sampling at constant places, over their attributes, against onnxruntime and rational arithmetic."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from agreement import floats, model_of, node, verify

from calotte.errors import UnsupportedOperator
from calotte.models.importer import import_graph
from calotte.models.onnx import from_onnx
from calotte.network.enclosure import evaluate

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


def test_weights_of_a_grid_are_enclosed(make_model):
    """Bilinear weights in rational numbers: each value lies in its enclosure, also where a weight is no float."""
    grid = np.random.default_rng(3).uniform(-1.0, 1.0, (1, 2, 3, 2)).astype(np.float32)
    nodes = [
        node("GridSample", ["x", "g"], ["v"], mode="bilinear", padding_mode="border"),
        node("Flatten", ["v"], ["y"]),
    ]
    network = from_onnx(make_model(nodes, {"g": grid}, (1, 1, 3, 4)))
    x = torch.from_numpy(floats(5, 12)).double()
    outputs = evaluate(network, x)[-1]
    inexact = 0
    for b, j in itertools.product(range(5), range(6)):
        places = [Fraction(float(v)) for v in grid.reshape(-1, 2)[j][::-1]]
        at = [
            min(max(((g + 1) * n - 1) / 2, Fraction(0)), Fraction(n - 1)) for g, n in zip(places, (3, 4), strict=True)
        ]
        truth = Fraction(0)
        for row, column in itertools.product(range(3), range(4)):
            weight = max(0, 1 - abs(at[0] - row)) * max(0, 1 - abs(at[1] - column))
            inexact += Fraction(float(weight)) != weight
            truth += weight * Fraction(x[b, 4 * row + column].item())
        assert abs(Fraction(outputs.value[b, j].item()) - truth) <= Fraction(outputs.error[b, j].item())
    assert inexact > 0
