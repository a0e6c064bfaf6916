"""The table of learners that every law is held against.

A newcomer adds a row to one of ``tests/rows``; all laws apply. An exception is a trait of the learner or a field of
its row, with the reason.
"""

from tests.rows import baselines, closedform, foundation, gradient, memory, metric, transductive, unrolled
from tests.smalltasks import (
    FEATURES,
    WAY,
    Picture,
    Row,
    TakesDict,
    assert_close,
    make,
    mlp,
    numbers,
    outputs,
    ragged,
    tasks,
)

__all__ = [
    "FEATURES",
    "ROWS",
    "WAY",
    "Picture",
    "Row",
    "TakesDict",
    "assert_close",
    "make",
    "mlp",
    "numbers",
    "outputs",
    "ragged",
    "tasks",
]

GROUPS = (foundation, gradient, unrolled, metric, closedform, memory, transductive, baselines)
ROWS = [row for group in GROUPS for row in group.ROWS]
