"""Reference: ONNX's reference implementation in float64, node by node: no value is kept longer than needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from calotte.models.outputs import read_by

__all__ = ["Reference", "in_double"]

INFERENCE = 15  # the first opset whose BatchNormalization is told whether it trains
NARROW = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


class Reference:
    """A model, its nodes in order, whose nodes are evaluated one after the other.

    `onnx.reference.ReferenceEvaluator` keeps every value to the end, which on images of 600 x 600 takes tens of
    gigabytes; here one evaluator a node is asked, and what no later node reads is dropped.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.opsets = {entry.domain: entry.version for entry in model.opset_import}
        self.weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.nodes, self.output = list(model.graph.node), model.graph.output[0].name
        self.evaluators: list[ReferenceEvaluator | None] = [None] * len(self.nodes)
        self.last = {name: i for i, node in enumerate(self.nodes) for name in read_by(node)}

    def run(self, feed: dict[str, NDArray[Any]]) -> Any:
        """The value of the output for inputs by name."""
        values: dict[str, Any] = {**self.weights, **feed}
        for i, node in enumerate(self.nodes):
            reads = {name: values[name] for name in read_by(node) if name in values}
            names = [name for name in node.output if name]
            with np.errstate(all="ignore"):  # sigmoids and exponentials behind the output, too
                values.update(zip(names, self.evaluator(i, reads, names).run(names, reads), strict=True))
            for name in reads:
                if self.last[name] == i and name != self.output:
                    del values[name]
        return values[self.output]

    def evaluator(self, i: int, reads: dict[str, Any], names: list[str]) -> ReferenceEvaluator:
        """What evaluates node i, made when its inputs, and so their types, are first known."""
        found = self.evaluators[i]
        if found is None:
            inputs = [onnx.helper.make_value_info(name, type_of(value)) for name, value in reads.items()]
            outputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in names]
            node, opsets = self.nodes[i], self.opsets
            if node.op_type == "BatchNormalization" and opsets.get("", INFERENCE) < INFERENCE:
                node, opsets = as_inference(node), opsets | {"": INFERENCE}
            graph = onnx.helper.make_graph([node], "node", inputs, outputs)
            found = self.evaluators[i] = ReferenceEvaluator(graph, opsets=opsets)
        return found


def as_inference(node: onnx.NodeProto) -> onnx.NodeProto:
    """A BatchNormalization of an older opset as one of opset `INFERENCE`: ONNX's implementation of the older ones
    normalises by the batch at hand, as in training, or fails.
    """
    kept = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == "epsilon"}
    return onnx.helper.make_node(node.op_type, node.input, node.output[:1], name=node.name, **kept)


def type_of(value: Any) -> onnx.TypeProto:
    """The type of an array as ONNX has it; open for sequences."""
    if not isinstance(value, np.ndarray):
        return onnx.TypeProto()
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all floating-point numbers in float64."""
    double = onnx.ModelProto()
    double.CopyFrom(model)
    for tensor in double.graph.initializer:
        widen(tensor)
    for node in nodes_of(double.graph):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                widen(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in NARROW:
                attribute.i = onnx.TensorProto.DOUBLE
    return double


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes_of(inner)


def widen(tensor: onnx.TensorProto) -> None:
    """Make floating-point numbers float64; anything else stays as it is."""
    if tensor.data_type in NARROW:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
