"""Networks: the piecewise-linear graph, its decision, clipping, random networks."""

from calotte.network.clip import clipped
from calotte.network.decision import Decision
from calotte.network.graph import Network
from calotte.network.random import random_network

__all__ = ["Decision", "Network", "clipped", "random_network"]
