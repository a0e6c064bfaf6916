"""Floor 1: what probabilities of classes are worth, beside accuracy; plain formulas on arrays."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.keys import Integers

__all__ = ["auroc", "brier", "log_loss", "probabilities", "sensitivity_at"]

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


def probabilities(logits: NDArray[np.floating]) -> Floats:
    """Softmax over the last axis; equal ones where a row holds no usable number.

    >>> probabilities(np.array([[0.0, 0.0], [-np.inf, 1.0]])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    logits = logits.astype(np.float64)
    top = logits.max(-1, keepdims=True)
    usable = np.isfinite(top)
    weight = np.exp(np.where(usable, logits - np.where(usable, top, 0.0), 0.0))
    shares: Floats = weight / weight.sum(-1, keepdims=True)
    return shares


def brier(p: Floats, y: Integers) -> float:
    """G. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 1950.

    For two classes the mean of (p - y)², from 0 to 1, as is usual; for more the mean of Σ_c (p_c - [y = c])², up to 2.

    Args:
        p: ``[n, W]``, rows that add up to 1.
        y: ``[n]``, class numbers.
    """
    squares = np.square(p - np.eye(p.shape[1])[y]).sum(1)
    return float(squares.mean()) / (2 if p.shape[1] == 2 else 1)


def log_loss(p: Floats, y: Integers) -> float:
    """Mean of -log p_y, p being no less than 1e-7."""
    return float(-np.log(np.clip(p[np.arange(len(y)), y], 1e-7, 1)).mean())


def auroc(truth: Flags, score: Floats) -> float:
    """How often a positive row has a higher score than a negative one, a tie counting half; NaN without both.

    >>> auroc(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]))
    0.75
    """
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (count.cumsum() - (count - 1) / 2)[place]
    return float((rank[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def sensitivity_at(truth: Flags, score: Floats, specificity: float) -> float:
    """The largest share of positives above a threshold that keeps so many of the negatives below it; NaN without both.

    The threshold is chosen on the same rows, so with few of them the figure is too good.
    """
    if truth.all() or not truth.any():
        return float("nan")
    negative = np.sort(score[~truth])[::-1]
    allowed = int(np.floor((1 - specificity) * len(negative) + 1e-9))  # negatives that may lie above
    threshold = negative[allowed] if allowed < len(negative) else -np.inf
    return float((score[truth] > threshold).mean())
