"""What a fitted estimator says where its examples look unlike what its learner was trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris

from quickstudy import FewShotClassifier, FewShotRegressor, load_task
from quickstudy.data.ink import Ink
from quickstudy.estimators.familiar import scores_of, unlike

DRAW = np.random.default_rng(0)
TIME = np.arange(8000) / 8000


def drawings(data_root: Path, role: str, number: int) -> tuple[Any, Any]:
    episode = Ink(data_root).tasks(role, way=5, shot=2, query=1, seed=5).episodes(range(number, number + 1))
    assert isinstance(episode.support.x, torch.Tensor) and episode.support.y is not None
    return episode.support.x[0].numpy(), episode.support.y[0].tolist()


def test_of_new_classes_like_those_of_training_few_are_called_unlike(data_root: Path) -> None:
    said = [FewShotClassifier().fit(*drawings(data_root, "test", number)).warning_ for number in range(25)]
    assert sum(one is not None for one in said) <= 2  # of 25, where one in a hundred is meant


def test_noise_for_a_learner_of_drawings(tmp_path: Path) -> None:
    noise = DRAW.integers(0, 256, (10, 28, 28)).astype(np.uint8)
    model = FewShotClassifier(learner="drawings").fit(noise, [0, 1] * 5)
    assert model.warning_ is not None and "look unlike what drawings was trained on" in model.warning_
    assert f"\n# {model.warning_}" in repr(model) and model.warning_.split(":")[0] in model._repr_html_()
    model.save(tmp_path / "task")
    assert load_task(tmp_path / "task").warning_ == model.warning_
    assert FewShotClassifier().fit(load_digits().images[:20], load_digits().target[:20]).warning_ is None


def test_tones_and_noise_for_a_learner_of_words() -> None:
    for sounds in (
        [np.sin(2 * np.pi * pitch * TIME) for pitch in DRAW.uniform(100, 2000, 10)],
        list(DRAW.normal(size=(10, 8000))),
    ):
        model = FewShotClassifier(rate=8000).fit(sounds, [0, 1] * 5)
        assert model.warning_ is not None and "sounds" in model.warning_


def test_tables_of_single_large_numbers() -> None:
    X, y = load_iris(return_X_y=True)
    assert FewShotClassifier().fit(X[::5], y[::5]).warning_ is None
    assert FewShotRegressor(learner="rows-real").fit(X[::5, :3], X[::5, 3]).warning_ is None
    wild = np.exp(4 * DRAW.normal(size=(40, 4)))
    for model in (FewShotClassifier(learner="rows").fit(wild, [0, 1] * 20), FewShotRegressor().fit(wild, wild[:, 0])):
        assert model.warning_ is not None and "single numbers lie farther" in model.warning_


def test_where_nothing_was_measured_nothing_is_said() -> None:
    X, y = load_iris(return_X_y=True)
    assert FewShotClassifier(learner="logistic").fit(X[::5], y[::5]).warning_ is None
    assert unlike({"novelty": {}}, "x", torch.zeros(2, 2), 1) is None


@pytest.mark.parametrize("features", [np.zeros((1, 3)), np.ones((4, 3))])
def test_of_columns_that_do_not_differ(features: Any) -> None:
    assert scores_of(features, None) == {"tails": 1.0}
