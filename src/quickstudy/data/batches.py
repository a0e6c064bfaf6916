"""Floor 1: plain labelled batches over all training classes, for learners that are first trained as classifiers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from quickstudy.data.rowstore import Rows
from quickstudy.data.source import TaskShape
from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key, integers, shuffle

__all__ = ["LISTED", "BatchSource", "ClassBatches", "permuted"]

# What the words of each stream decide.
_ORDER, _TURN = range(2)
_ROUNDS = 6

LISTED = 1 << 22
"""Up to so many examples the order of a pass is a list in memory; of more it is computed place by place."""


class BatchSource(ABC):
    """Yields labelled batches by number. Batch i is a pure function of (source, seed, i)."""

    @property
    @abstractmethod
    def shape(self) -> TaskShape:
        """Shape of an example; ``outputs`` and ``classes`` are how many class numbers there are."""

    @property
    @abstractmethod
    def hash(self) -> str:
        """Hex digest of the content; that of the task source which the batches were made of."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What makes these batches: data, split, batch, seed (JSON types only)."""

    @property
    def ahead(self) -> int:
        """As of :class:`quickstudy.data.source.TaskSource`."""
        return 0

    @abstractmethod
    def batch(self, step: int) -> Examples:
        """The batch with this number: one "task" ``[1, B, ...]``, its ``y`` numbering all training classes.

        Args:
            step: from 0 on.
        """


class ClassBatches(BatchSource):
    """Passes over all examples of a set of classes, each pass in a new random order.

    A batch may straddle two passes, so that after any number of batches no example was seen more than once more
    often than another.

    Args:
        key: of the order; fixes the batches together with what follows.
        examples: n, how many there are.
        where: places ``[any]``, from 0 to n - 1, -> the row of each example in the store, and its class number.
        size: B, examples a batch.
        look_up: ``(rows, quarter turns) -> pictures``, or rows of features; quarter turns are all 0 unless ``turned``.
        shape: of the batches.
        hash: of the content.
        settings: of the source; ``batch`` is added.
        turned: each example is turned by a random number of quarters, another one in each pass.
        ahead: of the source.

    Raises:
        InputError: a size below 1.
    """

    def __init__(
        self,
        key: Key,
        examples: int,
        where: Callable[[Integers], tuple[Integers, Integers]],
        size: int,
        *,
        look_up: Callable[[Integers, Integers], Rows],
        shape: TaskShape,
        hash: str,
        settings: dict[str, Any],
        turned: bool = False,
        ahead: int = 0,
    ) -> None:
        if size < 1:
            raise InputError(f"Cannot make batches of {size} examples: expected a whole number of at least 1.")
        self._key, self._n, self._where, self._size = key, examples, where, size
        self._look_up, self._turned = look_up, turned
        self._shape, self._hash, self._settings = shape, hash, settings | {"batch": size}
        self._ahead = ahead
        self._passes: dict[int, tuple[Integers, Integers]] = {}

    @property
    def shape(self) -> TaskShape:
        """Of an example, and the number of classes."""
        return self._shape

    @property
    def hash(self) -> str:
        """Hex digest of the content."""
        return self._hash

    @property
    def settings(self) -> dict[str, Any]:
        """What makes these batches."""
        return self._settings

    @property
    @override
    def ahead(self) -> int:
        """As the source says."""
        return self._ahead

    def batch(self, step: int) -> Examples:
        """Examples ``step * B`` to ``(step + 1) * B - 1`` of the endless row of passes."""
        turn_of, place = np.divmod(np.arange(step * self._size, (step + 1) * self._size), self._n)
        drawn = [self._drawn(int(number), place[turn_of == number]) for number in np.unique(turn_of)]
        rows, labels = self._where(np.concatenate([order for order, _ in drawn]))
        x = self._look_up(rows, np.concatenate([quarters for _, quarters in drawn]))
        return Examples(
            x=torch.from_numpy(x[None]),
            y=torch.from_numpy(labels[None]),
            target=Classes(torch.tensor([self._shape.outputs])),
        )

    def _drawn(self, number: int, place: Integers) -> tuple[Integers, Integers]:
        """Which examples stand at some places of a pass, and how often each is turned."""
        if self._n > LISTED:
            key, none = self._key.fold("pass", number), np.zeros_like(place)
            quarters = integers(key.bits(place, 1, _TURN)[:, 0], 4) if self._turned else none
            return permuted(key, place, self._n), quarters
        kept = self._passes  # another thread may be at another pass
        if number not in kept:  # only what a batch meets is kept, as drawing a pass takes longer than a batch
            kept = {n: drawn for n, drawn in kept.items() if n == number - 1} | {number: self._draw(number)}
            self._passes = kept
        order, quarters = kept[number]
        return order[place], quarters[place]

    def _draw(self, number: int) -> tuple[Integers, Integers]:
        """The order of the examples in a pass, and how often each place's example is turned."""
        n, this = self._n, np.array([number])
        order = shuffle(self._key.bits(this, n, _ORDER), np.array([n]))[0]
        if not self._turned:
            return order, np.zeros(n, dtype=np.int64)
        return order, integers(self._key.bits(this, n, _TURN)[0], 4)


def permuted(key: Key, places: Integers, n: int) -> Integers:
    """Where some places of 0 .. n-1 go in one random order of all of them, which nobody writes down.

    A Feistel network over the next power of four, whose rounds are Philox, walked on until it is below n (Black and
    Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).

    Args:
        key: of the order.
        places: int64 ``[any]``, each below n.
        n: how many there are.

    >>> sorted(permuted(Key.of(0), np.arange(10), 10).tolist()) == list(range(10))
    True
    """
    half = np.int64(max(1, -(-(n - 1).bit_length() // 2)))
    low = (np.int64(1) << half) - 1
    found, walking = places.copy(), np.arange(len(places))
    while len(walking):
        left, right = found[walking] >> half, found[walking] & low
        for turn in range(_ROUNDS):
            word = key.bits(right, 1, turn)[:, 0].astype(np.int64)
            left, right = right, left ^ (word & low)
        found[walking] = (left << half) | right
        walking = walking[found[walking] >= n]
    return found
