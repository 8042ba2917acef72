"""PyTorch modules: exported to ONNX in memory, then imported by the one path there is."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotte.checks import kind
from calotte.errors import InvalidModel
from calotte.models.agreement import DOUBLE, SINGLE, Source, check, check_rows, differences, probes
from calotte.models.files import first_line
from calotte.models.importer import import_graph
from calotte.models.onnx import in_float64
from calotte.models.operators.step import Final
from calotte.models.plain import plain_copy
from calotte.models.quiet import quiet
from calotte.network.affine import Shape
from calotte.network.decision import Decision, Rule
from calotte.network.fingerprint import fingerprint
from calotte.network.graph import Network, Original

__all__ = ["from_torch"]


def from_torch(module: torch.nn.Module, input_shape: Sequence[int] | int, decision: Rule | None = None) -> Network:
    """A PyTorch module as a network, compared with the module before it is handed out.

    A float64 copy is exported with `torch.onnx.export(dynamo=True)`; the module itself is left alone. Weights that
    are computed (`weight_norm`, `spectral_norm`, pruning) are taken as the module computes them.

    Args:
        module: a module in evaluation mode that takes a batch (B, *input_shape) and treats each row alone; it gives
            one tensor, or a tuple or mapping that holds one.
        input_shape: shape of one input, without batch; a number d for (d,).
        decision: how outputs become an answer. Default: argmax, or sign where there is one output.

    Raises:
        InvalidModel: the module is in training mode or cannot be exported.
        UnsupportedOperator: it is not piecewise linear.
        SourceMismatch: the network and the module disagree, or rows of a batch mix.

    Examples:
        >>> import torch, calotte
        >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
        >>> calotte.from_torch(module, 4).units  # 8 ReLUs, 2 comparisons of outputs
        10
    """
    if not isinstance(module, torch.nn.Module):
        raise InvalidModel(f"module: expected a torch.nn.Module, came {kind(module)}")
    if isinstance(module, torch.jit.ScriptModule):
        raise InvalidModel(
            "a ScriptModule cannot be exported from memory: pass the module that it was made from, or write it with "
            "torch.onnx.export(module, (example,), 'model.onnx', dynamo=False) and load that file with calotte.load"
        )
    if module.training:
        raise InvalidModel("the module is in training mode: call .eval() on it first")
    shape = shape_of(input_shape)
    try:
        own = plain_copy(module)
        double = copy.deepcopy(own).to(dtype=torch.float64)
    except Exception as error:
        raise InvalidModel(f"the module cannot be copied in float64: {first_line(error)}") from None
    key = key_of_scores(double, shape)
    own, double = Scores.of(own, key), Scores.of(double, key)
    model = exported(double, torch.zeros(1, *shape, dtype=torch.float64))
    imported = import_graph(model, decision)
    network = replace(imported.network, sha256=fingerprint(imported.network))
    final = imported.final
    source = Source(
        ModuleOutputs(double, shape),
        "the module",
        SINGLE,
        final.scores if final else None,
        together=ModuleOutputs(double, shape).together,
    )
    if final and (final.scores is None or not final.gentle):  # what leads to it is seen in the export only
        check(network, in_float64(imported))
        check_rows(source, probes(network.d, 1.0)["Gaussian"])
    else:
        check(network, source, lambda: in_float64(imported))
        network = with_rounding_notice(network, own, source)
    return replace(network, original=in_own_numbers(own, shape, network.decision, final))


def shape_of(input_shape: Sequence[int] | int) -> Shape:
    """The shape of one input as a tuple of positive sizes."""
    try:
        sizes = input_shape if isinstance(input_shape, Sequence) else (input_shape,)
        shape = tuple(operator.index(n) for n in sizes)
    except TypeError:
        raise InvalidModel(
            f"input_shape: expected whole numbers, as in (3, 32, 32), came {kind(input_shape)}"
        ) from None
    if not shape or min(shape) < 1:
        raise InvalidModel(f"input_shape {shape}: expected positive sizes, without the batch axis")
    return shape


class Scores(torch.nn.Module):
    """A module that gives one entry of what another one gives."""

    def __init__(self, module: torch.nn.Module, key: Any) -> None:
        super().__init__()
        self.module, self.key = module, key

    def forward(self, x: Tensor) -> Any:
        """The entry."""
        return self.module(x)[self.key]

    @staticmethod
    def of(module: torch.nn.Module, key: Any) -> torch.nn.Module:
        """The module itself where it gives a tensor: no key."""
        return module if key is None else Scores(module, key).eval()


def key_of_scores(module: torch.nn.Module, shape: Shape) -> Any:
    """Where in what the module gives the scores are: None for a tensor, else the key of the only one.

    Raises:
        InvalidModel: the module cannot be run, or gives no tensor or several.
    """
    try:
        with torch.no_grad(), quiet():
            y = module(torch.zeros(1, *shape, dtype=torch.float64))
    except Exception as error:
        raise InvalidModel(
            f"the module cannot be run in float64 on a batch of shape {(1, *shape)} ({first_line(error)}): expected "
            "the shape of one input, without batch, and tensors made in the number type of the input"
        ) from None
    if isinstance(y, Tensor):
        return None
    entries = dict(y) if isinstance(y, Mapping) else dict(enumerate(y)) if isinstance(y, tuple | list) else {}
    keys = [key for key, value in entries.items() if isinstance(value, Tensor)]
    if len(entries) != 1 or len(keys) != 1:
        given = f"{type(y).__name__} of {list(entries)}" if entries else type(y).__name__
        raise InvalidModel(
            f"the module gives a {given}: expected one tensor of scores; wrap it in a module that returns only that"
        )
    return keys[0]


@dataclass(frozen=True)
class ModuleOutputs:
    """What a module says about inputs (n, d): one after the other, or together in one batch."""

    module: torch.nn.Module
    shape: Shape

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([self.batch(row[None]).reshape(1, -1) for row in x])

    def together(self, x: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """(n, K); None where the module does not take batches."""
        try:
            y = self.batch(x)
        except InvalidModel:
            return None
        return y.reshape(len(x), -1) if y.ndim and len(y) == len(x) else None

    def batch(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the module says about one batch, in the shape that it gives it."""
        try:
            with torch.no_grad():
                y: Tensor = self.module(torch.from_numpy(x).reshape(-1, *self.shape))
        except Exception as error:
            raise InvalidModel(f"the module cannot be run in float64 ({first_line(error)})") from None
        return y.to(torch.float64).numpy()


