"""The claims that ship: each can be built, and is what its name says; and what a file of claims may not say."""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from quickstudy.data.dataset import DataSet
from quickstudy.errors import InputError, UnknownName
from quickstudy.learners.learner import Traits
from quickstudy.recipes import Recipe, building, load_recipe
from quickstudy.recipes.building import build_data, build_learner
from quickstudy.reproduce import Claim, claim, claims
from quickstudy.reproduce.published import read_claims
from tests.reproduce.tiny import TINY


@cache
def opened(data: str, root: Path) -> DataSet:
    """Data sets are opened once: reading Omniglot's archives takes longer than all else."""
    return build_data(load_recipe("sinusoid-maml", json.loads(data)), root)


def data_of(recipe: Recipe, root: Path) -> DataSet:
    options = {f"data.{name.replace('_', '-')}": value for name, value in recipe.data.options.items()}
    return opened(json.dumps({"data.name": recipe.data.name, **options}), root)


@cache
def traits_of(name: str, overrides: str, root: Path) -> Traits:
    """Of the learner that a claim trains, once it has drawn a task to train on."""
    one = claim(name)
    recipe = load_recipe(one.recipe, {**one.overrides, **json.loads(overrides)})
    size = recipe.episodes.train
    source = data_of(recipe, root).tasks(recipe.train.role, way=size.way, shot=size.shot, query=size.query, seed=0)
    source.episodes(range(1))
    return build_learner(recipe, source.shape).traits


@pytest.mark.parametrize("name", claims())
def test_it_is_what_its_name_says(name: str, data_root: Path) -> None:
    one = claim(name)
    recipe, how = one.recipe_of(0), one.test
    traits = traits_of(one.training or name, json.dumps(how.overrides), data_root)
    assert traits.transductive == ("transductive" in one.title)
    tasks = building.test_tasks(recipe, data_of(recipe, data_root), way=how.way, shot=how.shot, query=how.query)
    tasks.episodes(range(1))
    sizes = re.search(r"-(\d+)w(\d+)s", name)
    if sizes:
        assert (tasks.settings["way"], tasks.settings["shot"]) == (int(sizes[1]), int(sizes[2]))
        assert f"{sizes[1]}-way {sizes[2]}-shot" in one.title
    else:
        assert f"{tasks.settings['shot']} shots" in one.title
    assert recipe.evaluate.role == "test"


@pytest.mark.parametrize("name", claims())
def test_training_is_watched_on_validation_tasks_where_there_are_some(name: str) -> None:
    """A curve of test tasks would be a selection on them; without validation classes it is of training tasks."""
    recipe = claim(name).recipe_of(0)
    watched = recipe.train.validate_every > 0
    split = recipe.data.options.get("split")
    assert watched == (recipe.train.role == "train" and split != "reptile" and recipe.train.steps > 0)


def test_claims_that_share_a_training_share_its_run() -> None:
    one, two = claim("omniglot-protonet-5w1s"), claim("omniglot-protonet-20w1s")
    assert one.recipe_of(3) == two.recipe_of(3) and one.protocol(3) != two.protocol(3)
    assert one.protocol(3) != one.protocol(4)


def test_units() -> None:
    maml = claim("omniglot-maml-5w1s")
    assert maml.target is not None and maml.target.mean == pytest.approx(0.987)
    assert maml.target.se == pytest.approx(0.004 / 1.96)
    assert maml.band == pytest.approx((0.981, 0.991))
    assert claim("omniglot-r2d2-5w1s").target is None
    sine = claim("sinusoid-maml").target
    assert sine is not None and (sine.mean, sine.se) == (0.67, 0.0)


def test_a_file_of_claims() -> None:
    one, two = read_claims(TINY, "tiny.toml")
    assert one.overrides["train.steps"] == 6 and one.overrides["learner.inner-steps"] == 2
    assert one.notes == ("of all", "of one")
    assert (two.training, two.overrides, two.notes) == ("one", one.overrides, ("of all",))
    assert two.recipe_of(1).name == "one" and two.recipe_of(1).train.steps == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("mean = 0.5", "mean = 0.5, sd = 1"), r"the claim 'one': There is no key called 'published\.sd'"),
        (("source", "sources"), r"There is no key called 'sources'. Did you mean 'source'"),
        (('title = "first"', ""), r"the claim 'one': title is missing"),
        (("mean = 0.5", 'mean = "0.5"'), r"published\.mean: expected a number, found '0\.5'"),
        (('metric = "mse"', ""), r"accuracies are in percent, from 1 to 100, received \[0\.5\]"),
        (
            ('training = "one"', 'training = "on"'),
            r"no claim before 'two' in tiny\.toml called 'on'",
        ),
        (
            ('training = "one"', 'training = "one"\nrecipe = "x"'),
            r"the training of 'one' and has recipe of its own",
        ),
        (('name = "two"', 'name = "one"'), r"two claims called 'one'"),
        (("[every]", "[every"), r"tiny\.toml is not TOML"),
    ],
)
def test_what_a_claim_cannot_say(change: tuple[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_claims(TINY.replace(*change), "tiny.toml")


def test_an_unknown_claim() -> None:
    with pytest.raises(UnknownName, match=r"no claim called 'omniglot-protonet-5w2s'. Did you mean 'omniglot-"):
        claim("omniglot-protonet-5w2s")


def test_every_learner_with_published_figures_has_a_claim() -> None:
    learners = {one.recipe_of(0).learner.name for one in claims().values()}
    wanted = (
        "maml fomaml reptile meta-sgd maml++ imaml anil matching protonet relation r2d2 snail mann baseline baseline++"
    )
    assert {*wanted.split(), "knn", "cavia"} <= learners


def test_claims_are_values() -> None:
    assert isinstance(claim("sinusoid-maml"), Claim) and claims() is claims()


def test_the_example_of_the_page_is_the_claim_that_ships() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reproducing.md").read_text(encoding="utf-8")
    block = re.search(r"^```toml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    shown = tomllib.loads(block[1])["claims"][0]
    ships = claim(shown["name"]).model_dump(exclude_none=True)
    for key in ("title", "training", "published", "source"):
        assert shown[key] == ships[key], key
    assert shown["test"].items() <= ships["test"].items() and ships["read"].startswith(shown["read"])
