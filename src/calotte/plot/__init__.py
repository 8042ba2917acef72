"""Pictures of results: each function draws on matplotlib axes and gives them back.

Without `axes` a figure is made by pyplot, so that a notebook shows it.
"""

from calotte.plot.distances import scatter
from calotte.plot.images import as_images, riskiest
from calotte.plot.plane import cell
from calotte.plot.ranked import risk
from calotte.plot.spread import by_class, probabilities, radii
from calotte.plot.style import COLOURS
from calotte.plot.sweep import sizes

__all__ = [
    "COLOURS",
    "as_images",
    "by_class",
    "cell",
    "probabilities",
    "radii",
    "risk",
    "riskiest",
    "scatter",
    "sizes",
]
