"""Floor 1: how well predicted ratings rank a user's items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.ratingfile import Floats

__all__ = ["ndcg", "recall"]


def ndcg(relevance: Floats, predicted: Floats, first: int) -> float:
    """Normalised discounted cumulative gain of the first answers, with linear gains; items predicted alike share ranks.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002; ties by their expectation, as
    McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of tied
    scores", 2008.

    Args:
        relevance: ``[N]``, at least 0.
        predicted: ``[N]``.
        first: how many answers count.

    Returns:
        0 to 1; NaN of fewer than two items, or where nothing is relevant.

    >>> ndcg(np.array([3.0, 1.0, 2.0]), np.array([9.0, 7.0, 8.0]), 5)
    1.0
    """
    discount = np.where(np.arange(len(relevance)) < first, 1 / np.log2(np.arange(len(relevance)) + 2), 0.0)
    ideal = float(np.sort(relevance)[::-1] @ discount)
    if len(relevance) < 2 or ideal <= 0:
        return float("nan")
    return float(relevance @ _shared(predicted, discount)) / ideal


def recall(liked: NDArray[np.bool_], predicted: Floats, first: int) -> float:
    """Which part of the liked items is among the first answers; items predicted alike share ranks.

    Returns:
        0 to 1; NaN where nothing is liked, or where no more items are asked than count.

    >>> recall(np.array([True, False, True]), np.array([3.0, 2.0, 1.0]), 1)
    0.5
    """
    if not liked.any() or len(liked) <= first:
        return float("nan")
    among = (np.arange(len(liked)) < first).astype(np.float64)
    return float(_shared(predicted, among)[liked].sum() / liked.sum())


def _shared(predicted: Floats, weight: Floats) -> Floats:
    """The weight of each item's rank, the largest prediction first; items predicted alike get the mean of theirs."""
    order = np.argsort(-predicted, kind="stable")
    ranked = predicted[order]
    group = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])])
    means = np.bincount(group, weight) / np.bincount(group)
    found = np.empty_like(weight)
    found[order] = means[group]
    return found
