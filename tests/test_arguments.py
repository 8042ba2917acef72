"""Arguments: what makes no sense is refused before anything is computed, in words that name it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import calotte
from calotte.checks import array, number, whole
from calotte.errors import CalotteError, InvalidInput

NET = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).eval()
NETWORK, X, NOISE = calotte.from_torch(NET, 4), torch.zeros(2, 4), calotte.Sphere(0.1)
FAST = calotte.Settings(samples=10, boxes=1, search=False)


def ask(**other):
    return calotte.assess(**{"network": NETWORK, "inputs": X, "noise": NOISE, "settings": FAST} | other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calotte.Sphere("0.1"), "eps must be a number, came str '0.1'"),
        (lambda: calotte.Ball(True), "eps must be a number, came bool"),
        (lambda: calotte.Gaussian(np.array([0.1, 0.2])), "sigma must be a number, came ndarray"),
        (lambda: calotte.Gaussian(-1), "sigma must be a positive finite number, came -1"),
        (lambda: calotte.Sphere(0.1, map=[1j, 2.0]), "noise map must be an array of numbers: .*complex128"),
        (lambda: calotte.Sphere(0.1, map="s.npy"), "noise map must be an array of numbers: came str"),
        (lambda: calotte.Sphere(0.1, map=2.0), "noise map must have shape"),
        (lambda: ask(noise=calotte.Sphere(0.1, map=np.ones(3))), "noise map is for 3 features, the network takes 4"),
        (lambda: ask(noise=0.1), "noise: expected .* came float 0.1"),
        (lambda: ask(noise=calotte.Sphere), "noise: expected .* came the class Sphere"),
        (lambda: ask(settings={"samples": 5}), "settings: expected .* came dict"),
        (lambda: ask(labels=["a", "b"]), "labels must be an array of numbers"),
        (lambda: ask(labels=[None, 1]), "labels must be whole numbers"),
        (lambda: ask(labels=[0.5, 1]), "labels must be whole numbers"),
        (lambda: ask(labels=[0, 7]), "label 7 of input 1 is no class"),
        (lambda: ask(labels=[1]), "1 labels for 2 inputs"),
        (lambda: ask(index=["a", "b"]), "index must be a whole number, came str 'a'"),
        (lambda: ask(index=[0.5, 1.5]), "index must be a whole number, came float 0.5"),
        (lambda: ask(index=[-1, 0]), "index must not be negative, came -1"),
        (lambda: ask(index=3), "index: expected a number for each input, came int 3"),
        (lambda: ask(rungs=3), "rungs: expected a name or a list of names, came int 3"),
        (lambda: ask(rungs=["cells"]), "rung 'cells': no rung; choose from theorem"),
        (lambda: ask(estimates=None), "estimates: expected a name or a list of names"),
        (lambda: ask(inputs=None), "inputs must be an array of numbers: came NoneType"),
        (lambda: ask(inputs="x.npy"), "inputs must be an array of numbers: came str"),
        (lambda: ask(network=NET, inputs="x.npy"), "inputs must be an array of numbers: came str"),
        (lambda: ask(network=NET, inputs=[[1, 2], [3]]), "inputs must be an array of numbers"),
        (lambda: ask(network=NET, inputs={"x": X}), "inputs must be an array of numbers: came dict"),
        (lambda: ask(inputs=X * 1j), "inputs must be an array of numbers: .*complex"),
        (lambda: ask(network=torch.nn.ReLU), "network: expected .* came the class ReLU"),
        (lambda: calotte.plan(NETWORK, X, NOISE, "1e-3"), "delta must be a number, came str '1e-3'"),
        (lambda: calotte.plan(NETWORK, X, NOISE, math.nan), "delta must lie strictly between 0 and 1"),
        (lambda: calotte.load(None), "path: expected the path of an .onnx file, came NoneType"),
        (lambda: calotte.from_onnx("m.onnx"), "model: expected an onnx.ModelProto, came str .*calotte.load"),
        (lambda: calotte.from_torch(NET, X), "input_shape: expected whole numbers, as in .* came Tensor"),
        (lambda: calotte.from_torch(len, 4), "module: expected a torch.nn.Module"),
        (lambda: calotte.random_network((3, 2), 0), "generator: expected a torch.Generator, came int 0"),
        (lambda: calotte.random_network("34", torch.Generator()), "widths must be a whole number, came str '3'"),
        (lambda: calotte.clipped(NETWORK, "0", 1), "low must be a number, came str '0'"),
        (lambda: calotte.clipped(NET, 0, 1), "network: expected a calotte Network, came Sequential"),
        (lambda: calotte.Cell(NET, X[0]), "network: expected a calotte Network, came Sequential"),
        (lambda: calotte.make_noise("sphere", -3, eps=1.0), "d must be positive, came -3"),
        (lambda: calotte.Settings(search="no"), "search must be True or False, came str 'no'"),
        (lambda: calotte.Settings(samples=1e4), "samples must be a whole number, came float 10000.0"),
        (lambda: calotte.Settings(time_limit=None), "time_limit must be a number, came NoneType"),
        (lambda: calotte.to_frame(3), "results: expected Assessments or Plans, came int 3"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(call, message: str) -> None:
    with pytest.raises(CalotteError, match=message):
        call()


def test_numbers_of_numpy_are_numbers() -> None:
    assert type(calotte.Sphere(np.float32(0.5)).size) is float
    assert type(calotte.Settings(seed=np.int64(3)).seed) is int
    assert number("a", Fraction(1, 4)) == 0.25
    assert whole("a", np.uint8(7)) == 7
    (plan,) = calotte.plan(NETWORK, X[:1], NOISE, np.float32(0.125), rungs="cell")
    assert plan.delta == 0.125
    assert type(plan.delta) is float


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [3, 4]], [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0], requires_grad=True)],
        torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.bfloat16), np.array([[1, 2], [3, 4]], dtype=object),
    ],
)  # fmt: skip
def test_arrays_of_all_kinds(values) -> None:
    found = array("a", values)
    assert found.dtype == np.float64
    assert found.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "values", [b"12", "3", [["1", "2"]], None, [1j], np.array(["2026-01-01"], dtype="M8"), [[1], [2, 3]]]
)
def test_what_would_turn_into_numbers_by_accident_is_no_array(values) -> None:
    with pytest.raises(InvalidInput, match="a must be an array of numbers"):
        array("a", values)
