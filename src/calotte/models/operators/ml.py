"""Operators of ONNX's domain ai.onnx.ml: the scaler that pipelines of scikit-learn begin with."""

from __future__ import annotations

import torch
from torch import Tensor

from calotte.models.operators.elementwise import scaled, shifted
from calotte.models.operators.step import Step, Value, operator

__all__: list[str] = []


@operator("ai.onnx.ml.Scaler")
def scaler(step: Step) -> Value:
    """(x - offset) scale for each feature, or with one offset or scale for all."""
    x = step.variable()

    def setting(key: str, default: float) -> Tensor:
        given = torch.tensor([float(v) for v in step.attributes.get(key, [default])], dtype=torch.float64)
        if len(given) not in (1, x.shape[-1]) or not given.isfinite().all():
            raise step.error(f"'{key}' holds {len(given)} numbers: expected 1 or {x.shape[-1]}, all of them finite")
        return given

    y = shifted(step, x, -setting("offset", 0.0), "/offset")
    return scaled(step, y, setting("scale", 1.0), suffix="/scale")
