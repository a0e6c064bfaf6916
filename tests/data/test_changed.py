"""Tasks with something changed: what is promised is changed, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from quickstudy.data.changed import AbstractChange, ChangedTasks, NoisyQueries, Outsiders, SwappedLabels, TurnedQueries
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.sinusoid import Sinusoid
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.data.store import ArrayStore
from quickstudy.episode import Classes, Episode, Examples, first_leaf
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key


def source(way: int = 4, shot: int = 5, query: int = 3, classes: int = 12, **more: Any) -> ClassTasks:
    rng = np.random.default_rng(0)
    store = ArrayStore.from_classes(
        {f"c{n}": rng.integers(0, 256, (20, 6, 6)).astype(np.uint8) for n in range(classes)}
    )
    sizes: dict[str, Any] = {"way": way, "shot": shot, "query": query, "seed": 3}
    return ClassTasks(store, range(classes), data="made", split="test", **sizes, **more)


def same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a, b)


def pixels(episode: Episode) -> tuple[Tensor, Tensor]:
    return first_leaf(episode.support.x), first_leaf(episode.query.x)


CHANGES = [SwappedLabels(0.2), TurnedQueries(90), TurnedQueries(10), NoisyQueries(0.1), Outsiders()]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: str(c.settings))
def test_the_same_task_however_many_are_asked_for_at_once(change: AbstractChange) -> None:
    clean = source()
    changed = ChangedTasks(clean, change)
    whole = changed.episodes(range(6))
    for number in range(6):
        one = changed.episodes(range(number, number + 1))
        mine = whole.tasks(slice(number, number + 1))
        assert same(pixels(one)[1], pixels(mine)[1]) and same(one.support.y, mine.support.y)
    assert same(whole.classes, clean.episodes(range(6)).classes)
    assert changed.hash == clean.hash and changed.shape == clean.shape and changed.origin == clean.origin
    assert changed.settings == {**clean.settings, "changed": change.settings}
    whole.check()


@pytest.mark.parametrize(("rate", "shot"), [(0.1, 5), (0.2, 5), (0.2, 1), (0.5, 5)])
def test_as_many_labels_as_promised_are_wrong_and_no_class_loses_any(rate: float, shot: int) -> None:
    clean = source(shot=shot)
    before, after = clean.episodes(range(400)), ChangedTasks(clean, SwappedLabels(rate)).episodes(range(400))
    assert before.support.y is not None and after.support.y is not None
    wrong = (before.support.y != after.support.y).double().mean(1)
    assert abs(wrong.mean() - rate) < 0.03
    n = 4 * shot
    pairs = rate * n / 2
    assert {round(float(w) * n / 2) for w in wrong} <= {int(pairs), int(np.ceil(pairs))}
    assert same(before.support.y.sort(1).values, after.support.y.sort(1).values)
    assert same(pixels(before)[0], pixels(after)[0]) and same(before.query.y, after.query.y)


def test_queries_are_turned_and_the_support_is_not() -> None:
    clean = source()
    before = clean.episodes(range(2))
    after = ChangedTasks(clean, TurnedQueries(90)).episodes(range(2))
    assert same(pixels(after)[0], pixels(before)[0])
    expected = np.rot90(pixels(before)[1].numpy(), 1, axes=(-2, -1)).copy()
    assert same(pixels(after)[1], torch.from_numpy(expected))


def test_other_angles_turn_the_same_way_as_quarters() -> None:
    grid = torch.linspace(-1, 1, 21)
    blob = (255 * torch.exp(-8 * ((grid[:, None] - 0.4) ** 2 + grid[None] ** 2))).round().to(torch.uint8)
    turned = TurnedQueries(89.9)._turned(blob[None, None])[0, 0].int()
    assert (turned - torch.rot90(blob, 1).int()).abs().max() <= 3
    assert (turned - torch.rot90(blob, -1).int()).abs().max() > 100


def test_noise_has_the_promised_deviation() -> None:
    grey = ArrayStore.from_classes({n: np.full((20, 20, 20), 128, dtype=np.uint8) for n in "abcd"})
    sizes: dict[str, Any] = {"way": 4, "shot": 1, "query": 5, "seed": 0}
    clean = ClassTasks(grey, range(4), data="made", split="test", **sizes)
    after = ChangedTasks(clean, NoisyQueries(0.1)).episodes(range(3))
    assert abs(float(pixels(after)[1].double().std()) - 25.5) < 0.5
    assert (pixels(after)[0] == 128).all()


def test_outsiders_are_of_no_class_of_the_task_and_carry_no_label() -> None:
    clean = source()
    before, after = clean.episodes(range(8)), ChangedTasks(clean, Outsiders()).episodes(range(8))
    own = before.query.n_example
    assert same(pixels(after)[1][:, :own], pixels(before)[1]) and after.query.y is not None
    assert same(after.query.y[:, :own], before.query.y) and (after.query.y[:, own:] == -1).all()
    assert before.classes is not None
    holders = {clean.store.look_up()(np.array([row]))[0].tobytes(): row // 20 for row in range(240)}
    strangers = 0
    for task in range(8):
        for row in after.query.real[task].nonzero().flatten().tolist():
            if row >= own:
                strangers += 1
                one = holders[pixels(after)[1][task, row].numpy().tobytes()]
                assert one not in before.classes[task].tolist()
    assert strangers > 30


def test_queries_by_other_people() -> None:
    """Example k of each class is of person k: nobody who is asked was learned from, in any class of the task."""
    clean = source(makers=True, query=10)
    apart = clean.apart()
    before, after = clean.episodes(range(20)), apart.episodes(range(20))
    assert same(before.classes, after.classes) and apart.settings == {**clean.settings, "apart": True}
    people = {clean.store.look_up()(np.array([row]))[0].tobytes(): row % 20 for row in range(240)}
    mixed = 0
    for task in range(20):
        sides = [{people[picture.numpy().tobytes()] for picture in side[task]} for side in pixels(after)]
        assert not sides[0] & sides[1] and len(sides[1]) == 10
        sides = [{people[picture.numpy().tobytes()] for picture in side[task]} for side in pixels(before)]
        mixed += bool(sides[0] & sides[1])
    assert mixed > 15, "otherwise nothing was changed"


def test_tasks_among_fewer_classes() -> None:
    few = source().among(5)
    classes = few.episodes(range(50)).classes
    assert classes is not None and len(set(classes.flatten().tolist())) == 5
    assert few.settings["among"] == 5 and few.hash != source().hash


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (SwappedLabels(0.2), "Cannot swap labels: these tasks have no classes"),
        (TurnedQueries(90), "Cannot turn the queries: these examples are no pictures"),
        (NoisyQueries(0.1), "Cannot add noise to the queries: these examples are no pictures"),
        (Outsiders(), "Cannot ask for queries of other classes: these tasks do not number their classes"),
    ],
)
def test_tasks_that_cannot_be_changed_so(change: AbstractChange, said: str) -> None:
    lines = Sinusoid().tasks("test", shot=5, query=5, seed=0)
    with pytest.raises(InputError, match=said):
        change.apply(lines.episodes(range(1)), lines, Key.of(0))


def test_bad_sizes() -> None:
    with pytest.raises(InputError, match=r"Cannot swap labels of a share of 1\.5: expected a number above 0 and below"):
        SwappedLabels(1.5)
    with pytest.raises(InputError, match="Cannot tell who made the examples of made/test"):
        source().apart()
    with pytest.raises(InputError, match="Cannot divide the people of made/test: give one shot"):
        source(makers=True, shot=(1, 2)).apart()  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Cannot choose 3 of the 12 classes"):
        source().among(3)


class Growing(TaskSource):
    """Tasks of texts, as wide as the longest that are drawn together: task n has words of n letters, all n."""

    shape = TaskShape({"letters": (1,)}, "classes", 2)
    hash = "growing"
    settings: ClassVar[dict[str, Any]] = {"data": "growing", "split": "test", "seed": 0}
    count = 40

    def episodes(self, indices: range | Integers) -> Episode:
        tasks = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        letters = torch.zeros(len(tasks), 2, int(tasks.max()) + 1, dtype=torch.int64)
        for row, task in enumerate(tasks.tolist()):
            letters[row, :, : task + 1] = task
        y = torch.arange(2).expand(len(tasks), -1).contiguous()
        part = Examples({"letters": letters}, y, Classes(torch.full((len(tasks),), 2)))
        return Episode(part, part, tasks, torch.stack([2 * tasks, 2 * tasks + 1], 1))


def test_texts_of_strangers_are_filled_up_to_the_same_length() -> None:
    found = ChangedTasks(Growing(), Outsiders()).episodes(range(3))
    assert isinstance(found.query.x, dict) and isinstance(found.support.x, dict)
    letters = found.query.x["letters"]
    assert letters.shape == (3, 4, 23) and found.support.x["letters"].shape == (3, 2, 23)
    assert letters[2, 0].tolist() == [2] * 3 + [0] * 20 and letters[2, 3].tolist() == [22] * 23
    assert found.query.y is not None and found.query.y[0].tolist() == [0, 1, -1, -1]


def test_groups_of_rows_have_no_strangers() -> None:
    """The number of a group is no number of a class."""
    grown = Growing()
    episode = replace(grown.episodes(range(2)), classes=torch.tensor([[0], [1]]))
    with pytest.raises(InputError, match="these tasks do not number their classes"):
        Outsiders().apply(episode, grown, Key.of(0))
