"""`calotte paper`: the paper's statements tried by sampling, what its promise rests on measured, its figures drawn.

V. Kůrková, *Robustness of Deep ReLU Networks to Misclassification of High-Dimensional Data*, arXiv:2602.18674.
"""

from calotte.paper.effort import Effort
from calotte.paper.report import Check, Report, Section, Table, render
from calotte.paper.run import run

__all__ = ["Check", "Effort", "Report", "Section", "Table", "render", "run"]
