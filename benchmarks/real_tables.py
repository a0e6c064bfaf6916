"""A learner of tables that saw synthetic ones alone, on scikit-learn's real tables, in pairs with its rivals.

    python benchmarks/real_tables.py [--runs runs/learners]

Iris, wine and breast cancer (classes; accuracy) and diabetes (a real target; squared error), 100 tasks each: a few rows
are labelled, others are asked for. The rivals get the same rows with standardised columns; ridge regression chooses its
penalty on each task's rows. Writes docs/learners/real_tables.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import quickstudy
from quickstudy.episode import Classes, Examples, Real
from quickstudy.evaluate import episode_ci95
from quickstudy.learners.learner import AbstractLearner

RESULTS = Path(__file__).parents[1] / "docs" / "learners" / "real_tables.json"
EPISODES, QUERY = 100, 20
Scores: TypeAlias = dict[str, NDArray[np.float64]]


def _scores(
    learner: AbstractLearner,
    rivals: Mapping[str, Any],
    x: NDArray[np.float64],
    y: NDArray[Any],
    draw: Callable[[int], tuple[NDArray[np.int64], NDArray[np.int64]]],
    score: Callable[[NDArray[Any], NDArray[Any]], float],
) -> Scores:
    """What everyone scores on each task of one table."""
    found: dict[str, list[float]] = {"ours": [], **{name: [] for name in rivals}}
    classes = y.dtype.kind == "i"
    target = Classes(torch.tensor([int(y.max()) + 1])) if classes else Real(1)
    for episode in range(EPISODES):
        support, query = draw(episode)
        labels = torch.from_numpy(y[support])[None]
        given = Examples(torch.from_numpy(x[support])[None], labels.long() if classes else labels[..., None], target)
        with torch.no_grad():
            outputs = learner.predict(learner.adapt(given), Examples(torch.from_numpy(x[query])[None], None, target))[0]
        said = outputs.argmax(1) if classes else outputs[:, 0]
        found["ours"].append(score(said.numpy(), y[query]))
        for name, rival in rivals.items():
            fitted = make_pipeline(StandardScaler(), rival).fit(x[support], y[support])
            found[name].append(score(fitted.predict(x[query]), y[query]))
    return {name: np.array(values) for name, values in found.items()}


def accuracies(learner: AbstractLearner, shot: int) -> Scores:
    """Accuracy on each of 100 tasks of each of three tables, ``shot`` labelled rows a class."""
    rivals = {
        "1-NN": KNeighborsClassifier(1),
        "3-NN": KNeighborsClassifier(3),
        "logistic regression": LogisticRegression(max_iter=1000),
    }
    tables = []
    for load in (load_iris, load_wine, load_breast_cancer):
        x, y = load(return_X_y=True)

        def draw(episode: int, y: NDArray[Any] = y) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            rng = np.random.default_rng(episode)
            orders = [rng.permutation(np.flatnonzero(y == label)) for label in range(y.max() + 1)]
            return (
                np.concatenate([order[:shot] for order in orders]),
                np.concatenate([order[shot : shot + QUERY] for order in orders]),
            )

        tables.append(_scores(learner, rivals, x, y, draw, lambda said, true: float((said == true).mean())))
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def squared_errors(learner: AbstractLearner, shot: int) -> Scores:
    """Squared error on each of 100 tasks of diabetes, ``shot`` labelled rows, over that of always saying the mean."""
    x, y = load_diabetes(return_X_y=True)
    rivals = {"3-NN": KNeighborsRegressor(3), "ridge regression": RidgeCV(alphas=[0.1, 1, 10, 100])}

    def draw(episode: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.random.default_rng(episode).permutation(len(x))
        return order[:shot], order[shot : shot + 100]

    return _scores(learner, rivals, x, y, draw, lambda said, true: float(np.square(said - true).mean() / np.var(y)))


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/learners"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    entries: dict[str, Any] = {}
    for name, metric, measure, shots in (
        ("tables-tabular-in-context-fast", "accuracy", accuracies, (3, 5, 10)),
        ("tables-tabular-in-context-real-fast", "squared error", squared_errors, (10, 20, 40)),
    ):
        learner = quickstudy.load(quickstudy.train(name, runs=given.runs).path)
        sign = 1 if metric == "accuracy" else -1
        rows: dict[str, Any] = {}
        for shot in shots:
            found = measure(learner, shot)
            rows[str(shot)] = {
                who: {
                    "mean": float(values.mean()),
                    "ci95": episode_ci95(values),
                    "ahead": float(sign * (found["ours"] - values).mean()),
                    "ahead_ci95": episode_ci95(found["ours"] - values),
                }
                for who, values in found.items()
            }
            means = ", ".join(f"{who} {values.mean():.4f}" for who, values in found.items())
            print(f"{name:<40} {metric}, {shot} labelled rows: {means}", flush=True)
        entries[name] = {"metric": metric, "episodes": len(found["ours"]), "shots": rows}
    RESULTS.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
