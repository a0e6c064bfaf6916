"""Floor 4: ranks, the processes that share one run.

    block(n, rank, size)      which of n tasks a rank computes: contiguous, by index
    AbstractRanks             how ranks speak to each other
        OneRank               a run that is not divided: everything is said to itself
        ProcessRanks          processes of one ``torch.distributed`` group
    alike(ranks)              what fails on one rank fails on every one, with the same error

Every rank holds all weights and buffers and takes every step of the optimiser; only the tasks are divided. What ranks
tell each other is a sum of gradients, and lists in rank order, which is task order. So all that follows is computed
from the same numbers on every rank.
"""

from __future__ import annotations

import pickle
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import shorten
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from typing_extensions import override

from quickstudy.errors import RunError

__all__ = [
    "AbstractRanks",
    "OneRank",
    "PeerLost",
    "ProcessRanks",
    "RanksLost",
    "alike",
    "block",
    "portable",
]

T = TypeVar("T")


class PeerLost(RunError):
    """Another rank cannot be reached; it died, or left with an error of its own.

    Backends have no common error for that, so all of torch's are taken for it; in truth it may be want of memory here.

    Args:
        why: what torch said.
        whose: the rank that noticed, in words; empty where nobody needs to be told.
        lost: the ranks that do not answer, in words; empty where that is not known.
    """

    def __init__(self, why: str = "", whose: str = "", lost: str = "") -> None:
        super().__init__(why, whose, lost)

    @property
    def said(self) -> str:
        """What torch said, a sentence of one line; nothing where it said nothing."""
        line = next(iter(str(self.args[0]).strip().splitlines()), "").rstrip(".")
        return f"torch said: {shorten(line, 200, placeholder=' ...')}." if line else ""

    @override
    def __str__(self) -> str:
        _, noticed, lost = self.args
        noticed = f" (says {noticed})" if noticed else ""
        lost = lost or "the other ranks, of which one may be gone"
        return f"Nothing can be exchanged with {lost}{noticed}. {self.said}".rstrip()


class RanksLost(RunError):
    """Ranks were killed, and started again, too often."""


def block(n: int, rank: int, size: int) -> range:
    """Which of n tasks a rank computes; ranks without a task get an empty range.

    Args:
        n: how many tasks there are.
        rank: 0 .. size-1.
        size: how many ranks there are.

    >>> [list(block(5, rank, 3)) for rank in range(3)], list(block(1, 1, 2))
    ([[0, 1], [2, 3], [4]], [])
    """
    least, more = divmod(n, size)
    start = rank * least + min(rank, more)
    return range(start, start + least + (rank < more))


class AbstractRanks(ABC):
    """How the ranks of a run speak to each other. Every method is called by all of them, in the same order."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """Which one this is, from 0; rank 0 writes files and tells callbacks."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many there are."""

    def mine(self, n: int) -> range:
        """Which of n things this rank does; see :func:`block`."""
        return block(n, self.rank, self.size)

    def results_of(self, work: Callable[[], T]) -> list[T]:
        """What ``work`` gives on each rank, in rank order; an error of one is raised on all.

        Raises:
            PeerLost: another rank is gone.
        """
        if self.size == 1:
            return [work()]
        found, failed = None, None
        try:
            found = work()
        except PeerLost:
            raise
        except Exception as error:
            failed = error
        said = self.exchange((None if failed is None else portable(failed), found))
        _raise_first([error for error, _ in said], self.rank, failed)
        return cast(list[T], [each for _, each in said])

    @abstractmethod
    def exchange(self, mine: T) -> list[T]:
        """What each rank says, in rank order.

        Args:
            mine: anything that can be pickled; tensors on the CPU.

        Raises:
            PeerLost: another rank is gone.
        """

    @abstractmethod
    def any(self, mine: bool) -> bool:
        """Whether it is true of any rank.

        Raises:
            PeerLost: another rank is gone.
        """

    @abstractmethod
    def add(self, mine: Tensor) -> None:
        """Replace a dense tensor, in place, by its sum over all ranks.

        Raises:
            PeerLost: another rank is gone.
        """

    @abstractmethod
    def asked_to_stop(self, mine: bool) -> bool:
        """Whether any rank was asked to stop, by a signal of its own (``mine``) or by who started the ranks.

        Raises:
            PeerLost: another rank is gone.
        """


class OneRank(AbstractRanks):
    """A run in one process."""

    @property
    @override
    def rank(self) -> int:
        return 0

    @property
    @override
    def size(self) -> int:
        return 1

    @override
    def exchange(self, mine: T) -> list[T]:
        return [mine]

    @override
    def any(self, mine: bool) -> bool:
        return mine

    @override
    def add(self, mine: Tensor) -> None:
        del mine

    @override
    def asked_to_stop(self, mine: bool) -> bool:
        return mine


class ProcessRanks(AbstractRanks):
    """The processes of the default ``torch.distributed`` group, which must be there.

    Args:
        stop: whether this process was asked to stop, other than by a signal.
        name: of this rank, for errors.
        missing: asked, where something could not be exchanged, which ranks do not answer, in words.
    """

    def __init__(
        self, stop: Callable[[], bool] = lambda: False, name: str = "", missing: Callable[[], str] = lambda: ""
    ) -> None:
        self._stop, self._name, self._missing = stop, name, missing
        self._rank, self._size = dist.get_rank(), dist.get_world_size()

    @property
    @override
    def rank(self) -> int:
        return self._rank

    @property
    @override
    def size(self) -> int:
        return self._size

    @override
    def exchange(self, mine: T) -> list[T]:
        said: list[Any] = [None] * self.size
        with _naming_the_loss(self._name, self._missing):
            dist.all_gather_object(said, mine)
        return said

    @override
    def any(self, mine: bool) -> bool:
        count = torch.tensor(int(mine))
        self.add(count)
        return bool(count)

    @override
    def add(self, mine: Tensor) -> None:
        with _naming_the_loss(self._name, self._missing):
            dist.all_reduce(mine)

    @override
    def asked_to_stop(self, mine: bool) -> bool:
        return self.any(mine or self._stop())


@contextmanager
def _naming_the_loss(whose: str, missing: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's own are all of this kind
        raise PeerLost(str(error), whose, missing()) from error


@contextmanager
def alike(ranks: AbstractRanks) -> Iterator[None]:
    """What fails on one rank in here fails on every one, with the error of the first rank that has one.

    Raises:
        PeerLost: another rank is gone.
    """
    failed: BaseException | None = None
    try:
        yield
    except PeerLost:
        raise
    except Exception as error:
        failed = error
    if ranks.any(failed is not None):
        said = [failed] if ranks.size == 1 else ranks.exchange(None if failed is None else portable(failed))
        _raise_first(said, ranks.rank, failed)


def _raise_first(said: Sequence[BaseException | None], rank: int, mine: BaseException | None) -> None:
    """Raise the error of the first rank that has one; one's own as it was, with its traceback."""
    for number, error in enumerate(said):
        if error is not None:
            raise error if number != rank or mine is None else mine


def portable(error: BaseException) -> BaseException:
    """The error as it can be sent to another process; with --debug its traceback is told there too."""
    notes = [*getattr(error, "__notes__", ()), "".join(traceback.format_exception(error))]
    try:
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
    except Exception:  # whatever the class of an error may do when it is made again
        copy = RunError(f"{type(error).__name__}: {error}".rstrip(".") + ".")
    copy.__notes__ = notes[-1:]
    found: BaseException = copy
    return found
