"""Floor 1: a store whose examples are a function of their numbers: as many as one likes, and nothing on the disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from quickstudy.data.rowstore import LookUp, Rows
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key

__all__ = ["ComputedStore", "noise"]


class ComputedStore:
    """Classes of equal size, made up when they are drawn.

    Args:
        n_class: C, how many classes there are.
        each: examples a class.
        make: ``(class numbers [n], numbers within their classes [n]) -> rows [n, ...]``, uint8 pictures ``[n, H, W]``
            or ``[n, C, H, W]`` or float32 features ``[n, D]``; a pure function, called by several threads at once.
        name: tells it from other functions: the content's hash is made of it and of the numbers.

    Raises:
        InputError: a number below 1, or ``make`` gives something else.

    >>> store = ComputedStore(1_000_000, 100, noise((8, 8)), name="noise")
    >>> len(store.classes), int(store.starts[-1]), store.classes[-1], store.shape
    (1000000, 100000000, 'class 999999', (1, 8, 8))
    """

    def __init__(self, n_class: int, each: int, make: Callable[[Integers, Integers], Rows], *, name: str) -> None:
        if n_class < 1 or each < 1:
            raise InputError(f"Cannot make {n_class} classes of {each} examples: expected at least 1 of each.")
        self._each, self._make = each, make
        first = make(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
        kind: Any = getattr(first, "dtype", None)
        shape: tuple[int, ...] = getattr(first, "shape", ())
        if (kind, len(shape)) not in ((np.uint8, 3), (np.uint8, 4), (np.float32, 2)) or shape[0] != 1:
            raise InputError(
                f"Cannot use what the function {name!r} makes: expected uint8 [n, H, W] or [n, C, H, W], or float32 "
                f"[n, D], received {kind} {list(shape)} for n = 1."
            )
        self.example: tuple[int, ...] = tuple(shape[1:])
        self.classes: Sequence[str] = _Numbered(n_class)
        self.starts: Integers = np.arange(n_class + 1, dtype=np.int64) * each
        self.hash = hashlib.sha256(json.dumps([name, n_class, each, self.example]).encode()).hexdigest()
        self.ahead, self.known = 0, False

    @property
    def sizes(self) -> Integers:
        """int64 ``[C]``."""
        return np.broadcast_to(np.int64(self._each), len(self.classes))

    @property
    def shape(self) -> tuple[int, ...]:
        """As a network receives it."""
        return (1, *self.example) if len(self.example) == 2 else self.example

    def digests(self, number: int) -> NDArray[np.uint64]:
        """None: no example is looked at."""
        del number
        return np.zeros(0, dtype=np.uint64)

    def look_up(self, turned: bool = False) -> LookUp:
        """What makes examples by their numbers.

        Raises:
            InputError: they shall be turned.
        """
        if turned:
            raise InputError("Cannot turn computed pictures: leave rotations out, or let the function turn them.")
        return lambda rows: self._make(*np.divmod(rows, self._each))


class _Numbered(Sequence[str]):
    """``class 0`` and so on, with as many digits as the last needs, so that they sort by number."""

    def __init__(self, count: int) -> None:
        self._count, self._digits = count, len(str(count - 1))

    @override
    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    @override
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(self._count))]
        return f"class {range(self._count)[number]:0{self._digits}}"


def noise(shape: tuple[int, ...], seed: int = 0) -> Callable[[Integers, Integers], NDArray[np.uint8]]:
    """Pictures that can be learned: those of a class share seven eighths of their pixels, the others are random.

    Args:
        shape: of one, ``(H, W)`` or ``(C, H, W)``.
        seed: of the randomness.
    """
    words = -(-int(np.prod(shape)) // 8)
    kinds, own = Key.of(seed, "computed classes"), Key.of(seed, "computed examples")

    def pixels(key: Key, numbers: Integers, stream: int = 0) -> NDArray[np.uint8]:
        drawn = np.ascontiguousarray(key.bits(numbers, words, stream).astype("<u8", copy=False))
        return drawn.view(np.uint8)[:, : int(np.prod(shape))]

    def make(classes: Integers, members: Integers) -> NDArray[np.uint8]:
        numbers = (classes << 20) + members  # tells any two of a million examples a class apart
        found = np.where(pixels(own, numbers, 1) < 32, pixels(own, numbers), pixels(kinds, classes))
        return np.ascontiguousarray(found.reshape(-1, *shape))

    return make
