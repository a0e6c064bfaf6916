"""Floor 6: how far a number that a regressor says may be off."""

from __future__ import annotations

import numpy as np
import torch

from quickstudy.episode import map_leaves
from quickstudy.estimators.doubt import LEAST, check_rate, folds, threshold
from quickstudy.estimators.regressor import FewShotRegressor

__all__ = ["spread"]


def spread(model: FewShotRegressor, coverage: float = 0.9) -> float | None:
    """Half the width of an interval around each number that holds the true one with the probability ``coverage``.

    Each labelled example is said by those of the other folds; how far off these answers are says how far off the next
    one will be, over examples like the labelled ones (cross-conformal; see ``doubt.py`` for the papers).

    Args:
        model: fitted, to one number an example.
        coverage: above 0, below 1.

    Returns:
        None with fewer than twenty labelled examples, of which nothing can be promised; infinite where there are too
        few for that coverage.

    Raises:
        InputError: the coverage is none.
    """
    check_rate("coverage", coverage)
    labels = model._understood(model.labels_)[0]
    if len(labels) < LEAST:
        return None
    fold = folds(np.zeros(len(labels), dtype=np.int64))
    off = []
    for number in range(fold.max() + 1):
        out = torch.from_numpy(fold == number)
        known, asked = (map_leaves(lambda leaf, rows=rows: leaf[rows], model.support_) for rows in (~out, out))  # type: ignore[misc]
        said = model._answer_of(known, labels[~out], asked)
        off.append(np.abs(said - labels[out].numpy())[:, 0])
    return threshold(np.concatenate(off), 1 - coverage)
