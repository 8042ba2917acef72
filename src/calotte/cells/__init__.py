"""Cells: the convex sets on which a network is one affine map, and how far inputs are from their hyperplanes."""

from calotte.cells.cell import Cell
from calotte.cells.distances import Distances, signed_distances
from calotte.cells.hyperplanes import Hyperplanes

__all__ = ["Cell", "Distances", "Hyperplanes", "signed_distances"]
