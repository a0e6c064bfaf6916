"""Gradient boosting on each support set, the baseline of tables."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples, Real
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support
from quickstudy.learners.parts.classwise import check_every_class, mask_absent, membership
from quickstudy.learners.parts.features import check_singly, flat_features
from quickstudy.learners.parts.solved import refuse_state


class Boosting(AbstractLearner):
    """scikit-learn's histogram gradient boosting, fitted to each task's support and to nothing else.

    J. Friedman, "Greedy function approximation: a gradient boosting machine", Annals of Statistics 2001; histograms as
    in G. Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS 2017.

    adapt:    the state is the support set, with features in place of inputs
    predict:  F = Σ_i rate · tree_i, each tree fitted to what the ones before it left over; the scores of each class, or
              the values, one model a dimension

    Ridge and logistic regression see sums of features; trees see thresholds and their combinations, and do not care
    how a feature is scaled.

    When to choose it: as the floor for tables of numbers, with tens of examples or more. With one example a class it
    splits on the first feature that tells two apart, and pixels tell nothing so: expect it near chance there.

    Deviations: none known from scikit-learn. Trees have no form as tensors, so they are grown when they are asked, and
    every call of ``predict`` grows them anew from the support in the state.

    Inductive. It has nothing to train.

    Args:
        net: makes features; None: the inputs themselves (pixels).
        trees: rounds of boosting; with more than two classes each grows a tree a class.
        rate: share of each tree that is added.
        leaves: leaves of a tree at most.
        min_leaf: examples in a leaf at least; 1, because a support may have one of each class.

    Raises:
        InputError: an option out of its range, or a network whose norms look at other rows.

    >>> Boosting(trees=20).traits.targets
    ('classes', 'real')
    """

    def __init__(
        self, net: nn.Module | None = None, *, trees: int = 100, rate: float = 0.1, leaves: int = 31, min_leaf: int = 1
    ) -> None:
        super().__init__()
        check_singly(net)
        if not (trees >= 1 and 0 < rate < inf and leaves >= 2 and min_leaf >= 1):
            raise InputError(
                "Boosting needs at least 1 tree, 2 leaves, 1 example a leaf and a rate above 0, received "
                f"{trees}, {leaves}, {min_leaf} and {rate}."
            )
        self.net, self.trees, self.rate, self.leaves, self.min_leaf = net, trees, rate, leaves, min_leaf

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("classes", "real"), trainable=False)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Examples:
        """The state is the support set, with features in place of inputs."""
        check_support(support, state)
        del key
        refuse_state(state, "Boosting")
        features = flat_features(self.net, support).detach()
        if not isinstance(support.target, Real):
            check_every_class(membership(support).sum(1), support)
        return Examples(features, support.y, support.target, support.mask)

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

        del key
        check_query(query, state)
        assert isinstance(state.x, Tensor) and state.y is not None
        features = flat_features(self.net, query, state.x.shape[2]).detach()
        _check_numbers(features)
        columns = state.target.dim if isinstance(state.target, Real) else state.max_way
        out = features.new_zeros(*features.shape[:2], columns)
        # On so few rows the threads of scikit-learn would wait for each other longer than they work.
        with threadpool_limits(1):
            for t in range(state.n_task):
                rows, asked = state.labelled[t], query.real[t]
                if not bool(asked.any()):
                    continue
                x, y = state.x[t][rows].double().cpu().numpy(), state.y[t][rows].cpu().numpy()
                scores = self._scores(x, y, features[t][asked].double().cpu().numpy())
                out[t, asked, : scores.shape[1]] = torch.from_numpy(scores).to(out)
        return mask_absent(out, query)

    def _scores(self, x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Scores ``[Nq, classes]`` or values ``[Nq, D]`` of one task."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        options: dict[str, Any] = {
            "max_iter": self.trees,
            "learning_rate": self.rate,
            "max_leaf_nodes": self.leaves,
            "min_samples_leaf": self.min_leaf,
            "early_stopping": False,
            "random_state": 0,
        }
        if y.ndim == 2:
            models = [HistGradientBoostingRegressor(**options).fit(x, column) for column in y.T]
            return np.stack([model.predict(asked) for model in models], 1)
        scores = HistGradientBoostingClassifier(**options).fit(x, y).decision_function(asked)
        if scores.ndim == 1:  # two classes: log-odds of the second; as logits, half of it each way
            return np.stack([-scores, scores], 1) / 2
        return np.asarray(scores)


def _check_numbers(features: Tensor) -> None:
    """Queries are numbers.

    Raises:
        InputError: NaN or infinity, which scikit-learn's trees would take for a missing value.
    """
    bad = (~torch.isfinite(features).all(2)).nonzero()
    if len(bad):
        task, row = (int(place) for place in bad[0])
        raise InputError(
            f"Boosting cannot answer query {row} of task {task}: its features hold NaN or infinity. Clean the data: "
            "trees would take it for a missing value and answer all the same."
        )
