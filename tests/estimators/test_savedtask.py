"""A task that was learned, in a folder and back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load, save
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError

from quickstudy.errors import CheckpointError, InputError
from quickstudy.estimators import FewShotClassifier, FewShotRegressor, load_task


@pytest.fixture
def task(tmp_path: Path) -> Path:
    X, y = load_iris(return_X_y=True)
    FewShotClassifier(learner="logistic").fit(X[::7], np.array(["a", "b", "c"])[y[::7]]).save(tmp_path / "task")
    return tmp_path / "task"


def test_rows_with_names(task: Path) -> None:
    X, y = load_iris(return_X_y=True)
    model = FewShotClassifier(learner="logistic").fit(X[::7], np.array(["a", "b", "c"])[y[::7]])
    again = load_task(task)
    assert isinstance(again, FewShotClassifier)
    assert again.classes_.tolist() == ["a", "b", "c"]
    assert (again.predict_proba(X) == model.predict_proba(X)).all()
    with pytest.raises(ValueError, match="X has 3 features"):
        again.predict(X[:, :3])


def test_what_is_added_to_a_loaded_task_is_as_if_it_had_been_there(task: Path) -> None:
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    again = load_task(task)
    assert isinstance(again, FewShotClassifier)
    again.partial_fit(X[1::7], names[1::7]).partial_fit(X[:3] + 9, ["d", "d", "d"])
    at_once = FewShotClassifier(learner="logistic").fit(
        np.concatenate([X[::7], X[1::7], X[:3] + 9]), np.concatenate([names[::7], names[1::7], ["d"] * 3])
    )
    assert again.classes_.tolist() == ["a", "b", "c", "d"]
    assert np.allclose(again.predict_proba(X), at_once.predict_proba(X), atol=1e-6)


def test_a_loaded_task_of_rows_chooses_its_learner_anew_as_one_in_memory_does(tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    model = FewShotClassifier().fit(X[::40], y[::40])
    assert model.chosen_.name == "logistic"
    model.save(tmp_path / "task")
    again = load_task(tmp_path / "task")
    assert isinstance(again, FewShotClassifier)
    for each in (model, again):
        each.partial_fit(X[::10], y[::10])
    assert (again.chosen_.name, again.chosen_.why) == (model.chosen_.name, model.chosen_.why) != ("logistic", "")
    for each in (model, again):  # more classes than the in-context learner has room for
        each.partial_fit(X[:30], np.arange(30) % 10 + 3)
    assert again.chosen_.name == model.chosen_.name == "logistic"
    assert (again.predict_proba(X) == model.predict_proba(X)).all()


def test_numbers_beside_texts_in_an_array_are_still_numbers_when_loaded(tmp_path: Path) -> None:
    X, _ = load_iris(return_X_y=True)
    FewShotClassifier(learner="knn").fit(X[:4], np.array([1, "a", 1, "a"], dtype=object)).save(tmp_path / "task")
    again = load_task(tmp_path / "task")
    assert isinstance(again, FewShotClassifier)
    assert again.predict(X[:2]).tolist() == [1, "a"]


@pytest.mark.parametrize("labels", [[0, 1], [True, False], ["x", None], [1.5, 2.5]])
def test_labels_of_every_kind_that_a_file_can_keep(labels: list[Any], tmp_path: Path) -> None:
    y = [labels[0], labels[1]] * 5
    digits = load_digits().images[:10]
    model = FewShotClassifier(learner="knn").fit(digits, y)
    model.save(tmp_path / "task")
    again = load_task(tmp_path / "task")
    assert [type(label) for label in again.predict(digits)] == [type(label) for label in model.predict(digits)]
    assert list(again.predict(digits)) == y


def test_numbers(tmp_path: Path) -> None:
    X, _ = load_iris(return_X_y=True)
    model = FewShotRegressor(learner="ridge").fit(X[:, :3], X[:, 3])
    model.save(tmp_path / "task")
    assert (load_task(tmp_path / "task").predict(X[:, :3]) == model.predict(X[:, :3])).all()


def test_it_is_replaced_whole_and_nothing_else_is(task: Path, tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    FewShotClassifier(learner="knn").fit(X[::9], y[::9]).save(task)
    assert load_task(task).chosen_.name == "knn"
    assert [path.name for path in tmp_path.iterdir()] == ["task"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="something else is there"):
        load_task(task).save(tmp_path / "other")


def test_a_file_that_was_cut_off_changed_or_lost_is_refused(task: Path) -> None:
    about = (task / "task.json").read_bytes()
    support = (task / "support.safetensors").read_bytes()
    (task / "task.json").write_bytes(about[:-40])
    with pytest.raises(CheckpointError, match="cut off or no JSON"):
        load_task(task)
    (task / "task.json").write_bytes(about.replace(b'"a"', b'"z"', 1))
    with pytest.raises(CheckpointError, match=r"task.json was changed"):
        load_task(task)
    (task / "task.json").write_bytes(about)
    (task / "support.safetensors").write_bytes(save({name: leaf + 1 for name, leaf in load(support).items()}))
    with pytest.raises(CheckpointError, match=r"support.safetensors is cut off or was changed"):
        load_task(task)
    (task / "support.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"support.safetensors is missing"):
        load_task(task)
    (task / "task.json").unlink()
    with pytest.raises(InputError, match="There is no saved task at"):
        load_task(task)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match="has not learned anything yet"):
        FewShotClassifier().save(tmp_path / "task")
    model = FewShotClassifier(learner="knn").fit(np.eye(2), [("a", 1), ("b", 2)])
    with pytest.raises(InputError, match=r"a file can keep text, numbers, true, false and none"):
        model.save(tmp_path / "task")
    assert not (tmp_path / "task").exists()


@pytest.mark.parametrize("labels", [["a\udc80", "b"], ["a", "b"]])
def test_a_text_that_is_no_unicode_is_refused_and_nothing_is_lost(labels: list[str], task: Path) -> None:
    model = FewShotClassifier(learner="knn").fit(np.eye(2), labels)
    model.name_examples(["one", "two"] if "a" not in labels else ["one\udc80", "two"])
    with pytest.raises(InputError, match=r"Cannot write task.json: the text .*udc80' is no valid Unicode"):
        model.save(task)
    assert load_task(task).chosen_.name == "logistic"


def test_nothing_of_it_is_text_that_only_this_machine_knows(task: Path, tmp_path: Path) -> None:
    about = json.loads((task / "task.json").read_text())
    assert str(tmp_path) not in json.dumps(about)
