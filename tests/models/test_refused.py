"""Every operator of ONNX is decided, and what is refused says why."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from agreement import node
from onnx import helper, numpy_helper

from calotte.errors import CalotteError, UnsupportedOperator
from calotte.models.control import CONTROL
from calotte.models.importer import import_graph
from calotte.models.operators import HANDLERS
from calotte.models.operators.folding import FOLDED
from calotte.models.operators.refused import REFUSED

SCHEMAS = {s.name: s for s in onnx.defs.get_all_schemas() if s.domain == ""}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "networks.md"


def test_every_operator_is_decided_once():
    handled = {name for name in HANDLERS if "." not in name}
    assert handled | set(CONTROL) | set(REFUSED) | {"Constant"} == set(SCHEMAS)
    assert not set(HANDLERS) & set(REFUSED)
    assert not (set(HANDLERS) | set(REFUSED)) & set(CONTROL)
    assert set(FOLDED) <= set(SCHEMAS)


def test_every_operator_is_in_the_docs():
    text = DOCS.read_text(encoding="utf-8")
    assert set(SCHEMAS) <= set(re.findall(r"\w+", text))
    for op_type, reason in REFUSED.items():
        row = next(line for line in text.splitlines() if line.endswith(f"| {reason} |"))
        assert re.search(rf"\b{op_type}\b", row)


def one_node(op_type, standard=True, opset=None):
    """The operator on as many copies of the input 'x' as it needs, with its needed attributes 1."""
    schema = SCHEMAS.get(op_type)
    inputs = ["x"] * max(schema.min_input, 1 if schema.max_input else 0) if schema else ["x"]
    attributes = {}
    for name, attribute in (schema.attributes if schema else {}).items():
        if attribute.required:
            attributes[name] = {"INT": 1, "INTS": [1], "FLOAT": 1.0, "STRING": "a"}.get(attribute.type.name, 1)
    one = node(op_type, inputs, ["y"], name="it", domain="" if standard else "my.own", **attributes)
    graph = helper.make_graph(
        [one],
        "graph",
        [helper.make_tensor_value_info("x", 1, (1, 4))],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.float32(1.0), "one")],
    )
    opsets = [helper.make_opsetid("", opset or onnx.defs.onnx_opset_version()), helper.make_opsetid("my.own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


NEED_NO_INPUT = {"Constant", "RandomNormal", "RandomUniform"}


@pytest.mark.parametrize("op_type", sorted(set(REFUSED) - NEED_NO_INPUT))
def test_what_is_refused_says_why(op_type):
    with pytest.raises(UnsupportedOperator) as caught:
        import_graph(one_node(op_type))
    assert str(caught.value) == f"node 'it': operator '{op_type}' {REFUSED[op_type]}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("op_type", sorted(set(SCHEMAS) - set(REFUSED)))
def test_no_operator_ends_in_anything_but_a_network_or_an_error(op_type):
    said = ""
    try:
        import_graph(one_node(op_type))
    except CalotteError as error:
        said = str(error)
    assert "\n" not in said
    assert not said or any(word in said for word in ("'it'", "does not depend on the input", "output"))


@pytest.mark.parametrize("op_type", ["RandomNormal", "RandomUniform"])
def test_random_numbers_are_refused(op_type):
    model = one_node(op_type)
    model.graph.node[0].attribute.add(name="shape", type=onnx.AttributeProto.INTS, ints=[1, 4])
    with pytest.raises(UnsupportedOperator, match=r"'it'.*is random"):
        import_graph(model)


def test_operators_of_others_are_refused_by_name():
    with pytest.raises(UnsupportedOperator, match=r"'it': operator 'my.own.Fused' is not one of ONNX's own"):
        import_graph(one_node("Fused", standard=False))
    with pytest.raises(UnsupportedOperator, match=r"'it': operator 'Invented' is not known to ONNX"):
        import_graph(one_node("Invented"))


def test_reasons_are_sentences():
    for reason in REFUSED.values():
        assert reason[0].islower() or reason.startswith("on ")
        assert not reason.endswith(".")
