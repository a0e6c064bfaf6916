"""Classes and examples of a test that were trained or selected on, by name and by content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.source import TaskSource
from quickstudy.data.store import ArrayStore, Pictures
from quickstudy.errors import InputError
from quickstudy.leaderboard.leaks import check_leaks, used_by
from quickstudy.recipes import building, load_recipe

RNG = np.random.default_rng(0)


def pictures(classes: int, takes: int = 4) -> list[Pictures]:
    return [RNG.integers(0, 256, (takes, 4, 4)).astype(np.uint8) for _ in range(classes)]


def source(classes: dict[str, Pictures], split: str) -> TaskSource:
    store = ArrayStore.from_classes(classes)
    numbers = range(len(classes))
    return ClassTasks(store, list(numbers), data="made", split=split, way=2, shot=1, query=1, seed=0)


def test_other_classes_of_other_examples_are_a_test() -> None:
    one, two, three, four = pictures(4)
    used = {"trained": source({"a": one, "b": two}, "train")}
    assert check_leaks("x.json", used, source({"c": three, "d": four}, "test")) == 8


def test_a_class_of_the_same_name_is_refused() -> None:
    one, two, three, four = pictures(4)
    used = {"trained": source({"a": one, "b": two}, "train"), "validated": source({"c": three, "d": two}, "validation")}
    said = r"^x\.json cannot be added: 'c' of its test tasks are classes that the run was validated on\. Divide"
    with pytest.raises(InputError, match=said):
        check_leaks("x.json", used, source({"c": four, "e": one[:, ::-1].copy()}, "test"))


def test_an_example_under_another_name_is_refused() -> None:
    one, two, three, four = pictures(4)
    mixed = np.concatenate([three[:3], one[1:2]])
    said = r"x\.json cannot be added: the run was trained on 1 of the 8 .* 3 of 'c' is example 1 of 'a' there\. Leave"
    with pytest.raises(InputError, match=said):
        check_leaks(
            "x.json", {"trained": source({"a": one, "b": two}, "train")}, source({"c": mixed, "d": four}, "test")
        )


@pytest.mark.parametrize(
    "recipe",
    [
        "omniglot-protonet-5w1s",
        pytest.param("omniglot-maml-5w1s", marks=pytest.mark.slow),
        pytest.param("omniglot-reptile-5w1s", marks=pytest.mark.slow),
        pytest.param("glyphs-protonet-fast", marks=pytest.mark.slow),
        pytest.param("caltech-protonet-fast", marks=pytest.mark.slow),
        pytest.param("arabic-protonet-fast", marks=pytest.mark.slow),
        pytest.param("mednist-protonet-fast", marks=pytest.mark.slow),
    ],
)
def test_no_test_class_is_trained_or_selected_on(recipe: str, data_root: Path) -> None:
    """Of the data sets that come with published or own splits."""
    found = load_recipe(recipe)
    data = building.build_data(found, data_root)
    assert check_leaks(recipe, used_by(found, data), building.test_tasks(found, data)) > 100
