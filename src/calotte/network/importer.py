"""Importer: an ONNX graph becomes a network, node by node, at batch size 1."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from calotte.errors import CalotteError, InvalidModel, UnsupportedOperator
from calotte.network.affine import Shape
from calotte.network.decision import Decision, Rule
from calotte.network.graph import Network, Node
from calotte.network.operators import HANDLERS, Builder, Constant, Step, Value, Variable, plain
from calotte.network.simplify import simplify

__all__ = ["Imported", "first_line", "import_graph"]

OLDEST_OPSET = 8


@dataclass(frozen=True)
class Imported:
    """A network and where its file holds the same thing.

    Attributes:
        network: the network.
        input_name: of the graph input.
        input_shape: ONNX shape of one input, at batch size 1.
        output_name: of the value that the network computes.
    """

    network: Network
    input_name: str
    input_shape: Shape
    output_name: str


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def import_graph(model: onnx.ModelProto, decision: Rule | None = None) -> Imported:
    """Import an ONNX model; nothing is compared with the source here.

    Raises:
        UnsupportedOperator: a node is not piecewise linear or not known.
        InvalidModel: the model is damaged or contradicts itself.
    """
    graph, opset = model.graph, opset_of(model)
    values = initialisers(graph)
    name, shape = the_input(graph, set(values))
    builder = Builder([Node("input", None)])
    values[name] = Variable(0, shape)
    run_nodes(graph, opset, values, builder)
    if len(graph.output) != 1:
        raise InvalidModel(f"expected one output, the model has {len(graph.output)}: export it with one")
    output = graph.output[0].name
    if output not in values:
        raise InvalidModel(f"output '{output}' is computed by no node: the model is damaged")
    last = values[output]
    if isinstance(last, Constant):
        raise InvalidModel(f"output '{output}' does not depend on the input: there is nothing to analyse")
    scores = [n for n in last.shape if n != 1]
    if len(scores) > 1:
        raise InvalidModel(f"output '{output}' has shape {last.shape}: expected one row of scores per input")
    classes = scores[0] if scores else 1
    rule = decision or ("sign" if classes == 1 else "argmax")
    network = Network(
        nodes=simplify(builder.nodes, last.node),
        input_shape=plain(shape),
        decision=Decision(rule, classes),
        notices=tuple(builder.notices),
    )
    return Imported(network, name, shape, output)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators that the model is written in."""
    versions: list[int] = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not model.graph.node:
        raise InvalidModel("the model has no nodes: expected an ONNX graph; export the model again")
    if not versions:
        raise InvalidModel("the model does not say which opset it uses: it is damaged, export it again")
    if not OLDEST_OPSET <= versions[0] <= newest:
        raise InvalidModel(
            f"the model uses opset {versions[0]}: expected {OLDEST_OPSET} to {newest}; "
            "convert it with onnx.version_converter or export it again"
        )
    return versions[0]


def initialisers(graph: onnx.GraphProto) -> dict[str, Value]:
    """The weights of the graph by name."""
    if graph.sparse_initializer:
        raise InvalidModel("the model holds sparse initialisers, which are not supported: store them dense")
    found: dict[str, Value] = {}
    for tensor in graph.initializer:
        try:
            found[tensor.name] = Constant(numpy_helper.to_array(tensor))
        except Exception as error:
            raise InvalidModel(f"initialiser '{tensor.name}' cannot be read: {first_line(error)}") from None
    return found


def the_input(graph: onnx.GraphProto, initialised: set[str]) -> tuple[str, Shape]:
    """Name of the one input and its shape with batch size 1."""
    inputs = [value for value in graph.input if value.name not in initialised]
    if len(inputs) != 1:
        names = ", ".join(f"'{value.name}'" for value in inputs) or "none"
        raise InvalidModel(f"expected one input, the model has {len(inputs)} ({names}): export it with one")
    name, kind = inputs[0].name, inputs[0].type.tensor_type
    if not kind.HasField("shape") or not kind.shape.dim:
        raise InvalidModel(f"input '{name}' has no shape: export the model with the shape of its input")
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if sizes[0] <= 0 and len(sizes) > 1:
        sizes[0] = 1
    if min(sizes) <= 0:
        shown = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in kind.shape.dim)
        raise InvalidModel(
            f"input '{name}' has shape ({shown}): only the batch axis may be open, export the model with fixed sizes"
        )
    return name, tuple(sizes)


def run_nodes(graph: onnx.GraphProto, opset: int, values: dict[str, Value], builder: Builder) -> None:
    """Import the nodes of a graph in an order in which every input is known; `values` grows by their outputs."""
    made = Counter(name for node in graph.node for name in node.output if name)
    made.update(values.keys())
    twice = [name for name, times in made.items() if times > 1]
    if twice:
        raise InvalidModel(f"value '{twice[0]}' is defined twice: the model is damaged")
    pending = list(enumerate(graph.node))
    while pending:
        later = []
        for i, node in pending:
            if any(name and name not in values for name in node.input):
                later.append((i, node))
                continue
            for name, value in zip(node.output, run_node(node, i, opset, values, builder), strict=False):
                if name:
                    values[name] = value
        if len(later) == len(pending):
            raise stuck(later, made)
        pending = later


def stuck(pending: list[tuple[int, onnx.NodeProto]], made: Counter[str]) -> InvalidModel:
    """Why no node of the rest can be computed: a value is missing, or there is a cycle."""
    for i, node in pending:
        for name in node.input:
            if name and name not in made:
                return InvalidModel(
                    f"node '{name_of(node, i)}' ({node.op_type}) reads '{name}', which is no input, "
                    "initialiser or output of a node: the model is damaged"
                )
    names = ", ".join(f"'{name_of(node, i)}'" for i, node in pending[:5])
    return InvalidModel(f"the graph has a cycle that involves the nodes {names}: the model is damaged")


def name_of(node: onnx.NodeProto, i: int) -> str:
    """The name of a node, or operator and place where it has none."""
    return node.name or f"{node.op_type}_{i}"


def run_node(node: onnx.NodeProto, i: int, opset: int, values: dict[str, Value], builder: Builder) -> list[Value]:
    """Import one node."""
    name = name_of(node, i)
    handler = HANDLERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if handler is None:
        kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise UnsupportedOperator(
            f"node '{name}': operator '{kind}' is not piecewise linear or not known; "
            f"supported: {', '.join(sorted(HANDLERS))}"
        )
    inputs = tuple(values[key] if key else None for key in node.input)
    outputs = sum(bool(key) for key in node.output)
    try:
        attributes: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        step = Step(name, node.op_type, inputs, outputs, attributes, opset, builder)
        with np.errstate(all="ignore"):
            result = handler(step)
    except CalotteError:
        raise
    except Exception as error:
        raise InvalidModel(f"node '{name}' ({node.op_type}): {first_line(error)}") from None
    return [result] if isinstance(result, Constant | Variable) else list(result)
