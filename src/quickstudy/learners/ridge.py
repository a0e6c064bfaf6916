"""Ridge regression on each support set, a baseline for classes and for real values."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.inner.solvers import ridge
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.features import check_singly, flat_features
from quickstudy.learners.parts.solved import refuse_state, target_columns


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """A linear model for each task.

    Args:
        weight: ``[T, D, O]``.
        centre: mean of the support's features, ``[T, D]``.
        level: mean of the support's targets, ``[T, O]``.
    """

    weight: Tensor
    centre: Tensor
    level: Tensor


class Ridge(AbstractLearner):
    """Least squares with a penalty on the weights, fitted to each task's support and to nothing else.

    A. Hoerl, R. Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 1970.

    adapt:    W = argmin Σ_n |(f(x_n) - m) W - (y_n - ȳ)|² + penalty |W|², with m and ȳ the support's means
    predict:  (f(x) - m) W + ȳ; for classes y is one-hot, and the largest value wins

    R2D2 learns the features on which this works; logistic regression minimises another loss, iteratively.

    When to choose it: as the floor that a meta-learned regressor or classifier must beat, on raw inputs or on the
    features of a network trained otherwise.

    Deviations: none known; the intercept is not penalised, as is usual.

    Inductive. It has nothing to train.

    Args:
        net: makes features; None: the inputs themselves (pixels).
        penalty: above 0, in squared units of the features.

    Raises:
        InputError: a penalty that is not above 0, or a network whose norms look at other rows.

    >>> Ridge(penalty=0.1).traits.trainable
    False
    """

    def __init__(self, net: nn.Module | None = None, *, penalty: float = 1.0) -> None:
        super().__init__()
        check_singly(net)
        if not 0 < penalty < inf:
            raise InputError(f"Ridge regression needs a penalty above 0, received {penalty}.")
        self.net, self.penalty = net, penalty

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("classes", "multi-label", "real"), trainable=False)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> RidgeFit:
        check_support(support, state)
        del key
        refuse_state(state, "Ridge regression")
        x = flat_features(self.net, support).detach()
        y, counted = target_columns(support, x.dtype), support.labelled[..., None]
        n_row = counted.sum(1)  # [T, 1]
        centre, level = torch.where(counted, x, 0.0).sum(1) / n_row, y.sum(1) / n_row
        weight = ridge(x - centre[:, None], y - level[:, None], self.penalty, support.labelled)
        return RidgeFit(weight, centre, level)

    @override
    def predict(self, state: RidgeFit, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.level.shape[1])
        x = flat_features(self.net, query, state.centre.shape[1]) - state.centre[:, None]
        return mask_absent(x @ state.weight + state.level[:, None], query)
