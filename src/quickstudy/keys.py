"""Floor 0: randomness as an argument.

Every random thing in quickstudy is a pure function of a :class:`Key` and integer coordinates (which task,
which stream, which word), computed by the counter-based generator Philox4x32-10. There is no state to
save, nothing depends on how work was cut up, and the bits are the same on every machine, because all of
it is integer arithmetic written here (NumPy's own generators may change their streams between versions).
It is written twice: in NumPy, and in ``keys.c``, which gives the same bits in a fraction of the time.

    Key                     64 bits, made from a seed; ``fold`` derives others
    Keys                    a Key for each of T tasks: what ``adapt`` and ``predict`` receive
    integers, uniform       bits -> numbers
    shuffle, choose         all, or some, of 0 .. n-1 in random order, many rows at a time

J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bits", "Integers", "Key", "Keys", "choose", "integers", "philox4x32", "shuffle", "uniform"]

Bits: TypeAlias = NDArray[np.uint64]
Integers: TypeAlias = NDArray[np.int64]

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
# The multipliers and Weyl increments of Philox4x32 (Salmon et al. 2011, section 3.3).
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_WIDEST = 128  # as in keys.c, which compares each number of a row with each


def philox4x32(counter: tuple[Bits, Bits, Bits, Bits], key: tuple[int, int]) -> tuple[Bits, Bits, Bits, Bits]:
    """Ten rounds of Philox4x32 on many counters at once.

    Args:
        counter: four arrays of one shape; 32-bit words held in uint64, so that products do not overflow.
        key: two 32-bit words.

    Returns:
        Four arrays of random 32-bit words (in uint64).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (
            (p1 >> _32) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _32) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return c0, c1, c2, c3


