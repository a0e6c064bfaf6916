"""Floor 1: files of labelled texts: CSV, TSV, or a JSON object a line.

Quoted fields may hold line breaks, the file may begin with a byte-order mark. What cannot be used is refused with the
file and the line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from quickstudy.errors import DataError

__all__ = ["Labelled", "header_of", "read_texts", "read_unlabelled"]

_SEPARATED = {".csv": ",;", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_KINDS = ", ".join((*_SEPARATED, *_JSON_LINES))


_Row: TypeAlias = tuple[int, list[Any] | DataError]
"""The line where a row begins, and its values or what is wrong with it."""


@dataclass(frozen=True)
class Labelled:
    """One text.

    Args:
        text: as it stands in the file, without white space around it.
        label: its class.
        line: where it begins in the file, from 1.
    """

    text: str
    label: str
    line: int


def read_texts(
    path: Path, text: str = "text", label: str = "label", *, left: dict[int, str] | None = None
) -> list[Labelled]:
    """All texts of a file, in its order.

    Args:
        path: ``.csv`` (commas, or semicolons where the first line has them and no comma), ``.tsv`` or ``.tab``, with a
            first line of names; ``.jsonl`` or ``.ndjson``, an object a line.
        text: the column, or key, of the text.
        label: that of the class.
        left: where rows that cannot be used are left out, and put down: the line, and what is wrong with it.

    Raises:
        DataError: it is missing, of another kind, empty, no text, lacks a column, or has a row that cannot be used
            (unless these are left out).
    """
    kind = path.suffix.lower()
    if kind not in _SEPARATED and kind not in _JSON_LINES:
        why = "it is a folder" if path.is_dir() else f"its name ends in {kind!r}" if kind else "its name has no ending"
        raise DataError(f"Cannot read texts from {path}: {why}. Give a file that ends in {_KINDS}.")
    content = _decoded(path)
    rows = _json_lines(path, content, (text, label)) if kind in _JSON_LINES else _table(path, content, (text, label))
    with _long_fields():
        found = [Labelled(words, name, line) for line, (words, name) in _usable(path, rows, (text, label), left)]
    if not found and not left:
        raise DataError(f"Cannot read texts from {path}: it holds none. Give rows of a {text} and a {label}.")
    return found


def read_unlabelled(path: Path, text: str = "text", *, left: dict[int, str] | None = None) -> list[Labelled]:
    """As :func:`read_texts`, of texts whose label nobody knows: it is empty."""
    kind, content = path.suffix.lower(), _decoded(path)
    if kind in _JSON_LINES:
        rows = _json_lines(path, content, (text,))
    elif kind in _SEPARATED:
        rows = _table(path, content, (text,))
    else:  # a text a line
        rows = ((line, [words]) for line, words in enumerate(content.splitlines(), 1) if words.strip())
    with _long_fields():
        return [Labelled(words, "", line) for line, (words,) in _usable(path, rows, (text,), left)]


def _usable(
    path: Path, rows: Iterable[_Row], names: Sequence[str], left: dict[int, str] | None
) -> Iterator[tuple[int, list[str]]]:
    """The line and the words of each row; of one that cannot be used the error is raised, or put down."""
    for line, values in rows:
        try:
            if isinstance(values, DataError):
                raise values
            yield line, _words(path, line, values, names)
        except DataError as error:
            if left is None:
                raise
            left[line] = str(error).removeprefix(_refusal(path, line))


def header_of(path: Path) -> list[str]:
    """The names in the first line of a table; none where it is empty."""
    marks = _SEPARATED[path.suffix.lower()]
    head = next((line for line in _decoded(path).splitlines() if line.strip()), "")
    mark = next((mark for mark in marks if mark in head), marks[0])
    return [name.strip() for row in csv.reader([head], delimiter=mark) for name in row]


@contextmanager
def _long_fields() -> Iterator[None]:
    """A text may be longer than the 131,072 letters that Python's reader stops at, a setting of the whole process."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _bad(path, line, f"byte {error.start} of the file is not UTF-8", "Save it as text in UTF-8") from error


