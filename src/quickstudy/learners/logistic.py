"""Logistic regression on each support set, the baseline that practitioners would use."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support
from quickstudy.learners.parts.classwise import check_every_class, mask_absent, membership
from quickstudy.learners.parts.features import check_singly, flat_features
from quickstudy.learners.parts.solved import refuse_state
from quickstudy.nets.dense import task_linear


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """A linear layer for each task.

    Args:
        weight: ``[T, W, D]``.
        bias: ``[T, W]``.
    """

    weight: Tensor
    bias: Tensor


class Logistic(AbstractLearner):
    """scikit-learn's multinomial ``LogisticRegression``, fitted to each task's support and to nothing else.

    J. Berkson, "Application of the logistic function to bio-assay", Journal of the American Statistical Association
    1944, in the penalised multinomial form that practitioners use.

    adapt:    W, b = argmin c Σ_n -log softmax(f(x_n) W + b)_y(n) + 1/2 |W|²
    predict:  logits = f(x) W + b

    LR-D2 learns the features on which this works; ridge regression minimises squared errors instead, in one step.

    When to choose it: as the floor that a meta-learned classifier must beat, on raw inputs or on the features of a
    network trained otherwise.

    Deviations: none known from scikit-learn, whose solver stops at a gradient of 1e-4.

    Inductive. It has nothing to train.

    Args:
        net: makes features; None: the inputs themselves (pixels).
        c: the inverse of the L2 penalty's strength: scikit-learn's C, which is 2c for tasks of two classes, where it
            penalises the one vector w = W_1 - W_0, whose square is twice |W|².
        max_iter: iterations of the solver.

    Raises:
        InputError: c is not above 0, no iteration, or the network's norms look at other rows.

    >>> Logistic(c=0.5).traits.trainable
    False
    """

    def __init__(self, net: nn.Module | None = None, *, c: float = 1.0, max_iter: int = 1000) -> None:
        super().__init__()
        check_singly(net)
        if not 0 < c < inf:
            raise InputError(f"Logistic regression needs c above 0, received {c}.")
        if not max_iter >= 1:
            raise InputError(f"Logistic regression needs at least 1 iteration, received max_iter={max_iter}.")
        self.net, self.c, self.max_iter = net, c, max_iter

    @property
    @override
    def traits(self) -> Traits:
        return Traits(trainable=False)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> LinearClassifier:
        check_support(support, state)
        del key
        refuse_state(state, "Logistic regression")
        features = flat_features(self.net, support).detach()
        check_every_class(membership(support).sum(1), support)
        assert support.y is not None
        weight = features.new_zeros(support.n_task, support.max_way, features.shape[2])
        bias = features.new_zeros(support.n_task, support.max_way)
        for t in range(support.n_task):
            rows = support.labelled[t]
            w, b = self._fit(t, features[t][rows].cpu().double().numpy(), support.y[t][rows].cpu().numpy())
            weight[t, : len(w)], bias[t, : len(b)] = torch.from_numpy(w).to(weight), torch.from_numpy(b).to(bias)
        return LinearClassifier(weight, bias)

    @override
    def predict(self, state: LinearClassifier, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.weight.shape[1])
        features = flat_features(self.net, query, state.weight.shape[2])
        return mask_absent(task_linear(features, state.weight, state.bias), query)

    def _fit(self, task: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        if len(np.unique(y)) == 1:  # scikit-learn refuses a single class; the answer is that class
            return np.zeros((1, x.shape[1])), np.zeros(1)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            # One or two examples of each class are what few shots are; it would have them numbers, not classes.
            warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
            try:
                # With two classes W = (-w, w) / 2, so that 1/2 |W|² = 1/4 |w|²: half of what scikit-learn penalises.
                strength = 2 * self.c if len(np.unique(y)) == 2 else self.c
                model = LogisticRegression(C=strength, max_iter=self.max_iter).fit(x, y)
            except ConvergenceWarning as error:
                raise InputError(
                    f"The logistic regression of task {task} did not converge in {self.max_iter} iterations. Raise "
                    "max_iter, lower c, or scale the features."
                ) from error
        w, b = model.coef_, model.intercept_
        if len(w) == 1:  # two classes: one row for the second; as logits, half of it each way
            w, b = np.concatenate([-w, w]) / 2, np.concatenate([-b, b]) / 2
        return w, b
