"""Opened: what people call their model, as a network; and what they call their inputs, as inputs and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calotte.checks import array, kind
from calotte.errors import InvalidInput
from calotte.network.graph import Network

__all__ = ["as_network", "split_batch"]


def as_network(model: Any, inputs: Any) -> Network:
    """A Network, a path of an ONNX file, a PyTorch module or a scikit-learn model as a network.

    Args:
        model: the model; a module must be in evaluation mode, and takes a batch of the inputs as they are.
        inputs: (B, ...), what a module's input shape is taken from.

    Raises:
        InvalidModel: it cannot be loaded.
        InvalidInput: it is none of these.
    """
    if isinstance(model, Network):
        return model
    if isinstance(model, str | Path):
        from calotte.models.onnx import load

        return load(model)
    if isinstance(model, torch.nn.Module):
        from calotte.models.torch import from_torch

        shape = tuple(getattr(inputs, "shape", None) or array("inputs", inputs).shape)
        if len(shape) < 2:
            raise InvalidInput(
                f"inputs of shape {shape}: a module takes batches, so pass a batch (B, ...), "
                "or make a network of the module first: calotte.from_torch(module, input_shape)"
            )
        return from_torch(model, shape[1:])
    if type(model).__module__.startswith("sklearn."):
        from calotte.models.sklearn import from_sklearn

        return from_sklearn(model)
    raise InvalidInput(
        "network: expected a calotte Network, the path of an .onnx file, a torch.nn.Module or a scikit-learn model, "
        f"came {kind(model)}"
    )


def split_batch(inputs: Any, labels: ArrayLike | None) -> tuple[Any, ArrayLike | None]:
    """Inputs and labels; a pair of tensors (x, y), y (B,) integers, as a DataLoader gives it, holds both."""
    pair = isinstance(inputs, list | tuple) and len(inputs) == 2 and all(isinstance(t, Tensor) for t in inputs)
    if labels is None and pair:
        x, y = inputs
        if y.ndim == 1 and x.ndim >= 2 and len(x) == len(y) and not y.is_floating_point():
            return x, y
    return inputs, labels
