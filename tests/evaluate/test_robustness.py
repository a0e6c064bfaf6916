"""Figures of robustness, each against a case whose answer is known."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import DataError
from quickstudy.evaluate.answered import (
    ClassCounts,
    Rejection,
    Unchanged,
    ece_interval,
    low_percentile,
    mean_of,
    worst_class,
)
from quickstudy.evaluate.calibration import Answers, Collector, expected_calibration_error
from quickstudy.evaluate.robustness import Figure, Robustness, robustness_section
from quickstudy.evaluate.scores import score
from tests.evaluate.fakes import a_result


def test_the_percentile_is_the_papers_and_its_interval_holds_the_truth() -> None:
    rng = np.random.default_rng(0)
    draws = [rng.uniform(0, 1, 300) for _ in range(400)]
    truth = 0.05
    found = [low_percentile(values) for values in draws]
    assert found[0][0] == pytest.approx(float(np.quantile(draws[0], 0.05)))
    held = np.mean([low <= truth <= high for _, low, high in found])
    assert 0.92 <= held <= 0.99


def test_of_few_episodes_none_may_lie_below_the_percentile() -> None:
    """Of 20 episodes all lie above it in 36 cases of 100."""
    rng = np.random.default_rng(4)
    found = [low_percentile(rng.uniform(0, 1, 20)) for _ in range(400)]
    assert np.mean([low <= 0.05 <= high for _, low, high in found]) >= 0.93
    assert {low for _, low, _ in found} == {0.0}


def test_of_one_episode_no_calibration_is_known() -> None:
    assert ece_interval(answers(np.random.default_rng(0), 1, 0.9, 0.7))[1:] == (0, 1)


def test_the_worst_of_equal_classes_is_not_worse_than_the_others() -> None:
    """The smallest mean of 50 equal ones is far below the truth; this figure is not."""
    rng = np.random.default_rng(1)
    found, naive = [], []
    for _ in range(60):
        counts = {one: [(e, float(x)) for e, x in enumerate(rng.normal(0.8, 0.2, 40))] for one in range(50)}
        found.append(worst_class(counts)[0])
        naive.append(min(np.mean([x for _, x in parts]) for parts in counts.values()))
    assert abs(np.mean(found) - 0.8) < 0.02 and np.mean(naive) < 0.75


def test_a_class_that_is_worse_is_found() -> None:
    rng = np.random.default_rng(2)
    counts = {one: [(e, float(x)) for e, x in enumerate(rng.normal(0.8, 0.1, 40))] for one in range(20)}
    counts[7] = [(e, float(x)) for e, x in enumerate(rng.normal(0.4, 0.1, 40))]
    value, half = worst_class(counts)
    assert abs(value - 0.4) < 0.05 and 0.01 < half < 0.06


def answers(rng: np.random.Generator, tasks: int, told: float, true: float) -> Answers:
    n = tasks * 20
    y = np.zeros(n, dtype=np.int64)
    right = rng.uniform(size=n) < true
    p = np.where(right[:, None], [[told, 1 - told]], [[1 - told, told]])
    return Answers(p, y, np.repeat(np.arange(tasks), 20))


def test_the_calibration_error_has_the_usual_value_and_an_interval_around_the_truth() -> None:
    rng = np.random.default_rng(3)
    found = [answers(rng, 60, 0.9, 0.7) for _ in range(40)]
    value, _, _ = ece_interval(found[0])
    assert value == pytest.approx(expected_calibration_error(found[0].confidence, found[0].right))
    held = np.mean([low <= 0.2 <= high for _, low, high in map(ece_interval, found)])
    assert held >= 0.85
    assert ece_interval(found[0]) == ece_interval(found[0])


def episode(y: list[int], classes: list[int]) -> Episode:
    x, way = torch.zeros(1, len(y), 2), Classes(torch.tensor([len(classes)]))
    support = Examples(torch.zeros(1, len(classes), 2), torch.arange(len(classes))[None], way)
    query = Examples(x, torch.tensor([y]), way)
    return Episode(support, query, index=torch.tensor([5]), classes=torch.tensor([classes]))


def test_right_answers_class_by_class() -> None:
    counts = ClassCounts()
    outputs = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [torch.nan, 1.0]]])
    counts(outputs, episode([0, 0, 0, 1], [8, 3]))
    assert counts.found == {8: [(5, pytest.approx(2 / 3))], 3: [(5, 0.0)]} and counts.often == {}
    assert counts.least == {5: 0.0}


def test_groups_of_rows_number_no_classes() -> None:
    """Their number is the group's: nobody can follow a label from task to task, but the worst of each is known."""
    counts = ClassCounts()
    two = episode([0, 0, 1, 1], [8, 3])
    counts(torch.tensor([[[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [0.0, 1.0]]]), replace(two, classes=torch.tensor([[8]])))
    assert counts.found == {} and counts.least == {5: 0.5}


def test_what_a_test_says_of_itself_is_the_same_in_parts() -> None:
    rng = np.random.default_rng(5)
    chunks = [
        (
            torch.tensor(rng.normal(0, 2, (1, 6, 2))),
            replace(episode([0, 0, 0, 1, 1, 1], [8, 3]), index=torch.tensor([n])),
        )
        for n in range(60)
    ]
    whole, parts = Unchanged(), [Unchanged(), Unchanged()]
    said = Collector()
    for place, chunk in enumerate(chunks):
        for observer in (whole, parts[place // 30], said):
            observer(*chunk)
    values = [score(outputs, one).values.item() for outputs, one in chunks]
    result = a_result(values)
    found = whole.alone(result)
    assert Unchanged.joined(parts).alone(result) == found and not found.is_whole and found.stands_beside(result)
    clean, low, ece, least, worst = found.figures
    assert clean.value == pytest.approx(np.mean(values)) and low.value == pytest.approx(np.quantile(values, 0.05))
    assert (ece.value, ece.low, ece.high) == pytest.approx(ece_interval(said.answers))
    assert least.value == pytest.approx(np.mean(list(whole.counts.least.values()))) and least.value < clean.value
    assert worst.name == "worst of 2 classes" and worst.kind == "worst class"


def test_answers_that_are_no_numbers_are_wrong_and_not_calibrated() -> None:
    """The first of equal probabilities is no answer: the class 0 is not told by a learner that says nothing."""
    seen, said = Unchanged(), Collector()
    for n in range(30):
        nothing = torch.full((1, 6, 2), float("nan" if n % 2 else "inf"))
        one = replace(episode([0, 0, 0, 1, 1, 1], [8, 3]), index=torch.tensor([n]))
        seen(nothing, one)
        said(nothing, one)
    clean, _, ece, least, worst = seen.alone(a_result([0.0] * 30)).figures
    assert (clean.value, least.value, worst.value) == (0.0, 0.0, 0.0)
    assert ece.value == pytest.approx(0.5) and not said.answers.right.any()


def test_an_interval_of_calibration_ends_at_one() -> None:
    """Of two episodes, one of which is wrong all along and sure of it."""
    sure = np.tile([1.0, 0.0], (20, 1))
    found = Answers(sure, np.array([1] * 19 + [0]), np.array([0] * 18 + [1] * 2))
    value, low, high = ece_interval(found)
    assert value == pytest.approx(0.95) and 0 <= low <= high == 1
    Figure.of("unchanged", "ECE", "ece", (value, low, high), 2)


def test_many_episodes_are_resampled_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    found = Answers(rng.dirichlet(np.ones(5), 3000), rng.integers(0, 5, 3000), np.repeat(np.arange(1000), 3))
    whole = ece_interval(found)
    monkeypatch.setattr("quickstudy.evaluate.answered.DRAWN", 7000)
    tracemalloc.start()
    try:
        assert ece_interval(found) == pytest.approx(whole)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_unknown_queries_are_told_by_the_largest_probability() -> None:
    rejection = Rejection()
    logits = torch.tensor([[[5.0, 0.0], [0.0, 4.0], [1.0, 0.0], [4.5, 0.0]]])
    rejection(logits, episode([0, 1, -1, -1], [8, 3]))
    assert rejection.values.tolist() == [0.75]
    rejection(logits, episode([0, 1, 0, 1], [8, 3]))  # a task without strangers has no such figure
    assert len(rejection.values) == 1


def robustness(**more: Any) -> Robustness:
    given: dict[str, Any] = {
        "learner": "knn",
        "source": {"data": "made", "way": 5},
        "source_hash": "h",
        "recipe_hash": "r",
        "checkpoint": "last",
        "transductive": False,
        "episodes": 4,
        "seconds": 1.0,
        "figures": (
            mean_of("unchanged", "unchanged tasks", np.array([0.5, 0.7, 0.6, 0.6])),
            mean_of("shift", "turned", np.array([0.4, 0.5, 0.5, 0.6]), difference=(-0.1, 0.04)),
            mean_of("shots", "1-shot", np.array([0.5, 0.7, 0.6, 0.6]), at=1),
            mean_of("shots", "5-shot", np.array([0.8, 0.9, 0.9, 1.0]), at=5),
        ),
        "not_asked": {"uneven": "Too few."},
    }
    return Robustness(**(given | more))


def test_kept_and_read_again(tmp_path: Path) -> None:
    found = robustness()
    found.save(tmp_path / "a.json")
    assert Robustness.load(tmp_path / "a.json") == found
    assert found.id != replace(found, episodes=5).id and found.id == replace(found, seconds=2.0).id
    assert "turned" in str(found) and "−10.0 ± 4.0" in str(found) and "uneven: not asked. Too few." in str(found)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read the robustness figures .*none\.json: No such file"):
        Robustness.load(tmp_path / "none.json")
    about = json.loads(robustness().to_json())
    for text, said in (
        (robustness().to_json()[:200], "as robustness figures: Invalid JSON"),
        (json.dumps(about | {"schema": 9}), "reads figures of schema 1, found 9"),
        (json.dumps({k: v for k, v in about.items() if k != "figures"}), "figures: Field required"),
    ):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(DataError, match=said):
            Robustness.load(tmp_path / "b.json")


def test_learners_side_by_side() -> None:
    other = robustness(learner="maml", figures=robustness().figures[:1], not_asked={})
    section = robustness_section({"knn": robustness(), "maml": other})
    assert section.head == ("", "knn", "maml")
    assert section.rows[0][0].startswith("unchanged tasks (%), n") and section.rows[1][2] == ""
    assert "Not asked of knn: uneven. Too few." in section.text
    assert len(section.drawings) == 1 and "shots accuracy" in section.drawings[0].alt


def test_reasons_that_differ_in_numbers_are_one_sentence() -> None:
    many = robustness(not_asked={"10-way": "No 10 of 5.", "20-way": "No 20 of 5.", "x": "Else."})
    text = robustness_section({"knn": many}).text
    assert text[1:] == ("Not asked of knn: 10-way, 20-way. No 10 of 5.", "Not asked of knn: x. Else.")


def test_a_reason_that_several_have_is_said_once() -> None:
    one, two = robustness(not_asked={"x": "No."}), robustness(not_asked={"x": "No.", "y": "Nor."})
    assert robustness_section({"a": one, "b": two}).text[1:] == ("Not asked of any: x. No.", "Not asked of b: y. Nor.")
    three = robustness_section({"a": one, "b": two, "c": robustness(not_asked={})})
    assert three.text[1:] == ("Not asked of a, b: x. No.", "Not asked of b: y. Nor.")


def test_reasons_that_differ_in_numbers_between_learners_are_said_once() -> None:
    one, two = robustness(not_asked={"x": "2 are too few."}), robustness(not_asked={"x": "30 are too few."})
    assert robustness_section({"a": one, "b": two}).text[1:] == ("Not asked of any: x. 2 are too few.",)


def test_each_row_says_of_how_many_episodes_it_is() -> None:
    few = replace(robustness().figures[0], episodes=7)
    section = robustness_section({"a": robustness(), "b": robustness(figures=(few, *robustness().figures[1:]))})
    names = [name.replace("\u00a0", " ") for name, *_ in section.rows]
    assert names[0] == f"unchanged tasks (%), n = {robustness().figures[0].episodes} to 7"
    assert names[1].endswith(f", n = {robustness().figures[1].episodes}")
    assert "  unchanged tasks" in str(robustness(figures=(few,))) and "(7 episodes)" in str(robustness(figures=(few,)))


def test_which_figures_say_more() -> None:
    whole = robustness()
    alone = robustness(figures=whole.figures[:1], not_asked={})
    assert alone.says_more_than(None) and whole.says_more_than(alone) and not alone.says_more_than(whole)
    assert not whole.says_more_than(whole) and not replace(whole, episodes=2).says_more_than(alone)
    both = whole.beside_test(replace(alone, episodes=9))
    assert both.episodes == 9 and both.figures == whole.figures and both.not_asked == whole.not_asked


def test_an_interval_does_not_leave_what_there_can_be() -> None:
    found = mean_of("unchanged", "x", np.array([1.0, 1.0, 0.9]))
    assert found.high == 1.0 and isinstance(found, Figure)
