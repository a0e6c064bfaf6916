"""Intervals over rows, where all tasks ask for the patients of one hospital, against weights and the bootstrap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score
from torch import Tensor

from quickstudy.data.grouptasks import Asked, Group, GroupTasks
from quickstudy.data.tablecoding import Coded
from quickstudy.episode import Examples, Real
from quickstudy.evaluate import meta_test
from quickstudy.evaluate.intervals import row_ci95, row_effects
from quickstudy.evaluate.wording import sentence
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits

Floats = NDArray[np.float64]

ROWS = 60


class Shifted(AbstractLearner):
    """Answers with the first feature, moved by the mean of the support's."""

    @property
    def traits(self) -> Traits:
        return Traits(targets=("classes", "real"), trainable=False)

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Tensor:
        assert isinstance(support.x, Tensor)
        return support.x[..., :1].mean(1, keepdim=True)

    def predict(self, state: Tensor, query: Examples, *, key: Keys | None = None) -> Tensor:
        assert isinstance(query.x, Tensor)
        said = query.x[..., :1] - state
        return said if isinstance(query.target, Real) else torch.cat([-said, said], 2)


def source(target: str, groups: int = 1) -> GroupTasks:
    rng = np.random.default_rng(1)
    y = rng.normal(size=ROWS)
    x = np.stack([y + rng.normal(size=ROWS), rng.normal(size=ROWS)], 1).astype(np.float32)
    table = Coded(x, {"a": slice(0, 2)}, np.zeros(2, np.float32), {})
    asked = Asked(y * 3 + 7, None, 7.0, 3.0) if target == "real" else Asked((y > 0).astype(np.int64), ("no", "yes"))
    parts = [Group(f"g{n}", rows) for n, rows in enumerate(np.array_split(np.arange(ROWS), groups))]
    return GroupTasks(table, asked, parts, data="made", split="test", shot=6, query=[5, 30], seed=0)


def of_weights(tasks: GroupTasks, episodes: int, weight: Floats) -> dict[str, float]:
    """Every figure's mean over tasks in which row r counts ``weight[r]`` times, by other people's formulas."""
    episode = tasks.episodes(range(episodes))
    learner = Shifted()
    said = learner.predict(learner.adapt(episode.support), episode.query.unlabelled()).numpy()
    found: dict[str, list[float]] = {}

    def add(**figures: float) -> None:
        for name, value in figures.items():
            found.setdefault(name, []).append(value)

    assert episode.query.y is not None
    for t, rows in enumerate(tasks.rows_of(range(episodes))):
        y, w, out = episode.query.y[t].numpy()[: len(rows)], weight[rows], said[t, : len(rows)].astype(np.float64)
        if tasks.asked.classes is None:
            error = np.abs(out[:, 0] - y[:, 0]) * tasks.asked.std
            mse = np.average(error**2, weights=w)
            add(mae=np.average(error, weights=w), rmse=mse**0.5, mse=mse)
            continue
        p = 1 / (1 + np.exp(out[:, 0] - out[:, 1]))
        add(
            auroc=roc_auc_score(y, p, sample_weight=w),
            brier=np.average((p - y) ** 2, weights=w),
            nll=np.average(-np.log(np.where(y, p, 1 - p)), weights=w),
            accuracy=np.average((p > 0.5) == y, weights=w),
        )
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize("target", ["classes", "real"])
def test_effects_are_derivatives_by_weights(target: str) -> None:
    tasks, episodes, step = source(target), 5, 1e-4
    episode = tasks.episodes(range(episodes))
    learner = Shifted()
    moves = tasks.row_moves(learner.predict(learner.adapt(episode.support), episode.query.unlabelled()), episode)
    assert moves is not None
    for name, values in moves.of.items():
        asked_for = np.unique(moves.rows)
        mine = row_effects(values, moves.rows, episodes)
        for place in (0, 7, len(asked_for) - 1):
            ends = []
            for sign in (1, -1):
                weight = np.ones(ROWS)
                weight[asked_for[place]] += sign * step
                ends.append(of_weights(tasks, episodes, weight)[name])
            assert mine[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-6), name


@pytest.mark.parametrize("target", ["classes", "real"])
def test_the_interval_is_that_of_the_bootstrap(target: str) -> None:
    """Of 300 draws of patients with replacement, by scipy: within a fifth, as such a spread is known to 4 %."""
    tasks, episodes = source(target), 4
    result = meta_test(Shifted(), tasks, episodes=episodes)

    def drawn(patients: Any) -> Floats:
        weight: Floats = np.bincount(patients.astype(np.int64), minlength=ROWS) + np.float64(
            1e-9
        )  # some query may have drawn nobody
        figures = of_weights(tasks, episodes, weight)
        return np.array([figures[name] for name in sorted(figures)])

    found = bootstrap(
        (np.arange(ROWS),), drawn, n_resamples=300, vectorized=False, method="percentile", rng=np.random.default_rng(0)
    )
    names = sorted(of_weights(tasks, episodes, np.ones(ROWS)))
    assert {result.metric, *result.others} - {"sensitivity"} == set(names)
    for name, error in zip(names, found.standard_error, strict=True):
        mine = (result if name == result.metric else result.others[name]).ci95_rows
        assert mine == pytest.approx(1.96 * error, rel=0.2), name
    said = sentence(result)
    assert f" over {episodes} episodes; ± " in said and " over rows; " in said


def test_several_groups_have_an_interval_over_groups_of_every_figure() -> None:
    result = meta_test(Shifted(), source("real", groups=4), episodes=40)
    assert result.ci95_rows is None and result.ci95_classes is not None
    for name in ("rmse", "mse"):
        other = result.others[name]
        assert other.ci95_rows is None and other.ci95_classes is not None and other.ci95_classes > other.ci95
        assert result.by(name).ci95_classes == other.ci95_classes
        assert f"{name} {other.mean:.3f} ± {other.ci95:.3f}, ± {other.ci95_classes:.3f} over groups" in sentence(result)


def test_figures_that_some_tasks_lack_have_intervals_over_those_that_have_them() -> None:
    result = meta_test(Shifted(), source("classes", groups=4), episodes=40)
    assert result.others["brier"].ci95_classes is not None


def test_rows_of_no_number() -> None:
    assert row_ci95(np.array([0.1])) == math.inf == row_ci95(np.array([0.1, np.nan]))

    class Wild(Shifted):
        def predict(self, state: Tensor, query: Examples, *, key: Keys | None = None) -> Tensor:
            return super().predict(state, query) * torch.inf

    result = meta_test(Wild(), source("real"), episodes=3)
    assert result.mean == math.inf == result.ci95_rows == result.others["rmse"].ci95_rows
