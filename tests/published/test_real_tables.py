"""A learner of tables, trained on synthetic ones alone, on scikit-learn's real tables (`make test-all`; minutes)."""

from __future__ import annotations

from pathlib import Path

import pytest

import quickstudy
from tests.published.scripts import benchmark

pytestmark = pytest.mark.slow


def test_classes(tmp_path: Path) -> None:
    """Better than neighbours on standardised columns, at most two points below logistic regression."""
    learner = quickstudy.load(quickstudy.train("tables-tabular-in-context-fast", runs=tmp_path).path)
    for shot in (3, 5, 10):
        found = {name: scores.mean() for name, scores in benchmark("real_tables").accuracies(learner, shot).items()}
        assert found["ours"] > max(found["1-NN"], found["3-NN"]), (shot, found)
        assert found["ours"] > found["logistic regression"] - 0.02, (shot, found)


def test_real_targets(tmp_path: Path) -> None:
    """Diabetes: a smaller squared error than neighbours, at most a tenth above a ridge tuned on each task."""
    learner = quickstudy.load(quickstudy.train("tables-tabular-in-context-real-fast", runs=tmp_path).path)
    for shot in (10, 20, 40):
        found = {name: scores.mean() for name, scores in benchmark("real_tables").squared_errors(learner, shot).items()}
        assert found["ours"] < found["3-NN"] and found["ours"] < 1.1 * found["ridge regression"], (shot, found)
