"""Ranks as threads of one process, of which one at a time computes: what division does, without starting processes."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from quickstudy.train.ranks import AbstractRanks, PeerLost

T = TypeVar("T")


class Table:
    """Where ranks sit. Whoever holds the lock works; who waits to hear the others lets go of it."""

    def __init__(self, size: int) -> None:
        self.size, self.gone = size, False
        self.lock = threading.Condition()
        self.said: list[dict[int, Any]] = []


class InTurn(AbstractRanks):
    """One of several ranks at a table."""

    def __init__(self, table: Table, rank: int) -> None:
        self.table, self._rank = table, rank
        self.stop, self.round = False, 0

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def size(self) -> int:
        return self.table.size

    def exchange(self, mine: T) -> list[T]:
        table = self.table
        if self.round == len(table.said):
            table.said.append({})
        this = table.said[self.round]
        self.round += 1
        this[self.rank] = copy.deepcopy(mine)
        table.lock.notify_all()
        table.lock.wait_for(lambda: len(this) == table.size or table.gone)
        if len(this) < table.size:
            raise PeerLost("Another rank left.")
        return [copy.deepcopy(this[rank]) for rank in range(table.size)]

    def any(self, mine: bool) -> bool:
        return any(self.exchange(mine))

    def add(self, mine: Tensor) -> None:
        parts = self.exchange(mine)
        mine.copy_(sum(parts[1:], parts[0]))

    def asked_to_stop(self, mine: bool) -> bool:
        return self.any(mine or self.stop)


def side_by_side(work: Callable[[InTurn], T], size: int) -> list[T | BaseException]:
    """What ``work`` gives on each rank, or how it failed there."""
    table = Table(size)
    found: list[Any] = [None] * size

    def run(rank: int) -> None:
        with table.lock:
            try:
                found[rank] = work(InTurn(table, rank))
            except BaseException as error:
                found[rank] = error
                table.gone = True
                table.lock.notify_all()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def values(found: Sequence[T | BaseException]) -> list[T]:
    """The results, where no rank failed."""
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if not isinstance(each, BaseException)]
