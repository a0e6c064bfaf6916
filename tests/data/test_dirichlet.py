"""Queries of uneven classes: the Gamma numbers against scipy, the counts by hand, the tasks as pure functions."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.digits import Digits
from quickstudy.data.dirichlet import WORDS, log_gamma_variates, query_counts
from quickstudy.data.store import ArrayStore
from quickstudy.episode import Examples, first_leaf
from quickstudy.errors import InputError
from quickstudy.evaluate import cell_name, meta_test
from quickstudy.keys import Key
from quickstudy.learners.knn import KNN
from quickstudy.recipes import building, load_recipe

# Each picture is one pixel wide and tells its class and its number.
STORE = ArrayStore.from_classes(
    {f"class {c}": np.array([[[c, k]] for k in range(40)], dtype=np.uint8) for c in range(12)}
)
FIVE: dict[str, Any] = {"data": "toy", "split": "test", "way": 5, "shot": 1, "query": 6, "seed": 0}


def source(**changes: Any) -> ClassTasks:
    return ClassTasks(STORE, range(12), **(FIVE | {"dirichlet": 2.0} | changes))


def counts(examples: Examples, task: int) -> list[int]:
    one = examples.task(task)
    assert one.y is not None
    return one.y[0].bincount(minlength=5).tolist()


@pytest.mark.parametrize("shape", [0.05, 0.5, 0.99, 1.0, 2.0, 7.5, 300.0])
def test_gamma_numbers_are_scipys(shape: float) -> None:
    """Kolmogorov-Smirnov on logarithms (small shapes underflow), mean and variance within five standard errors."""
    logs = log_gamma_variates(Key.of(5, "gamma").bits(np.arange(40_000), WORDS), shape)
    assert stats.kstest(logs, lambda x: stats.gamma.cdf(np.exp(x), shape)).pvalue > 1e-3
    values = np.exp(logs)
    assert abs(values.mean() - shape) < 5 * np.sqrt(shape / 40_000)
    spread = np.sqrt((stats.gamma.moment(4, shape) - shape**2) / 40_000) + 0.05 * shape
    assert abs(values.var() - shape) < 5 * spread


def test_shares_have_the_moments_of_a_dirichlet_distribution() -> None:
    """Mean 1/5 and variance (1/5)(4/5)/(5a + 1); a share is Beta(a, 4a) distributed."""
    words = Key.of(3, "shares").bits(np.arange(20_000), 5 * WORDS).reshape(-1, 5, WORDS)
    total = 10**6  # so that rounding is not seen
    found = query_counts(words, 2.0, np.full(20_000, 5), np.full(20_000, total)) / total
    assert np.abs(found.mean(0) - 0.2).max() < 5 * 0.121 / np.sqrt(20_000)
    assert np.abs(found.var(0) / (0.16 / 11) - 1).max() < 0.05
    for column in found.T:
        assert stats.kstest(column, stats.beta(2, 8).cdf).pvalue > 1e-3


def test_counts_are_rounded_to_the_total() -> None:
    words = Key.of(1, "counts").bits(np.arange(500), 6 * WORDS).reshape(-1, 6, WORDS)
    way = 2 + np.arange(500) % 5
    total = 1 + np.arange(500) % 40
    for concentration in (1e-3, 0.3, 2.0, 1e6):
        found = query_counts(words, concentration, way, total)
        assert (found.sum(1) == total).all() and (found >= 0).all()
        assert not found[np.arange(6) >= way[:, None]].any()
        logs = log_gamma_variates(words, concentration)
        for t in range(0, 500, 50):
            shares = np.exp(logs[t, : way[t]] - logs[t, : way[t]].max())
            wanted = shares / shares.sum() * total[t]
            assert np.abs(found[t, : way[t]] - wanted).max() < 1, "each is its share, rounded up or down"


def test_nearly_endless_concentration_is_balanced_and_a_small_one_takes_one_class() -> None:
    even, one = source(dirichlet=1e9).episodes(range(50)), source(dirichlet=1e-3).episodes(range(50))
    assert all(counts(even.query, t) == [6] * 5 for t in range(50))
    assert sum(max(counts(one.query, t)) >= 29 for t in range(50)) > 45


def test_what_a_task_is_made_of() -> None:
    """As many queries in all, no example twice, labels of the right class, some classes without any."""
    tasks = source()
    episode = tasks.episodes(range(300))
    balanced = source(dirichlet=None).episodes(range(300))
    assert episode.query.mask is None, "every task has way x query queries"
    assert episode.query.n_example == 30
    assert episode.classes is not None and balanced.classes is not None
    assert torch.equal(episode.classes, balanced.classes)
    assert episode.query.y is not None and episode.support.y is not None
    pixels = first_leaf(episode.query.x)[:, :, 0].long()  # [T, N, 2]: class and number
    assert torch.equal(pixels[..., 0], episode.classes.gather(1, episode.query.y))
    known = first_leaf(episode.support.x)[:, :, 0].long()
    for t in range(300):
        rows = [tuple(row) for row in torch.cat([pixels[t], known[t]]).tolist()]
        assert len(set(rows)) == len(rows)
    all_counts = np.array([counts(episode.query, t) for t in range(300)])
    assert (all_counts == 0).any() and (all_counts.sum(1) == 30).all()
    assert np.abs(all_counts.mean(0) - 6).max() < 5 * 30 * 0.121 / np.sqrt(300)


@pytest.mark.parametrize("changes", [{}, {"way": (2, 4), "shot": (1, 3), "query": (1, 5)}])
def test_a_task_depends_on_its_number_alone(changes: dict[str, Any]) -> None:
    tasks = source(**changes)
    together = tasks.episodes(range(12))
    some = tasks.episodes(np.array([7, 3, 11]))
    for place, task in enumerate((7, 3, 11)):
        for mine, theirs in ((some.support, together.support), (some.query, together.query)):
            one, other = mine.task(place), theirs.task(task)
            assert torch.equal(first_leaf(one.x), first_leaf(other.x))
            assert one.y is not None and other.y is not None and torch.equal(one.y, other.y)


def test_the_source_says_so() -> None:
    assert source().settings == {
        "data": "toy", "split": "test", "rotations": "none", "way": 5, "shot": 1, "query": 6, "seed": 0,
        "dirichlet": 2.0,
    }  # fmt: skip
    assert "dirichlet" not in source(dirichlet=None).settings
    results = [meta_test(KNN(), source(dirichlet=a), episodes=4) for a in (None, 2.0, 3.0)]
    assert len({result.id for result in results}) == 3
    assert [cell_name(result) for result in results] == [
        "5-way 1-shot",
        "5-way 1-shot, Dirichlet(2) queries",
        "5-way 1-shot, Dirichlet(3) queries",
    ]
    assert "dirichlet" not in source().batches(8).settings


def test_bad_sizes() -> None:
    with pytest.raises(InputError, match=r"Dirichlet distribution of concentration 0: expected a number above 0"):
        source(dirichlet=0)
    with pytest.raises(InputError, match=r"concentration nan: expected a number above 0, such as 2"):
        source(dirichlet=float("nan"))
    with pytest.raises(InputError, match=r"all 5 x 8 queries of a task may be of one class, beside its 1 support"):
        source(query=8)
    with pytest.raises(InputError, match=r"has only 40 examples\. Reduce query to at most 7\."):
        source(query=8)
    with pytest.raises(InputError, match=r"has only 40 examples\. Reduce shot or way\."):
        source(shot=38, query=1)


def test_recipes_and_evaluations_ask_for_it() -> None:
    """A data set by its recipe, by an argument, back to balanced, and one that has no classes."""
    small = {"episodes.test.query": 3, "episodes.test.dirichlet": 2}
    recipe = load_recipe("glyphs-protonet-fast", small)
    assert recipe.episodes.test.dirichlet == 2.0
    data = building.build_data(load_recipe("glyphs-protonet-fast"), None)
    digits = Digits()
    assert building.test_tasks(recipe, digits, role="test").settings["dirichlet"] == 2.0
    assert "dirichlet" not in building.test_tasks(recipe, digits, dirichlet=0).settings
    assert (
        building.test_tasks(load_recipe("glyphs-protonet-fast"), digits, query=3, dirichlet=5).settings["dirichlet"]
        == 5.0
    )
    assert data.name == "glyphs"
    sinusoid = load_recipe("sinusoid-maml")
    with pytest.raises(InputError, match=r"Cannot draw queries of sinusoid from a Dirichlet distribution"):
        building.test_tasks(sinusoid, building.build_data(sinusoid), dirichlet=2)
