"""Floor 1: tables of one's own: CSV or TSV, with a header; blank cells, ``?``, ``NA``, ``NaN``, ``null`` are missing.

    read_table    a file -> RawTable: numbers, or words, column by column; whose row it is, when, and what is asked for

Whatever cannot be used is refused with the file and the row (counted from 1, the header included).
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import DataError, InputError, UnknownName
from quickstudy.keys import Integers

__all__ = ["MISSING", "Column", "RawTable", "column_of", "order_of", "read_cells", "read_table"]

Floats: TypeAlias = NDArray[np.float64]

MISSING = frozenset({"", "?", ".", "nan", "na", "n/a", "<na>", "null"})
"""What stands for a missing value, whatever its case."""

_LARGEST = 1e100  # squares of larger numbers, of which a deviation is made, may be beyond what a number can be

_WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")  # .xlsx and zip files, .xls, .gz

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a table.

    Args:
        name: in the header.
        values: float64 ``[R]``, NaN where missing; of words, their numbers in ``words``.
        words: what the numbers stand for, sorted; None for a column of numbers.
    """

    name: str
    values: Floats
    words: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class RawTable:
    """A file as it was read: nothing is scaled, filled in or left out yet.

    Args:
        source: the file, for messages.
        columns: what is known of a row.
        target: what is asked for; a column without missing values, unless they are asked for.
        group: ``[R]``, whose row it is: names.
        time: float64 ``[R]``, of each row; None where nobody said.
        lines: ``[R]``, where each row stands in the file.
    """

    source: str
    columns: tuple[Column, ...]
    target: Column
    group: tuple[str, ...]
    time: Floats | None
    lines: tuple[int, ...]


def read_table(
    path: Path,
    *,
    group: str,
    target: str,
    time: str | None = None,
    categories: Sequence[str] = (),
    without: Sequence[str] = (),
    words: Mapping[str, bool] | None = None,
    asking: bool = False,
) -> RawTable:
    """A table whose first row names the columns.

    Args:
        path: the file; separated by commas, semicolons or tabs.
        group: the column that says whose row it is, such as ``"patient"``.
        target: the column that is asked for.
        time: a column of numbers or dates (``2021-03-31``, ``2021-03-31 08:15``); None: rows have no order.
        categories: columns whose numbers are names, such as codes of drugs.
        without: columns to be passed over.
        words: column -> whether it is one of words, where that was decided before; whatever other columns hold is then
            words, as nobody reads them, and ``categories`` and ``without`` need not be there.
        asking: whether the target may be missing.

    Raises:
        InputError: one column has two parts to play.
        UnknownName: there is no such column.
        DataError: the file is missing, empty, no text, or has a row that cannot be used; names file and row.
    """
    head, rows, lines = read_cells(path)
    special = [group, target, *([] if time is None else [time])]
    for name in (*special, *(() if words else (*categories, *without))):
        if name not in head:
            raise UnknownName.among(f"column in {path}", name, head)
    if len(set(special)) < len(special) or set(special) & set(without):
        raise InputError(
            f"Cannot read {path} with group = {group!r}, target = {target!r}, time = {time!r}, without = "
            f"{list(without)}: one column cannot play two parts. Name different columns."
        )
    cells = {name: [row[place] for row in rows] for place, name in enumerate(head)}
    for name in special:
        if name != target or not asking:
            _all_there(path, name, cells[name], lines)
    decided = dict.fromkeys(head if words else categories, True) | dict(words or {})
    columns = tuple(
        column_of(str(path), name, cells[name], lines, words=decided.get(name))
        for name in head
        if name not in (*special, *without)
    )
    if not columns:
        raise DataError(f"Cannot make tasks of {path}: beside group, target and time it has no column to learn from.")
    when = None if time is None else _moments(path, time, cells[time], lines)
    asked = column_of(str(path), target, cells[target], lines, words=decided.get(target))
    return RawTable(str(path), columns, asked, tuple(cells[group]), when, tuple(lines))