@dataclass(frozen=True)
class Key:
    """64 bits from which randomness is drawn.

    >>> Key.of(0, "train") == Key.of(0, "train"), Key.of(0, "train") == Key.of(0, "test")
    (True, False)
    """

    value: int

    @staticmethod
    def of(*parts: int | str) -> Key:
        """The key of a seed and whatever else tells this use from others."""
        return Key(0).fold(*parts)

    def fold(self, *parts: int | str) -> Key:
        """Another key, independent of this one and of those folded with other parts."""
        # repr tells 1 from "1", and its quotes keep ("ab", "c") apart from ("a", "bc").
        digest = hashlib.blake2b(repr((self.value, *parts)).encode(), digest_size=8).digest()
        return Key(int.from_bytes(digest, "little"))

    def bits(self, tasks: Integers, n: int, stream: int = 0) -> Bits:
        """Random 64-bit words, each a function of (key, task, stream, position) alone.

        Args:
            tasks: ``[T]``, non-negative task numbers.
            n: words a task; a longer request begins with the words of a shorter one.
            stream: tells several uses within a task apart; below 2**32.

        Returns:
            uint64 ``[T, n]``.
        """
        kernels = _kernels()
        if kernels is not None:
            number, out = np.ascontiguousarray(tasks, dtype=np.int64), np.empty((len(tasks), n), dtype=np.uint64)
            kernels.words(self.value, number.ctypes.data, len(number), n, stream, out.ctypes.data)
            return out
        blocks = -(-n // 2)  # one block of 4 x 32 bits is two words
        task = tasks.astype(np.uint64)[:, None]
        shape = (len(tasks), blocks)
        counter = (
            np.broadcast_to(np.arange(blocks, dtype=np.uint64), shape),
            np.broadcast_to(np.uint64(stream), shape),
            np.broadcast_to(task & _LOW, shape),
            np.broadcast_to(task >> _32, shape),
        )
        r0, r1, r2, r3 = philox4x32(counter, (self.value & 0xFFFFFFFF, self.value >> 32))
        words = np.empty((len(tasks), blocks, 2), dtype=np.uint64)
        words[..., 0] = r0 | (r1 << _32)
        words[..., 1] = r2 | (r3 << _32)
        return words.reshape(len(tasks), 2 * blocks)[:, :n]


@dataclass(frozen=True, eq=False)
class Keys:
    """One key and the numbers of T tasks: randomness that does not depend on how tasks are chunked.

    Args:
        key: shared by the tasks.
        tasks: int64 ``[T]``, each task's number in its source.
    """

    key: Key
    tasks: Integers

    @staticmethod
    def default(n_task: int) -> Keys:
        """What a learner uses when the caller gave no key: always the same."""
        return Keys(Key.of(0), np.arange(n_task))

    def __len__(self) -> int:
        return len(self.tasks)

    def bits(self, n: int, stream: int = 0) -> Bits:
        """uint64 ``[T, n]``; see :meth:`Key.bits`."""
        return self.key.bits(self.tasks, n, stream)

    def fold(self, *parts: int | str) -> Keys:
        """Other keys for the same tasks."""
        return Keys(self.key.fold(*parts), self.tasks)

    def each(self) -> list[Key]:
        """A key of its own for each task."""
        return [self.key.fold(int(task)) for task in self.tasks]


def integers(bits: Bits, bound: NDArray[np.integer] | int) -> Integers:
    """Uniform whole numbers in 0 .. bound-1: the high word of bits x bound, off by less than bound / 2**64.

    Args:
        bits: uint64 of any shape.
        bound: 1 .. 2**32, broadcast against ``bits``.

    Returns:
        int64, the broadcast shape.
    """
    m = np.asarray(bound, dtype=np.uint64)
    return (((bits >> _32) * m + (((bits & _LOW) * m) >> _32)) >> _32).astype(np.int64)


def uniform(bits: Bits) -> NDArray[np.float64]:
    """Uniform float64 in [0, 1), multiples of 2**-53."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shuffle(bits: Bits, n: NDArray[np.integer]) -> Integers:
    """In each row the numbers 0 .. n-1 in random order, then the others up to the row's width.

    Args:
        bits: uint64 ``[rows, width]``.
        n: ``[rows]``, at most the width.

    Returns:
        int64 ``[rows, width]``.
    """
    rows, width = bits.shape
    kernels = _kernels() if width <= _WIDEST else None
    if kernels is not None:
        word = np.ascontiguousarray(bits, dtype=np.uint64)
        own = np.ascontiguousarray(np.clip(n, 0, width), dtype=np.int64)
        out = np.empty((rows, width), dtype=np.int64)
        kernels.shuffled(word.ctypes.data, own.ctypes.data, rows, width, out.ctypes.data)
        return out
    if (n < width).any():
        absent = np.arange(width) >= n[:, None]
        # The absent come last even in a tie, because the sort is stable.
        bits = np.where(absent, np.iinfo(np.uint64).max, bits)
    return bits.argsort(1, kind="stable")


def choose(bits: Bits, n: NDArray[np.integer] | int, k: NDArray[np.integer] | int) -> Integers:
    """In each row, k distinct numbers out of 0 .. n-1, every ordered choice equally likely.

    Floyd's algorithm draws the set (k steps for all rows together, whatever n is), then a shuffle draws the
    order. Even words pick and odd words order, so that a row does not depend on the k of the rows beside it.

    Args:
        bits: uint64 ``[rows, 2 * largest k]`` or wider.
        n: how many there are, a number or ``[rows]``.
        k: how many to take, a number or ``[rows]``, at most n.

    Returns:
        int64 ``[rows, largest k]``; -1 beyond a row's own k.
    """
    rows = len(bits)
    n_row = np.broadcast_to(np.asarray(n, dtype=np.int64), (rows,))
    k_row = np.broadcast_to(np.asarray(k, dtype=np.int64), (rows,))
    if (k_row > n_row).any():
        raise ValueError(f"Cannot choose {k_row.max()} distinct of {n_row.min()}.")
    longest = int(k_row.max(initial=0))
    words = bits[:, : 2 * longest]
    kernels = _kernels() if longest <= _WIDEST and words.shape[1] == 2 * longest else None
    if kernels is not None:
        word = np.ascontiguousarray(words, dtype=np.uint64)
        n_row, k_row = map(np.ascontiguousarray, (n_row, k_row))
        out = np.empty((rows, longest), dtype=np.int64)
        kernels.chosen(word.ctypes.data, n_row.ctypes.data, k_row.ctypes.data, rows, longest, out.ctypes.data)
        return out
    steps = np.arange(longest)
    top = (n_row - k_row)[:, None] + steps  # the largest number allowed in each step
    active = steps < k_row[:, None]
    picks = np.where(active, integers(bits[:, : 2 * longest : 2], np.where(active, top + 1, 1)), -1)
    chosen = np.ascontiguousarray(picks.T)  # [k, rows]: each step's numbers beside each other
    for step in range(1, longest):
        taken = (chosen[:step] == chosen[step]).any(0)
        np.copyto(chosen[step], top[:, step], where=taken & active[:, step])
    order = shuffle(bits[:, 1 : 2 * longest : 2], k_row)
    return chosen[order, np.arange(rows)[:, None]]


def _kernels() -> ctypes.CDLL | None:
    """The functions of ``keys.c``; None where they are not wanted or cannot be had."""
    from quickstudy import native  # here, as it imports torch, which randomness alone does not need

    return None if native.asked() == "torch" else _compiled()


@functools.cache
def _compiled() -> ctypes.CDLL | None:
    from quickstudy.native import library

    found = library(Path(__file__).with_name("keys.c"))
    if found is not None:
        number, array = ctypes.c_int64, ctypes.c_void_p
        found.words.argtypes = (ctypes.c_uint64, array, number, number, ctypes.c_uint64, array)
        found.shuffled.argtypes = (array, array, number, number, array)
        found.chosen.argtypes = (array, array, array, number, number, array)
    return found
