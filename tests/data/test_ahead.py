"""What is read ahead is what would have been drawn, errors come when their tasks are asked for, and it ends."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from typing_extensions import override

from quickstudy.data.ahead import TasksAhead, read_ahead
from quickstudy.data.batches import BatchSource
from quickstudy.data.source import TaskSource
from quickstudy.episode import Episode, Examples
from quickstudy.errors import DataError, InputError
from quickstudy.keys import Integers
from tests.data.big.made import alike, same
from tests.data.test_classtasks import source


class Watched(TasksAhead):
    """Tasks that say when they were drawn, by whom, and how many at once; some cannot be."""

    def __init__(self, *, broken: int = -1, ahead: int = 2, seconds: float = 0.0) -> None:
        self._source: TaskSource = source()
        self.drawn: list[tuple[int, int]] = []
        self.by: set[str] = set()
        self._broken, self._calls, self._seconds = broken, ahead, seconds

    @property
    @override
    def ahead(self) -> int:
        return self._calls

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        self.drawn.append((int(indices[0]), int(indices[-1]) + 1))
        self.by.add(threading.current_thread().name)
        time.sleep(self._seconds)
        if self._broken in indices:
            raise DataError(f"Cannot read task {self._broken}.")
        return self._source.episodes(indices)


def settled(watched: Watched, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(watched.drawn) < count and time.monotonic() < deadline:
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("quickstudy-ahead")]


ASKED: dict[str, list[Any]] = {
    "steps": [range(4 * n, 4 * n + 4) for n in range(12)],
    "a part of each step": [range(12 * n + 4, 12 * n + 8) for n in range(8)],
    "chunks, the last one smaller": [range(at, min(at + 5, 23)) for at in range(0, 23, 5)],
    "from the middle": [range(100 + n, 101 + n) for n in range(6)],
    "here and there": [range(5, 9), range(0, 4), range(40, 41), range(41, 45), range(2, 3)],
    "again": [range(4), range(4), range(4, 8), range(4), range(4, 8)],
    "numbers": [np.array([3, 1, 8]), np.array([4]), range(8, 2, -2), range(9, 12)],
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("calls", [1, 2, 5])
def test_tasks_are_those_that_would_have_been_drawn(asked: str, calls: int) -> None:
    with read_ahead(source(), calls) as ahead:
        for numbers in ASKED[asked]:
            assert alike(ahead.episodes(numbers), source().episodes(numbers))


def test_batches_are_those_that_would_have_been_drawn() -> None:
    batches = source(rotations="per-class").batches(60)
    with read_ahead(batches, 3) as ahead:
        assert isinstance(ahead, BatchSource) and ahead is not batches
        for step in [*range(9), 30, 31, 2]:
            assert same(ahead.batch(step), source(rotations="per-class").batches(60).batch(step))


def test_the_next_steps_are_drawn_meanwhile_and_no_more_of_them() -> None:
    watched = Watched(ahead=3)
    with read_ahead(watched) as ahead:
        ahead.episodes(range(4))
        settled(watched, 4)
        time.sleep(0.05)
        assert watched.drawn == [(0, 4), (4, 8), (8, 12), (12, 16)], "a bounded number"
        ahead.episodes(range(4, 8))
        settled(watched, 5)
        assert watched.drawn[-1] == (16, 20) and len(watched.by) == 2
    assert len(watched.drawn) == len(set(watched.drawn)) == 5, "none twice"


def test_what_was_guessed_wrong_is_not_drawn() -> None:
    watched = Watched(ahead=8, seconds=0.03)
    with read_ahead(watched) as ahead:
        ahead.episodes(range(4))
        ahead.episodes(range(100, 104))
        ahead.episodes(range(104, 108))
    assert len([first for first, _ in watched.drawn if 0 < first < 100]) <= 2, "but for what was begun"


def test_ranks_draw_what_is_theirs() -> None:
    watched = Watched(ahead=2)
    with read_ahead(watched) as ahead:
        for step in range(6):
            ahead.episodes(range(8 * step + 4, 8 * step + 8))
    assert len(set(watched.drawn)) == len(watched.drawn), "none twice"
    assert sum(first % 8 == 0 for first, _ in watched.drawn) <= 1, "the first guess alone was wrong"


def test_an_error_comes_with_its_task() -> None:
    watched = Watched(broken=13)
    with read_ahead(watched) as ahead:
        for step in range(3):
            ahead.episodes(range(4 * step, 4 * step + 4))
        settled(watched, 5)
        for _ in range(2):  # whoever asks again is told again
            with pytest.raises(DataError, match=r"Cannot read task 13\."):
                ahead.episodes(range(12, 16))
        assert alike(ahead.episodes(range(16, 20)), source().episodes(range(16, 20)))


def test_an_error_that_nobody_asks_for_is_none() -> None:
    watched = Watched(broken=9)
    with read_ahead(watched) as ahead:
        ahead.episodes(range(4))
        settled(watched, 3)


def test_it_ends_with_the_block_however_that_ends() -> None:
    watched = Watched(ahead=8, seconds=0.05)
    with pytest.raises(KeyboardInterrupt), read_ahead(watched) as ahead:
        ahead.episodes(range(4))
        raise KeyboardInterrupt
    assert len(watched.drawn) <= 3, "what was not begun is not drawn"


def test_examples_in_memory_are_not_read_ahead() -> None:
    tasks = source()
    with read_ahead(tasks) as same_one:
        assert same_one is tasks
    with read_ahead(Watched(ahead=0)) as other:
        assert type(other) is Watched
    with pytest.raises(InputError, match="Cannot read ahead calls = -1"), read_ahead(tasks, -1):
        pass


def test_it_says_what_its_source_says() -> None:
    tasks = source()
    with read_ahead(tasks, 1) as ahead:
        assert (ahead.shape, ahead.hash, ahead.settings) == (tasks.shape, tasks.hash, tasks.settings)
        assert ahead.origin == tasks.origin and same(ahead.batches(5).batch(1), tasks.batches(5).batch(1))
        episode = ahead.episodes(range(2))
        outputs = torch.zeros(2, 15, 5)
        assert ahead.figures(outputs, episode) == {} and ahead.row_moves(outputs, episode) is None
        batches: Any = tasks.batches(5)
    with read_ahead(batches, 1) as more:
        assert (more.shape, more.hash, more.settings) == (batches.shape, batches.hash, batches.settings)
    assert isinstance(more.batch, object) and isinstance(episode.support, Examples)


def test_global_generators_are_left_alone() -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    with read_ahead(source(), 2) as ahead:
        ahead.episodes(range(4))
        ahead.episodes(range(4, 8))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index]
