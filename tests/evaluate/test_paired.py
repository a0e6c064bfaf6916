"""Two results on the same episodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from quickstudy.errors import InputError
from quickstudy.evaluate import meta_test, paired
from tests.evaluate.fakes import NearestMean, Points, a_result


def test_differences_are_taken_episode_by_episode() -> None:
    a, b = a_result([0.9, 0.5, 0.7, 0.8]), a_result([0.8, 0.4, 0.7, 0.6])
    got = paired(a, b)
    assert got.difference == pytest.approx(0.1)
    assert got.ci95 == pytest.approx(1.96 * np.std([0.1, 0.1, 0, 0.2], ddof=1) / 2)
    assert (got.episodes, got.a_better, got.b_better) == (4, 3, 0)
    assert got.excludes_zero and got.favours_a
    other = paired(b, a)
    assert other.difference == pytest.approx(-0.1) and other.excludes_zero and not other.favours_a


def test_an_interval_that_holds_zero_decides_nothing() -> None:
    got = paired(a_result([0.9, 0.5, 0.7]), a_result([0.7, 0.7, 0.6]))
    assert got.difference > 0 and not got.excludes_zero and not got.favours_a


def test_equal_results_differ_by_nothing() -> None:
    got = paired(a_result([0.9, 0.5]), a_result([0.9, 0.5]))
    assert (got.difference, got.ci95, got.excludes_zero) == (0, 0, False)


def test_of_errors_the_smaller_is_better() -> None:
    got = paired(a_result([0.1, 0.2], metric="mse"), a_result([0.3, 0.41], metric="mse"))
    assert got.difference < 0 and got.favours_a and (got.a_better, got.b_better) == (2, 0)


def test_the_shorter_result_says_which_episodes() -> None:
    got = paired(a_result([0.9, 0.5, 0.0, 0.0]), a_result([0.8, 0.4]))
    assert got.episodes == 2 and got.difference == pytest.approx(0.1)


def test_an_infinite_error_leaves_no_mean_difference_but_a_count() -> None:
    a = a_result([0.1, 0.1], metric="mse", per_episode=(0.1, math.inf))
    got = paired(a, a_result([0.2, 0.2], metric="mse"))
    assert math.isnan(got.difference) and got.ci95 == math.inf and not got.excludes_zero
    assert (got.a_better, got.b_better) == (1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"way": 20}, r"Cannot compare maml and maml in pairs: .*\(way is 5 for one and 20 for the other\)"),
        ({"seed": 1}, r"seed is 0 for one and 1"),
        ({"split": "train"}, r"split is 'test' for one and 'train'"),
        ({"first": 600}, r"first is 0 for one and 600"),
        ({"source_hash": "other"}, r"source_hash is '0123456789abcdef' for one and 'other'"),
        ({"metric": "mse"}, r"metric is 'accuracy' for one and 'mse'"),
        ({"source": {"rotations": "classes"}}, r"is '?\w+'? for one and None for the other"),
    ],
)
def test_other_tasks_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        paired(a_result([0.9, 0.5]), a_result([0.9, 0.5], **change))


def test_pairing_is_what_makes_small_differences_visible() -> None:
    source = Points(shot=1)
    one = meta_test(NearestMean(), source, episodes=100)
    worse = meta_test(NearestMean(broken=tuple(range(0, 100, 3))), source, episodes=100)
    got = paired(one, worse)
    assert got.favours_a and got.ci95 < one.ci95 / 3
    assert got.difference < one.ci95  # each mean lies within the other's interval
