"""PyTorch modules: exported to ONNX in memory, then imported by the one path there is."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.errors import InvalidModel
from calotte.models.agreement import DOUBLE, SINGLE, Source, check, differences, probes
from calotte.models.importer import first_line, import_graph
from calotte.models.onnx import in_float64
from calotte.models.operators.step import Final
from calotte.network.decision import Decision, Rule
from calotte.network.graph import Network, Original

__all__ = ["from_torch"]


def from_torch(module: torch.nn.Module, input_shape: Sequence[int], decision: Rule | None = None) -> Network:
    """A PyTorch module as a network, compared with the module before it is handed out.

    A float64 copy is exported with `torch.onnx.export(dynamo=True)`; the module itself is left alone.

    Args:
        module: a module in evaluation mode that takes a batch (B, *input_shape).
        input_shape: shape of one input, without batch.
        decision: how outputs become an answer. Default: argmax, or sign where there is one output.

    Raises:
        InvalidModel: the module is in training mode or cannot be exported.
        UnsupportedOperator: it is not piecewise linear.
        SourceMismatch: the network and the module disagree.
    """
    if not isinstance(module, torch.nn.Module):
        raise InvalidModel(f"expected a torch.nn.Module, came {type(module).__name__}")
    if module.training:
        raise InvalidModel("the module is in training mode: call .eval() on it first")
    shape = tuple(int(n) for n in input_shape)
    if not shape or min(shape) < 1:
        raise InvalidModel(f"input shape {shape}: expected positive sizes, without the batch axis")
    try:
        double = copy.deepcopy(module).to(device="cpu", dtype=torch.float64).requires_grad_(False)
    except Exception as error:
        raise InvalidModel(f"the module cannot be copied in float64: {first_line(error)}") from None
    model = exported(double, torch.zeros(1, *shape, dtype=torch.float64))
    imported = import_graph(model, decision)

    def outputs(x: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            with torch.no_grad():
                rows = [double(torch.from_numpy(row).reshape(1, *shape)).reshape(-1) for row in x]
        except Exception as error:
            raise InvalidModel(
                f"the module cannot be run in float64 ({first_line(error)}): give tensors that it makes the number "
                "type of its input"
            ) from None
        return torch.stack(rows).numpy()

    final = imported.final
    if final and (final.scores is None or not final.gentle):  # what leads to it is seen in the export only
        check(imported.network, in_float64(model, imported))
        return replace(imported.network, original=in_own_numbers(module, shape, imported.network.decision, final))
    source = Source(outputs, "the module", SINGLE, final.scores if final else None)
    check(imported.network, source, lambda: in_float64(model, imported))
    network = with_rounding_notice(imported.network, module, source)
    return replace(network, original=in_own_numbers(module, shape, network.decision, final))


def in_own_numbers(
    module: torch.nn.Module, shape: tuple[int, ...], decision: Decision, final: Final | None
) -> Original | None:
    """A copy of the module in the number type of its weights; None where that is none of the usual ones."""
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    if dtype not in (torch.float16, torch.float32, torch.float64):
        return None
    own = copy.deepcopy(module).to(device="cpu").requires_grad_(False)

    def answers(x: Tensor) -> Tensor:
        with torch.no_grad():
            y = torch.cat([own(row.to(dtype).reshape(1, *shape)).reshape(1, -1) for row in x]).to(torch.float64)
        return decision.decide(y) if final is None else final.answers(y, decision)

    return Original(answers, dtype, "the module")


def with_rounding_notice(network: Network, module: torch.nn.Module, source: Source) -> Network:
    """Say so where a float64 module differs because the exporter rounds Python numbers to float32."""
    x = probes(network.d, 1.0)["Gaussian"]
    narrow = all(p.dtype != torch.float64 for p in module.parameters())
    exact = replace(source, roundoff=DOUBLE)
    if narrow or differences(network, exact, x, 1e-10, bounded=True) is None:
        return network
    notice = "the exporter rounded Python numbers in the module (slopes, bounds, factors) to float32"
    return replace(network, notices=(*network.notices, notice))


def exported(module: torch.nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    """The module as an ONNX model in memory."""
    try:
        with silence():
            # the optimiser folds batch norms into convolutions, which is inexact
            program = torch.onnx.export(module, (example,), dynamo=True, verbose=False, optimize=False)
    except ImportError as error:
        raise InvalidModel(
            f"exporting a PyTorch module needs onnxscript ({first_line(error)}): pip install onnxscript"
        ) from None
    except Exception as error:
        cause = error.__cause__ or error
        raise InvalidModel(
            f"torch cannot export the module ({first_line(cause)}): expected one whose operations do not depend on "
            f"the values of its input, and an input of shape {tuple(example.shape[1:])}"
        ) from None
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep the exporter's progress and warnings off the terminal."""
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            logging.disable(logging.CRITICAL)
            yield
        finally:
            logging.disable(disabled)
