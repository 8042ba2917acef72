"""What the tests of the loaders share: onnxruntime's answer, and whether a network agrees with it."""

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper

from calotte.network.importer import import_graph
from calotte.network.onnx import in_float64

__all__ = ["assert_agrees", "floats", "node", "session_outputs"]

node = helper.make_node
generator = np.random.default_rng(0)
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


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
    """Relative 1e-5; where float32 loses more by cancellation, 1e-9 of the same model in float64."""
    theirs = session_outputs(model, x)
    ours = network.forward(torch.from_numpy(np.asarray(x, dtype=np.float64).reshape(len(x), -1))).numpy()
    assert ours.shape == theirs.shape
    difference, scale = np.abs(ours - theirs), np.abs(ours).max(1, keepdims=True)
    worse = (difference > 1e-5 * scale).any(1)
    assert worse.mean() < 0.1
    if worse.any():
        proto = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
        exact = in_float64(proto, import_graph(proto)).run(np.asarray(x[worse], dtype=np.float64))
        assert (np.abs(ours[worse] - exact) <= 1e-9 * scale[worse]).all()
    return theirs
