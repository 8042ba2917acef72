"""calotte: how likely is random noise to change what a ReLU network says, and how much of that can be proved?"""

from calotte.assess import Assessment, assess
from calotte.bounds import Bound, Settings
from calotte.cells.cell import Cell
from calotte.errors import CalotteError, InvalidInput, InvalidModel, SourceMismatch, UnsupportedOperator
from calotte.network import Network, clipped, from_sklearn, from_torch, load, random_network
from calotte.noise import Ball, Gaussian, Sphere, make_noise, noise_map
from calotte.plan import Plan, plan
from calotte.shallow import ShallowHeaviside

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
    "clipped",
    "from_sklearn",
    "from_torch",
    "load",
    "make_noise",
    "noise_map",
    "plan",
    "random_network",
]
