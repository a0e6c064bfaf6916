"""Several tasks answered in one call: the same as one after the other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy import FewShotClassifier
from quickstudy.estimators import together
from quickstudy.estimators.answering import Answering, weakest
from quickstudy.estimators.together import Asked, answer_together, share_learner

X = np.random.default_rng(0)
CASES: dict[str, tuple[str, Callable[[int], Any]]] = {
    "drawings": ("drawings", lambda n: list(X.integers(0, 256, (n, 30, 30), dtype=np.uint8))),
    "pictures": ("pictures", lambda n: list(X.integers(0, 256, (n, 40, 40, 3), dtype=np.uint8))),
    "rows": ("rows", lambda n: X.normal(size=(n, 4))),
    "knn on rows": ("knn", lambda n: X.normal(size=(n, 4))),
    "knn on pictures": ("knn", lambda n: list(X.integers(0, 256, (n, 30, 30), dtype=np.uint8))),
    "logistic": ("logistic", lambda n: X.normal(size=(n, 4))),
    "tf-idf": ("tf-idf", lambda n: [" ".join(X.choice(["one", "two", "three", "four"], 1 + k)) for k in range(n)]),
}


def models(name: str, ways: list[int]) -> list[FewShotClassifier]:
    learner, draw = CASES[name]
    found = [
        FewShotClassifier(learner).fit(draw(2 * way), [f"class {k}" for k in range(way) for _ in range(2)])
        for way in ways
    ]
    for model in found:
        share_learner(model, found[0].chosen_.learner)
    return found


@pytest.mark.parametrize("name", CASES)
def test_side_by_side_is_one_after_the_other(name: str) -> None:
    """Tasks of two ways, questions of several lengths; thrice, as the first time both ways are computed."""
    fitted = models(name, [3, 3, 2, 3, 2])
    asked = [Asked(model, model._read(CASES[name][1](n))) for model, n in zip(fitted, [1, 4, 2, 1, 3], strict=True)]
    alone = [answer_together([one])[0] for one in asked]
    for _ in range(3):
        said = answer_together(asked)
        for one, other in zip(alone, said, strict=True):
            np.testing.assert_allclose(other.logits, one.logits, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(other.features.double(), one.features.double(), rtol=1e-4, atol=1e-5)
    if name in ("drawings", "pictures"):
        assert [one.tasks for one in said] == [3, 3, 2, 3, 2]


def test_a_learner_that_mixes_tasks_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = models("drawings", [2, 2])
    learner = fitted[0].chosen_.learner
    true = type(learner).predict

    def mixed(self, state, query, **named):  # type: ignore[no-untyped-def]
        return true(self, state, query, **named) + query.n_task

    monkeypatch.setattr(type(learner), "predict", mixed)
    asked = [Asked(model, model._read(CASES["drawings"][1](2))) for model in fitted]
    for _ in range(2):
        assert [one.tasks for one in answer_together(asked)] == [1, 1]


@pytest.mark.parametrize("error", [RuntimeError, IndexError])
def test_a_learner_that_takes_one_task_alone(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    fitted = models("drawings", [2, 2])
    true = type(fitted[0].chosen_.learner).predict

    def alone(self, state, query, **named):  # type: ignore[no-untyped-def]
        if query.n_task > 1:
            raise error("one at a time")
        return true(self, state, query, **named)

    monkeypatch.setattr(type(fitted[0].chosen_.learner), "predict", alone)
    asked = [Asked(model, model._read(CASES["drawings"][1](2))) for model in fitted]
    assert [one.tasks for one in answer_together(asked)] == [1, 1]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=12))
def test_parts_hold_all_and_not_too_much(sizes: list[int]) -> None:
    asked = [Asked(None, torch.zeros(size, 2)) for size in sizes]  # type: ignore[arg-type]
    parts = list(together._parts(range(len(sizes)), asked))
    assert sorted(number for part in parts for number in part) == list(range(len(sizes)))
    assert all(len(part) == 1 or len(part) * max(sizes[number] for number in part) <= together._ROWS for part in parts)


def test_everything_at_once_is_what_each_method_says() -> None:
    draw = CASES["drawings"][1]
    model = FewShotClassifier("drawings", reject_unknown=0.1).fit(draw(24), ["a", "b", "c"] * 8)
    new = draw(6)
    answering = Answering(model)
    said = answer_together([answering.asked(new)])[0]
    answers = answering.answers(said, nearest=2, coverage=0.7)
    assert [one.unknown for one in answers] == model.is_unknown(new).tolist()
    assert answering.promise() == model.promise_ == "own examples"
    sets = model.predict_set(new, 0.7)
    assert [[label in (one.possible or ()) for label in "abc"] for one in answers] == sets.tolist()
    np.testing.assert_allclose([list(one.probabilities.values()) for one in answers], model.predict_proba(new))
    near = model.nearest_examples(new, 2)
    assert [[(str(place), label) for place, label, _ in one.nearest] for one in answers] == [
        [(name, label) for name, label, _ in some] for some in near
    ]


def test_folds_are_learned_once_whatever_coverage_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = CASES["knn on rows"][1]
    model = FewShotClassifier("knn").fit(draw(24), ["a", "b", "c"] * 8)
    new = draw(5)
    expected = model.predict_set(new, 0.9)
    true, learned = FewShotClassifier._left_out_scores, []

    def noted(self: FewShotClassifier) -> Any:
        learned.append(self)
        return true(self)

    monkeypatch.setattr(FewShotClassifier, "_left_out_scores", noted)
    answering = Answering(model)
    said = answer_together([answering.asked(new)])[0]
    for coverage in (0.5, 0.9, 0.7):
        answering.answers(said, coverage=coverage)
        assert answering.promise(coverage) == "own examples"
    assert learned == [model]
    possible = [[label in (one.possible or ()) for label in "abc"] for one in answering.answers(said, coverage=0.9)]
    assert possible == expected.tolist()


def test_the_weaker_promise() -> None:
    assert weakest([]) is None
    assert weakest(["own examples", "not guaranteed"]) == "not guaranteed"
    assert weakest(["tasks like those of validation", "own examples"]) == "tasks like those of validation"
