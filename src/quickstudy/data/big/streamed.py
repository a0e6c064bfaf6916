"""Floor 1: an index and its files as a store: examples are read, and decoded, when they are drawn."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.big.entries import Entry
from quickstudy.data.big.index import Index
from quickstudy.data.gather import gather
from quickstudy.data.rowstore import LookUp, Rows
from quickstudy.errors import DataError, InputError
from quickstudy.keys import Integers

__all__ = ["Decode", "StreamedStore", "in_order", "threads"]

Decode = Callable[[bytes, str], Rows]
"""The bytes of an example, and how errors call it, -> its row."""


class StreamedStore:
    """Examples of an index.

    Where rows are kept, they are copied out of the memory map; else bytes are read, from the files or from their
    copies, and decoded by some threads at once. What is in memory is what was drawn.

    Args:
        index: of the examples.
        example: shape of a row.
        read: (source, key, offset, size) -> bytes, of an example in its file.
        decode: makes a row of them; None where the index keeps rows.
        name: how errors call an example, from its source and its key.
        made: what else rows hang on, such as their size in pixels: a part of the hash.
        ahead: of :class:`quickstudy.data.rowstore.RowStore`.
    """

    def __init__(
        self,
        index: Index,
        example: tuple[int, ...],
        read: Callable[[int, str, int, int], bytes],
        decode: Decode | None,
        name: Callable[[int, str], str],
        *,
        made: Sequence[str | int] = (),
        ahead: int = 2,
    ) -> None:
        self.index, self._example, self._read, self._decode, self._name = index, example, read, decode, name
        self.ahead = 0 if decode is None else ahead
        self.hash = hashlib.sha256(json.dumps([index.hash, *made]).encode()).hexdigest()
        self._pool: ThreadPoolExecutor | None = None

    @property
    def classes(self) -> Sequence[str]:
        """Names, sorted."""
        return self.index.classes

    @property
    def starts(self) -> Integers:
        """int64 ``[C + 1]``."""
        return self.index.starts

    @property
    def sizes(self) -> Integers:
        """int64 ``[C]``, examples a class."""
        return np.diff(self.index.starts)

    @property
    def example(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self._example

    @property
    def shape(self) -> tuple[int, ...]:
        """As a network receives it."""
        return (1, *self._example) if len(self._example) == 2 else self._example

    @property
    def known(self) -> bool:
        """Whether all pictures were looked at when the index was made."""
        return self.index.digests is not None

    def digests(self, number: int) -> NDArray[np.uint64]:
        """As of :class:`quickstudy.data.store.ArrayStore`; none where nobody has looked at all pictures."""
        if self.index.digests is None:
            return np.zeros(0, dtype=np.uint64)
        found = self.index.digests[self.starts[number] : self.starts[number + 1]]
        return np.asarray(found[found != 0])

    def look_up(self, turned: bool = False) -> LookUp:
        """What gives examples by their numbers.

        Raises:
            InputError: they shall be turned.
        """
        if turned:
            raise InputError(
                "Cannot turn pictures that are read when they are drawn: all would have to be held four times. Leave "
                "rotations out, or keep the data in memory."
            )
        return self._kept if self._decode is None else self._decoded

    def _kept(self, rows: Integers) -> Rows:
        """From the memory map: a row is as many bytes everywhere, and its place a multiple of these."""
        assert self.index.content is not None
        kind = np.uint8 if len(self._example) > 1 else np.float32
        size = math.prod(self._example) * np.dtype(kind).itemsize
        found = gather(self.index.content.reshape(-1, size), self.index.places[rows, 1] // size)
        return cast(Rows, found.view(kind).reshape(-1, *self._example))

    def _decoded(self, rows: Integers) -> Rows:
        wanted, where = np.unique(rows, return_inverse=True)  # padding asks for the same again and again
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads(), thread_name_prefix="quickstudy-read")
        found = np.stack(list(self._pool.map(self._one, wanted.tolist())))
        return cast(Rows, found[where.reshape(-1)])

    def _one(self, row: int) -> Rows:
        assert self._decode is not None
        source, offset, size = self.index.places[row].tolist()
        key = self.index.keys[row]
        name = self._name(source, key)
        if self.index.content is not None:
            content = self.index.content[offset : offset + size].tobytes()
        else:
            content = self._read(source, key, offset, size)
            if len(content) != size:
                raise DataError(
                    f"Cannot read {name}: {len(content)} bytes are there, {size} were when its place was noted. Delete "
                    f"the folder {self.index.folder}, and it is noted anew."
                )
        return self._decode(content, name)


def threads() -> int:
    """How many read and decode at once: more would take turns, as decoding is work for processors."""
    return max(2, min(8, os.cpu_count() or 1))


def in_order(
    entries: Iterable[Entry], content: Callable[[Entry], bytes], decode: Decode, name: Callable[[int, str], str]
) -> Iterator[tuple[Entry, Rows | DataError]]:
    """Each entry and its row, or what is wrong with it; decoded by several threads, a few entries ahead."""

    def one(entry: Entry) -> Rows | DataError:
        try:
            return decode(content(entry), name(entry.source, entry.key))
        except DataError as error:
            return error

    left, waiting = iter(entries), deque[tuple[Entry, Future[Rows | DataError]]]()
    with ThreadPoolExecutor(threads(), thread_name_prefix="quickstudy-index") as pool:
        try:
            for entry in itertools.islice(left, 4 * threads()):
                waiting.append((entry, pool.submit(one, entry)))
            while waiting:
                entry, row = waiting.popleft()
                yield entry, row.result()
                for following in itertools.islice(left, 1):
                    waiting.append((following, pool.submit(one, following)))
        finally:
            for _, row in waiting:
                row.cancel()
