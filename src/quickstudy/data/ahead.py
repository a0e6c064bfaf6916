"""Floor 1: tasks read ahead of whoever asks, by a thread, so that a learner need not wait for a disk or a network.

What is drawn does not change: task i is a function of its number, whoever draws it and when. What will be asked for is
guessed from what was asked for: tasks 0 to 7, then 8 to 15, and so on; a wrong guess costs what was read in vain.
An error surfaces where its tasks are asked for, and never where they are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from typing_extensions import override

from quickstudy.data.around import AbstractTasksAround
from quickstudy.data.batches import BatchSource
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Integers

__all__ = ["BatchesAhead", "TasksAhead", "read_ahead"]

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S", TaskSource, BatchSource)


@contextmanager
def read_ahead(source: S, calls: int | None = None) -> Iterator[S]:
    """The same tasks or batches, of which the next are drawn by a thread while one works on the last.

    ``quickstudy.train`` and ``evaluate`` do so by themselves, for sources that say that it pays.

    Args:
        source: of tasks or batches.
        calls: how many calls are read ahead, which bounds the memory; None: as many as the source says, none for one
            whose examples are in memory.

    Raises:
        InputError: a negative number.

    >>> from quickstudy.data import Sinusoid
    >>> tasks = Sinusoid().tasks("train", shot=5, query=5, seed=0)
    >>> with read_ahead(tasks, calls=2) as ahead:
    ...     all(bool((ahead.episodes(range(n, n + 1)).query.x == tasks.episodes(range(n, n + 1)).query.x).all())
    ...         for n in range(4))
    True
    """
    calls = source.ahead if calls is None else calls
    if calls < 0:
        raise InputError(f"Cannot read ahead calls = {calls}: expected 0 (none) or more.")
    if calls == 0:
        yield source
        return
    with ThreadPoolExecutor(1, thread_name_prefix="quickstudy-ahead") as pool:
        try:
            made: Any
            if isinstance(source, TaskSource):
                made = TasksAhead(source, calls, pool)
            else:
                made = BatchesAhead(source, calls, pool)
            yield made
        finally:  # what was not begun never will be, and the block ends when the last one is read
            pool.shutdown(wait=True, cancel_futures=True)


class _Ahead(Generic[K, V]):
    """Draws that were begun before they were asked for.

    Args:
        draw: gives what is asked for.
        calls: how many are begun ahead.
        pool: of one thread.
    """

    def __init__(self, draw: Callable[[K], V], calls: int, pool: ThreadPoolExecutor) -> None:
        self._draw, self._calls, self._pool = draw, calls, pool
        self._begun: dict[K, Future[V]] = {}

    def get(self, asked: K, following: Callable[[int], K]) -> V:
        """What is asked for.

        Args:
            asked: which.
            following: what will be asked for n calls later.
        """
        begun = self._begun.pop(asked, None)
        if begun is None:
            # Drawn here, and before the others are begun: what is compiled when it is first used is so once.
            begun = Future()
            begun.set_result(self._draw(asked))
        wanted = [following(n) for n in range(1, self._calls + 1)]
        for other in [other for other in self._begun if other not in wanted]:
            self._begun.pop(other).cancel()
        for other in wanted:
            if other not in self._begun:
                self._begun[other] = self._pool.submit(self._draw, other)
        return begun.result()


class TasksAhead(AbstractTasksAround):
    """Tasks of another source; see :func:`read_ahead`.

    Args:
        source: of tasks.
        calls: how many calls are read ahead.
        pool: of one thread.
    """

    def __init__(self, source: TaskSource, calls: int, pool: ThreadPoolExecutor) -> None:
        super().__init__(source)
        self._ahead: _Ahead[tuple[int, int], Episode] = _Ahead(lambda ends: source.episodes(range(*ends)), calls, pool)
        self._last: range | None = None
        self._stride: int | None = None

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        if not isinstance(indices, range) or indices.step != 1 or not 0 <= indices.start < indices.stop:
            return self._source.episodes(indices)
        size, last = len(indices), self._last
        if last is not None and len(last) == size and indices.start > last.start:
            self._stride = indices.start - last.start  # ranks ask for a part of each step's tasks
        elif last is None or len(last) != size:
            self._stride = size
        self._last, stride = indices, self._stride or size
        return self._ahead.get(
            (indices.start, indices.stop), lambda n: (indices.start + n * stride, indices.stop + n * stride)
        )

    @override
    def batches(self, size: int) -> BatchSource:
        return self._source.batches(size)


class BatchesAhead(BatchSource):
    """Batches of another source; see :func:`read_ahead`.

    Args:
        source: of batches.
        calls: how many calls are read ahead.
        pool: of one thread.
    """

    def __init__(self, source: BatchSource, calls: int, pool: ThreadPoolExecutor) -> None:
        self._source = source
        self._ahead: _Ahead[int, Examples] = _Ahead(source.batch, calls, pool)

    @property
    @override
    def shape(self) -> TaskShape:
        return self._source.shape

    @property
    @override
    def hash(self) -> str:
        return self._source.hash

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return self._source.settings

    @override
    def batch(self, step: int) -> Examples:
        return self._ahead.get(step, lambda n: step + n)
