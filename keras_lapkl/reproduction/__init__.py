"""The paper's tables and figures as runs: planned, trained one by one, and written as one report.

A cell is one trained model: a `training.Recipe`, a number of unlabeled faces and a seed. What two
tables share is trained once. Each cell leaves a JSON with its errors face by face, so that the
report can be written at any time, from whatever is there.
"""

from keras_lapkl._support import extras

with extras.needed_by(__name__):
    from keras_lapkl.reproduction.cells import Data, load_data, miniature, run
    from keras_lapkl.reproduction.plan import LABELED, Cell, Plan
    from keras_lapkl.reproduction.report import claims, difference, write_report

__all__ = [
    "LABELED",
    "Cell",
    "Data",
    "Plan",
    "claims",
    "difference",
    "load_data",
    "miniature",
    "run",
    "write_report",
]
