"""The one-shot challenge's comparison: its recipes, and the baseline that was published with the runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.lakeruns import OmniglotRuns
from quickstudy.domains.images.hausdorff import Hausdorff
from quickstudy.domains.study import study
from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError
from quickstudy.evaluate import meta_test
from quickstudy.recipes import load_recipe
from quickstudy.recipes.building import build_data, build_learner
from quickstudy.recipes.building import test_tasks as tasks_of

FOUND = study("one-shot")
RECIPES = (FOUND.recipe, FOUND.plain, *FOUND.also)


def test_all_learners_see_the_background_alone_and_are_asked_all_runs() -> None:
    for name in RECIPES:
        recipe = load_recipe(str(name))
        assert recipe.data.name == "omniglot-runs" and recipe.net is not None and recipe.net.name == "conv4"
        assert recipe.train.role == "train+validation" and not recipe.train.validate_every
        assert recipe.evaluate.role == "test" and recipe.evaluate.episodes == FOUND.episodes == 20


@pytest.mark.parametrize("name", RECIPES)
def test_each_learner_takes_the_runs(name: str, data_root: Path) -> None:
    recipe = load_recipe(name, {"net.filters": 4})
    source = tasks_of(recipe, build_data(recipe, data_root))
    learner = build_learner(recipe, source.shape)
    result = meta_test(learner, source, episodes=3)
    assert (result.way, result.shot, result.query) == (20, 1, 1) and 0 <= result.mean < 0.6


def pictures(*drawn: Any) -> torch.Tensor:
    return torch.from_numpy(np.stack(drawn).astype(np.uint8) * 255)[None]


def examples(x: torch.Tensor, labels: list[int], way: int) -> Examples:
    return Examples(x, torch.tensor([labels]), Classes(torch.tensor([way])))


def by_pairs(a: Any, b: Any) -> float:
    """The modified Hausdorff distance of two drawings, from the distances of all pairs of points."""
    one, other = (np.argwhere(drawn) - np.argwhere(drawn).mean(0) for drawn in (a, b))
    apart = np.sqrt(((one[:, None] - other[None]) ** 2).sum(2))
    return max(float(apart.min(0).mean()), float(apart.min(1).mean()))


def test_the_modified_hausdorff_distance() -> None:
    rng = np.random.default_rng(0)
    known, asked = (rng.random((n, 15, 15)) < 0.2 for n in (6, 4))
    labels = [0, 1, 2, 0, 1, 2]
    learner = Hausdorff()
    support, query = examples(pictures(*known), labels, 3), examples(pictures(*asked), [0, 0, 0, 0], 3)
    logits = learner.predict(learner.adapt(support), query)[0].numpy()
    expected = [
        [-min(by_pairs(q, k) for k, of in zip(known, labels, strict=True) if of == c) for c in range(3)] for q in asked
    ]
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_where_on_the_sheet_somebody_drew_is_no_matter() -> None:
    sheet = np.zeros((20, 20), dtype=bool)
    sheet[3:9, 4] = sheet[3, 4:8] = True
    line = np.zeros((20, 20), dtype=bool)
    line[10, 2:18] = True
    learner = Hausdorff()
    support = examples(pictures(sheet, line), [0, 1], 2)
    moved, empty = np.roll(sheet, (7, 9), (0, 1)), np.zeros_like(sheet)
    logits = learner.predict(learner.adapt(support), examples(pictures(moved, empty), [0, 0], 2))[0]
    assert logits[0, 0] == pytest.approx(0, abs=1e-6) and logits[0, 1] < -1
    assert logits[1].isfinite().all()
    with pytest.raises(
        InputError, match=r"compares drawings, but examples have the shape \[4\]\. Use it with pictures"
    ):
        learner.adapt(examples(torch.zeros(1, 2, 4), [0, 1], 2))


@pytest.mark.slow
def test_it_errs_as_often_as_the_published_demonstration(data_root: Path) -> None:
    """demo_classification of Omniglot's repository ends with "average error 38.8 %"."""
    source = OmniglotRuns(data_root, size=105).tasks("test", way=20, shot=1, query=1, seed=0)
    result = meta_test(Hausdorff(), source, episodes=20)
    assert round(400 * (1 - result.mean)) == 155  # 38.75 %
