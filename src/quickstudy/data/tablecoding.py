"""Floor 1: the columns of a table as numbers for a network; all that is measured is measured on training rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.tablefile import Column
from quickstudy.errors import DataError
from quickstudy.keys import Integers

__all__ = ["Coded", "code"]

_MOST_WORDS = 20  # a column of more different words than these, in training, tells rows apart and not kinds of them


@dataclass(frozen=True, eq=False)
class Coded:
    """A table as features.

    Args:
        x: float32 ``[R, F]``. A column of numbers is two features: (value - mean) / deviation, 0 where it is missing,
            cut at 10 either way, and 1 where it is missing. A column of words is one feature a word, all 0 where it is
            missing or a word that no training row has.
        blocks: column -> its features.
        absent: float32 ``[F]``, the features of a row of which nothing is known.
        left_out: column -> why it says nothing.
    """

    x: NDArray[np.float32]
    blocks: dict[str, slice]
    absent: NDArray[np.float32]
    left_out: dict[str, str]

    @property
    def size(self) -> int:
        """F."""
        return len(self.absent)


def code(source: str, columns: Sequence[Column], training: Integers) -> Coded:
    """Features of all rows, by means, deviations and words of the training rows.

    Args:
        source: the file, for messages.
        columns: of R rows each.
        training: the rows that may be looked at.

    Raises:
        DataError: no column says anything in these rows.
    """
    parts: list[NDArray[np.float32]] = []
    absent: list[float] = []
    blocks: dict[str, slice] = {}
    left_out: dict[str, str] = {}
    for column in columns:
        known = column.values[training]
        known = known[~np.isnan(known)]
        kinds = np.unique(known)
        why = _says_nothing(column, known, kinds)
        if why:
            left_out[column.name] = why
            continue
        made, missing = _numbers(column, known) if column.words is None else _words(column, kinds)
        blocks[column.name] = slice(len(absent), len(absent) + made.shape[1])
        absent += missing
        parts.append(made)
    if not parts:
        raise DataError(f"Cannot learn from {source}: no column says anything in the training rows ({left_out}).")
    return Coded(np.concatenate(parts, 1), blocks, np.array(absent, dtype=np.float32), left_out)


def _says_nothing(column: Column, known: NDArray[np.float64], kinds: NDArray[np.float64]) -> str:
    if len(kinds) < 2:
        return "missing in all training rows" if not len(kinds) else "the same in all training rows"
    if column.words is not None and len(kinds) > _MOST_WORDS:
        return f"{len(kinds)} different words in {len(known)} training rows"
    return ""


def _numbers(column: Column, known: NDArray[np.float64]) -> tuple[NDArray[np.float32], list[float]]:
    missing = np.isnan(column.values)
    scaled = np.where(missing, 0.0, np.clip((column.values - known.mean()) / known.std(), -10, 10))
    return np.stack([scaled, missing], 1).astype(np.float32), [0.0, 1.0]


def _words(column: Column, kinds: NDArray[np.float64]) -> tuple[NDArray[np.float32], list[float]]:
    return (column.values[:, None] == kinds).astype(np.float32), [0.0] * len(kinds)