def _table(path: Path, content: str, names: Sequence[str]) -> Iterator[_Row]:
    head, *_ = content.split("\n", 1)
    marks = _SEPARATED[path.suffix.lower()]
    mark = next((mark for mark in marks if mark in head), marks[0])
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=mark, strict=True)
    records = _records(path, reader)
    first = next(records, None)
    if first is None:
        raise DataError(f"Cannot read texts from {path}: the file is empty. Begin it with a line of column names.")
    titles = [title.strip() for title in first[1]]
    places = [_place(path, titles, name) for name in names]
    for line, fields in records:
        if len(fields) == len(titles):
            yield line, [fields[place] for place in places]
            continue
        why = f"it has {len(fields)} columns, the first line names {len(titles)}"
        yield line, _bad(path, line, why, 'Put texts that hold the separator or a line break into quotes, "..."')


def _records(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The line where each record begins, and its fields; blank lines are passed over."""
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _bad(
                path, line, f"the record that begins here cannot be read ({error})", "Check its quotes"
            ) from error
        if any(field.strip() for field in fields):
            yield line, fields


def _place(path: Path, titles: Sequence[str], name: str) -> int:
    if titles.count(name) == 1:
        return titles.index(name)
    if titles.count(name) > 1:
        raise _bad(path, 1, f"two columns are called {name!r}", "Rename one of them")
    alike = [place for place, title in enumerate(titles) if title.lower() == name.lower()]
    if len(alike) == 1:
        return alike[0]
    raise _bad(
        path,
        1,
        f"there is no column {name!r} among {', '.join(map(repr, titles))}",
        "Name the columns there, or say which: --data.text NAME, --data.label NAME",
    )


def _json_lines(path: Path, content: str, names: Sequence[str]) -> Iterator[_Row]:
    for line, row in enumerate(content.split("\n"), 1):  # not splitlines, which also cuts at U+2028 inside a text
        if row.strip():
            yield line, _object(path, line, row, names)


def _object(path: Path, line: int, row: str, names: Sequence[str]) -> list[Any] | DataError:
    try:
        found = json.loads(row)
    except ValueError as error:
        return _bad(path, line, f"it is no JSON ({error})", "Write one object a line")
    if not isinstance(found, dict):
        return _bad(path, line, f"it is {type(found).__name__}, not an object", 'Write {"text": ..., "label": ...}')
    missing = [name for name in names if name not in found]
    if missing:
        why = f"it has no key {missing[0]!r} among {', '.join(map(repr, found))}"
        return _bad(path, line, why, "Say which keys: --data.text NAME, --data.label NAME")
    return [found[name] for name in names]


def _words(path: Path, line: int, values: Sequence[Any], names: Sequence[str]) -> list[str]:
    found = []
    for name, value in zip(names, values, strict=True):
        words = _as_words(value, number=len(names) > 1 and name == names[1])
        if words is None:
            said = repr(value)
            said = said if len(said) <= 60 else f"{said[:57]}..."
            raise _bad(path, line, f"the {name} is {said}, not words", "Write it in quotes")
        if not words or "\0" in words:
            why = f"the {name} {'holds a zero byte' if words else 'is empty'}"
            raise _bad(path, line, why, "Fill it in, or leave the row out")
        if any("\ud800" <= letter <= "\udfff" for letter in words):  # JSON can write them, no text in UTF-8 has them
            raise _bad(path, line, f"the {name} holds half a character (a lone surrogate)", "Write the whole one")
        found.append(words)
    return found


def _as_words(value: Any, *, number: bool) -> str | None:
    """A value of JSON, without white space around it; None where it is no words, nor a number where one may stand."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value.strip()
    if not number or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # 1.0 in one row and 1 in another are one class.
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _bad(path: Path, line: int, why: str, advice: str) -> DataError:
    return DataError(f"{_refusal(path, line)}{why}. {advice}.")


def _refusal(path: Path, line: int) -> str:
    return f"Cannot use line {line} of {path}: "
