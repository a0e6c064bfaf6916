"""What is compared in finance: forecasts of volatility, and rules of the direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.data.windows import WindowTasks
from quickstudy.domains.finance.forecasts import GARCH, HAR, Said
from quickstudy.domains.finance.pooled import Majority, pooled
from quickstudy.domains.finance.report import direction_sections, volatility_sections
from quickstudy.domains.study import Column, Rival, Study
from quickstudy.errors import InputError
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.logistic import Logistic
from quickstudy.learners.ridge import Ridge

__all__ = ["direction", "volatility"]

_SEEN = (
    "The shares are those of the index in early 2018: those that left it before are missing (survivorship).",
    'Windows of the same weeks are not independent: read the interval over "classes", which are blocks of 21 days.',
    "One test period of thirteen months, calm but for its last days, says little of other times.",
    "No investment advice.",
)


def volatility() -> Study:
    """The mean variance of the next five days."""
    return Study(
        name="finance",
        recipe="sp500-maml-fast",
        plain="sp500-fine-tune-fast",
        rivals=(
            Rival("last value", lambda shape, training: Said("week")),
            Rival("EWMA 0.94", lambda shape, training: Said("ewma")),
            Rival("HAR, share's whole past", _on_panel(lambda tasks: HAR(tasks.panel, tasks.gap))),
            Rival("GARCH(1,1), share's whole past", _on_panel(lambda tasks: GARCH(tasks.panel)), 200),
            Rival("ridge per share", lambda shape, training: Ridge(penalty=100.0)),
            Rival("pooled ridge", pooled(_ridge)),
            Rival("pooled boosting", pooled(_boosting)),
        ),
        columns=(Column("volatility, 60 days known"), Column("volatility, 20 days known", tasks={"shot": 20})),
        episodes=250,
        sections=volatility_sections,
        notes=_SEEN,
    )


def direction() -> Study:
    """Whether the next close is above this one."""
    return Study(
        name="finance-direction",
        recipe="sp500-direction-maml-fast",
        plain=None,
        rivals=(
            Rival("same MLP, pooled", pooled(_mlp)),
            Rival("commoner direction of the support", lambda shape, training: Majority()),
            Rival("always up", lambda shape, training: Majority(always=1)),
            Rival("logistic per share", lambda shape, training: Logistic(c=1e-3)),
            Rival("pooled logistic", pooled(_logistic)),
            Rival("pooled boosting", pooled(_boosted_classes)),
        ),
        columns=(Column("direction, 60 days known"),),
        episodes=300,
        sections=direction_sections,
        notes=_SEEN,
    )


def _on_panel(build: Callable[[WindowTasks], AbstractLearner]) -> Callable[[TaskShape, TaskSource], AbstractLearner]:
    def make(shape: TaskShape, training: TaskSource) -> AbstractLearner:
        del shape
        if not isinstance(training, WindowTasks):
            raise InputError(f"HAR and GARCH need tasks of shares, received {type(training).__name__}.")
        return build(training)

    return make


def _ridge() -> Any:
    from sklearn.linear_model import Ridge as Model

    return Model(1.0)


def _boosting() -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=300, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=200, random_state=0
    )


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


def _boosted_classes() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=500, random_state=0
    )


def _mlp() -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((32,), max_iter=10, batch_size=1024, random_state=0)
