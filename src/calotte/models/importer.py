"""Importer: an ONNX graph becomes a network, node by node, at batch size 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from calotte.errors import CalotteError, InvalidInput, InvalidModel, UnsupportedOperator
from calotte.models.control import CONTROL
from calotte.models.files import first_line
from calotte.models.operators import HANDLERS
from calotte.models.operators.behind import behind
from calotte.models.operators.folding import FOLDED, fold
from calotte.models.operators.refused import REFUSED
from calotte.models.operators.step import MOST_ENTRIES, Builder, Constant, Final, Parts, Step, Value, Variable, plain
from calotte.models.outputs import judged_part, read_by
from calotte.models.simplify import simplify
from calotte.network.affine import Shape
from calotte.network.decision import Decision, Rule
from calotte.network.graph import Network

__all__ = ["Imported", "import_graph"]

OLDEST_OPSET = 8

SIGN_NOTICE = (
    "the model has one output: the answer judged is its sign, class 1 where it is above 0, else class 0; for another "
    "threshold subtract that from the output in the model, and decision='sign' says that the sign is meant"
)


@dataclass(frozen=True)
class Imported:
    """A network and where its file holds the same thing.

    Attributes:
        network: the network.
        model: the part of the file that computes what the network does, its output the value to compare with.
        input_name, input_shape, input_dtype: of the graph input; the shape at batch size 1.
        batch: the fixed batch size of the file, else 1.
        open_batch: whether the file takes batches of any size.
        from_source: that value (n, M) to the network's outputs (n, K); None where they are the same.
        final: what the file does with the outputs of the network at its end, and the network does not.
    """

    network: Network
    model: onnx.ModelProto
    input_name: str
    input_shape: Shape
    input_dtype: np.dtype[Any]
    batch: int
    open_batch: bool
    from_source: Callable[[Tensor], Tensor] | None = None
    final: Final | None = None


def printable(text: str) -> str:
    """A text from a file without line ends and other control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)


def import_graph(model: onnx.ModelProto, decision: Rule | None = None, output: str | None = None) -> Imported:
    """Import what an ONNX model computes as one of its values; nothing is compared with the source here.

    Raises:
        UnsupportedOperator: a node is not piecewise linear or not known.
        InvalidModel: the model is damaged or contradicts itself.
        InvalidInput: the decision does not fit the outputs, or there is no such output.
    """
    try:
        part, notices = judged_part(model, output)
        return imported_graph(part, decision, notices)
    except CalotteError as error:  # names in a damaged file may hold anything
        raise type(error)(printable(str(error))) from None
    except UnicodeDecodeError:
        raise InvalidModel("a name in the model is no text (UTF-8): the model is damaged, export it again") from None


def imported_graph(model: onnx.ModelProto, decision: Rule | None, notices: list[str]) -> Imported:
    """As `import_graph`, of a model all of which is needed; messages quote names as they are."""
    graph, opset = model.graph, opset_of(model)
    values = initialisers(graph)
    name, shape, dtype, open_batch = the_input(graph, set(values))
    batch = batch_size(shape, graph.output[0])
    shape = (1, *shape[1:]) if batch > 1 else shape
    builder = Builder(batch, dtype, recomputed="float16" if dtype == np.float16 else None)
    values[name] = Variable(0, shape)
    run_nodes(graph, opset, values, builder)
    output = graph.output[0].name
    if output not in values:
        raise InvalidModel(f"output '{output}' is computed by no node: the model is damaged")
    last = values[output]
    final = last if isinstance(last, Final) else None
    scores = final.before if final else last
    if not isinstance(scores, Variable):
        raise InvalidModel(f"output '{output}' does not depend on the input: there is nothing to analyse")
    taken = decision_of(output, scores.shape, final, decision)
    network = Network(
        nodes=simplify(builder.nodes, scores.node),
        input_shape=plain(shape),
        decision=taken,
        notices=(*notices, *builder.notices, *([final.notice] if final else []), *judged(taken, final, decision)),
        left_off=final.op_type if final else None,
        judged=final.source if final else output,
        recomputed=builder.recomputed,
    )
    if final is not None and final.source != output:
        del graph.output[:]
        graph.output.append(onnx.ValueInfoProto(name=final.source))
    from_source = final.from_source if final else None
    return Imported(network, model, name, shape, dtype, batch, open_batch, from_source, final)


def decision_of(output: str, shape: Shape, final: Final | None, asked: Rule | None) -> Decision:
    """How outputs of this shape become an answer."""
    sizes = [n for n in shape if n != 1]
    if len(sizes) > 1:
        raise InvalidModel(f"output '{output}' has shape {shape}: expected one row of scores per input")
    classes = sizes[0] if sizes else 1
    rule = (final.rule if final else None) or asked or ("sign" if classes == 1 else "argmax")
    if asked not in (None, rule):
        raise InvalidInput(f"decision '{asked}' contradicts the model, which ends in a decision of its own, '{rule}'")
    return Decision(rule, classes, final.ties if final else 0)


def judged(taken: Decision, final: Final | None, asked: Rule | None) -> list[str]:
    """What to say where nobody said that the sign of a single output is the answer."""
    if taken.rule != "sign" or final is not None or asked is not None:
        return []
    return [SIGN_NOTICE]


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
            array: NDArray[Any] = numpy_helper.to_array(tensor)
        except Exception as error:
            raise InvalidModel(f"initialiser '{tensor.name}' cannot be read: {first_line(error)}") from None
        found[tensor.name] = Constant(array)
    return found


