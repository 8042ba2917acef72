"""The adversary: the nearest point that a search finds to be answered differently, every find re-checked."""

from calotte.adversary.search import RESTARTS, Adversary, nearest_misclassified
from calotte.adversary.witness import Witness

__all__ = ["RESTARTS", "Adversary", "Witness", "nearest_misclassified"]
