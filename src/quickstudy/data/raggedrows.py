"""Floor 1: the rows of ragged tasks: how many of each class, one class after the other.

T tasks of W classes at most, K rows of each at most  ->  rows ``[T, N]``, the class of each, which are there
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.counts import Bounds
from quickstudy.keys import Bits, Integers, integers

__all__ = ["between", "taken"]


def between(bits: Bits, ends: Bounds) -> Integers:
    """Uniform whole numbers from the lower to the upper end, both included."""
    if ends[0] == ends[1]:
        return np.full(bits.shape, ends[0])
    return ends[0] + integers(bits, ends[1] - ends[0] + 1)


def taken(rows: Integers, first: Integers, count: Integers) -> tuple[Integers, Integers, NDArray[np.bool_] | None]:
    """The rows of a task one after the other.

    Args:
        rows: ``[T, W, K]``.
        first: ``[T, W]``, where in K to begin.
        count: ``[T, W]``, how many to take.

    Returns:
        Rows (0 on padding), the class that each is of, and which are there, ``[T, N]`` each; None where all are.
    """
    begin, each = first[0, 0], count[0, 0]
    if (first == begin).all() and (count == each).all():  # no size is random: a block of each class
        chosen = rows[:, :, begin : begin + each].reshape(len(rows), -1)
        label = np.empty_like(chosen)
        label[:] = np.arange(rows.shape[1]).repeat(each)
        return chosen, label, None
    place, label, mask = _line_up(count)
    task = np.arange(len(rows))[:, None]
    chosen = np.where(mask, rows[task, label, first[task, label] + place], 0)
    return chosen, label, None if mask.all() else mask


def _line_up(count: Integers) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Where the examples of each class stand when they follow one another.

    Args:
        count: ``[T, W]``, examples of each class.

    Returns:
        For each row, ``[T, N]`` with N the longest sum of counts: its number within its class, its class, and
        whether it is there (False on padding, where the other two are 0).
    """
    ends = count.cumsum(1)
    position = np.arange(ends[:, -1].max())
    mask = position < ends[:, -1:]
    label = np.where(mask, (position[:, None] >= ends[:, None, :]).sum(2), 0)
    begins = np.take_along_axis(ends - count, label, 1)
    return np.where(mask, position - begins, 0), label, mask
