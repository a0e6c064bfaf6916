"""Both intervals against simulations whose truth is known: how often do they hold it?"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.evaluate.intervals import class_ci95, episode_ci95
from quickstudy.evaluate.scores import ClassCounts, Scores, score
from tests.evaluate.fakes import global_states

Floats = NDArray[np.float64]


def test_the_episode_interval_is_the_textbook_one() -> None:
    values = np.array([0.6, 0.8, 1.0, 0.8])
    assert episode_ci95(values) == pytest.approx(1.96 * math.sqrt((0.04 + 0.04) / 3) / 2)


@pytest.mark.parametrize("values", [[0.7], [0.7, math.inf, 0.7], [1e200, -1e200, 0.0]])
def test_the_episode_interval_is_infinite_where_nothing_is_known(values: list[float]) -> None:
    assert episode_ci95(np.array(values)) == math.inf


def test_the_episode_interval_holds_the_truth_19_times_in_20() -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(8, 2, (2000, 100))  # accuracies of 100 episodes, mean 0.8, 2,000 times over
    held = [abs(row.mean() - 0.8) <= episode_ci95(row) for row in rates]
    assert 0.935 <= np.mean(held) <= 0.96


class World:
    """A population of classes: points in 10 dimensions with a scatter each; tasks are solved by nearest shot."""

    def __init__(self, rng: np.random.Generator, n_class: int, unequal: float) -> None:
        self.rng, self.n_class = rng, n_class
        self.centre = rng.normal(size=(n_class, 10))
        self.scatter = 0.55 * np.exp(unequal * rng.normal(size=n_class))

    def meta_test(self, episodes: int, way: int = 5, query: int = 10) -> Scores:
        classes = self.rng.random((episodes, self.n_class)).argsort(1)[:, :way]
        centre, scatter = self.centre[classes], self.scatter[classes][..., None]
        support = centre + scatter * self.rng.normal(size=centre.shape)
        noise = self.rng.normal(size=(episodes, way, query, 10))
        asked = (centre[:, :, None] + scatter[:, :, None] * noise).reshape(episodes, way * query, 10)
        logits = -torch.cdist(torch.from_numpy(asked), torch.from_numpy(support))
        y = torch.arange(way).repeat_interleave(query).expand(episodes, -1).contiguous()
        ways = Classes(torch.full((episodes,), way))
        examples = Examples(torch.zeros(episodes, way * query, 1), y, ways)
        return score(logits, Episode(examples, examples, classes=torch.from_numpy(classes)))


@pytest.mark.parametrize(
    ("n_class", "unequal", "episodes", "most"),
    [
        # Classes of unequal difficulty, each used often. Seen: 0.94 and 0.34.
        (40, 0.5, 200, 0.5),
        # Equally scattered classes that differ in their neighbours only. Blaming the missed class alone: 0.72.
        (20, 0.0, 200, 0.5),
        # So many classes that hardly one is used twice: both intervals hold. Seen: 0.98 and 0.91.
        (2000, 0.5, 150, 1.0),
    ],
)
def test_the_class_interval_holds_the_truth_of_other_classes(
    n_class: int, unequal: float, episodes: int, most: float
) -> None:
    rng = np.random.default_rng(1)
    truth = np.mean([World(rng, 2000, unequal).meta_test(1500).values.mean() for _ in range(6)])
    held = np.zeros((100, 2), dtype=bool)
    for repeat in held:
        got = World(rng, n_class, unequal).meta_test(episodes)
        assert got.counts is not None
        of_classes = class_ci95(got.counts)
        assert of_classes is not None
        repeat[:] = abs(got.values.mean() - truth) <= np.array([of_classes, episode_ci95(got.values)])
    assert 0.89 <= held[:, 0].mean() <= 0.99
    assert held[:, 1].mean() <= most


def counts(rows: list[float], mistakes: list[float]) -> ClassCounts:
    return ClassCounts(np.arange(len(rows)), np.array(rows), np.array(mistakes))


def test_the_class_interval_grows_with_what_tells_classes_apart() -> None:
    alike = class_ci95(counts([50.0] * 20, [9.0, 11.0] * 10))
    apart = class_ci95(counts([50.0] * 20, [0.0, 20.0] * 10))
    assert alike is not None and apart is not None
    assert apart == pytest.approx(10 * alike)
    # The bootstrap's standard error of a mean of 20 rates 0 and 0.4 is 0.2 / sqrt(20); t with 19 degrees is 2.093.
    assert apart == pytest.approx(2 * 2.093 * 0.2 / math.sqrt(20), rel=0.05)


def test_more_episodes_of_the_same_classes_do_not_shrink_it() -> None:
    once = class_ci95(counts([10.0, 10.0, 10.0], [1.0, 2.0, 6.0]))
    assert class_ci95(counts([1e6] * 3, [1e5, 2e5, 6e5])) == pytest.approx(once)


def test_the_class_interval_is_the_same_every_time_and_whatever_the_block() -> None:
    rng = np.random.default_rng(3)
    many = counts([20.0] * 3000, list(rng.binomial(20, 0.1, 3000) * 1.0))  # several blocks of replicates
    before = global_states()
    assert class_ci95(many) == class_ci95(many)
    assert global_states() == before
    # 3,000 binomial rates of variance 0.1 * 0.9 / 20, t near 1.96
    assert class_ci95(many) == pytest.approx(2 * 1.96 * math.sqrt(0.1 * 0.9 / 20 / 3000), rel=0.1)


def test_one_class_has_no_interval() -> None:
    assert class_ci95(counts([10.0], [1.0])) is None
    assert class_ci95(counts([10.0, 0.0], [1.0, 0.0])) is None  # the second was never asked for
