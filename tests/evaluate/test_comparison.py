"""Learners beside baselines: which baseline, what is said, and how the terminal shows it."""

from __future__ import annotations

import math

import pytest

from quickstudy.errors import InputError
from quickstudy.evaluate import Comparison, Entry, cell_name, compare, render_table
from quickstudy.evaluate.wording import marks, number, verdict
from tests.evaluate.fakes import a_result

BASE = [0.70, 0.72, 0.71, 0.73, 0.69, 0.71]


def shifted(by: float, wobble: float = 0.0) -> list[float]:
    return [value + by + wobble * (-1) ** i for i, value in enumerate(BASE)]


def a_table(learner_by: float = 0.05, wobble: float = 0.001) -> Comparison:
    return compare(
        [
            Entry("knn", {"1-shot": a_result(shifted(0))}, baseline=True),
            Entry("maml", {"1-shot": a_result(shifted(learner_by, wobble), transductive=True)}),
            Entry("scratch", {"1-shot": a_result(shifted(-0.1)[:3])}, baseline=True),
        ]
    )


def said(table: Comparison, row: int = 0) -> str:
    cell = table.rows[row].cells[0]
    assert cell is not None
    return verdict(cell)


def test_learners_come_first_and_each_is_set_beside_the_best_baseline() -> None:
    table = a_table()
    assert [row.name for row in table.rows] == ["maml", "knn", "scratch"]
    learner, knn, _ = (row.cells[0] for row in table.rows)
    assert learner is not None and learner.baseline == "knn" and learner.versus is not None
    assert learner.versus.difference == pytest.approx(0.05) and learner.beats_baseline is True
    assert knn is not None and knn.versus is None and knn.beats_baseline is None


def test_the_best_baseline_is_the_best_on_the_episodes_that_all_baselines_saw() -> None:
    # "lucky" met only the two easy episodes at the start, where "steady" is better.
    steady = a_result([0.9, 0.9, 0.1, 0.1])
    lucky = a_result([0.8, 0.8])
    table = compare(
        [
            Entry("lucky", {"x": lucky}, baseline=True),
            Entry("steady", {"x": steady}, baseline=True),
            Entry("maml", {"x": a_result([0.9, 0.9, 0.2, 0.2])}),
        ]
    )
    cell = table.rows[0].cells[0]
    assert cell is not None and cell.baseline == "steady"


def test_a_baseline_of_few_episodes_does_not_decide_between_two_others() -> None:
    entries = [
        Entry("begins well", {"x": a_result([0.9, 0.9, 0.1, 0.1])}, baseline=True),
        Entry("steady", {"x": a_result([0.8, 0.8, 0.8, 0.8])}, baseline=True),
        Entry("short", {"x": a_result([0.7, 0.7])}, baseline=True),
        Entry("maml", {"x": a_result([0.7, 0.7, 0.7, 0.7])}),
    ]
    cell = compare(entries).rows[0].cells[0]
    assert cell is not None and cell.baseline == "steady"
    entries[2] = Entry("short", {"x": a_result([0.85, 0.8])}, baseline=True)
    cell = compare(entries).rows[0].cells[0]
    assert cell is not None and cell.baseline == "short" and cell.versus is not None and cell.versus.episodes == 2


def test_of_errors_the_best_baseline_has_the_smallest() -> None:
    entries = [
        Entry("mean", {"x": a_result([4.0, 4.2], metric="mse")}, baseline=True),
        Entry("ridge", {"x": a_result([1.0, 1.2], metric="mse")}, baseline=True),
        Entry("maml", {"x": a_result([0.5, 0.8], metric="mse")}),
    ]
    cell = compare(entries).rows[0].cells[0]
    assert cell is not None and cell.baseline == "ridge" and cell.beats_baseline is True
    assert verdict(cell) == "beats ridge by 0.450 ± 0.098"


@pytest.mark.parametrize(
    ("by", "wobble", "words"),
    [
        (0.05, 0.001, "beats knn by 5.0 ± 0.1"),
        (-0.05, 0.001, "does not beat knn: worse by 5.0 ± 0.1"),
        (0.001, 0.02, "does not clearly beat knn: +0.1 ± 1.8 includes 0"),
        (-0.001, 0.02, "does not clearly beat knn: −0.1 ± 1.8 includes 0"),
    ],
)
def test_the_verdict_in_words(by: float, wobble: float, words: str) -> None:
    assert said(a_table(by, wobble)) == words


