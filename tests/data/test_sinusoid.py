"""Sine waves as in Finn et al. 2017, and tasks that are functions."""

import hashlib
import random
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from quickstudy.data.dataset import DataSet
from quickstudy.data.registry import data_sets
from quickstudy.data.sinusoid import SINES, FunctionTasks, Sinusoid
from quickstudy.episode import Examples, Real, first_leaf
from quickstudy.errors import InputError, UnknownName


def source(**changes: Any) -> FunctionTasks:
    options: dict[str, Any] = {"role": "train", "shot": 5, "query": 7, "seed": 0}
    return Sinusoid().tasks(**(options | changes))


def points(examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    assert examples.y is not None
    return first_leaf(examples.x), examples.y


def test_registered() -> None:
    data_set: DataSet = data_sets.get("sinusoid")()
    assert isinstance(data_set, DataSet)


def test_shapes() -> None:
    tasks = source()
    episode = tasks.episodes(range(3))
    episode.support.check()
    episode.query.check()
    for part, n in ((episode.support, 5), (episode.query, 7)):
        x, y = points(part)
        assert x.shape == y.shape == (3, n, 1) and x.dtype == y.dtype == torch.float32
        assert part.target == Real(1) and part.mask is None
    assert (tasks.shape.example, tasks.shape.target, tasks.shape.outputs) == ((1,), "real", 1)
    assert episode.index is not None and episode.index.tolist() == [0, 1, 2] and episode.classes is None


def test_points_lie_on_the_sine() -> None:
    tasks = source()
    episode, parameters = tasks.episodes(range(50)), tasks.parameters(range(50))
    for part in (episode.support, episode.query):
        x, y = (leaf[:, :, 0].double().numpy() for leaf in points(part))
        expected = parameters["amplitude"][:, None] * np.sin(x - parameters["phase"][:, None])
        assert np.abs(y - expected).max() < 5e-6, "x is rounded to float32 after y was computed"


def test_ranges_of_the_paper() -> None:
    tasks = source(shot=1, query=1)
    parameters = tasks.parameters(range(20000))
    x, _ = points(tasks.episodes(range(20000)).support)
    drawn = {"amplitude": (parameters["amplitude"], 0.1, 5.0), "phase": (parameters["phase"], 0.0, np.pi)}
    for values, low, high in [*drawn.values(), (x.reshape(-1).numpy(), -5.0, 5.0)]:
        assert kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-4
    assert abs(np.corrcoef(parameters["amplitude"], parameters["phase"])[0, 1]) < 0.03


def test_a_task_depends_on_its_number_alone() -> None:
    tasks = source(shot=(1, 6), query=(1, 9))
    together = tasks.episodes(range(10))
    for order in (np.arange(10)[::-1], np.array([7]), np.array([9, 0, 0])):
        some = tasks.episodes(order)
        for place, task in enumerate(order):
            for mine, theirs in ((some.support, together.support), (some.query, together.query)):
                pairs = zip(points(mine.task(place)), points(theirs.task(int(task))), strict=True)
                assert all(torch.equal(one, other) for one, other in pairs)


def test_ranges_are_padded_and_masked() -> None:
    episode = source(shot=(2, 4), query=3).episodes(range(3000))
    assert episode.support.mask is not None and episode.query.mask is None
    counts = episode.support.mask.sum(1).bincount()
    assert len(counts) == 5 and counts[:2].sum() == 0 and counts[2:].min() > 900
    for leaf in points(episode.support):
        assert not leaf[~episode.support.mask].any()


def test_more_shots_are_further_points_of_the_same_function() -> None:
    few, many = source(shot=5).episodes(range(4)), source(shot=10).episodes(range(4))
    for one, other in zip(points(few.support), points(many.support), strict=True):
        assert torch.equal(one, other[:, :5])
    assert torch.equal(first_leaf(few.query.x), first_leaf(many.query.x))


def test_support_and_query_differ() -> None:
    x, q = (points(part)[0] for part in (lambda e: (e.support, e.query))(source(shot=7).episodes(range(20))))
    assert not torch.isin(x, q).any()


def test_default_queries() -> None:
    sizes = {role: Sinusoid().tasks(role, shot=5, seed=0).settings["query"] for role in Sinusoid.splits}
    assert sizes == {"train": 5, "validation": 100, "test": 100}


def test_roles_and_seeds_have_tasks_of_their_own() -> None:
    sources = [source(), source(seed=1), source(role="validation"), source(role="test")]
    assert len({float(tasks.parameters(range(1))["phase"][0]) for tasks in sources}) == 4


def test_hash_is_of_the_functions() -> None:
    assert source().hash == source(shot=3, seed=1).hash
    wider = FunctionTasks(
        SINES.__class__(SINES.name, (-6.0, 5.0), SINES.parameters, SINES.value),
        data="sinusoid",
        split="train",
        shot=5,
        query=5,
        seed=0,
    )
    assert wider.hash != source().hash


def test_settings() -> None:
    assert source(shot=(1, 5)).settings == {
        "data": "sinusoid",
        "split": "train",
        "shot": [1, 5],
        "query": 7,
        "seed": 0,
    }


def test_functions_are_these_on_every_machine() -> None:
    """Recorded once. Of x alone: the last bit of y is the machine's sine's."""
    episode = source().episodes(np.array([0, 1, 2**33]))
    both = torch.cat([first_leaf(episode.support.x), first_leaf(episode.query.x)], 1)
    parameters = np.stack(list(source().parameters(np.array([0, 1, 2**33])).values()))
    digest = hashlib.sha256(both.numpy().astype("<f4").tobytes() + parameters.astype("<f8").tobytes()).hexdigest()
    assert digest[:16] == "454f248668253a99"


def test_global_generators_are_left_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    source().episodes(range(20))
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index]


def test_what_cannot_be() -> None:
    with pytest.raises(
        InputError, match=r"Cannot draw 5-way tasks from sinusoid: a function has no classes\. Leave way out"
    ):
        source(way=5)
    with pytest.raises(UnknownName, match=r"There is no split of sinusoid called 'tests'\. Did you mean 'test'\?"):
        source(role="tests")
    for name in ("shot", "query"):
        with pytest.raises(InputError, match=rf"Cannot draw tasks with {name} = 0: expected a whole number from 1 on"):
            source(**{name: 0})


def test_a_frequency_of_its_own() -> None:
    """Li et al. 2017 (Meta-SGD): y = A sin(w x + b) with w from 0.8 to 1.2."""
    tasks = Sinusoid(frequency=(0.8, 1.2)).tasks("train", shot=5, query=5, seed=0)
    episode, drawn = tasks.episodes(range(5000)), tasks.parameters(range(5000))
    x, y = (leaf[:, :, 0].double().numpy() for leaf in points(episode.support))
    amplitude, phase, frequency = (drawn[name][:, None] for name in ("amplitude", "phase", "frequency"))
    assert np.abs(y - amplitude * np.sin(frequency * x + phase)).max() < 5e-6
    assert kstest(drawn["frequency"], "uniform", args=(0.8, 0.4)).pvalue > 1e-3
    assert tasks.hash not in (source().hash, Sinusoid((0.8, 1.3)).tasks("train", shot=5, seed=0).hash)


@pytest.mark.parametrize("frequency", [(0.0, 1.0), (1.2, 0.8), (1.0, np.inf)])
def test_frequencies_that_make_no_sense(frequency: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"Cannot draw sine waves with frequency = \["):
        Sinusoid(frequency)
