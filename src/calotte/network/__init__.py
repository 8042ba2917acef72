"""Networks: the piecewise-linear graph, its loaders, random networks."""

from calotte.network.clip import clipped
from calotte.network.decision import Decision
from calotte.network.graph import Network
from calotte.network.onnx import from_onnx, load
from calotte.network.random import random_network
from calotte.network.sklearn import from_sklearn
from calotte.network.torch import from_torch

__all__ = ["Decision", "Network", "clipped", "from_onnx", "from_sklearn", "from_torch", "load", "random_network"]
