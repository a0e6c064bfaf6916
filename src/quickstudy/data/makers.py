"""Floor 1: tasks whose queries were made by other people than their support."""

from __future__ import annotations

import numpy as np

from quickstudy.keys import Bits, Integers, shuffle

__all__ = ["apart_rows"]


def apart_rows(people: Bits, order: Bits, shot: int, query: int) -> Integers:
    """Which examples of each class a task takes, number k of every class being of the same person.

    The people of a task are divided at random: ``query`` of them are asked, and whoever is left is learned from, in a
    random order for each class, so that nobody is on both sides.

    Args:
        people: uint64 ``[T, k]``, k examples a class; which people are asked.
        order: uint64 ``[T, W, k]``.
        shot: support examples a class, at most k - ``query``.
        query: query examples a class.

    Returns:
        int64 ``[T, W, shot + query]``, the support first.
    """
    n_task, way, k = order.shape
    divided = shuffle(people, np.full(n_task, k))  # [T, k]
    parts = []
    for side, first, count in ((divided[:, query:], query, shot), (divided[:, :query], 0, query)):
        width = side.shape[1]
        words = np.ascontiguousarray(order[:, :, first : first + width]).reshape(n_task * way, width)
        place = shuffle(words, np.full(n_task * way, width)).reshape(n_task, way, width)[:, :, :count]
        parts.append(np.take_along_axis(np.broadcast_to(side[:, None], (n_task, way, width)), place, 2))
    return np.concatenate(parts, axis=2)
