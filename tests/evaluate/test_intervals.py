"""Both intervals against simulations whose truth is known: how often do they hold it?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from quickstudy.evaluate.intervals import class_ci95, episode_ci95

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


def test_the_episode_interval_is_the_textbook_one() -> None:
    values = np.array([0.6, 0.8, 1.0, 0.8])
    assert episode_ci95(values) == pytest.approx(1.96 * math.sqrt((0.04 + 0.04) / 3) / 2)


@pytest.mark.parametrize("values", [[0.7], [0.7, math.inf, 0.7], [1e200, -1e200, 0.0]])
def test_intervals_are_infinite_where_nothing_is_known(values: list[float]) -> None:
    assert episode_ci95(np.array(values)) == math.inf
    assert class_ci95(np.array(values), np.arange(2 * len(values)).reshape(-1, 2)) == math.inf


def test_episodes_that_are_all_alike_have_no_spread() -> None:
    """Though their mean may be rounded."""
    values = np.full(200, 2.578123456789)
    assert values.std() > 0 and episode_ci95(values) == 0


def test_the_episode_interval_holds_the_truth_19_times_in_20() -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(8, 2, (2000, 100))  # accuracies of 100 episodes, mean 0.8, 2,000 times over
    held = [abs(row.mean() - 0.8) <= episode_ci95(row) for row in rates]
    assert 0.935 <= np.mean(held) <= 0.96


# --- classes that are reused --------------------------------------------------------------------


class World:
    """A population of classes: points in 10 dimensions with a scatter each; tasks are solved by nearest shot."""

    def __init__(self, rng: np.random.Generator, n_class: int, unequal: float) -> None:
        self.rng, self.n_class = rng, n_class
        self.centre = rng.normal(size=(n_class, 10))
        self.scatter = 0.55 * np.exp(unequal * rng.normal(size=n_class))

    def meta_test(self, episodes: int, way: int = 5, query: int = 10) -> tuple[Floats, Numbers]:
        """Accuracies ``[E]`` and classes ``[E, way]``."""
        classes = self.rng.random((episodes, self.n_class)).argsort(1)[:, :way]
        centre, scatter = self.centre[classes], self.scatter[classes][..., None]
        support = centre + scatter * self.rng.normal(size=centre.shape)
        asked = centre[:, :, None] + scatter[:, :, None] * self.rng.normal(size=(episodes, way, query, 10))
        # The nearest shot has the smallest |s|² - 2 q·s.
        far = (support**2).sum(2)[:, None, None] - 2 * np.einsum("ewqd,esd->ewqs", asked, support)
        return (far.argmin(3) == np.arange(way)[:, None]).mean((1, 2)), classes


@pytest.mark.parametrize(
    ("n_class", "unequal", "way", "episodes", "usual"),
    [
        (40, 0.5, 5, 200, 0.5),  # classes of unequal difficulty, each used often
        (20, 0.0, 5, 200, 0.5),  # classes that differ in their neighbours only
        (10, 0.5, 5, 200, 0.5),  # as few as there are digits
        (60, 0.5, 20, 100, 0.6),  # any two episodes share some
        (2000, 0.5, 5, 150, 1.0),  # hardly a class is used twice: both intervals hold
    ],
)
def test_the_class_interval_holds_the_truth_of_other_classes(
    n_class: int, unequal: float, way: int, episodes: int, usual: float
) -> None:
    rng = np.random.default_rng(1)
    truth = np.mean([World(rng, 2000, unequal).meta_test(600, way)[0].mean() for _ in range(8)])
    means, widths = [], []
    for _ in range(200):
        values, classes = World(rng, n_class, unequal).meta_test(episodes, way)
        means.append(values.mean())
        widths.append([class_ci95(values, classes), episode_ci95(values)])
    held = abs(np.array(means) - truth)[:, None] <= np.array(widths, dtype=float)
    assert 0.85 <= held[:, 0].mean() <= 0.98  # 0.89 with ten classes, 0.93 with many, in longer runs
    assert held[:, 1].mean() <= usual
    if n_class > 10:  # below, t is much wider than normal
        assert np.mean(np.array(widths, dtype=float)[:, 0]) / 2 == pytest.approx(np.std(means), rel=0.2)


def by_matrices(values: Floats, classes: Numbers) -> float:
    """The variance of the mean by the same two equations, with every matrix written out."""
    episodes = len(values)
    met = np.unique(classes[classes >= 0])
    member = (classes[:, :, None] == met).sum(1) / (classes >= 0).sum(1)[:, None]
    k = member @ member.T
    p = np.eye(episodes) - 1 / episodes
    equations = [[np.trace(p @ k @ p), np.trace(p)], [np.trace(k @ p @ k @ p), np.trace(p @ k @ p)]]
    d = p @ values
    effect, luck = np.linalg.solve(equations, [d @ d, d @ k @ d])
    return float(effect * k.sum() / episodes**2 + luck / episodes)


def test_the_short_cut_equals_the_matrices_ragged_ways_too() -> None:
    rng = np.random.default_rng(2)
    effect = rng.normal(size=12)
    classes = rng.random((30, 12)).argsort(1)[:, :6]
    classes[::3, 4:] = -1
    has = classes >= 0
    values = np.where(has, effect[classes], 0).sum(1) / has.sum(1) + 0.1 * rng.normal(size=30)
    t = 2.200985  # 11 degrees of freedom
    assert class_ci95(values, classes) == pytest.approx(t * math.sqrt(by_matrices(values, classes)))


def test_the_class_interval_is_the_usual_one_where_no_class_occurs_twice() -> None:
    values = np.random.default_rng(3).random(400)
    width = class_ci95(values, np.arange(2000).reshape(400, 5))
    assert width == pytest.approx(episode_ci95(values), rel=1e-3)  # t with 1,999 degrees in place of 1.96


def test_more_episodes_of_the_same_classes_shrink_one_interval_only() -> None:
    rng = np.random.default_rng(4)
    effect = rng.normal(size=30)

    def widths(episodes: int) -> tuple[float, float]:
        classes = rng.random((episodes, 30)).argsort(1)[:, :5]
        values = effect[classes].mean(1)
        width = class_ci95(values, classes)
        assert width is not None
        return width, episode_ci95(values)

    few, many = widths(300), widths(30_000)
    assert many[1] < few[1] / 9
    assert many[0] == pytest.approx(few[0], rel=0.1)
    # What 30 classes allow: t with 29 degrees times s / sqrt(30).
    assert many[0] == pytest.approx(2.045 * effect.std(ddof=1) / math.sqrt(30), rel=0.02)


def test_episodes_that_all_have_the_same_classes_say_nothing_of_others() -> None:
    classes = np.stack([np.random.default_rng(i).permutation(5) for i in range(50)])
    assert class_ci95(np.random.default_rng(5).random(50), classes) is None


def test_luck_alone_is_not_taken_for_a_class() -> None:
    rng = np.random.default_rng(6)
    ratios = []
    for _ in range(100):
        values, classes = rng.random(200), rng.random((200, 50)).argsort(1)[:, :5]
        ratios.append((class_ci95(values, classes) or 0) / episode_ci95(values))
    assert min(ratios) >= 1 and np.mean(ratios) < 1.35