def read_cells(path: Path, head: Sequence[str] | None = None) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows and their places in the file.

    Args:
        path: the file.
        head: the columns' names, where the file has no header.

    Raises:
        DataError: missing, empty, not UTF-8, a row of another length, or a name that stands twice in the header.
    """
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip()), None)
    if first is None:
        raise DataError(f"Cannot read {path}: the file is empty. Expected a table with a row of names at the top.")
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names = None if head is None else list(head)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for fields in reader:
            row = [field.strip() for field in fields]
            if not any(row):
                continue
            if names is None:
                names = _checked_head(path, row, reader.line_num)
                continue
            if len(row) != len(names):
                raise _bad(path, reader.line_num, f"it has {len(row)} fields, and there are {len(names)} columns")
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise _bad(path, reader.line_num, str(error)) from error
    if names is None or not rows:
        raise DataError(f"Cannot read {path}: it has no rows below the names of the columns.")
    return names, rows, lines


def column_of(
    source: str, name: str, cells: Sequence[str], lines: Sequence[int], *, words: bool | None = None
) -> Column:
    """Numbers, or words numbered in the order of their names.

    Args:
        source: the file, for messages.
        name: of the column.
        cells: its text.
        lines: their places in the file.
        words: whether it is one of words; None: it is, where no cell is a number.

    Raises:
        DataError: some cells are numbers and others are not, or a number is infinite or beyond 1e100; names the row.
    """
    there = [cell.lower() not in MISSING for cell in cells]
    numbers = [_number(cell) if known else math.nan for cell, known in zip(cells, there, strict=True)]
    wrong = [place for place, value in enumerate(numbers) if value is None]
    if not words and not wrong:
        values = np.array(numbers, dtype=np.float64)
        large = np.abs(values) > _LARGEST
        if large.any():
            at = int(np.argmax(large))
            raise _bad(
                source, lines[at], f"{name} is {cells[at]!r}. Leave blank what is not known, or use another unit"
            )
        return Column(name, values)
    commas = [place for place, cell in enumerate(cells) if there[place] and _DECIMAL_COMMA.fullmatch(cell)]
    if not words and commas and len(commas) == len(wrong):
        every = "as is every other row" if len(wrong) == sum(there) else f"as are {len(wrong)} rows in all"
        raise _bad(
            source,
            lines[commas[0]],
            f"{name} is {cells[commas[0]]!r}, with a decimal comma, {every}. Write numbers with a point",
        )
    if words is False or (words is None and len(wrong) < sum(there)):
        at = wrong[0]
        others = sum(there) - len(wrong)
        elsewhere = "while in training it was a number"
        names = ""
        if words is None:
            elsewhere = f"while in {others} other rows it is a number"
            names = f", or say that its numbers are names: --data.categories '[\"{name}\"]'"
        raise _bad(
            source,
            lines[at],
            f"{name} is {cells[at]!r}, {elsewhere}. Correct it, or leave it blank if it is not known{names}",
        )
    # A number that is a name may have become 1.0 on its way through other programs.
    cells = [whole[1] if (whole := _WHOLE.fullmatch(cell)) else cell for cell in cells]
    kinds = sorted({cell for cell, known in zip(cells, there, strict=True) if known})
    at_word = {word: float(number) for number, word in enumerate(kinds)}
    coded = [at_word[cell] if known else math.nan for cell, known in zip(cells, there, strict=True)]
    return Column(name, np.array(coded, dtype=np.float64), tuple(kinds))


def order_of(time: Floats, rows: Integers) -> Integers:
    """The rows by time; of one time as the file has them."""
    return rows[np.argsort(time[rows], kind="stable")]


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error
    if data.startswith(_WORKBOOK):
        raise DataError(f"Cannot read {path}: it is a workbook or an archive, no text. Save the sheet as CSV in UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise _bad(path, row, f"byte {error.start} is not UTF-8. Save the file as text in UTF-8") from error


def _checked_head(path: Path, names: list[str], line: int) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        why = f"the column {twice[0]!r} stands twice" if twice and twice[0] else "a column has no name"
        raise _bad(path, line, f"{why} in the header. Give each column a name of its own")
    return names


def _all_there(path: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> None:
    missing = [place for place, cell in enumerate(cells) if cell.lower() in MISSING]
    if missing:
        more, rows = (f", as in {len(missing) - 1} more", "such rows") if len(missing) > 1 else ("", "the row")
        why = f"{name} is missing ({cells[missing[0]]!r}){more}. Fill it in, or leave {rows} out"
        raise _bad(path, lines[missing[0]], why)


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)  # Python reads 1_000 as a thousand; in a table it is a name
    except ValueError:
        return None


def _moments(path: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> Floats:
    found = np.array([_moment(path, name, *one) for one in zip(cells, lines, strict=True)])
    numbers = [_number(cell) is not None for cell in cells]
    if any(numbers) and not all(numbers):
        at = numbers.index(not numbers[0])
        kinds = ("a number", "a date") if numbers[at] else ("a date", "a number")
        raise _bad(
            path, lines[at], f"{name} is {cells[at]!r}, {kinds[0]}, while before it is {kinds[1]}. Write all alike"
        )
    return found


def _moment(path: Path, name: str, cell: str, line: int) -> float:
    value = _number(cell)
    if value is not None and math.isfinite(value):
        return value
    try:
        when = datetime.fromisoformat(cell)
    except ValueError as error:
        raise _bad(
            path, line, f"{name} is {cell!r}. Expected a number, or a date such as 2021-03-31 or 2021-03-31 08:15"
        ) from error
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _bad(path: Path | str, row: int, why: str) -> DataError:
    return DataError(f"Cannot use row {row} of {path}: {why}.")
