"""Floor 1: plain labelled batches over all training classes, for learners that are first trained as classifiers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.source import TaskShape
from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key, integers, shuffle

__all__ = ["BatchSource", "ClassBatches"]

# What the words of each stream decide.
_ORDER, _TURN = range(2)


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
        rows: int64 ``[n]``, the row of each example in the store.
        labels: int64 ``[n]``, its class number.
        size: B, examples a batch.
        look_up: ``(rows, quarter turns) -> pictures``, or rows of features; quarter turns are all 0 unless ``turned``.
        shape: of the batches.
        hash: of the content.
        settings: of the source; ``batch`` is added.
        turned: each example is turned by a random number of quarters, another one in each pass.

    Raises:
        InputError: a size below 1.
    """

    def __init__(
        self,
        key: Key,
        rows: Integers,
        labels: Integers,
        size: int,
        *,
        look_up: Callable[[Integers, Integers], NDArray[np.uint8] | NDArray[np.float32]],
        shape: TaskShape,
        hash: str,
        settings: dict[str, Any],
        turned: bool = False,
    ) -> None:
        if size < 1:
            raise InputError(f"Cannot make batches of {size} examples: expected a whole number of at least 1.")
        self._key, self._rows, self._labels, self._size = key, rows, labels, size
        self._look_up, self._turned = look_up, turned
        self._shape, self._hash, self._settings = shape, hash, settings | {"batch": size}
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

    def batch(self, step: int) -> Examples:
        """Examples ``step * B`` to ``(step + 1) * B - 1`` of the endless row of passes."""
        positions = np.arange(step * self._size, (step + 1) * self._size)
        turn_of, place = np.divmod(positions, len(self._rows))
        parts = [(drawn, place[turn_of == number]) for number, drawn in self._passes_of(turn_of)]
        orders = np.concatenate([order[where] for (order, _), where in parts])
        quarters = np.concatenate([quarter[where] for (_, quarter), where in parts])
        x = self._look_up(self._rows[orders], quarters)
        return Examples(
            x=torch.from_numpy(x[None]),
            y=torch.from_numpy(self._labels[orders][None]),
            target=Classes(torch.tensor([self._shape.outputs])),
        )

    def _passes_of(self, turn_of: Integers) -> list[tuple[int, tuple[Integers, Integers]]]:
        """The passes that a batch meets; only these are kept, as drawing one takes longer than a batch."""
        wanted = range(int(turn_of[0]), int(turn_of[-1]) + 1)
        self._passes = {n: self._passes.get(n) or self._draw(n) for n in wanted}
        return list(self._passes.items())

    def _draw(self, number: int) -> tuple[Integers, Integers]:
        """The order of the examples in a pass, and how often each place's example is turned."""
        n, this = len(self._rows), np.array([number])
        order = shuffle(self._key.bits(this, n, _ORDER), np.array([n]))[0]
        if not self._turned:
            return order, np.zeros(n, dtype=np.int64)
        return order, integers(self._key.bits(this, n, _TURN)[0], 4)
