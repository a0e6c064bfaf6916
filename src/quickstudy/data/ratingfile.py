"""Floor 1: files of ratings, ``user, item, rating, timestamp``, and of what is known of the items.

Separated by commas, semicolons, tabs or ``::``, with or without a header. Everything that cannot be used is refused
with the file and the row; only the order of rows is free, for ratings are sorted by user and time. A time is a number
of seconds, milli-, micro- or nanoseconds since 1970, told apart by their size, or an ISO date or time.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import DataError
from quickstudy.keys import Integers

__all__ = ["Duplicates", "ItemFacts", "RatingTable", "read_items", "read_ratings"]

Floats: TypeAlias = NDArray[np.float64]
Duplicates: TypeAlias = Literal["refuse", "first", "last"]
"""What becomes of a second rating of one item by one user: refused, or the earlier or the later in time is kept."""

# Without spaces, dashes and underscores, in small letters; the column's own name comes first and wins.
_NAMES = {
    "user": ("user", "userid", "reviewerid", "customerid"),
    "item": ("item", "itemid", "movieid", "movie", "productid", "product", "asin", "isbn", "bookid"),
    "rating": ("rating", "ratings", "score", "stars", "overall"),
    "timestamp": ("timestamp", "time", "unixtime", "unixtimestamp", "unixreviewtime", "datetime", "date"),
}
_ITEM_NAMES = {
    "item": _NAMES["item"],
    "title": ("title", "name"),
    "year": ("year",),
    "genres": ("genres", "genre", "categories", "tags"),
}
_PLAIN = str.maketrans("", "", " -_")
_YEAR = re.compile(r"\((\d{4})\)\s*$")
_LATE = 1e11  # as seconds the year 5138, as milliseconds 1973: larger numbers count thousandths


@dataclass(frozen=True, eq=False)
class RatingTable:
    """Ratings sorted by user (by name), then by time; of one time, as the rows of the file stand.

    Args:
        source: the file, for messages.
        users: their names, sorted.
        items: their names, sorted.
        user: int64 ``[R]``, numbers in ``users``.
        item: int64 ``[R]``, numbers in ``items``.
        rating: float64 ``[R]``.
        time: float64 ``[R]``, seconds since 1970.
    """

    source: str
    users: tuple[str, ...]
    items: tuple[str, ...]
    user: Integers
    item: Integers
    rating: Floats
    time: Floats


@dataclass(frozen=True)
class ItemFacts:
    """What is known of an item before anybody rates it.

    Args:
        year: None where it is not known.
        genres: none where they are not known.
    """

    year: int | None
    genres: tuple[str, ...]


def read_ratings(path: Path, duplicates: Duplicates = "refuse") -> RatingTable:
    """All ratings of a file.

    Args:
        path: the file.
        duplicates: what becomes of a user's second rating of an item.

    Raises:
        DataError: it is missing, empty, no text, lacks columns, or has a row that cannot be used; names file and row.
    """
    users: list[str] = []
    items: list[str] = []
    numbers: list[tuple[float, float, int]] = []
    for row, (user, item, rating, time) in _rows(path, _NAMES, required=tuple(_NAMES)):
        if not user or not item:
            raise _bad(path, row, f"the {'item' if user else 'user'} is empty", "Give each rating a user and an item")
        users.append(user)
        items.append(item)
        numbers.append((_number(path, row, "rating", rating), _seconds(path, row, time), row))
    if not numbers:
        raise DataError(f"Cannot read ratings from {path}: the file has no rating. {_EXPECTED}")
    if len(set(users)) == 1:
        raise DataError(
            f"Cannot make tasks of {path}: all {len(users)} ratings are of one user, {users[0]!r}. Each user is a "
            "task, and there must be users to train on and others to test on: give a file with many users."
        )
    return _table(path, users, items, np.array(numbers), duplicates)


def _table(path: Path, users: list[str], items: list[str], numbers: Floats, duplicates: Duplicates) -> RatingTable:
    user_names, user = np.unique(np.array(users), return_inverse=True)
    item_names, item = np.unique(np.array(items), return_inverse=True)
    rating, time, row = numbers.T
    order = np.lexsort((row, time, user))
    # Of each pair, which of its ratings comes first and which last; the sort keeps time within a pair.
    pair = order[np.lexsort((item[order], user[order]))]
    again = (user[pair][1:] == user[pair][:-1]) & (item[pair][1:] == item[pair][:-1])
    if again.any() and duplicates == "refuse":
        at = int(np.argmax(again))
        one, other = sorted((int(row[pair[at]]), int(row[pair[at + 1]])))
        raise DataError(
            f"Cannot use row {other} of {path}: user {users[pair[at]]!r} rated item {items[pair[at]]!r} in row {one} "
            "already. Leave one of them out, or say duplicates = 'first' or 'last', which keeps the earlier or the "
            "later in time."
        )
    dropped = pair[1:][again] if duplicates == "first" else pair[:-1][again]
    keep = order[~np.isin(order, dropped)]
    return RatingTable(
        str(path),
        tuple(user_names.tolist()),
        tuple(item_names.tolist()),
        user[keep].astype(np.int64),
        item[keep].astype(np.int64),
        rating[keep],
        time[keep],
    )


def read_items(path: Path) -> dict[str, ItemFacts]:
    """Item -> year and genres, from ``item, title, genres`` with the year in brackets behind the title, or in a column.

    Several genres are separated by ``|``.

    Raises:
        DataError: the file cannot be read, or an item stands there twice; names file and row.
    """
    found: dict[str, ItemFacts] = {}
    for row, (item, title, year, genres) in _rows(path, _ITEM_NAMES, required=("item",)):
        if item in found:
            raise _bad(path, row, f"the item {item!r} stands in an earlier row, too", "Describe each item once")
        named = _YEAR.search(title)
        text = year or (named.group(1) if named else "")
        number = None if not text else _number(path, row, "year", text)
        parts = tuple(part.strip() for part in genres.split("|") if part.strip())
        found[item] = ItemFacts(None if number is None else int(number), parts)
    return found


_EXPECTED = (
    "Expected rows of user, item, rating and timestamp in this order, or under these names in the first row, separated "
    "by commas, semicolons, tabs or '::'."
)


def _rows(path: Path, names: dict[str, tuple[str, ...]], required: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The row's number in the file, from 1, and its fields in the order of ``names``, '' where there is no such column.

    A file without a header has its columns in that order, without ``year``.
    """
    lines = _lines(path)
    first = next(((row, line) for row, line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"Cannot read {path}: the file is empty. {_EXPECTED}")
    separator = _separator(first[1], max(3, len(required)))
    if separator is None:
        raise _bad(path, first[0], f"{first[1][:60]!r} has a single column", _EXPECTED.rstrip("."))
    head = _fields(path, *first, separator)
    found = _titled(path, first[0], head, names)
    # A row of ratings has a number; what has none is a header whose names nobody knows.
    if found or ("rating" in names and not any(map(_is_number, head))):
        missing = [name for name in required if name not in found]
        if missing:
            raise _bad(path, first[0], f"the header {head} has no column {missing[0]!r}", _EXPECTED.rstrip("."))
        place = [found.get(name) for name in names]
    else:
        plain = [name for name in names if name != "year"]
        if len(head) < len(required):
            wanted = f"the row has {len(head)} columns, the header is missing, and {len(required)} are needed"
            raise _bad(path, first[0], wanted, _EXPECTED.rstrip("."))
        at = {name: number for number, name in enumerate(plain) if number < len(head)}
        place = [at.get(name) for name in names]
        yield first[0], _placed(path, first[0], head, place, len(head))
    for row, line in lines:
        if line.strip():
            yield row, _placed(path, row, _fields(path, row, line, separator), place, len(head))


def _separator(line: str, columns: int) -> str | None:
    """The first mark that makes so many columns of the line, else the first that is there: titles may hold others."""
    there = [mark for mark in ("::", "\t", ";", ",") if mark in line]
    return next((mark for mark in there if line.count(mark) + 1 >= columns), there[0] if there else None)


def _titled(path: Path, row: int, head: list[str], names: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """Where the header has which column; nothing where the row is no header.

    Raises:
        DataError: two columns may be meant, and none has the column's own name.
    """
    plain = [title.lower().translate(_PLAIN) for title in head]
    found = {}
    for name, aliases in names.items():
        places = [place for place, title in enumerate(plain) if title in aliases]
        own = [place for place in places if plain[place] == name]
        if len(own or places) > 1:
            meant = " and ".join(repr(head[place]) for place in own or places)
            raise _bad(path, row, f"the columns {meant} may both be the {name}", f"Call one {name!r}, the other else")
        if places:
            found[name] = (own or places)[0]
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with open(path, "rb") as file:
            for row, line in enumerate(file, 1):
                try:
                    yield row, line.decode("utf-8-sig" if row == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise _bad(
                        path, row, f"byte {error.start} is not UTF-8", "Save the file as text in UTF-8"
                    ) from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check the path.") from error


def _fields(path: Path, row: int, line: str, separator: str) -> list[str]:
    try:
        fields = line.split("::") if separator == "::" else next(csv.reader([line], delimiter=separator))
    except csv.Error as error:
        raise _bad(
            path, row, f"it is not CSV ({error})", 'End each row with a line feed, and quote with pairs of "'
        ) from error
    return [field.strip() for field in fields]


def _placed(path: Path, row: int, fields: list[str], place: list[int | None], columns: int) -> list[str]:
    if len(fields) != columns:
        raise _bad(
            path,
            row,
            f"it has {len(fields)} columns, the first row has {columns}",
            "Give each row the same columns, and quote fields that hold the separator",
        )
    return ["" if at is None else fields[at] for at in place]


def _seconds(path: Path, row: int, text: str) -> float:
    """Seconds since 1970 of a number, or of an ISO date or time, which is of Greenwich where it does not say."""
    try:
        when = datetime.fromisoformat(text) if "-" in text[1:] else None
    except ValueError:
        when = None
    if when is not None:
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    value = _number(path, row, "timestamp", text)
    while abs(value) >= _LATE:
        value /= 1000
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(path: Path, row: int, what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        wanted = "seconds since 1970, or a date such as 2013-07-01" if what == "timestamp" else "a number"
        raise _bad(path, row, f"the {what} is {text!r}", f"Expected {wanted}") from error
    if not math.isfinite(value):
        raise _bad(path, row, f"the {what} is {text}", "Leave out what is not known")
    return value


def _bad(path: Path, row: int, why: str, advice: str) -> DataError:
    return DataError(f"Cannot use row {row} of {path}: {why}. {advice}.")
