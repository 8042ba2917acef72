"""What the tests of the loaders share: onnxruntime's answer, and whether a network agrees with it."""

import zlib

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from calotte.models.importer import import_graph
from calotte.models.onnx import from_onnx, in_float64
from calotte.network.affine import Affine
from calotte.network.single import converted

__all__ = ["assert_adjoint", "assert_agrees", "floats", "model_of", "node", "reseed", "session_outputs", "verify"]

node = helper.make_node
generator = np.random.default_rng(0)
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


def reseed(name):
    """Numbers that depend on the test alone, not on the tests before it."""
    global generator
    generator = np.random.default_rng(zlib.crc32(name.encode()))


def floats(*shape):
    """Standard normal numbers, float32."""
    return generator.standard_normal(shape).astype(np.float32)


def session_outputs(model, x):
    """What onnxruntime says, input by input: (n, d) -> (n, K)."""
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    entry = next(iter(session.get_inputs()))
    shape = [n if isinstance(n, int) else 1 for n in entry.shape]
    feed = [row.reshape(shape).astype(DTYPES[entry.type]) for row in x]
    rows = [session.run(None, {entry.name: one})[0].reshape(-1) for one in feed]
    return np.stack(rows).astype(np.float64)


def assert_agrees(network, model, x):
    """Relative 1e-5; where float32 loses more by cancellation, 1e-9 of the same model in float64.

    And a copy on another device needs nothing that is not there: on "meta", which has shapes only.
    """
    elsewhere = torch.empty(2, network.d, dtype=torch.float32, device="meta")
    assert converted(network, torch.float32, "meta").forward(elsewhere).device.type == "meta"
    theirs = session_outputs(model, x)
    ours = network.forward(torch.from_numpy(np.asarray(x, dtype=np.float64).reshape(len(x), -1))).numpy()
    assert ours.shape == theirs.shape
    difference, scale = np.abs(ours - theirs), np.abs(ours).max(1, keepdims=True)
    worse = (difference > 1e-5 * scale).any(1)
    assert worse.mean() < 0.3
    if worse.any():
        proto = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
        exact = in_float64(import_graph(proto)).run(np.asarray(x[worse], dtype=np.float64))
        assert (np.abs(ours[worse] - exact) <= 1e-9 * scale[worse]).all()
    return theirs


def model_of(
    make_model, op_type, weights, shape, *, opset=17, before=(), outputs=1, dtype=TensorProto.FLOAT, **attributes
):
    """One operator on the input 'x' (or on `before`'s output 'v'), its result in one row."""
    names = [f"o{k}" for k in range(outputs)]
    nodes = [*before, node(op_type, ["v" if before else "x", *weights], names, name="it", **attributes)]
    target = {"row": np.array([1, -1])}
    rows = [f"r{k}" for k in range(outputs)]
    nodes += [node("Reshape", [o, "row"], [r]) for o, r in zip(names, rows, strict=True)]
    nodes.append(node("Concat", rows, ["y"], axis=1))
    return make_model(nodes, {**weights, **target}, shape, opset=opset, dtype=dtype)


def assert_adjoint(op, seed=0):
    """<A x, y> = <x, A' y> to 1e-12."""
    generator = torch.Generator().manual_seed(seed)
    xs = [torch.randn(3, *s, generator=generator, dtype=torch.float64) for s in op.input_shapes]
    y = torch.randn(3, *op.output_shape, generator=generator, dtype=torch.float64)
    left = (op.linear(*xs) * y).flatten(1).sum(1)
    right = sum((x * a).flatten(1).sum(1) for x, a in zip(xs, op.adjoint(y), strict=True))
    scale = (op.absolute.linear(*(x.abs() for x in xs)) * y.abs()).flatten(1).sum(1)
    assert ((left - right).abs() <= 1e-12 * scale).all()


def verify(model, n=12, units=None):
    """Import, compare with onnxruntime, check the adjoint of every map; the number of hidden units where given."""
    network = from_onnx(model)
    x = np.concatenate([floats(n, network.d), np.zeros((1, network.d)), np.ones((1, network.d))]).astype(np.float32)
    assert_agrees(network, model, x)
    for step in network.nodes:
        if isinstance(step.op, Affine):
            assert_adjoint(step.op)
    if units is not None:
        assert network.hidden_units == units
    return network
