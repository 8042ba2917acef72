"""calotte: how likely is random noise to change what a ReLU network says, and how much of that can be proved?"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from calotte.assess import assess, assess_each
from calotte.assessment import Assessment
from calotte.bounds import Bound
from calotte.cells.cell import Cell
from calotte.errors import CalotteError, InvalidInput, InvalidModel, SourceMismatch, UnsupportedOperator
from calotte.network import Network, clipped, random_network
from calotte.noise import Ball, Gaussian, Sphere, make_noise, noise_map
from calotte.plan import Plan, plan
from calotte.settings import Settings
from calotte.shallow import ShallowHeaviside

if TYPE_CHECKING:
    from calotte.models.onnx import from_onnx, load
    from calotte.models.sklearn import from_sklearn
    from calotte.models.torch import from_torch

__all__ = [
    "Assessment",
    "Ball",
    "Bound",
    "CalotteError",
    "Cell",
    "Gaussian",
    "InvalidInput",
    "InvalidModel",
    "Network",
    "Plan",
    "Settings",
    "ShallowHeaviside",
    "SourceMismatch",
    "Sphere",
    "UnsupportedOperator",
    "assess",
    "assess_each",
    "clipped",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "load",
    "make_noise",
    "noise_map",
    "plan",
    "random_network",
]

__version__ = version("calotte")

LOADERS = {
    "from_onnx": "calotte.models.onnx",
    "from_sklearn": "calotte.models.sklearn",
    "from_torch": "calotte.models.torch",
    "load": "calotte.models.onnx",
}
"""Where the loaders are: they import onnx and onnxruntime, which is done when one is first asked for."""


def __getattr__(name: str) -> Any:
    if name in LOADERS:
        return getattr(importlib.import_module(LOADERS[name]), name)
    raise AttributeError(f"module 'calotte' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *LOADERS})
