"""Floor 1: what probabilities of classes are worth, beside accuracy; plain formulas on arrays."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.keys import Integers

__all__ = ["auroc", "auroc_moves", "brier", "log_loss", "probabilities", "row_losses", "sensitivity_at", "squares"]

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
    return float(squares(p, y).mean())


def squares(p: Floats, y: Integers) -> Floats:
    """``[n]``, of which the Brier score is the mean."""
    found: Floats = np.square(p - np.eye(p.shape[1])[y]).sum(1) / (2 if p.shape[1] == 2 else 1)
    return found


def log_loss(p: Floats, y: Integers) -> float:
    """Mean of -log p_y, p being no less than 1e-7."""
    return float(row_losses(p, y).mean())


def row_losses(p: Floats, y: Integers) -> Floats:
    """``[n]``, of which the log loss is the mean."""
    found: Floats = -np.log(np.clip(p[np.arange(len(y)), y], 1e-7, 1))
    return found


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


def auroc_moves(truth: Flags, score: Floats) -> Floats:
    """``[n]``, the derivative of the area by the weight of each row, all weights being 1; NaN without both classes.

    A positive row's is (V - A) / P: V the share of negative rows below it, A the area, P how many rows are positive.
    These are the structural components of E. DeLong, D. DeLong, D. Clarke-Pearson, "Comparing the areas under two or
    more correlated receiver operating characteristic curves", Biometrics 1988.

    >>> auroc_moves(np.array([True, False, True]), np.array([0.9, 0.5, 0.5])).tolist()
    [0.125, 0.0, -0.125]
    """
    found = np.full(len(truth), np.nan)
    area = auroc(truth, score)
    if np.isnan(area):
        return found
    for mine, above in ((truth, True), (~truth, False)):
        others = np.sort(score[~mine])
        beaten = (np.searchsorted(others, score[mine], "left") + np.searchsorted(others, score[mine], "right")) / 2
        share = beaten / len(others)
        found[mine] = ((share if above else 1 - share) - area) / mine.sum()
    return found


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