def test_a_verdict_over_fewer_episodes_says_so() -> None:
    table = compare(
        [
            Entry("maml", {"x": a_result(shifted(0.1))}),
            Entry("scratch", {"x": a_result(shifted(0)[:3])}, baseline=True),
        ]
    )
    assert said(table) == "beats scratch by 10.0 ± 0.0 (first 3 episodes)"


def test_an_infinite_difference_is_said_in_counts() -> None:
    wild = a_result([0.1, 0.1], metric="mse", mean=math.inf, ci95=math.inf, per_episode=(0.1, math.inf), diverged=1)
    table = compare([Entry("maml", {"x": wild}), Entry("mean", {"x": a_result([1.0, 1.0], metric="mse")}, True)])
    assert said(table) == "does not clearly beat mean: infinite errors; better in 1, worse in 1 of 2 episodes"
    assert "1 of 2 diverged" in marks(wild) and "median 0.100" in marks(wild)


def test_columns_may_miss_and_other_tasks_may_not_mix() -> None:
    table = compare([Entry("a", {"x": a_result([0.5, 0.6])}), Entry("b", {"y": a_result([0.5, 0.6], way=20)})])
    assert table.columns == ("x", "y") and table.rows[0].cells[1] is None
    with pytest.raises(InputError, match=r"in pairs: they were tested on different tasks \(way is 20"):
        compare([Entry("a", {"x": a_result([0.5, 0.6])}, True), Entry("b", {"x": a_result([0.5, 0.6], way=20)})])
    with pytest.raises(InputError, match=r"expected results of one metric, found accuracy and mse"):
        compare([Entry("a", {"x": a_result([0.5, 0.6])}), Entry("b", {"y": a_result([0.5, 0.6], metric="mse")})])
    with pytest.raises(InputError, match=r"expected results of one metric, found no results"):
        compare([])


def test_baselines_of_other_tasks_are_refused_too() -> None:
    with pytest.raises(InputError, match=r"different tasks \(seed is"):
        compare(
            [
                Entry("a", {"x": a_result([0.5, 0.6])}, baseline=True),
                Entry("b", {"x": a_result([0.4, 0.5], seed=1)}, baseline=True),
            ]
        )


def test_cells_are_called_by_way_and_shot() -> None:
    assert cell_name(a_result([0.5, 0.6])) == "5-way 1-shot"
    assert cell_name(a_result([0.5, 0.6], way=None, shot=10)) == "10-shot"
    assert cell_name(a_result([0.5, 0.6], way=(5, 20))) == "5..20-way 1-shot"


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.99999, "accuracy", "100.0"),
        (-1e-9, "accuracy", "0.0"),
        (math.inf, "mse", "∞"),
        (math.nan, "mse", "undefined"),
        (1e30, "mse", "1.0e+30"),
        (0.00012, "mse", "1.2e-04"),
        (0.0, "mse", "0.000"),
    ],
)
def test_numbers_are_short(value: float, metric: str, text: str) -> None:
    assert number(value, metric) == text


def test_the_text_table_line_by_line() -> None:
    assert render_table(a_table(), 60).splitlines() == [
        "accuracy in %, mean ± 95 % interval over 6 episodes",
        "",
        "         1-shot",
        "-" * 49,
        "maml     76.0 ± 1.1",
        "         (transductive)",
        "         beats knn by 5.0 ± 0.1",
        "baselines " + "-" * 39,
        "knn      71.0 ± 1.1",
        "scratch  61.0 ± 1.1",
        "         (3 episodes)",
    ]


def test_a_wide_table_goes_on_below_and_no_line_is_too_long() -> None:
    columns = [f"{way}-way {shot}-shot" for way in (5, 20) for shot in (1, 5, 10)]
    entries = [
        Entry("a learner of a long name indeed", {c: a_result(shifted(0.001, 0.03)) for c in columns}),
        Entry("k-nearest neighbours in pixels", {c: a_result(BASE) for c in columns}, baseline=True),
    ]
    for width in (60, 80, 100):
        lines = render_table(compare(entries), width).splitlines()
        assert max(map(len, lines)) <= width
        assert all(any(column in line for line in lines) for column in columns)
        assert sum("71.0 ± 1.1" in line for line in lines) >= 2
        assert not any(line.rstrip().endswith("±") for line in lines)
    with pytest.raises(ValueError, match=r"at least 60 are needed"):
        render_table(compare(entries), 59)
