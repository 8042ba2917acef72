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
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from calotte.errors import InvalidModel, SourceMismatch
from calotte.models.agreement import Source, check
from calotte.models.importer import Imported, first_line, import_graph
from calotte.network.decision import Rule
from calotte.network.graph import Network

__all__ = ["from_onnx", "in_float64", "load"]

RUNTIME = "onnxruntime"
TYPES: dict[np.dtype[Any], torch.dtype] = {
    np.dtype(np.float16): torch.float16,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
}
NARROW = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def load(path: str | Path, decision: Rule | None = None) -> Network:
    """Load an ONNX file as a network and compare it with onnxruntime before handing it out.

    Args:
        path: the `.onnx` file; opsets 8 to the newest; a batch axis of any size, symbolic or absent. Weights in
            other files are looked for beside it.
        decision: how its outputs become an answer. Default: argmax, or sign where there is one output.

    Raises:
        UnsupportedOperator: a node is not piecewise linear; the message names it.
        InvalidModel: the file is missing, damaged or contradicts itself.
        SourceMismatch: the network and onnxruntime disagree.
        InvalidInput: the decision does not fit the outputs.
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
    except Exception as error:
        raise InvalidModel(
            f"the model '{path}' is not an ONNX file, or it is damaged ({first_line(error)}): export it again"
        ) from None
    digest = hashlib.sha256(content)
    for file in external_files(model):
        try:
            digest.update((path.parent / file).read_bytes())
        except OSError as error:
            raise InvalidModel(
                f"the model '{path}' keeps weights in '{file}', which cannot be read ({error.strerror}): "
                "put it beside the model"
            ) from None
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise InvalidModel(f"the weights of the model '{path}' cannot be read: {first_line(error)}") from None
    return replace(from_onnx(model, decision), sha256=digest.hexdigest())


def external_files(model: onnx.ModelProto) -> list[str]:
    """The files in which a model keeps weights, relative to its own folder, each once and in order."""
    found = [
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    ]
    return sorted(set(found))


def from_onnx(model: onnx.ModelProto, decision: Rule | None = None) -> Network:
    """As `load`, of a model in memory (external data loaded)."""
    imported = import_graph(model, decision)
    source = runtime(model, imported)
    try:
        if source:
            check(imported.network, source, lambda: in_float64(model, imported))
        else:
            source = in_float64(model, imported)
            check(imported.network, source)
    except SourceMismatch:
        if imported.batch == 1:
            raise
        raise SourceMismatch(
            f"the {imported.batch} rows of input '{imported.input_name}' are not treated one by one, as a batch is: "
            "export the model with batch size 1"
        ) from None
    dtype = torch.float64 if source.name != RUNTIME else TYPES.get(imported.input_dtype)
    if dtype is None:
        return imported.network
    return replace(imported.network, original=source.original(imported.network.decision, dtype))


def one_by_one(run: Callable[[NDArray[Any]], Any], imported: Imported, dtype: np.dtype[Any], name: str) -> Source:
    """A source for batches (n, d) from one that takes inputs in the shape of the file."""
    others = (imported.batch - 1, *imported.input_shape[1:])

    def rows_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = []
        for row in x:
            one = row.reshape(imported.input_shape)
            if imported.batch > 1:
                one = np.concatenate([one, np.broadcast_to(-one, others)])
            try:
                y = np.asarray(run(one.astype(dtype)), dtype=np.float64)
            except Exception as error:
                raise InvalidModel(f"the model cannot be run: {first_line(error)}") from None
            if y.size % imported.batch:
                raise InvalidModel(
                    f"the input has {imported.batch} rows and the output {y.shape} has not: export with batch size 1"
                )
            rows.append(y.reshape(imported.batch, -1)[0])
        return np.stack(rows)

    return Source(rows_of, name, float(np.finfo(dtype).eps) / 2.0, to_outputs=imported.from_source)


def runtime(model: onnx.ModelProto, imported: Imported) -> Source | None:
    """The model in onnxruntime; None where it lacks an operator or its opset."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            with_output(model, imported.output_name).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # it prints before it tries again
        )
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return None
    except Exception as error:
        if "opset" in str(error).lower():
            return None
        raise InvalidModel(f"onnxruntime refuses the model: {first_line(error)}") from None
    feed = imported.input_name
    return one_by_one(
        lambda x: session.run([imported.output_name], {feed: x})[0],
        imported,
        imported.input_dtype,
        RUNTIME,
    )


def with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with another value as its output."""
    if model.graph.output[0].name == name:
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.output[0].CopyFrom(onnx.ValueInfoProto(name=name))
    return changed


def in_float64(model: onnx.ModelProto, imported: Imported) -> Source:
    """The model with its weights as float64 numbers in ONNX's reference implementation."""
    double = onnx.ModelProto()
    double.CopyFrom(with_output(model, imported.output_name))
    for tensor in double.graph.initializer:
        tensor.CopyFrom(widened(tensor))
    for node in double.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                attribute.t.CopyFrom(widened(attribute.t))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in NARROW:
                attribute.i = onnx.TensorProto.DOUBLE
    try:
        evaluator: Any = ReferenceEvaluator(double)
    except Exception as error:
        raise InvalidModel(f"the model cannot be evaluated in float64: {first_line(error)}") from None
    feed = imported.input_name

    def run(x: NDArray[Any]) -> Any:
        with np.errstate(all="ignore"):  # it computes what is behind that value too, sigmoids that overflow
            return evaluator.run([imported.output_name], {feed: x})[0]

    return one_by_one(
        run,
        imported,
        np.dtype(np.float64),
        "ONNX's reference implementation",
    )


def widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Floating-point numbers as float64, anything else as it is."""
    if tensor.data_type not in NARROW:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
