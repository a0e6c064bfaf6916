"""Synthetic tables: shapes, purity, and that there is something to learn in them."""

import hashlib
import random
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from quickstudy.data.dataset import DataSet
from quickstudy.data.registry import data_sets
from quickstudy.data.tableprior import normal
from quickstudy.data.tables import Tables, TableTasks
from quickstudy.episode import Classes, Examples, Real, first_leaf
from quickstudy.errors import InputError, UnknownName
from quickstudy.keys import Key
from quickstudy.learners.knn import KNN
from quickstudy.learners.learner import task_metric


def source(target: Any = "classes", max_features: int = 8, **changes: Any) -> TableTasks:
    options: dict[str, Any] = {"role": "train", "shot": 3, "query": 4, "seed": 0}
    if target == "classes":
        options["way"] = 3
    return Tables(target=target, max_features=max_features).tasks(**(options | changes))


def leaves(examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    assert examples.y is not None
    return first_leaf(examples.x), examples.y


def test_registered() -> None:
    data_set: DataSet = data_sets.get("tables")()
    assert isinstance(data_set, DataSet) and data_set.shape == (32,)


def test_shapes_of_classes() -> None:
    tasks = source()
    episode = tasks.episodes(range(4))
    for part, n in ((episode.support, 3), (episode.query, 4)):
        part.check()
        x, y = leaves(part)
        assert x.shape == (4, 3 * n, 8) and x.dtype == torch.float32 and part.mask is None
        assert y.tolist() == [[c for c in range(3) for _ in range(n)]] * 4
        assert isinstance(part.target, Classes) and part.target.way.tolist() == [3] * 4
    assert (tasks.shape.example, tasks.shape.target, tasks.shape.outputs) == ((8,), "classes", 3)
    assert episode.index is not None and episode.index.tolist() == [0, 1, 2, 3]


def test_shapes_of_real_targets() -> None:
    tasks = source("real", shot=(2, 9), query=5)
    episode = tasks.episodes(range(20))
    x, y = leaves(episode.support)
    assert x.shape == (20, 9, 8) and y.shape == (20, 9, 1) and episode.support.target == Real(1)
    assert episode.support.mask is not None and episode.query.mask is None
    assert not x[~episode.support.mask].any() and not y[~episode.support.mask].any()
    assert (tasks.shape.target, tasks.shape.outputs) == ("real", 1)


def test_a_task_depends_on_its_number_alone() -> None:
    for tasks in (source(way=(2, 5), shot=(1, 4), query=(1, 3)), source("real", shot=(2, 6), query=(1, 4))):
        together = tasks.episodes(range(12))
        for order in (np.arange(12)[::-1], np.array([7]), np.array([9, 0, 0])):
            some = tasks.episodes(order)
            for place, task in enumerate(order):
                for mine, theirs in ((some.support, together.support), (some.query, together.query)):
                    pairs = zip(leaves(mine.task(place)), leaves(theirs.task(int(task))), strict=True)
                    assert all(torch.equal(one, other) for one, other in pairs)


def test_roles_and_seeds_have_tasks_of_their_own() -> None:
    sources = [source(), source(seed=1), source(role="validation"), source(role="test")]
    assert len({float(first_leaf(tasks.episodes(range(1)).support.x).sum()) for tasks in sources}) == 4


def test_ranges_are_drawn_for_each_task_and_class() -> None:
    episode = source(way=(2, 4), shot=(1, 3), query=(1, 2)).episodes(range(600))
    assert isinstance(episode.support.target, Classes) and episode.support.mask is not None
    way = episode.support.target.way
    assert way.bincount()[2:].min() > 150 and len(way.bincount()) == 5
    _, y = leaves(episode.support)
    counts = torch.stack([((y == c) & episode.support.real).sum(1) for c in range(4)], 1)
    present = torch.arange(4) < way[:, None]
    assert counts[present].bincount().tolist()[0] == 0 and counts[present].bincount()[1:].min() > 500
    assert not counts[~present].any()


def test_no_row_is_both_support_and_query() -> None:
    episode = source("real", shot=10, query=10).episodes(range(30))
    together = torch.cat([leaves(episode.support)[1], leaves(episode.query)[1]], 1)[..., 0]
    assert all(len(row.unique()) == 20 for row in together)


def test_tables_have_from_two_to_all_columns_in_any_place() -> None:
    x = torch.cat([first_leaf(p.x) for p in (lambda e: (e.support, e.query))(source(shot=8).episodes(range(400)))], 1)
    there = (x != 0).any(1)
    counts = there.sum(1).bincount(minlength=9)
    assert counts[0] == 0 and counts[2] > 60 and counts[8] > 5 and counts[:2].sum() < 8
    assert there.float().mean(0).std() < 0.05


def test_there_is_something_to_learn_and_not_everything() -> None:
    """Three neighbours are right far more often than by chance, on some tables always and on some hardly ever."""
    episode = source(shot=10, query=10, role="test").episodes(range(150))
    with torch.no_grad():
        learner = KNN(k=3)
        said = learner.predict(learner.adapt(episode.support), episode.query.unlabelled())
    right = task_metric(said, episode.query)[1]
    assert 0.5 < float(right.mean()) < 0.75 and float(right.min()) < 0.45 and float(right.max()) > 0.95
    # Real targets of one table are spread, and of about the same size in all.
    _, y = leaves(source("real", shot=50, query=1).episodes(range(150)).support)
    assert 0.8 < float(y.std()) < 1.4 and float(y.std(1).min()) > 0.2


def test_normal_numbers() -> None:
    values = normal(Key.of(0).bits(np.arange(4), 5000))
    assert kstest(values.reshape(-1), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(values[:, ::2].reshape(-1), values[:, 1::2].reshape(-1))[0, 1]) < 0.03


def test_settings_and_hash() -> None:
    assert source(shot=(1, 5)).settings == {
        "data": "tables",
        "split": "train",
        "target": "classes",
        "way": 3,
        "shot": [1, 5],
        "query": 4,
        "seed": 0,
    }
    assert "way" not in source("real").settings
    assert source().hash == source(shot=1, seed=2).hash
    assert len({source().hash, source("real").hash, source(max_features=9).hash}) == 3


def test_rows_are_these_on_every_machine() -> None:
    """Recorded once, of rounded numbers: the last bits are the machine's sine's and exponential's."""
    episode = source(way=(2, 4), shot=(1, 3)).episodes(np.array([0, 1, 2**33]))
    x, y = leaves(episode.support)
    content = (x.double() * 1000).round().numpy().astype("<i8").tobytes() + y.numpy().astype("<i8").tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "5fc2eb8c95702a0f"


def test_global_generators_are_left_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    source().episodes(range(5))
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index]


def test_what_cannot_be() -> None:
    with pytest.raises(
        InputError, match=r"Cannot draw 5-way tasks with real targets: they have no classes\. Leave way"
    ):
        source("real", way=5)
    with pytest.raises(InputError, match=r"Cannot draw tasks with way = None: expected a whole number from 2 on"):
        source(way=None)
    with pytest.raises(InputError, match=r"Cannot draw tasks with shot = 0"):
        source(shot=0)
    with pytest.raises(UnknownName, match=r"There is no split of tables called 'tests'\. Did you mean 'test'\?"):
        source(role="tests")
    with pytest.raises(InputError, match=r"A table needs at least one column, received max_features=0"):
        Tables(max_features=0)
