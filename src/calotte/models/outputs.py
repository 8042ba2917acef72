"""Outputs: which value of an ONNX model is judged, and the part of the model that computes it.

What that value does not need is left out before anything is imported, whatever it is: other outputs, the labels
that exporters of scikit-learn write beside the scores, inputs that only those read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
import onnx.inliner

from calotte.errors import InvalidInput, InvalidModel
from calotte.models.files import first_line

__all__ = ["judged_part"]

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)


def judged_part(model: onnx.ModelProto, output: str | None = None) -> tuple[onnx.ModelProto, list[str]]:
    """The part of a model that one value needs, its nodes in an order in which every input is known.

    Args:
        model: left as it is.
        output: name of the value; any value that a node computes. Default: the one output of the model, or of
            several the only one that can be scores.

    Returns:
        A model with that value as its only output, its local functions inlined, and notices for the user.

    Raises:
        InvalidInput: `output` names no value.
        InvalidModel: there are several outputs, and which of them to judge is open.
    """
    if not model.graph.node or not model.graph.output:
        raise InvalidModel("the model has no nodes or no output: expected an ONNX graph; export the model again")
    if model.functions:
        model = inlined(model)
    producers = producers_of(model.graph)
    chosen, notices = (output, []) if output is not None else chosen_output(model.graph, producers)
    if output is not None and output not in producers:
        names = listed(model.graph.output)
        raise InvalidInput(f"output '{output}' is no value of the model; its outputs are {names}")
    if chosen not in producers:
        raise InvalidModel(f"output '{chosen}' is computed by no node: the model is damaged")
    return part_for(model, behind_maps(chosen, producers), producers), notices


def producers_of(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that computes each value."""
    found: dict[str, onnx.NodeProto] = {}
    weights = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for name in filter(None, node.output):
            if name in found or name in weights:
                raise InvalidModel(f"value '{name}' is defined twice: the model is damaged")
            found[name] = node
    return found


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its own functions written out."""
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:
        raise InvalidModel(f"the functions of the model cannot be written out: {first_line(error)}") from None


def chosen_output(graph: onnx.GraphProto, producers: dict[str, onnx.NodeProto]) -> tuple[str, list[str]]:
    """The output to judge where none was asked for."""
    if len(graph.output) == 1:
        return graph.output[0].name, []
    names = listed(graph.output)
    scores = [value for value in graph.output if may_be_scores(value, producers)]
    if len(scores) != 1:
        what = "several can" if scores else "none can"
        raise InvalidModel(
            f"the model has {len(graph.output)} outputs, {names}, and {what} be scores: say which to judge with "
            "load(path, output=NAME), or --output NAME"
        )
    name = scores[0].name
    return name, [f"of the outputs ({names}) '{name}' is judged; for another one: output=NAME, or --output NAME"]


def may_be_scores(value: onnx.ValueInfoProto, producers: dict[str, onnx.NodeProto]) -> bool:
    """Whether an output is one row of floating-point numbers per input, or a map made of such a row."""
    if value.type.HasField("sequence_type"):
        node = producers.get(value.name)
        return node is not None and node.op_type == "ZipMap"
    kind = value.type.tensor_type
    if kind.elem_type not in FLOATS:
        return False
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if sizes[:1] == [0]:  # an open batch axis
        sizes[0] = 1
    return 0 not in sizes and sum(n > 1 for n in sizes) <= 1


def listed(values: Iterable[onnx.ValueInfoProto]) -> str:
    """Names of values, in quotes."""
    return ", ".join(f"'{value.name}'" for value in values)


def behind_maps(name: str, producers: dict[str, onnx.NodeProto]) -> str:
    """The row of scores that a ZipMap of classes to scores is made of; other values as they are."""
    node = producers.get(name)
    if node is not None and node.op_type == "ZipMap" and node.domain == "ai.onnx.ml":
        return str(node.input[0])
    return name


def part_for(model: onnx.ModelProto, output: str, producers: dict[str, onnx.NodeProto]) -> onnx.ModelProto:
    """The model with `output` as its only output and nothing that it does not need."""
    needed, pending = {output}, [output]
    while pending:
        node = producers.get(pending.pop())
        for name in read_by(node) if node is not None else ():
            if name not in needed:
                needed.add(name)
                pending.append(name)
    graph = model.graph
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part.graph.name = graph.name
    part.graph.node.extend(in_order([node for node in graph.node if needed.intersection(node.output)]))
    read = [value for value in graph.input if value.name in needed]
    part.graph.input.extend(read or graph.input)  # none: the importer says why
    part.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in needed)
    part.graph.sparse_initializer.extend(t for t in graph.sparse_initializer if t.values.name in needed)
    declared = [value for value in graph.output if value.name == output]
    part.graph.output.extend(declared or [onnx.ValueInfoProto(name=output)])
    return part


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node reads, those that its subgraphs take from outside included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            own.update(name for inner in graph.node for name in inner.output)
            taken = [
                *(name for inner in graph.node for name in read_by(inner)),
                *(value.name for value in graph.output),
            ]
            yield from (name for name in taken if name not in own)


def in_order(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes in an order in which each stands behind those that it reads; those on a cycle at the end."""
    to_come = {name for node in nodes for name in node.output if name}
    ordered: list[onnx.NodeProto] = []
    while nodes:
        later = []
        for node in nodes:
            if any(name in to_come for name in read_by(node)):
                later.append(node)
            else:
                ordered.append(node)
                to_come.difference_update(node.output)
        if len(later) == len(nodes):
            return ordered + later
        nodes = later
    return ordered
