"""The study by Meta-Dataset's rules: its recipes, its columns, and the ranks in its report."""

import pytest
import torch

from quickstudy.data.metadataset.mini import MINI
from quickstudy.domains.images.minimeta import rank_section
from quickstudy.domains.study import Found, study
from quickstudy.learners.knn import KNN
from quickstudy.recipes import load_recipe
from quickstudy.recipes.building import build_data, build_learner
from quickstudy.recipes.building import test_tasks as tasks_of
from tests.evaluate.fakes import a_result

MINE = ("mini-meta-dataset-protonet-fast", "mini-meta-dataset-fo-protomaml-fast", "mini-meta-dataset-fine-tune-fast")


def test_the_study() -> None:
    found = study("mini-meta-dataset")
    assert {found.recipe, found.plain, *found.also} == set(MINE)
    assert [column.data["data.test"] for column in found.columns] == list(MINI)
    recipes = [load_recipe(name) for name in MINE]
    nets = [dict(one.net.options) for one in recipes if one.net is not None]
    for one in nets:
        one.pop("norm")  # a learner that adapts by gradients has its own
    assert nets[0] == nets[1] == nets[2], "the same network"
    assert len({one.data.model_dump_json() for one in recipes}) == 1, "the same data"
    for recipe in recipes:
        size = recipe.episodes.test
        assert (size.way, size.shot, size.query) == ((5, 50), (1, 100), (1, 10))


@pytest.mark.parametrize("name", MINE)
def test_its_learners_take_tasks_of_any_size(name: str) -> None:
    recipe = load_recipe(name, {"data.test": "digits", "net.filters": 4})
    source = tasks_of(recipe, build_data(recipe))
    episode = source.episodes(range(5, 8))
    way = episode.support.target.way.tolist()  # type: ignore[union-attr]
    assert len(set(way)) > 1
    learner = build_learner(recipe, source.shape).eval()
    outputs = learner.predict(learner.adapt(episode.support), episode.query.unlabelled())
    assert isinstance(outputs, torch.Tensor) and outputs.shape[:2] == (3, episode.query.n_example)
    for task, width in enumerate(way):
        said = outputs[task][episode.query.real[task]]
        assert said[:, :width].isfinite().all() and (said[:, width:] == -torch.inf).all()


def test_ranks_in_the_report() -> None:
    rows = {"a": {"x": 0.8, "y": 0.5}, "b": {"x": 0.795, "y": 0.4}, "c": {"x": 0.1, "y": 0.3}}
    results = {
        row: {column: a_result([0.0, 1.0], mean=mean, ci95=0.01) for column, mean in of.items()}
        for row, of in rows.items()
    }
    (section,) = rank_section(Found(KNN(), {}, {}, results))
    assert section.rows == [("a", "1.25"), ("b", "1.75"), ("c", "3.00")]