def the_input(graph: onnx.GraphProto, initialised: set[str]) -> tuple[str, Shape, np.dtype[Any], bool]:
    """Name, shape and number type of the one input, and whether its batch axis is open: that has size 1 then."""
    inputs = [value for value in graph.input if value.name not in initialised]
    if len(inputs) != 1:
        names = ", ".join(f"'{value.name}'" for value in inputs) or "none"
        raise InvalidModel(
            f"expected one input, the output judged depends on {len(inputs)} ({names}): export the model with one, "
            "the others as constants"
        )
    name, kind = inputs[0].name, inputs[0].type.tensor_type
    if not kind.HasField("shape") or not kind.shape.dim:
        raise InvalidModel(f"input '{name}' has no shape: export the model with the shape of its input")
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    open_batch = sizes[0] <= 0 and len(sizes) > 1
    if open_batch:
        sizes[0] = 1
    if min(sizes) <= 0 or np.prod([float(n) for n in sizes]) > MOST_ENTRIES:
        shown = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in kind.shape.dim)
        raise InvalidModel(
            f"input '{name}' has shape ({shown}): expected positive sizes, of which only that of the batch axis "
            "may be open; export the model with fixed sizes"
        )
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except Exception:
        dtype = np.dtype(np.void)
    if dtype not in (np.float16, np.float32, np.float64):
        raise InvalidModel(f"input '{name}' has type {dtype}: expected float16, float32 or float64")
    return name, tuple(sizes), dtype, open_batch


def batch_size(shape: Shape, output: onnx.ValueInfoProto) -> int:
    """The first axis of an input where it is a batch axis of fixed size: where the output has it too."""
    declared = output.type.tensor_type
    if len(shape) < 2 or shape[0] == 1:
        return 1
    if declared.HasField("shape"):
        sizes = [dim.dim_value for dim in declared.shape.dim]
        if len(sizes) < 2 or sizes[0] != shape[0]:
            return 1
    return shape[0]


def run_nodes(graph: onnx.GraphProto, opset: int, values: dict[str, Value], builder: Builder) -> None:
    """Import the nodes of a graph in an order in which every input is known; `values` grows by their outputs."""
    pending = list(enumerate(graph.node))
    while pending:
        later = []
        for i, node in pending:
            if any(name not in values for name in read_by(node)):
                later.append((i, node))
                continue
            for name, value in zip(node.output, run_node(node, i, opset, values, builder), strict=False):
                if name:
                    values[name] = value
        if len(later) == len(pending):
            raise stuck(later, values)
        pending = later


def run_inside(
    graph: onnx.GraphProto, opset: int, outside: Mapping[str, Value], given: Mapping[str, Value], builder: Builder
) -> list[Value]:
    """The outputs of a graph inside a node, which sees the values outside it and those that it is given."""
    values = {**outside, **initialisers(graph), **given}
    run_nodes(graph, opset, values, builder)
    missing = [value.name for value in graph.output if value.name not in values]
    if missing:
        raise InvalidModel(
            f"output '{missing[0]}' of a graph inside a node is computed by no node: the model is damaged"
        )
    return [values[value.name] for value in graph.output]


def stuck(pending: list[tuple[int, onnx.NodeProto]], values: dict[str, Value]) -> InvalidModel:
    """Why no node of the rest can be computed: a value is missing, or there is a cycle."""
    to_come = {name for _, node in pending for name in node.output}
    for i, node in pending:
        for name in read_by(node):
            if name not in values and name not in to_come:
                return InvalidModel(
                    f"node '{name_of(node, i)}' ({node.op_type}) reads '{name}', which is no input or initialiser, "
                    "and no output of a node that calotte computes: the model is damaged"
                )
    names = ", ".join(f"'{name_of(node, i)}'" for i, node in pending[:5])
    return InvalidModel(f"the graph has a cycle that involves the nodes {names}: the model is damaged")


def name_of(node: onnx.NodeProto, i: int) -> str:
    """The name of a node, or operator and place where it has none."""
    return printable(node.name or f"{node.op_type}_{i}")


def run_node(node: onnx.NodeProto, i: int, opset: int, values: dict[str, Value], builder: Builder) -> list[Value]:
    """Import one node."""
    name, op_type = name_of(node, i), node.op_type
    if node.domain not in ("", "ai.onnx"):
        op_type = f"{node.domain}.{op_type}"
        if op_type not in HANDLERS:
            raise UnsupportedOperator(
                f"node '{name}': operator '{op_type}' is not one of ONNX's own operators that calotte knows"
            )
    if not any(op_type in known for known in (HANDLERS, CONTROL, FOLDED, REFUSED)):
        raise UnsupportedOperator(f"node '{name}': operator '{op_type}' is not known to ONNX {onnx.__version__}")
    inputs = tuple(values[key] if key else None for key in node.input)
    try:
        attributes: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        step = Step(name, op_type, inputs, tuple(node.input), len(node.output), attributes, opset, builder)
        with np.errstate(all="ignore"):
            if op_type in CONTROL:
                return CONTROL[op_type](step, lambda graph, given: run_inside(graph, opset, values, given, builder))
            if any(isinstance(value, Final) for value in inputs):
                return [behind(step)]
            constant = not any(isinstance(value, Variable | Parts) for value in inputs)
            if constant and not op_type.startswith("Sequence"):
                return list(fold(step))
            if op_type not in HANDLERS:
                raise step.unsupported(REFUSED[op_type])
            first = len(builder.nodes)
            result = HANDLERS[op_type](step)
            builder.enclose(first)
    except CalotteError:
        raise
    except Exception as error:
        raise InvalidModel(f"node '{name}' ({op_type}): {first_line(error)}") from None
    return [result] if isinstance(result, Constant | Variable | Final | Parts) else list(result)
