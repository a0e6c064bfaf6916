"""Pairs, their correction, and the letters that show what is left."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from quickstudy.evaluate import paired
from quickstudy.evaluate.paired import Paired
from quickstudy.leaderboard.significance import Pair, groups, holm, pairs
from tests.evaluate.fakes import a_result
from tests.leaderboard.rows import infinite, made


def test_holm_gives_known_answers() -> None:
    # Holm 1979 by hand: 4 x .005, 3 x .01, 2 x .03, then never less than before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_bounds_false_differences() -> None:
    """Ten learners that are all alike: a clear pair is rare in a table, and usual without the correction."""
    rng = np.random.default_rng(0)
    clear, uncorrected = 0, 0
    first, second = np.triu_indices(10, 1)
    for _ in range(100):
        values = rng.normal(size=(10, 40))
        p = np.asarray(stats.ttest_rel(values[first], values[second], axis=1).pvalue).tolist()
        clear += min(holm(p)) < 0.05
        uncorrected += min(p) < 0.05
    assert clear <= 10 and uncorrected > 40


def test_a_pair_has_the_p_value_of_a_paired_t_test() -> None:
    a, b = made(0.8, 0), made(0.79, 1)
    (pair,) = pairs([a, b])
    assert pair.p == pytest.approx(stats.ttest_rel(a.per_episode, b.per_episode).pvalue, rel=1e-3)  # 1.96 is rounded
    assert pair.versus == paired(a, b) and pair.p_holm == pair.p


def test_rows_of_other_episodes_are_not_compared() -> None:
    a = made(0.8)
    other = [made(0.9, source_hash="f" * 16), made(0.9, seed=0, first=50), made(0.9, 0, 50, way=20)]
    assert pairs([a, *other]) == []
    assert groups(4, []) == ["", "", "", ""]
    fewer = made(0.9, episodes=30)
    assert [pair.versus.episodes for pair in pairs([a, fewer])] == [30]
    one = replace(a, episodes=1, per_episode=a.per_episode[:1], ci95=math.inf)
    assert pairs([a, one]) == []


def test_equal_and_infinite_rows() -> None:
    a = made(0.8)
    assert pairs([a, a])[0].p == 1
    shifted = a_result([value - 1 / 75 for value in a.per_episode])
    assert pairs([a, shifted])[0].p < 1e-100, "always by as much"
    errors = [infinite([math.inf, *values]) for values in ([1.0] * 11, [2.0] * 11)]
    assert pairs(errors)[0].p == pytest.approx(2 * 0.5**11), "a sign test of eleven"


def clear(a: int, b: int, p: float = 0.001) -> Pair:
    return Pair(a, b, Paired(0.1, 0.01, 10, 9, 1), p, p)


def test_letters_are_shared_by_those_that_cannot_be_told_apart() -> None:
    all_pairs = [(0, 1), (0, 2), (1, 2)]
    assert groups(3, [clear(a, b, 0.5) for a, b in all_pairs]) == ["a", "a", "a"]
    assert groups(3, [clear(a, b) for a, b in all_pairs]) == ["a", "b", "c"]
    assert groups(3, [clear(0, 1, 0.5), clear(0, 2), clear(1, 2, 0.5)]) == ["a", "ab", "b"]
    # The third was not tested on the episodes of the others.
    assert groups(3, [clear(0, 1, 0.5)]) == ["a", "a", ""]


def test_letters_say_exactly_what_the_pairs_say() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        found = [clear(a, b, 0.001 if rng.random() < 0.4 else 0.5) for a in range(8) for b in range(a + 1, 8)]
        letters = groups(8, found)
        for pair in found:
            assert bool(set(letters[pair.a]) & set(letters[pair.b])) != pair.clear
