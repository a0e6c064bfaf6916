"""Models that are fitted once, to the days of all shares in the training period, and to no task."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.episode import Examples
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support

__all__ = ["Majority", "Pooled", "gap_of", "pooled"]

WINDOWS = 2000
"""Windows of the training period whose days are fitted to."""


class Pooled(AbstractLearner):
    """A fitted model of scikit-learn, the same for every task.

    Args:
        model: a regressor, or a classifier of two classes.
        target: ``"real"`` or ``"classes"``.
    """

    def __init__(self, model: Any, target: str) -> None:
        super().__init__()
        self.model, self.target = model, target

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=(self.target,), trainable=False, renames=False, any_way=False)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Tensor:
        """The state is empty."""
        del state, key
        check_support(support)
        return torch.zeros(support.n_task, 0)

    @override
    def predict(self, state: Tensor, query: Examples, *, key: Keys | None = None) -> Tensor:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

        del key
        check_query(query, state)
        assert isinstance(query.x, Tensor)
        rows = query.x.flatten(0, 1).double().numpy()
        with threadpool_limits(1):
            said = self.model.predict(rows) if self.target == "real" else self.model.predict_proba(rows)
        if self.target == "classes":
            said = np.log(np.clip(said, 1e-12, 1))
        return torch.from_numpy(np.asarray(said)).to(query.x.dtype).view(query.n_task, query.n_example, -1)


def pooled(model: Callable[[], Any]) -> Callable[[TaskShape, TaskSource], Pooled]:
    """What a ``Rival`` builds: the model, fitted to support and query days of windows of the training period.

    Args:
        model: makes an unfitted one.
    """

    def build(shape: TaskShape, training: TaskSource) -> Pooled:
        from threadpoolctl import threadpool_limits

        x, y = training_days(training)
        with threadpool_limits(1), warnings.catch_warnings():
            # A network that is told how many passes to make has not "failed to converge".
            warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")
            return Pooled(model().fit(x, y), shape.target)

    return build


def gap_of(training: TaskSource) -> float:
    """What the option ``gap`` of the shares should be: half the residual variance of a line fitted to the days.

    For residuals of a normal distribution it is the logarithm of a mean less the mean of the logarithm. (The mean
    itself, Duan's smearing, is led by single days such as the crash of August 2015.)

    Args:
        training: volatility tasks of the training period.
    """
    x, y = training_days(training)
    columns = np.column_stack([x, np.ones(len(x))])
    left = y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(left.var() / 2)


def training_days(training: TaskSource) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Features ``[n, F]`` and labels ``[n]`` of the days of ``WINDOWS`` training windows."""
    episode = training.episodes(range(WINDOWS))
    xs, ys = [], []
    for part in (episode.support, episode.query):
        assert isinstance(part.x, Tensor) and part.y is not None
        there = part.labelled
        xs.append(part.x[there].double().numpy())
        ys.append(part.y[there].reshape(-1).numpy())
    return np.concatenate(xs), np.concatenate(ys)


class Majority(AbstractLearner):
    """One answer for all days of a task: the commoner direction of its support, or a fixed one.

    Args:
        always: 1 up, 0 down; None: as the support has it (up, in a tie).
    """

    def __init__(self, *, always: int | None = None) -> None:
        super().__init__()
        self.always = always

    @property
    @override
    def traits(self) -> Traits:
        return Traits(trainable=False, renames=False, any_way=False)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> Tensor:
        """The state is the share of days up, ``[T]``."""
        del state, key
        check_support(support)
        assert support.y is not None
        counted = support.labelled
        share = ((support.y == 1) & counted).sum(1) / counted.sum(1)
        return share if self.always is None else torch.full_like(share, float(self.always))

    @override
    def predict(self, state: Tensor, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        up = (state - 0.5)[:, None].expand(-1, query.n_example)
        return torch.stack([torch.where(up >= 0, 0.0, 1.0), torch.where(up >= 0, 1.0, 0.0)], 2)
