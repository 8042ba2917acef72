"""Large models: what comparing them with their source costs, and that it still tells."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from agreement import floats, node

from calotte.errors import SourceMismatch
from calotte.models.agreement import KINDS, Source, affordable, check, evaluated, probes
from calotte.models.importer import import_graph
from calotte.models.onnx import from_onnx, in_float64
from calotte.models.reference import Reference, in_double
from calotte.network.affine import Dense
from calotte.network.random import random_network
from calotte.network.single import converted


def long_chain(make_model, layers, size):
    nodes = [node("Relu" if k % 2 else "Neg", [f"v{k}" if k else "x"], [f"v{k + 1}"]) for k in range(layers)]
    nodes.append(node("ReduceSum", [f"v{layers}", "axis"], ["y"], keepdims=1))
    return make_model(nodes, {"axis": np.array([1])}, ("n", size))


def test_the_reference_keeps_no_value_longer_than_needed(make_model):
    """40 layers of a million entries: a few values at a time, not 320 MB."""
    size = 10**6
    model = in_double(import_graph(long_chain(make_model, 40, size)).model)
    reference, x = Reference(model), np.ones((1, size))
    tracemalloc.start()
    y = reference.run({"x": x})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 8 * size
    assert y.shape == (1, 1)


def test_the_reference_is_that_of_onnx(make_model):
    """Node by node or all at once: the same bits; branches that are read late, and values that are read twice."""
    from onnx.reference import ReferenceEvaluator

    nodes = [
        node("Gemm", ["x", "w"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Split", ["b"], ["c", "d"], axis=1, num_outputs=2),
        node("Concat", ["d", "a", "c"], ["e"], axis=1),
        node("Gemm", ["e", "v"], ["f"]),
        node("Clip", ["f", "", "high"], ["g"]),
        node("Add", ["g", "f"], ["y"]),
    ]
    weights = {"w": floats(6, 4), "v": floats(8, 3), "high": np.float32(0.5)}
    double = in_double(import_graph(make_model(nodes, weights, ("n", 6), opset=18)).model)
    x = floats(5, 6).astype(np.float64)
    assert np.array_equal(Reference(double).run({"x": x}), ReferenceEvaluator(double).run(None, {"x": x})[0])


def test_large_networks_are_compared_at_fewer_inputs():
    small = random_network((6, 10, 3), torch.Generator().manual_seed(0))
    inputs = probes(small.d, 16.0)
    everything = {kind: sum(len(x) for k, x in affordable(small, inputs) if k == kind) for kind in KINDS}
    assert everything == {kind: len(xs) for kind, xs in inputs.items()}
    layer = Dense(torch.zeros(1, 1, dtype=torch.float64).expand(3, 10))
    layer.terms = 2**40  # as if it cost that much
    large = replace(small, nodes=(*small.nodes[:-1], replace(small.nodes[-1], op=layer)))
    assert [(kind, len(x)) for kind, x in affordable(large, inputs)] == [("Gaussian", 1), ("extreme", 1)]
    source = Source(lambda x: small.forward(torch.from_numpy(x)).numpy(), "it")
    with pytest.raises(SourceMismatch, match="differ at a Gaussian input"):
        check(large, source)


def test_a_comparison_leaves_nothing_behind(make_model):
    """Maps with |A| in place of A would double the memory of every network."""
    nodes = [node("Gemm", ["x", "w"], ["h"]), node("Relu", ["h"], ["r"]), node("Gemm", ["r", "v"], ["y"])]
    network = from_onnx(make_model(nodes, {"w": floats(6, 5), "v": floats(5, 3)}, (1, 6)))
    assert not any({"absolute", "support"} & set(vars(one.op)) for one in network.nodes[1:])


def test_errors_of_an_evaluation_hold_those_of_float32():
    """Weights that are float32 numbers, evaluated in float32, against float64."""
    network = random_network((8, 30, 30, 3), torch.Generator().manual_seed(1))
    for step in network.nodes[1:]:
        if isinstance(step.op, Dense):
            step.op.weight, step.op.offset = step.op.weight.float().double(), step.op.offset.float().double()
    x = torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).float().double()
    here = evaluated(network, x, 2.0**-24)
    single = converted(network, torch.float32).forward(x.float()).double()
    assert torch.equal(here.outputs, network.forward(x))
    missed = (single - here.outputs).abs()
    assert (missed <= here.error).all()
    assert (missed > 1e-3 * here.error).any(), "the bound says nothing"
    assert (here.magnitude >= here.outputs.abs().amax(1)).all()


def test_in_float64_counts_as_the_source_of_float32_models(make_model):
    nodes = [node("Gemm", ["x", "w"], ["y"])]
    w = floats(6, 3)
    source = in_float64(import_graph(make_model(nodes, {"w": w}, ("n", 6))))
    x = floats(4, 6).astype(np.float64)
    assert np.allclose(source.run(x), x @ w.astype(np.float64), rtol=1e-14, atol=1e-14)
    assert source.together is not None
    assert np.allclose(source.together(x), source.run(x), rtol=1e-14, atol=1e-14)
