"""A learner of tables, trained on synthetic ones alone, on scikit-learn's real tables (`make test-all`; minutes)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import quickstudy
from quickstudy.episode import Classes, Examples, Real
from quickstudy.learners.learner import AbstractLearner

pytestmark = pytest.mark.slow

EPISODES, QUERY = 100, 20


def accuracies(learner: AbstractLearner, shot: int) -> dict[str, float]:
    """Mean accuracy over three tables of our learner and of its rivals on standardised columns."""
    found: dict[str, list[float]] = {"ours": [], "1-nn": [], "3-nn": [], "logistic": []}
    rivals = {
        "1-nn": KNeighborsClassifier(1),
        "3-nn": KNeighborsClassifier(3),
        "logistic": LogisticRegression(max_iter=1000),
    }
    for load in (load_iris, load_wine, load_breast_cancer):
        x, y = load(return_X_y=True)
        way = Classes(torch.tensor([y.max() + 1]))
        for episode in range(EPISODES):
            rng = np.random.default_rng(episode)
            orders = [rng.permutation(np.flatnonzero(y == label)) for label in range(y.max() + 1)]
            support = np.concatenate([order[:shot] for order in orders])
            query = np.concatenate([order[shot : shot + QUERY] for order in orders])
            given = Examples(torch.from_numpy(x[support])[None], torch.from_numpy(y[support])[None].long(), way)
            asked = Examples(torch.from_numpy(x[query])[None], None, way)
            with torch.no_grad():
                said = learner.predict(learner.adapt(given), asked)[0].argmax(1).numpy()
            found["ours"].append(float((said == y[query]).mean()))
            for name, rival in rivals.items():
                fitted = make_pipeline(StandardScaler(), rival).fit(x[support], y[support])
                found[name].append(float(fitted.score(x[query], y[query])))
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_classes(tmp_path: Path) -> None:
    """Better than neighbours on standardised columns, at most two points below logistic regression."""
    learner = quickstudy.load(quickstudy.train("tables-tabular-in-context-fast", runs=tmp_path).path)
    for shot in (3, 5, 10):
        found = accuracies(learner, shot)
        assert found["ours"] > max(found["1-nn"], found["3-nn"]), (shot, found)
        assert found["ours"] > found["logistic"] - 0.02, (shot, found)


def test_real_targets(tmp_path: Path) -> None:
    """Diabetes: a smaller squared error than neighbours, at most a tenth above a ridge tuned on each task."""
    learner = quickstudy.load(quickstudy.train("tables-tabular-in-context-real-fast", runs=tmp_path).path)
    x, y = load_diabetes(return_X_y=True)
    for shot in (10, 20, 40):
        errors: dict[str, list[float]] = {"ours": [], "3-nn": [], "ridge": []}
        rivals = {"3-nn": KNeighborsRegressor(3), "ridge": RidgeCV(alphas=[0.1, 1, 10, 100])}
        for episode in range(EPISODES):
            order = np.random.default_rng(episode).permutation(len(x))
            support, query = order[:shot], order[shot : shot + 100]
            given = Examples(torch.from_numpy(x[support])[None], torch.from_numpy(y[support])[None, :, None], Real(1))
            with torch.no_grad():
                said = learner.predict(learner.adapt(given), Examples(torch.from_numpy(x[query])[None], None, Real(1)))
            errors["ours"].append(float(np.square(said[0, :, 0].numpy() - y[query]).mean()))
            for name, rival in rivals.items():
                fitted = make_pipeline(StandardScaler(), rival).fit(x[support], y[support])
                errors[name].append(float(np.square(fitted.predict(x[query]) - y[query]).mean()))
        means = {name: float(np.mean(values)) for name, values in errors.items()}
        assert means["ours"] < means["3-nn"] and means["ours"] < 1.1 * means["ridge"], (shot, means)
