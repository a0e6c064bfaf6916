"""Whether a contestant computed what the reference did. No contestant is timed that did not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.workloads import Workload

__all__ = ["TOLERANCE", "differs", "wrong_tasks"]

TOLERANCE = 1e-10
"""Of float64 numbers, relative to the largest of their kind (the loss; all entries of the gradient)."""

Arrays = Mapping[str, NDArray[np.generic]]


def differs(found: Arrays, expected: Arrays) -> str | None:
    """What is different, in words; None where nothing is.

    The first array (a loss, or logits) stands for itself; all others are parts of one gradient, whose entries may
    differ by the tolerance times its largest.

    Args:
        found: by name, in order.
        expected: likewise.
    """
    mine, theirs = list(found.values()), list(expected.values())
    if [a.shape for a in mine] != [b.shape for b in theirs]:
        return f"other shapes, {[list(a.shape) for a in mine]} in place of {[list(b.shape) for b in theirs]}"
    if any(a.dtype != np.float64 for a in mine):
        return f"not in float64 but {sorted({str(a.dtype) for a in mine})}"
    groups = [(mine[:1], theirs[:1]), (mine[1:], theirs[1:])]
    for off in (_relative(a, b) for a, b in groups if b):
        if not off <= TOLERANCE:  # not `off > TOLERANCE`, which NaN would pass
            return f"differs by {off:.1e} of the largest entry"
    return None


def _relative(mine: list[NDArray[np.generic]], theirs: list[NDArray[np.generic]]) -> float:
    a, b = (
        np.concatenate([np.asarray(part, dtype=np.float64).reshape(-1) for part in parts]) for parts in (mine, theirs)
    )
    largest = float(np.abs(b).max())
    return float(np.abs(a - b).max()) / largest if largest > 0 else float("nan")


def wrong_tasks(found: Arrays, workload: Workload) -> str | None:
    """What is wrong with drawn tasks whose pictures name themselves; None where nothing is.

    Args:
        found: support x and y, query x and y, with a leading axis of tasks; pixel 0 is the class, pixel 1 the example.
        workload: way, shot and query.
    """
    support_x, support_y, query_x, query_y = (np.asarray(part) for part in found.values())
    if support_x.dtype != np.uint8 or query_x.dtype != np.uint8:
        return f"pictures of {support_x.dtype} and {query_x.dtype} in place of uint8"
    parts = (("support", support_x, support_y, workload.shot), ("query", query_x, query_y, workload.query))
    for part, x, y, each in parts:
        rows = workload.way * each
        if x.shape[1:] != (rows, 28, 28) or y.shape != x.shape[:2]:
            return f"the {part} has shape {list(x.shape)}, its labels {list(y.shape)}"
        if any(np.bincount(labels, minlength=workload.way).tolist() != [each] * workload.way for labels in y):
            return f"the {part} has not {each} examples of each label 0 .. {workload.way - 1}"
    drawn = set()
    for sx, sy, qx, qy in zip(support_x, support_y, query_x, query_y, strict=True):
        x, y = np.concatenate([sx, qx]), np.concatenate([sy, qy])
        classes, examples = x[:, 0, 0].astype(int), x[:, 0, 1].astype(int)
        pairs = set(zip(classes.tolist(), y.tolist(), strict=True))
        if not len(pairs) == len({c for c, _ in pairs}) == len({label for _, label in pairs}) == workload.way:
            return f"labels and classes do not go together: {sorted(pairs)}"
        if len(set(zip(classes.tolist(), examples.tolist(), strict=True))) != len(x):
            return "an example stands twice in a task"
        drawn.add(tuple(sorted(set(classes.tolist()))))
    return "all tasks are of the same classes" if len(drawn) == 1 and len(support_x) > 1 else None
