"""How many tasks are tested together where nobody says it: as many as have room, and the figures are the same."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quickstudy.data.digits import Digits
from quickstudy.data.metadataset.episodes import Member, MetaDatasetTasks
from quickstudy.data.metadataset.sampling import Pool, Rules, Sampler
from quickstudy.data.source import TaskShape
from quickstudy.data.store import ArrayStore
from quickstudy.episode import Classes, Episode, Examples, MultiLabel
from quickstudy.evaluate import meta_test
from quickstudy.evaluate import portions as made
from quickstudy.evaluate.portions import drawn_together, portions
from quickstudy.keys import Keys
from quickstudy.learners.protonet import ProtoNet
from quickstudy.nets import Conv4
from tests.evaluate.fakes import NearestMean, Points


def tasks(count: int, support: int, query: int, *example: int) -> Episode:
    """Of a single number, so that they take no memory."""

    def part(rows: int) -> Examples:
        x = torch.zeros(1, 1, *example, dtype=torch.uint8).expand(count, rows, *example)
        return Examples(x, torch.zeros(count, rows, dtype=torch.int64), Classes(torch.full((count,), 5)))

    return Episode(part(support), part(query))


@pytest.mark.parametrize(
    ("episode", "together"),
    [
        (tasks(16, 100, 300, 28, 28), [16]),  # 20-way 5-shot Omniglot
        (tasks(16, 5, 75, 3, 84, 84), [7, 7, 2]),
        (tasks(5, 500, 500, 3, 84, 84), [1] * 5),  # the largest of Meta-Dataset
        (tasks(2, 500, 500, 3, 224, 224), [1, 1]),  # larger than what has room: one there must be
        (tasks(16, 500, 500, 40), [16]),
        (tasks(3, 5, 5, 4_000_000), [1, 1, 1]),
    ],
)
def test_as_many_as_have_room(episode: Episode, together: list[int]) -> None:
    found = list(portions(episode))
    assert [one.n_task for one in found] == together
    assert torch.cat([one.indices for one in found]).tolist() == list(range(episode.n_task))
    assert (found[0] is episode) == (len(found) == 1)


class Sized(Points):
    """Tasks that say how large they may be."""

    def __init__(self, largest: int | None, *example: int) -> None:
        super().__init__()
        self._largest, self._example = largest, example

    @property
    def largest(self) -> int | None:
        return self._largest

    @property
    def shape(self) -> TaskShape:
        return TaskShape(self._example, "classes", self.way)


def test_fewer_are_drawn_where_they_may_be_large() -> None:
    sizes: list[tuple[int | None, int]] = [(None, 84), (400, 28), (100, 84), (1000, 84), (1000, 224), (9999, 224)]
    assert [drawn_together(Sized(most, 3, side, side)) for most, side in sizes] == [16, 16, 16, 6, 1, 1]
    source = Sized(1000, 3, 84, 84)
    calls: list[int] = []
    meta_test(NearestMean(), source, episodes=20, progress=lambda done, of: calls.append(done))
    assert calls == [6, 12, 18, 20]


def test_the_largest_task(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Sampler(Pool("a", np.full(60, 200))).largest == 500 + 500
    assert Sampler(Pool("a", np.full(9, 200))).largest == 500 + 90
    assert Sampler(Pool("a", np.full(9, 200)), Rules(contribution=20)).largest == 180 + 90
    assert Sampler(Pool("a", np.full(9, 200)), Rules(ways=(5, 5), shots=3, queries=15)).largest == 15 + 75
    source = ragged(10**9, monkeypatch)
    whole = source.episodes(range(100))
    assert 150 < int((whole.support.real.sum(1) + whole.query.real.sum(1)).max()) <= source.largest == 120 + 60
    images = Digits().tasks("test", way=(2, 4), shot=(1, 3), query=5, seed=0)
    assert images.largest == 4 * (3 + 5)


def ragged(room: int, monkeypatch: pytest.MonkeyPatch) -> MetaDatasetTasks:
    """Tasks of 2 to 6 ways and up to 30 examples a class; room for so many pictures."""
    monkeypatch.setattr(made, "_ROOM", room * 64 * 28 * 28)
    rng = np.random.default_rng(0)
    store = ArrayStore.from_classes({f"{n}": rng.integers(0, 256, (40, 28, 28), dtype=np.uint8) for n in range(8)})
    sampler = Sampler(Pool("a", store.sizes), Rules(ways=(2, 6), contribution=30, support=120))
    return MetaDatasetTasks([Member("a", sampler, store, np.arange(8))], data="x", split="test", seed=0)


def test_portions_have_only_the_padding_that_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ragged(200, monkeypatch).episodes(range(12))
    found = list(portions(whole))
    assert 2 < len(found) < 12
    for one in found:
        for part in (one.support, one.query):
            assert part.real.any(0).all() and (part.mask is None) == bool(part.real.all())
            assert one.n_task == 1 or one.n_task * part.n_example <= 200
    at = 0
    for one in found:
        for number in range(one.n_task):
            for part, of in ((one.support, whole.support), (one.query, whole.query)):
                mine, theirs = part.task(number), of.task(at)
                assert isinstance(mine.x, Tensor) and isinstance(theirs.x, Tensor)
                assert torch.equal(mine.x, theirs.x) and torch.equal(mine.y, theirs.y)  # type: ignore[arg-type]
            at += 1
    assert at == 12


def test_the_figures_do_not_hang_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ragged(200, monkeypatch)
    torch.manual_seed(0)
    learner = ProtoNet(Conv4(filters=4))
    seen: list[int] = []

    def result(**more: Any) -> Any:
        seen.clear()
        adapt = learner.adapt

        def watched(support: Examples, *, key: Keys | None = None) -> Any:
            seen.append(support.n_task)
            return adapt(support, key=key)

        with monkeypatch.context() as patch:
            patch.setattr(learner, "adapt", watched)
            return dataclasses.replace(meta_test(learner, source, episodes=20, **more), seconds=0)

    told: list[tuple[int, int]] = []
    chosen = result(progress=lambda done, of: told.append((done, of)))
    assert 2 < len(seen) < 20 and sum(seen) == 20 and told == [(n, 20) for n in np.cumsum(seen)]
    alone = result(tasks_at_once=1)
    assert seen == [1] * 20
    together = result(tasks_at_once=20)
    assert seen == [20]
    np.testing.assert_allclose(chosen.per_episode, alone.per_episode, atol=1e-6)
    np.testing.assert_allclose(chosen.per_episode, together.per_episode, atol=1e-6)
    assert chosen.ci95_classes == pytest.approx(alone.ci95_classes)
    assert np.std(chosen.per_episode) > 0.05


def test_what_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "_ROOM", 1)
    counts: list[int] = []
    meta_test(NearestMean(), Points(), episodes=20, tasks_at_once=9, observe=lambda o, e: counts.append(e.n_task))
    assert counts == [9, 9, 2]
    counts.clear()
    meta_test(NearestMean(), Points(), episodes=20, observe=lambda o, e: counts.append(e.n_task))
    assert counts == [1] * 20


def test_labels_of_many_kinds_are_as_wide_as_their_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "_ROOM", 1)
    way, y = torch.tensor([2, 4]), torch.zeros(2, 3, 4)
    part = Examples(torch.zeros(2, 3, 5), y, MultiLabel(way))
    widths = [one.query.y.shape[2] for one in portions(Episode(part, part)) if one.query.y is not None]
    assert widths == [2, 4]
