"""From a recipe to objects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.source import TaskShape
from quickstudy.errors import DataError, InputError
from quickstudy.learners import MAML, ProtoNet
from quickstudy.learners.knn import KNN
from quickstudy.nets import Conv4
from quickstudy.recipes import build, load_recipe
from quickstudy.recipes.building import build_data, build_learner, test_tasks
from tests.recipes.test_load import parse

PICTURES = TaskShape((1, 28, 28), "classes", 7)
test_tasks.__test__ = False  # type: ignore[attr-defined]  # a function of the library, no test


def test_the_net_gets_the_size_of_the_pictures_and_the_learner_the_way() -> None:
    learner = build_learner(parse(net__filters=8, learner__inner_steps=3), TaskShape((3, 32, 32), "classes", 7))
    assert isinstance(learner, MAML)
    assert learner.loop.steps == 3
    net = learner.model.net
    assert isinstance(net, Conv4)
    assert (net.in_channels, net.image_size) == (3, 32)
    assert learner.model.outputs == 7


def test_a_list_becomes_a_tuple_where_the_constructor_wants_one() -> None:
    learner = build_learner(parse(net__name="mlp", net__hidden=[3, 4]), PICTURES)
    assert isinstance(learner, MAML)
    assert learner.model.net.out_features == 4


def test_a_learner_without_network() -> None:
    text = parse(learner__name="knn").model_copy(update={"net": None})
    learner = build_learner(text, PICTURES)
    assert isinstance(learner, KNN)
    assert learner.net is None


def test_precision() -> None:
    learner = build_learner(parse(train__precision="float64", net__filters=4), PICTURES)
    assert {p.dtype for p in learner.parameters()} == {torch.float64}


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    def weights(**overrides: Any) -> torch.Tensor:
        recipe = parse(net__filters=4, learner__name="protonet", **overrides)
        return torch.cat([p.detach().flatten() for p in build_learner(recipe, PICTURES).parameters()])

    first = weights()
    torch.rand(3)
    assert torch.equal(first, weights())
    assert not torch.equal(first, weights(seed=1))


def test_global_generators_are_left_alone() -> None:
    before, numpy_before = torch.random.get_rng_state(), str(np.random.get_state())
    build_learner(parse(net__filters=4), PICTURES)
    assert torch.equal(before, torch.random.get_rng_state())
    assert numpy_before == str(np.random.get_state())


@pytest.mark.parametrize(
    ("example", "sentence"),
    [
        ((1, 28, 14), "The network 'conv4' is made for square pictures, but one example of these tasks has the shape"),
        ((12,), "The network 'conv4' is made for square pictures, but one example of these tasks has the shape"),
    ],
)
def test_a_network_for_pictures_and_tasks_without(example: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build_learner(parse(), TaskShape(example, "classes", 5))


def test_options_that_do_not_fit_together() -> None:
    with pytest.raises(InputError, match="head='shared' needs at least 2 inner steps"):
        build_learner(parse(learner__head="shared"), PICTURES)


def test_the_sources_of_a_recipe() -> None:
    recipe = load_recipe("sinusoid-maml", {"train.validate-every": 10})
    built = build(recipe)
    assert built.validation is not None
    assert built.train.settings["shot"] == 10
    assert built.validation.settings["shot"] == 5
    assert build(load_recipe("sinusoid-maml")).validation is None


def test_tasks_to_be_tested_on_do_not_depend_on_the_recipes_seed() -> None:
    recipe, other = load_recipe("sinusoid-maml"), load_recipe("sinusoid-maml", {"seed": 5})
    source, same = (test_tasks(r, build_data(r)) for r in (recipe, other))
    assert source.settings == same.settings
    assert test_tasks(recipe, build_data(recipe), seed=1).settings != source.settings
    assert test_tasks(recipe, build_data(recipe), shot=7).settings["shot"] == 7


def test_the_data_root_is_the_given_one_else_the_recipes(tmp_path: Path) -> None:
    recipe = parse(data__path=str(tmp_path / "mine"), learner__name="protonet")
    with pytest.raises(DataError, match=f"{tmp_path}/mine/omniglot"):
        build(recipe)
    with pytest.raises(DataError, match=f"{tmp_path}/given/omniglot"):
        build(recipe, tmp_path / "given")


def test_omniglot_protonet(data_root: Path) -> None:
    built = build(load_recipe("omniglot-protonet-fast"), data_root)
    assert isinstance(built.learner, ProtoNet)
    episode = built.train.episodes(range(2))
    loss = built.learner.meta_loss(episode).loss
    assert loss.shape == (2,)
