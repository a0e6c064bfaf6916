"""Floor 6: rows with words and gaps in them, as a file or a DataFrame has them.

Table       columns of numbers or of words, NaN where a cell is missing
table_of    a DataFrame with words or gaps -> Table; None of what numbers alone can hold
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quickstudy.data.tablefile import MISSING, Column
from quickstudy.errors import InputError
from quickstudy.keys import Integers

__all__ = ["Cell", "Table", "joined", "table_of"]

Cell = float | str | None
"""A number, a word, or nothing."""

_LARGEST = 1e100  # as in files: squares of larger numbers may be beyond what a number can be


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a table that no array of numbers can hold.

    Args:
        columns: of n rows each.
        source: what errors call it.
    """

    columns: tuple[Column, ...]
    source: str = "the table"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Sequence[int] | Integers) -> Table:
        """Some of the rows."""
        place = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        return Table(tuple(Column(c.name, c.values[place], c.words) for c in self.columns), self.source)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, as arrays say it."""
        return len(self.columns[0].values), len(self.columns)

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return [column.name for column in self.columns]

    @property
    def rows(self) -> list[list[Cell]]:
        """Cells, row by row, as JSON can hold them."""
        return [list(row) for row in zip(*map(_cells, self.columns), strict=True)]

    @staticmethod
    def of_rows(
        rows: Sequence[Sequence[Cell]], names: Sequence[str], words: Sequence[bool], source: str = "the table"
    ) -> Table:
        """What :attr:`rows` gave, or cells from elsewhere.

        Args:
            rows: n of them.
            names: of the columns.
            words: whether each is one of words.
            source: what errors call it.

        Raises:
            InputError: a word where a number is meant, or a number that is infinite; names column and row.
        """
        columns = [
            _column(source, name, [row[place] for row in rows], of_words)
            for place, (name, of_words) in enumerate(zip(names, words, strict=True))
        ]
        return Table(tuple(columns), source)


def joined(tables: Sequence[Table]) -> Table:
    """One below the other; the columns are those of the first, found by name in the others."""
    first = tables[0]
    words = [column.words is not None for column in first.columns]
    rows: list[list[Cell]] = []
    for table in tables:
        order = [table.names.index(name) for name in first.names]
        rows += [[row[place] for place in order] for row in table.rows]
    return Table.of_rows(rows, first.names, words, first.source)


def table_of(X: Any, words: Mapping[str, bool] | None = None) -> Table | None:
    """Rows as a table, where they need to be one.

    Args:
        X: a DataFrame, a Table, or whatever holds rows.
        words: column -> whether it is one of words, where a table was learned; None: the rows decide.

    Returns:
        None of numbers without gaps, and of arrays, unless a table was learned.

    Raises:
        InputError: a cell or a column that cannot be used; names it.
    """
    if isinstance(X, Table):
        return X
    framed = hasattr(X, "iloc") and hasattr(X, "columns")
    if words is None and (not framed or not _needs_a_table(X)):
        return None
    if not framed:
        return _of_array(X, words or {})
    names = [str(name) for name in X.columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"The column {twice!r} stands twice in the table. Give each column a name of its own.")
    cells = [_series(names[place], X.iloc[:, place]) for place in range(len(names))]
    known = words or {}
    decided = [
        known.get(name, any(isinstance(cell, str) for cell in each)) for name, each in zip(names, cells, strict=True)
    ]
    return Table(tuple(_column("the table", *one) for one in zip(names, cells, decided, strict=True)))


def _needs_a_table(frame: Any) -> bool:
    return any(kind.kind not in "iufb" for kind in frame.dtypes) or bool(frame.isna().to_numpy().any())


def _of_array(X: Any, words: Mapping[str, bool]) -> Table:
    """Rows without names of columns, which are in the order of those that were learned."""
    rows = [list(row) for row in X]
    wrong = next((row for row in rows if len(row) != len(words)), None)
    if wrong is not None:
        raise InputError(
            f"Rows of {len(words)} columns were learned ({', '.join(words)}), received one of {len(wrong)}. Give the "
            "same, in that order, or a DataFrame."
        )
    return Table.of_rows(
        [[_cell(name, cell) for name, cell in zip(words, row, strict=True)] for row in rows],
        list(words),
        list(words.values()),
    )


def _series(name: str, series: Any) -> list[Cell]:
    kind = getattr(series.dtype, "kind", "O")
    if kind in "mMc":
        raise InputError(
            f"Cannot use the column {name!r}: it holds {series.dtype}, and numbers or words are meant. Make numbers of "
            "it, such as days since a date, or leave it out."
        )
    gaps = series.isna().tolist()
    named = str(series.dtype) == "category"  # whoever says so of numbers means names
    cells = series.astype(object).tolist()
    return [None if gap else _word(cell) if named else _cell(name, cell) for cell, gap in zip(cells, gaps, strict=True)]


def _cell(name: str, value: Any) -> Cell:
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return None if value.strip().lower() in MISSING else value.strip()
    if isinstance(value, bool | np.bool_ | numbers.Real):
        return float(value)
    raise InputError(
        f"Cannot use the column {name!r}: it holds {type(value).__name__} ({str(value)[:40]}), and numbers or words "
        "are meant. Leave it out."
    )


def _cells(column: Column) -> list[Cell]:
    if column.words is None:
        return [None if math.isnan(value) else value for value in column.values.tolist()]
    return [None if math.isnan(value) else column.words[int(value)] for value in column.values.tolist()]


def _column(source: str, name: str, cells: Sequence[Cell], words: bool) -> Column:
    if words:
        known = [None if cell is None else _word(cell) for cell in cells]
        kinds = sorted({cell for cell in known if cell is not None})
        place = {kind: float(number) for number, kind in enumerate(kinds)}
        return Column(
            name, np.array([math.nan if c is None else place[c] for c in known], dtype=np.float64), tuple(kinds)
        )
    values = [_number(source, name, row, cell) for row, cell in enumerate(cells)]
    return Column(name, np.array(values, dtype=np.float64))


def _word(cell: Any) -> str:
    """A cell as a word; a number that is a name may have become 1.0 on its way."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def _number(source: str, name: str, row: int, cell: Cell) -> float:
    if cell is None:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if not abs(value) < _LARGEST:
        raise InputError(
            f"Cannot use row {row} of {source}: {name} is {cell!r}, and a finite number is meant. Correct it, or "
            "leave it blank if it is not known."
        )
    return value
