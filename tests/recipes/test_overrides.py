"""Keys given from outside."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickstudy.recipes import parse_recipe
from quickstudy.recipes.overrides import apply_overrides, read_value
from tests.recipes.test_load import GOOD


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.2", 0.2),
        ("3", 3),
        ("true", True),
        ("[5, 20]", [5, 20]),
        ("vinyals", "vinyals"),
        ('"vinyals"', "vinyals"),
        ("train+validation", "train+validation"),
        ("{ name = 'cosine' }", {"name": "cosine"}),
        ("1\nname = 2", "1\nname = 2"),
        ("", ""),
    ],
)
def test_a_value_is_read_as_in_toml(text: str, value: Any) -> None:
    assert read_value(text) == value


@given(st.text())
def test_any_text_is_some_value(text: str) -> None:
    read_value(text)


def test_the_document_is_left_alone() -> None:
    document = {"train": {"steps": 1}}
    changed, mistakes = apply_overrides(document, {"train.steps": "2", "data.name": "omniglot"})
    assert document == {"train": {"steps": 1}}
    assert changed == {"train": {"steps": 2}, "data": {"name": "omniglot"}}
    assert mistakes == []


def test_another_learner_does_not_get_the_options_of_the_first() -> None:
    recipe = parse_recipe(GOOD, source="x", overrides={"learner.distance": "cosine", "learner.name": "protonet"})
    assert recipe.learner.name == "protonet"
    assert recipe.learner.options["distance"] == "cosine"
    assert "inner_steps" not in recipe.learner.options


def test_the_same_name_keeps_the_options() -> None:
    recipe = parse_recipe(GOOD, source="x", overrides={"learner.name": "maml"})
    assert recipe.learner.options["inner_steps"] == 1


def test_a_name_may_look_like_a_number() -> None:
    assert parse_recipe(GOOD, source="x", overrides={"name": "2024"}).name == "2024"


def test_python_values_are_taken_as_they_are() -> None:
    recipe = parse_recipe(GOOD, source="x", overrides={"episodes.train.way": [2, 7], "train.lr": 1})
    assert recipe.episodes.train.way == (2, 7)
    assert recipe.train.lr == 1.0
