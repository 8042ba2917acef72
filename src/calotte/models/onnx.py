"""ONNX files: from a path or a model in memory to a checked network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from calotte.checks import kind
from calotte.errors import InvalidModel, SourceMismatch
from calotte.models.agreement import Source, check
from calotte.models.files import first_line, read
from calotte.models.importer import Imported, import_graph
from calotte.models.reference import Reference, in_double
from calotte.network.affine import Shape
from calotte.network.decision import Rule
from calotte.network.fingerprint import fingerprint
from calotte.network.graph import Network

__all__ = ["from_onnx", "in_float64", "load", "runtime"]

RUNTIME = "onnxruntime"
TYPES: dict[np.dtype[Any], torch.dtype] = {
    np.dtype(np.float16): torch.float16,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
}


def load(path: str | Path, decision: Rule | None = None, output: str | None = None) -> Network:
    """Load an ONNX file as a network and compare it with onnxruntime before handing it out.

    Args:
        path: the `.onnx` or `.onnx.gz` file; opsets 8 to the newest; a batch axis of any size, symbolic or absent.
            Weights in other files are looked for beside it.
        decision: how its outputs become an answer. Default: argmax, or sign where there is one output.
        output: name of the value to judge. Default: the output of the model; of several the only one that can be
            scores.

    Raises:
        UnsupportedOperator: a node that the output needs is not piecewise linear; the message names it.
        InvalidModel: the file is missing, damaged or contradicts itself.
        SourceMismatch: the network and onnxruntime disagree.
        InvalidInput: the decision does not fit the outputs, or there is no such output.

    Examples:
        >>> import os, tempfile, onnx, calotte
        >>> text = "<float[2, 2] w = {1, -1, 0, 0}> { y = MatMul(x, w) }"  # scores x_1 and -x_1
        >>> text = f"<ir_version: 8, opset_import: ['': 17]> halves (float[N, 2] x) => (float[N, 2] y) {text}"
        >>> path = os.path.join(tempfile.mkdtemp(), "halves.onnx")
        >>> onnx.save(onnx.parser.parse_model(text.replace("'", '"')), path)
        >>> (one,) = calotte.assess(calotte.load(path), [[1.0, 0.0]], calotte.Sphere(2.0), rungs="cell")
        >>> round(one.best.probability, 9)  # the share of a circle of radius 2 that lies beyond 1
        0.333333333
    """
    if not isinstance(path, str | Path):
        raise InvalidModel(f"path: expected the path of an .onnx file, came {kind(path)}")
    stored = read(Path(path))
    network = from_onnx(stored.model, decision, output)
    return replace(network, sha256=stored.sha256, files=stored.files)


def from_onnx(model: onnx.ModelProto, decision: Rule | None = None, output: str | None = None) -> Network:
    """As `load`, of a model in memory (external data loaded); `sha256` is that of the network."""
    if not isinstance(model, onnx.ModelProto):
        raise InvalidModel(f"model: expected an onnx.ModelProto, came {kind(model)}: calotte.load takes a path")
    imported = import_graph(model, decision, output)
    source = runtime(imported)
    try:
        if source:
            check(imported.network, source, lambda: in_float64(imported))
        else:
            source = in_float64(imported)
            check(imported.network, source)
    except SourceMismatch:
        if imported.batch == 1:
            raise
        raise SourceMismatch(
            f"the {imported.batch} rows of input '{imported.input_name}' are not treated one by one, as a batch is: "
            "export the model with batch size 1"
        ) from None
    network = replace(imported.network, sha256=fingerprint(imported.network))
    dtype = torch.float64 if source.name != RUNTIME else TYPES.get(imported.input_dtype)
    if dtype is None:
        return network
    return replace(network, original=source.original(network.decision, dtype))


@dataclass(frozen=True)
class OnnxModel:
    """A model that takes inputs in the shape of its file, asked for rows; opened when it is first asked.

    Attributes:
        content: the part of the model that is judged.
        shape, batch: of its input, the shape at batch size 1; the fixed batch size of the file, else 1.
        dtype: what it computes with.
        opened_by: the content to a function of the input in the shape of the file.
    """

    content: bytes
    shape: Shape
    batch: int
    dtype: np.dtype[Any]
    opened_by: Callable[[bytes], Callable[[NDArray[Any]], Any]]

    @cached_property
    def run(self) -> Callable[[NDArray[Any]], Any]:
        """What runs the model."""
        return self.opened_by(self.content)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def outputs(self, batch: NDArray[Any]) -> NDArray[np.float64]:
        """What the model says at an input in the shape of its file, any number of rows."""
        try:
            return np.asarray(self.run(batch.astype(self.dtype)), dtype=np.float64)
        except Exception as error:
            raise InvalidModel(f"the model cannot be run: {first_line(error)}") from None

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inputs (n, d), one after the other, to outputs (n, K)."""
        rows = []
        for row in x:
            one = row.reshape(self.shape)
            if self.batch > 1:
                one = np.concatenate([one, np.broadcast_to(-one, (self.batch - 1, *self.shape[1:]))])
            y = self.outputs(one)
            if y.size % self.batch:
                raise InvalidModel(
                    f"the input has {self.batch} rows and the output {y.shape} has not: export with batch size 1"
                )
            rows.append(y.reshape(self.batch, -1)[0])
        return np.stack(rows)

    def together(self, x: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Inputs (n, d), n > 1, as one batch, to outputs (n, K); None where the model does not take them."""
        try:
            y = self.outputs(x.reshape(len(x), *self.shape[1:]))
        except InvalidModel:
            return None
        return y.reshape(len(x), -1) if y.ndim and y.shape[0] == len(x) else None


def runtime(imported: Imported) -> Source | None:
    """The model in onnxruntime; None where it lacks an operator or its opset."""
    rows = OnnxModel(
        serialised(imported.model), imported.input_shape, imported.batch, imported.input_dtype, in_runtime
    )
    try:
        _ = rows.run
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return None
    except Exception as error:
        if "opset" in str(error).lower():
            return None
        raise InvalidModel(f"onnxruntime refuses the model: {first_line(error)}") from None
    return source_of(rows, imported, RUNTIME)


def in_float64(imported: Imported) -> Source:
    """The model with its weights as float64 numbers in ONNX's reference implementation."""
    content = serialised(in_double(imported.model))
    rows = OnnxModel(content, imported.input_shape, imported.batch, np.dtype(np.float64), in_reference)
    return source_of(rows, imported, "ONNX's reference implementation")


def source_of(rows: OnnxModel, imported: Imported, name: str) -> Source:
    """A model as what a network is compared with."""
    roundoff = float(np.finfo(rows.dtype).eps) / 2.0
    together = rows.together if imported.open_batch else None
    return Source(rows, name, roundoff, to_outputs=imported.from_source, together=together)


def serialised(model: onnx.ModelProto) -> bytes:
    """The model as bytes."""
    try:
        content: bytes = model.SerializeToString()
    except Exception as error:
        raise InvalidModel(
            f"the model is too large for one message of 2 GB, as ONNX has it ({first_line(error)}): not supported"
        ) from None
    return content


def in_runtime(content: bytes) -> Callable[[NDArray[Any]], Any]:
    """What runs a model in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        content,
        options,
        providers=["CPUExecutionProvider"],
        enable_fallback=0,  # it prints before it tries again
    )
    feed = session.get_inputs()[0].name
    return lambda x: session.run(None, {feed: x})[0]


def in_reference(content: bytes) -> Callable[[NDArray[Any]], Any]:
    """What runs a model in ONNX's reference implementation."""
    model = onnx.load_model_from_string(content)
    try:
        reference = Reference(model)
    except Exception as error:
        raise InvalidModel(f"the model cannot be evaluated in float64: {first_line(error)}") from None
    initialised = set(reference.weights)
    feed = next(value.name for value in model.graph.input if value.name not in initialised)
    return lambda x: reference.run({feed: x})
