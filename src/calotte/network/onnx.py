"""ONNX files: from a path or a model in memory to a checked network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from calotte.errors import InvalidModel
from calotte.network.check import Source, check
from calotte.network.decision import Rule
from calotte.network.graph import Network
from calotte.network.importer import Imported, first_line, import_graph

__all__ = ["from_onnx", "load"]

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def load(path: str | Path, decision: Rule | None = None) -> Network:
    """Load an ONNX file as a network and compare it with onnxruntime before handing it out.

    Args:
        path: the `.onnx` file; opsets 8 to the newest, batch axis 1, symbolic or absent.
        decision: how its outputs become an answer. Default: argmax, or sign where there is one output.

    Raises:
        UnsupportedOperator: a node is not piecewise linear; the message names it.
        InvalidModel: the file is missing, damaged or contradicts itself.
        SourceMismatch: the network and onnxruntime disagree.
        InvalidInput: the decision does not fit the number of outputs.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"cannot read the model '{path}': {error.strerror or error}") from None
    if not content:
        raise InvalidModel(f"the model '{path}' is an empty file: expected an ONNX model")
    try:
        model = onnx.load_model_from_string(content)
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise InvalidModel(
            f"the model '{path}' is not an ONNX file, or it is damaged ({first_line(error)}): export it again"
        ) from None
    network = from_onnx(model, decision)
    return replace(network, sha256=hashlib.sha256(content).hexdigest())


def from_onnx(model: onnx.ModelProto, decision: Rule | None = None) -> Network:
    """As `load`, of a model in memory (external data loaded)."""
    imported = import_graph(model, decision)
    dtype = input_dtype(model, imported)
    check(
        imported.network,
        runtime(model, imported, dtype),
        name="onnxruntime",
        roundoff=float(np.finfo(dtype).eps) / 2.0,
        precise=lambda: in_float64(model, imported),
    )
    return imported.network


def input_dtype(model: onnx.ModelProto, imported: Imported) -> np.dtype[Any]:
    """The number type of the input."""
    kind = next(i.type.tensor_type.elem_type for i in model.graph.input if i.name == imported.input_name)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    if dtype not in (np.float16, np.float32, np.float64):
        raise InvalidModel(f"input '{imported.input_name}' has type {dtype}: expected float16, float32 or float64")
    return dtype


def one_by_one(run: Callable[[NDArray[Any]], Any], imported: Imported, dtype: np.dtype[Any]) -> Source:
    """A source for batches (n, d) from one that takes single inputs in the shape of the file."""

    def source(x: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = []
        for row in x:
            try:
                y = run(row.reshape(imported.input_shape).astype(dtype))
            except Exception as error:
                raise InvalidModel(f"the model cannot be run: {first_line(error)}") from None
            rows.append(np.asarray(y, dtype=np.float64).reshape(-1))
        return np.stack(rows)

    return source


def runtime(model: onnx.ModelProto, imported: Imported, dtype: np.dtype[Any]) -> Source:
    """The model in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InvalidModel(f"onnxruntime refuses the model: {first_line(error)}") from None
    return one_by_one(lambda x: session.run([imported.output_name], {imported.input_name: x})[0], imported, dtype)


def in_float64(model: onnx.ModelProto, imported: Imported) -> Source:
    """The model with its weights as float64 numbers in ONNX's reference implementation."""
    double = onnx.ModelProto()
    double.CopyFrom(model)
    for tensor in double.graph.initializer:
        tensor.CopyFrom(widened(tensor))
    for node in double.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                attribute.t.CopyFrom(widened(attribute.t))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in FLOATS:
                attribute.i = onnx.TensorProto.DOUBLE
    try:
        evaluator: Any = ReferenceEvaluator(double)
    except Exception as error:
        raise InvalidModel(f"the model cannot be evaluated in float64: {first_line(error)}") from None
    feed = imported.input_name
    return one_by_one(lambda x: evaluator.run([imported.output_name], {feed: x})[0], imported, np.dtype(np.float64))


def widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Floating-point numbers as float64, anything else as it is."""
    if tensor.data_type not in FLOATS:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
