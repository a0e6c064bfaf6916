"""Whether a contestant computed what the reference did. No contestant is timed that did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.workloads import Workload

__all__ = ["EXACT", "Closeness", "differs", "of_what_is_checked", "of_what_is_timed", "wrong_tasks"]


@dataclass(frozen=True)
class Closeness:
    """How close an array has to be.

    Args:
        dtype: that numbers are to have.
        each: of the array's own largest entry, so that small gradients of one weight are not lost beside large ones.
        whole: of the largest entry of the whole gradient, where that is more: a gradient that is zero but for rounding
            (of a bias before a norm, say) is rounding of the numbers that cancel in it.
        norm: the norm of the difference, of the array's own norm.
    """

    dtype: str
    each: float
    whole: float
    norm: float = float("inf")


EXACT = Closeness("float64", each=1e-10, whole=1e-12)

_STEPPED = Closeness("float64", each=1e-8, whole=1e-12, norm=1e-10)

_SMOOTH = Closeness("float32", each=1e-3, whole=1e-5)
_POOLED = Closeness("float32", each=2.5e-1, whole=1e-5, norm=1e-1)


def of_what_is_checked(workload: Workload) -> Closeness:
    """How close the check's unit, in float64, has to be to the reference.

    Reptile's result is no gradient but a sum of Adam's steps, each a gradient divided by its own size: where one is
    nearly zero, its rounding is divided by that, too. So single entries get more room, and all together do not.
    """
    return _STEPPED if workload.kind == "reptile" else EXACT


def of_what_is_timed(workload: Workload) -> Closeness:
    """How close a timed unit, in float32, has to be to float64.

    Conv-4 gets much room: among millions of numbers some are nearly equal, and rounding decides which one a pool takes,
    on which side of zero a ReLU is, and the sign of Adam's first step. The reference itself, in float32, is off by up
    to 3.8e-2 in norm in W1, and by 6.3e-2 in single entries. A wrong term or kernel is off by as much as there is.
    """
    return _SMOOTH if workload.net == "mlp" else _POOLED


Arrays = Mapping[str, NDArray[np.generic]]


def differs(found: Arrays, expected: Arrays, how: Closeness = EXACT) -> str | None:
    """What is different, in words; None where nothing is.

    Args:
        found: by name, in order: a loss (or logits), then the gradient of each weight.
        expected: likewise, in float64.
        how: how close they have to be.
    """
    mine, theirs = list(found.values()), list(expected.values())
    if [a.shape for a in mine] != [b.shape for b in theirs]:
        return f"other shapes, {[list(a.shape) for a in mine]} in place of {[list(b.shape) for b in theirs]}"
    if any(a.dtype != how.dtype for a in mine):
        return f"not in {how.dtype} but {sorted({str(a.dtype) for a in mine})}"
    whole = max((_largest(b) for b in theirs[1:]), default=0.0)
    for number, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        largest = _largest(b)
        difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
        off, apart = _largest(difference), float(np.linalg.norm(difference))
        least = how.whole * whole if number else 0.0
        # Not `off > ...`, which NaN would pass; and nothing but zeros is no gradient to be compared with.
        near = off <= how.each * largest and apart <= how.norm * float(np.linalg.norm(b))
        if not ((least > 0 and off <= least) or (largest > 0 and near)):
            relative = off / largest if largest > 0 else float("inf")
            return f"array {number} differs by {relative:.1e} of its largest entry ({how.dtype})"
    return None


def _largest(values: NDArray[np.generic]) -> float:
    return float(np.abs(np.asarray(values, np.float64)).max())


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
