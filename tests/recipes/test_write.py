"""What is written loads back to the same recipe; the hash says what made a result."""

import tomllib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quickstudy.recipes import load_recipe, parse_recipe, recipe_hash, recipes, to_toml
from quickstudy.recipes.schema import Part
from tests.recipes.test_load import GOOD, parse

RANGES = st.one_of(
    st.integers(1, 50), st.tuples(st.integers(1, 50), st.integers(0, 50)).map(lambda pair: [pair[0], sum(pair)])
)
RATES = st.floats(1e-12, 1e6)
SCHEDULES = st.one_of(
    st.just({"name": "constant"}),
    st.fixed_dictionaries({"name": st.just("step"), "every": st.integers(1, 10**12), "factor": RATES}),
    st.fixed_dictionaries({"name": st.sampled_from(["linear", "cosine"]), "final": st.floats(0, 1)}),
)
OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]*", fullmatch=True),
        "seed": st.integers(0, 2**64),
        "learner.inner-lr": RATES,
        "learner.first-order": st.booleans(),
        "learner.head": st.sampled_from(["fixed", "shared", "proto"]),
        "learner.test-inner-steps": st.integers(1, 100),
        "net.norm": st.sampled_from(["task", "group", "none"]),
        "data.split": st.text(),
        "data.path": st.text().map(lambda text: "/" + text),
        "episodes.train.way": RANGES,
        "episodes.validation.shot": RANGES,
        "episodes.validation.query": RANGES,
        "train.schedule": SCHEDULES,
        "train.tasks-at-once": st.integers(1, 100),
        "train.precision": st.sampled_from(["float32", "float64"]),
    },
)


@given(OVERRIDES)
@example({"data.split": '\x7f\x00\n"\\\u2028é'})  # what TOML wants escaped, and what it does not
@example({"learner.inner-lr": 1e-05, "train.schedule": {"name": "step", "every": 1, "factor": 1e16}})
def test_what_is_written_loads_back(overrides: dict[str, Any]) -> None:
    if "episodes.validation.shot" in overrides or "episodes.validation.query" in overrides:
        overrides |= {f"episodes.validation.{key}": 3 for key in ("shot", "query")}
    # A text among overrides is read as TOML; here it is meant as it stands.
    text = {key: repr_toml(value) if isinstance(value, str) else value for key, value in overrides.items()}
    recipe = parse_recipe(GOOD, source="x", overrides=text)
    written = to_toml(recipe)
    again = parse_recipe(written, source="written.toml")
    assert again == recipe
    assert to_toml(again) == written
    assert recipe_hash(again) == recipe_hash(recipe)


def repr_toml(text: str) -> str:
    escaped = "".join(f"\\U{ord(letter):08X}" for letter in text)
    return f'"{escaped}"'


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_that_ships_loads_back(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert parse_recipe(to_toml(recipe), source="x") == recipe


def test_keys_are_in_kebab_case_and_tables_in_order() -> None:
    written = tomllib.loads(to_toml(parse()))
    assert list(written) == ["name", "seed", "learner", "net", "data", "episodes", "train", "evaluate"]
    assert written["learner"]["inner-lr"] == 0.1
    assert not any("_" in key for table in ("learner", "net", "data", "train") for key in written[table])


def test_what_toml_cannot_say() -> None:
    recipe = parse().model_copy(update={"data": Part(name="omniglot", options={"thing": None})})
    with pytest.raises(TypeError, match=r"TOML has no way to write None \(NoneType\)"):
        to_toml(recipe)


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ({"name": "other"}, False),
        ({"data.path": "/elsewhere"}, False),
        ({"seed": 1}, True),
        ({"train.steps": 11}, True),
        ({"learner.inner-lr": 0.2}, True),
        ({"episodes.test.shot": 5}, True),
    ],
)
def test_the_hash_is_of_what_makes_the_result(override: dict[str, Any], changes: bool) -> None:
    before, after = recipe_hash(parse()), recipe_hash(parse_recipe(GOOD, source="x", overrides=override))
    assert (before != after) == changes
