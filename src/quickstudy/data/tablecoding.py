"""Floor 1: the columns of a table as numbers for a network; all that is measured is measured on training rows alone.

measure   columns and training rows -> Coding: which columns say something, their means, deviations and words
Coding    what a run keeps of its table: it makes features of any table with these columns, always the same ones
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.tablefile import Column
from quickstudy.errors import DataError
from quickstudy.keys import Integers

__all__ = ["Coded", "Coding", "Scale", "code", "measure"]

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
        unknown: column -> its words that no training row has, sorted; where there are such.
    """

    x: NDArray[np.float32]
    blocks: dict[str, slice]
    absent: NDArray[np.float32]
    left_out: dict[str, str]
    unknown: dict[str, list[str]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """F."""
        return len(self.absent)


@dataclass(frozen=True)
class Scale:
    """What was measured of one column.

    Args:
        name: in the header.
        words: those of the training rows, sorted; None for a column of numbers.
        mean: of the training rows; 0 for words.
        std: their deviation; 1 for words.
    """

    name: str
    words: tuple[str, ...] | None = None
    mean: float = 0.0
    std: float = 1.0

    @property
    def size(self) -> int:
        """Features that the column becomes."""
        return 2 if self.words is None else len(self.words)

    @property
    def absent(self) -> list[float]:
        """The features of a missing cell."""
        return [0.0, 1.0] if self.words is None else [0.0] * len(self.words)

    def features(self, column: Column) -> NDArray[np.float32]:
        """``[R, size]``; see :class:`Coded`."""
        if self.words is None:
            missing = np.isnan(column.values)
            scaled = np.where(missing, 0.0, np.clip((column.values - self.mean) / self.std, -10, 10))
            return np.stack([scaled, missing], 1).astype(np.float32)
        numbers = {word: float(number) for number, word in enumerate(column.words or ())}
        kinds = np.array([numbers.get(word, -1.0) for word in self.words])  # a missing cell is NaN, and never alike
        flags: NDArray[np.float32] = (column.values[:, None] == kinds).astype(np.float32)
        return flags


@dataclass(frozen=True)
class Coding:
    """How the columns of a table become features.

    Args:
        scales: of the columns that say something, in the order of the table that was trained on.
        left_out: column -> why it says nothing.
    """

    scales: tuple[Scale, ...]
    left_out: Mapping[str, str]

    def code(self, source: str, columns: Sequence[Column]) -> Coded:
        """Features of all rows. Columns may stand in any order; those that are not known here are passed over.

        Args:
            source: the file, for messages.
            columns: of R rows each.

        Raises:
            DataError: a column that was trained with is not there.
        """
        by_name = {column.name: column for column in columns}
        gone = [scale.name for scale in self.scales if scale.name not in by_name]
        if gone:
            raise DataError(
                f"Cannot use {source}: it has no column {', '.join(map(repr, gone))}, which training had. Name the "
                "column as it was then, or add it, blank where it is not known."
            )
        ends = np.cumsum([0, *(scale.size for scale in self.scales)]).tolist()
        unknown = {scale.name: _unknown(scale, by_name[scale.name]) for scale in self.scales}
        return Coded(
            np.concatenate([scale.features(by_name[scale.name]) for scale in self.scales], 1),
            {scale.name: slice(*ends[place : place + 2]) for place, scale in enumerate(self.scales)},
            np.array([value for scale in self.scales for value in scale.absent], dtype=np.float32),
            dict(self.left_out),
            {name: words for name, words in unknown.items() if words},
        )

    @property
    def record(self) -> dict[str, Any]:
        """As JSON."""
        each = [
            {"name": s.name, "mean": s.mean, "std": s.std} if s.words is None else {"name": s.name, "words": [*s.words]}
            for s in self.scales
        ]
        return {"columns": each, "left_out": dict(self.left_out)}

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> Coding:
        """What :attr:`record` gave.

        Raises:
            KeyError, TypeError, ValueError: it is no such record.
        """
        scales = [
            Scale(str(c["name"]), tuple(map(str, c["words"])))
            if "words" in c
            else Scale(str(c["name"]), None, float(c["mean"]), float(c["std"]))
            for c in record["columns"]
        ]
        return Coding(tuple(scales), {str(name): str(why) for name, why in record["left_out"].items()})


def measure(source: str, columns: Sequence[Column], training: Integers) -> Coding:
    """Means, deviations and words of the training rows.

    Args:
        source: the file, for messages.
        columns: of R rows each.
        training: the rows that may be looked at.

    Raises:
        DataError: no column says anything in these rows.
    """
    scales: list[Scale] = []
    left_out: dict[str, str] = {}
    for column in columns:
        known = column.values[training]
        known = known[~np.isnan(known)]
        kinds = np.unique(known)
        why = _says_nothing(column, known, kinds)
        if why:
            left_out[column.name] = why
        elif column.words is None:
            scales.append(Scale(column.name, None, float(known.mean()), float(known.std())))
        else:
            scales.append(Scale(column.name, tuple(column.words[int(kind)] for kind in kinds)))
    worded = any(column.words is not None for column in columns)
    if not scales:
        why = ", ".join(f"{name}: {reason}" for name, reason in left_out.items())
        texts = " A column of texts is read as such where it is called text, or named by --text." if worded else ""
        raise DataError(f"Cannot learn from {source}: no column says anything in the training rows ({why}).{texts}")
    return Coding(tuple(scales), left_out)


def code(source: str, columns: Sequence[Column], training: Integers) -> Coded:
    """Features of all rows, by what :func:`measure` finds in the training rows."""
    return measure(source, columns, training).code(source, columns)


def _unknown(scale: Scale, column: Column) -> list[str]:
    return sorted(set(column.words or ()) - set(scale.words or ())) if scale.words is not None else []


def _says_nothing(column: Column, known: NDArray[np.float64], kinds: NDArray[np.float64]) -> str:
    # Numbers that differ by less than a square can tell have no deviation either.
    if len(kinds) < 2 or not known.std() > 0:
        return "missing in all training rows" if not len(kinds) else "the same in all training rows"
    if column.words is not None and len(kinds) > _MOST_WORDS:
        return f"{len(kinds)} different words in {len(known)} training rows"
    return ""
