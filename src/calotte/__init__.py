"""calotte: how likely is random noise to change what a ReLU network says, and how much of that can be proved?

Names are imported when they are first used: `import calotte` and `calotte --help` wait for nothing.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calotte import plot as plot
    from calotte.assess import assess, assess_each
    from calotte.assessment import Assessment
    from calotte.bound import Bound
    from calotte.cells.cell import Cell
    from calotte.errors import CalotteError, InvalidInput, InvalidModel, SourceMismatch, UnsupportedOperator
    from calotte.frame import to_frame
    from calotte.independent import Box, Truncated
    from calotte.ladder import propose
    from calotte.laws import make_noise
    from calotte.models.onnx import from_onnx, load
    from calotte.models.sklearn import from_sklearn
    from calotte.models.torch import from_torch
    from calotte.network import Network, clipped, random_network
    from calotte.network.event import Event
    from calotte.network.normalise import normalised
    from calotte.noise import Ball, Gaussian, Sphere, noise_map
    from calotte.plan import Plan, largest_noise, plan
    from calotte.proofs.prove import Proof, prove
    from calotte.settings import Settings
    from calotte.shallow import ShallowHeaviside

    __version__: str

__all__ = [
    "Assessment",
    "Ball",
    "Bound",
    "Box",
    "CalotteError",
    "Cell",
    "Event",
    "Gaussian",
    "InvalidInput",
    "InvalidModel",
    "Network",
    "Plan",
    "Proof",
    "Settings",
    "ShallowHeaviside",
    "SourceMismatch",
    "Sphere",
    "Truncated",
    "UnsupportedOperator",
    "__version__",
    "assess",
    "assess_each",
    "clipped",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "largest_noise",
    "load",
    "make_noise",
    "noise_map",
    "normalised",
    "plan",
    "propose",
    "prove",
    "random_network",
    "to_frame",
]

_HOMES = {
    "assess": ("assess", "assess_each"),
    "assessment": ("Assessment",),
    "bound": ("Bound",),
    "cells.cell": ("Cell",),
    "errors": ("CalotteError", "InvalidInput", "InvalidModel", "SourceMismatch", "UnsupportedOperator"),
    "frame": ("to_frame",),
    "independent": ("Box", "Truncated"),
    "ladder": ("propose",),
    "laws": ("make_noise",),
    "models.onnx": ("from_onnx", "load"),
    "models.sklearn": ("from_sklearn",),
    "models.torch": ("from_torch",),
    "network": ("Network", "clipped", "random_network"),
    "network.event": ("Event",),
    "network.normalise": ("normalised",),
    "noise": ("Ball", "Gaussian", "Sphere", "noise_map"),
    "plan": ("Plan", "largest_noise", "plan"),
    "proofs.prove": ("Proof", "prove"),
    "settings": ("Settings",),
    "shallow": ("ShallowHeaviside",),
}
_HOME = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}


class _Package(ModuleType):
    """This module: importing `calotte.assess` or `calotte.plan` does not hide the functions of the same names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """A public name on its first use."""
    if name == "__version__":
        return version("calotte")
    if name == "plot":
        return import_module(f"{__name__}.plot")
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