@dataclass(frozen=True)
class ModuleAnswers:
    """Answers of a module, in its own numbers, at points (n, d).

    `decides`: its output is the answer; else a single one is 1 where it is above `level`.
    """

    module: torch.nn.Module
    shape: Shape
    dtype: torch.dtype
    decision: Decision
    decides: bool
    level: float

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            rows = [self.module(row.to(self.dtype).reshape(1, *self.shape)).reshape(1, -1) for row in x]
        y = torch.cat(rows).to(torch.float64)
        if not self.decides:
            return self.decision.decide(y - self.level)
        return (y[:, 0] > 0).to(torch.int64) if self.decision.rule == "sign" else y[:, 0].to(torch.int64)


def in_own_numbers(own: torch.nn.Module, shape: Shape, decision: Decision, final: Final | None) -> Original | None:
    """The module in the number type of its weights; None where that is none of the usual ones."""
    dtype = next((p.dtype for p in own.parameters() if p.is_floating_point()), torch.float32)
    if dtype not in (torch.float16, torch.float32, torch.float64):
        return None
    decides = final is not None and final.scores is None
    level = final.level if final is not None and final.single else 0.0
    return Original(ModuleAnswers(own, shape, dtype, decision, decides, level), dtype, "the module")


def with_rounding_notice(network: Network, module: torch.nn.Module, source: Source) -> Network:
    """Say so where a float64 module differs because the exporter rounds Python numbers to float32."""
    x = probes(network.d, 1.0)["Gaussian"]
    narrow = all(p.dtype != torch.float64 for p in module.parameters())
    exact = replace(source, roundoff=DOUBLE)
    if narrow or differences(network, network.forward(x), exact, x, 1e-10, bounded=True) is None:
        return network
    notice = "the exporter rounded Python numbers in the module (slopes, bounds, factors) to float32"
    return replace(network, notices=(*network.notices, notice))


def exported(module: torch.nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    """The module as an ONNX model in memory."""
    try:
        with quiet():
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
