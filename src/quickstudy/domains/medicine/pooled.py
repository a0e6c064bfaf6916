"""Floor 5: baselines of medicine: a model of all other hospitals' patients, alone or with the new hospital's few."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.grouptasks import GroupTasks
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.domains.finance.pooled import Pooled
from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support

__all__ = ["PooledAndSupport", "Prevalence", "pooled", "training_patients"]


def training_patients(training: TaskSource) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Features ``[n, F]`` and labels ``[n]`` of every training patient, each once, with all columns.

    Raises:
        InputError: the tasks are not made of a table.
    """
    if not isinstance(training, GroupTasks):
        raise InputError(
            f"The baselines of medicine are fitted to patients of a table, received {type(training).__name__}. Use the "
            "data set 'uci-heart' or 'table'."
        )
    rows = training.training_rows()
    return training.table.x[rows].astype(np.float64), training.asked.y[rows]


def pooled(model: Callable[[], Any]) -> Callable[[TaskShape, TaskSource], Pooled]:
    """What a ``Rival`` builds: the model, fitted to all training patients; the new hospital's few change nothing.

    Args:
        model: makes an unfitted one of scikit-learn.
    """

    def build(shape: TaskShape, training: TaskSource) -> Pooled:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

        x, y = training_patients(training)
        with threadpool_limits(1), warnings.catch_warnings():
            # A network that is told how many passes to make has not "failed to converge".
            warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")
            return Pooled(model().fit(x, y), shape.target)

    return build


class PooledAndSupport(AbstractLearner):
    """Logistic regression on all training patients and the task's support, each support row counting ``weight`` times.

    Args:
        x: ``[n, F]``, training patients.
        y: ``[n]``, 0 or 1.
        weight: of a support row.
        c: scikit-learn's C.
    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[Any], *, weight: float = 5.0, c: float = 0.1) -> None:
        super().__init__()
        self.x, self.y, self.weight, self.c = x, y, weight, c

    @property
    @override
    def traits(self) -> Traits:
        return Traits(trainable=False, renames=False, any_way=False)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Tensor:
        """The state is ``[T, F + 1]``: weights and bias."""
        from sklearn.linear_model import LogisticRegression

        del state, key
        check_support(support)
        assert isinstance(support.x, Tensor) and support.y is not None
        found = []
        for t in range(support.n_task):
            rows = support.labelled[t]
            x = np.concatenate([self.x, support.x[t][rows].double().numpy()])
            y = np.concatenate([self.y, support.y[t][rows].numpy()])
            weight = np.concatenate([np.ones(len(self.y)), np.full(len(y) - len(self.y), self.weight)])
            model = LogisticRegression(C=self.c, max_iter=1000).fit(x, y, weight)
            found.append(np.concatenate([model.coef_[0], model.intercept_]))
        return torch.from_numpy(np.stack(found))

    @override
    def predict(self, state: Tensor, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        assert isinstance(query.x, Tensor)
        score = (query.x.double() @ state[:, :-1, None])[..., 0] + state[:, -1:]
        return torch.stack([-score, score], 2).to(query.x.dtype) / 2


class Prevalence(AbstractLearner):
    """The share of each class in the support, each class counting one more: what is known without any column."""

    @property
    @override
    def traits(self) -> Traits:
        return Traits(trainable=False)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Tensor:
        """The state is ``[T, W]``, logarithms of shares."""
        del state, key
        check_support(support)
        assert support.y is not None
        classes = torch.arange(support.max_way)
        count = ((support.y[..., None] == classes) & support.labelled[..., None]).sum(1)
        return torch.log((count + 1.0) / (count + 1.0).sum(1, keepdim=True))

    @override
    def predict(self, state: Tensor, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        return state[:, None].expand(-1, query.n_example, -1)
