"""Floor 1: what tasks of classes ask of a store, wherever its examples lie.

    ArrayStore      all of them in one array, in memory or memory-mapped (store.py)
    StreamedStore   files, shards, or a copy of them, read when they are drawn (big/streamed.py)
    ComputedStore   a function of their numbers (big/computed.py)

Examples are numbered class after class, so that the same examples give the same tasks, bit for bit, in any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.keys import Integers

__all__ = ["LookUp", "RowStore", "Rows"]

Rows: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""Examples one after the other: uint8 pictures ``[n, H, W]`` or ``[n, C, H, W]``, or float32 features ``[n, D]``."""

LookUp: TypeAlias = Callable[[Integers], Rows]
"""Numbers of examples ``[n]`` -> a new array of these, in this order."""


class RowStore(Protocol):
    """Examples of many classes, numbered class after class."""

    @property
    def classes(self) -> Sequence[str]:
        """C names; perhaps read or made only when they are asked for."""

    @property
    def starts(self) -> Integers:
        """int64 ``[C + 1]``; the examples of class c have the numbers ``starts[c]`` to ``starts[c + 1] - 1``."""

    @property
    def sizes(self) -> Integers:
        """int64 ``[C]``, examples a class."""

    @property
    def hash(self) -> str:
        """Hex sha256 of the content."""

    @property
    def example(self) -> tuple[int, ...]:
        """Shape of one row of :data:`Rows`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example as a network receives it: pictures have their channel axis."""

    @property
    def ahead(self) -> int:
        """How many calls it pays to read ahead (``data/ahead.py``); 0 where there is nothing to wait for."""

    @property
    def known(self) -> bool:
        """Whether :meth:`digests` knows the examples."""

    def digests(self, number: int) -> NDArray[np.uint64]:
        """A digest of each example of class ``number``, ``[k]``; see :class:`quickstudy.data.source.Origin`."""

    def look_up(self, turned: bool = False) -> LookUp:
        """What gives examples by their numbers; may be called by several threads at once.

        Args:
            turned: number ``q * n + i`` is example i of n, turned by q quarters.

        Raises:
            InputError: they cannot be turned.
        """
