"""Calibration, abstention and conformal sets against scikit-learn, sums written out, and simulation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, roc_curve

from quickstudy.data import classscores
from quickstudy.data.digits import Digits
from quickstudy.data.sinusoid import Sinusoid
from quickstudy.errors import InputError
from quickstudy.evaluate.calibration import (
    Answers,
    Collector,
    answers,
    calibration_section,
    conformal_sets,
    expected_calibration_error,
    one_row_a_task,
    reliability,
    risk_coverage,
    threshold,
)
from quickstudy.evaluate.metatest import answer
from quickstudy.learners.knn import KNN


def drawn(seed: int, n: int = 200, way: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(way), n)
    y = np.array([rng.choice(way, p=row) for row in p])
    return p, y


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_figures_of_two_classes_are_scikit_learns(seed: int) -> None:
    p, y = drawn(seed)
    score = p[:, 1].round(1)  # with ties
    assert classscores.auroc(y == 1, score) == pytest.approx(roc_auc_score(y, score))
    assert classscores.brier(p, y) == pytest.approx(brier_score_loss(y, p[:, 1]))
    assert classscores.log_loss(p, y) == pytest.approx(log_loss(y, p), rel=1e-6)
    wrong, right, _ = roc_curve(y, score, drop_intermediate=False)
    for specificity in (0.5, 0.8, 0.9, 1.0):
        best = right[1 - wrong >= specificity - 1e-9].max()
        assert classscores.sensitivity_at(y == 1, score, specificity) == pytest.approx(best)


def test_brier_of_more_classes() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    assert classscores.brier(p, np.array([0, 1])) == pytest.approx((0.25 + 0.09 + 0.04 + 0.01 + 0.81 + 0.64) / 2)


def test_without_both_classes_nothing_is_ranked() -> None:
    one = np.ones(3, dtype=bool)
    assert np.isnan(classscores.auroc(one, np.arange(3.0))) and np.isnan(
        classscores.sensitivity_at(~one, np.ones(3), 0.9)
    )


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_reliability_is_scikit_learns(seed: int) -> None:
    """calibration_curve gives bins that hold something; ECE is their gap, weighted by what they hold."""
    p, y = drawn(seed)
    confidence, right = p.max(1), p.argmax(1) == y
    share, mean = calibration_curve(right, confidence, n_bins=10)
    found = reliability(confidence, right, 10)
    there = found.count > 0
    assert found.accuracy[there] == pytest.approx(share) and found.confidence[there] == pytest.approx(mean)
    expected = (found.count[there] / len(y) * np.abs(share - mean)).sum()
    assert expected_calibration_error(confidence, right, 10) == pytest.approx(expected)


def test_a_sure_and_a_doubtful_row() -> None:
    found = reliability(np.array([1.0, 0.5, 0.0]), np.array([True, False, False]), 2)
    assert found.count.tolist() == [2, 1], "bins hold their upper end"


def test_risk_against_coverage() -> None:
    coverage, risk = risk_coverage(np.array([0.9, 0.7, 0.7, 0.5]), np.array([True, False, True, False]))
    assert coverage.tolist() == [0.25, 0.75, 1.0] and risk.tolist() == pytest.approx([0, 1 / 3, 0.5])


def test_conformal_coverage_is_as_promised() -> None:
    """Over many calibrations: at least 1 - alpha and at most 1/(n + 1) more (Vovk; Lei et al. 2018)."""
    alpha, n, covered = 0.1, 49, []
    for seed in range(400):
        p, y = drawn(seed, n + 50, 4)
        at_least = threshold(p[np.arange(n), y[:n]], alpha)
        covered.append(conformal_sets(p[n:], at_least)[np.arange(50), y[n:]].mean())
    assert 1 - alpha - 0.008 < np.mean(covered) < 1 - alpha + 1 / (n + 1) + 0.008


def test_conformal_sets_are_those_of_lac() -> None:
    """The usual form: scores 1 - p of the truth, quantile of level ceil((n + 1)(1 - alpha)) / n, sets below it."""
    p, y = drawn(3, 40, 3)
    scores = 1 - p[np.arange(40), y]
    for alpha in (0.05, 0.1, 0.3):
        level = np.ceil(41 * (1 - alpha)) / 40
        quantile = np.quantile(scores, level, method="inverted_cdf")
        at_least = threshold(1 - scores, alpha)
        assert at_least == pytest.approx(1 - quantile)
    assert conformal_sets(p, threshold(1 - scores[:5], 0.1)).all(), "too few rows: all classes"
    with pytest.raises(InputError, match=r"alpha between 0 and 1, received 1"):
        threshold(scores, 1)


def test_conformal_sets_are_mapies() -> None:
    mapie = pytest.importorskip("mapie.classification")
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    y = (x[:, 0] + rng.normal(size=300) > 0).astype(int) + (x[:, 1] > 1)
    model = LogisticRegression().fit(x[:100], y[:100])
    other = mapie.SplitConformalClassifier(model, confidence_level=0.85, conformity_score="lac", prefit=True)
    other.conformalize(x[100:200], y[100:200])
    _, sets = other.predict_set(x[200:])
    p = model.predict_proba(x)
    at_least = threshold(p[np.arange(100, 200), y[100:200]], 0.15)
    assert np.array_equal(conformal_sets(p[200:], at_least), sets[:, :, 0])


def test_answers_of_a_learner() -> None:
    source = Digits().tasks("test", way=3, shot=1, query=4, seed=0)
    found = answers(KNN(), source, episodes=20)
    assert found.p.shape == (240, 3) and found.p.sum(1) == pytest.approx(1)
    assert found.task.tolist() == [n // 12 for n in range(240)]
    single = one_row_a_task(found)
    assert single.task.tolist() == list(range(20))
    section = calibration_section({"k-NN": found})
    assert section.rows[0][0] == "k-NN" and "ECE" in section.drawings[0].alt and len(section.drawings) == 2


def test_ways_may_differ() -> None:
    collector = Collector()
    for way in (2, 3):
        source = Digits().tasks("test", way=way, shot=1, query=1, seed=0)
        collector(torch.zeros(2, way, way), source.episodes(range(2)))
    found = collector.answers
    assert found.p.shape == (10, 3) and found.p[0].tolist() == [0.5, 0.5, 0] and found.task.max() == 3


def test_answers_that_processes_gathered_are_those_of_one() -> None:
    source = Digits().tasks("test", way=3, shot=1, query=4, seed=0)
    parts = [Collector(), Collector(), Collector()]
    for part, tasks in zip(parts, (range(16), range(16, 20), range(0)), strict=True):
        if tasks:
            part(answer(KNN(), source.episodes(tasks)), source.episodes(tasks))
    found, whole = Collector.joined(parts).answers, answers(KNN(), source, episodes=20)
    for mine, theirs in ((found.p, whole.p), (found.y, whole.y), (found.task, whole.task)):
        assert np.array_equal(mine, theirs)


def test_sentences() -> None:
    with pytest.raises(InputError, match=r"no task was tested"):
        _ = Collector().answers
    episode = Sinusoid().tasks("test", shot=2, query=2, seed=0).episodes(range(1))
    with pytest.raises(InputError, match=r"these tasks have no classes"):
        Collector()(torch.zeros(1, 2, 1), episode)


def test_the_answer_is_the_likeliest_class() -> None:
    found = Answers(np.array([[0.2, 0.8]]), np.array([1]), np.array([0]))
    assert found.confidence.tolist() == [0.8] and found.right.tolist() == [True]
