"""Evaluation: one ONNX node in ONNX's reference implementation, on constants or on the numbers of entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from calotte.errors import InvalidModel
from calotte.models.operators.step import Step

__all__ = ["evaluated"]


def evaluated(step: Step, arguments: list[NDArray[Any] | None]) -> list[NDArray[Any]]:
    """The results of the operator of a step, with its attributes, on other arguments.

    Raises:
        InvalidModel: they do not fit.
    """
    names = ["" if array is None else f"i{k}" for k, array in enumerate(arguments)]
    outputs = [f"o{k}" for k in range(step.outputs)]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(step.op_type, names, outputs, **step.attributes)],
        "one",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in names if name],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", step.opset)])
    feed = {name: array for name, array in zip(names, arguments, strict=True) if array is not None}
    try:
        results: Any = ReferenceEvaluator(model).run(None, feed)
    except Exception as error:
        raise InvalidModel(
            f"node '{step.name}' ({step.op_type}) cannot be evaluated: {' '.join(str(error).split())[:200]}"
        ) from None
    return [np.asarray(result) for result in results]
