"""Floor 6: examples in files of a user's own, told apart by what they are, for the command line.

my_classes/<class>/<any name>       pictures or recordings, one folder a class
texts.csv  .tsv  .jsonl             a column, or key, ``text``
table.csv  .tsv                     columns of numbers
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data import audio, picturefiles
from quickstudy.data.classfolders import below, subfolders, with_others
from quickstudy.data.tablefile import MISSING, column_of, read_cells
from quickstudy.data.textfile import header_of, read_texts, read_unlabelled
from quickstudy.errors import DataError, InputError, UnknownName
from quickstudy.estimators.inputs import AbstractReader, Kind, PictureReader, RowReader, SoundReader, TextReader

__all__ = ["Found", "labelled", "of_class", "plain_reader", "readable", "unlabelled"]

_SUFFIXES: dict[Kind, tuple[str, ...]] = {"pictures": picturefiles.SUFFIXES, "sounds": audio.SUFFIXES}
_TABLES = (".csv", ".tsv", ".tab")
_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True, eq=False)
class Found:
    """Examples that were found.

    Args:
        kind: of all of them.
        X: what an estimator is given.
        y: their labels; empty where nobody labelled them.
        names: what each is called: a path, or a line of a file.
        columns: of rows: what they are called.
        left: those that cannot be read and were left out, each with the sentence that says why.
    """

    kind: Kind
    X: Any
    y: list[Any]
    names: list[str]
    columns: tuple[str, ...] = ()
    left: dict[str, str] = field(default_factory=dict)


def labelled(source: Path, *, label: str = "label", text: str = "text") -> Found:
    """Labelled examples.

    Args:
        source: a folder with a folder for each class, or a file.
        label: the column, or key, of the label, in a file.
        text: that of the text; where there is none, rows of numbers are meant.

    Raises:
        DataError: nothing is there, or something that cannot be used; names the file, and the line.
    """
    if source.is_dir():
        return _folders(source)
    _refuse_absent(source)
    if _is_of_texts(source, text):
        rows = read_texts(source, text, label)
        return Found("texts", [row.text for row in rows], [row.label for row in rows], _lines(source, rows))
    head, cells, lines = read_cells(source)
    if label not in head:
        raise UnknownName.among(f"column in {source}", label, head)
    place = head.index(label)
    blank = next((line for row, line in zip(cells, lines, strict=True) if row[place].lower() in MISSING), None)
    if blank is not None:
        raise DataError(
            f"Cannot use row {blank} of {source}: its {label} is missing. Fill it in, or leave the row out."
        )
    columns = [name for name in head if name != label]
    return Found(
        "rows",
        _numbers(source, head, cells, lines, columns),
        [row[place] for row in cells],
        [f"{source.name}:{line}" for line in lines],
        tuple(columns),
    )


def unlabelled(paths: Sequence[Path], kind: Kind, *, text: str = "text", columns: Sequence[str] = ()) -> Found:
    """Examples of a kind that is known, to be told what they are.

    Args:
        paths: pictures or recordings, or folders of them; or files of texts or of rows.
        kind: what was learned.
        text: the column, or key, of the text.
        columns: of rows: those that were learned, in their order.

    Raises:
        DataError: a file is not there, is of another kind, or has a line that cannot be used.
    """
    X: list[Any] = []
    names: list[str] = []
    for path in paths:
        if kind in _SUFFIXES:
            files = (
                [file for file in below(path) if file.suffix.lower() in _SUFFIXES[kind]] if path.is_dir() else [path]
            )
            for file in files:
                _refuse_other(file, kind)
            X += files
            names += [str(file) for file in files]
        elif kind == "texts":
            _refuse_absent(path)
            rows = read_unlabelled(path, text)
            X += [row.text for row in rows]
            names += _lines(path, rows)
        else:
            _refuse_absent(path)
            head, cells, lines = read_cells(path)
            missing = [name for name in columns if name not in head]
            if missing:
                raise UnknownName.among(f"column in {path}", missing[0], head)
            X += list(_numbers(path, head, cells, lines, columns))
            names += [f"{path.name}:{line}" for line in lines]
    if not X:
        raise DataError(f"There are no {kind} in {', '.join(map(str, paths))}. Name files, or folders that hold some.")
    return Found(kind, np.array(X) if kind == "rows" else X, [], names)


def readable(found: Found, reader: AbstractReader) -> Found:
    """Those that can be read; the others with what is wrong with them.

    Args:
        found: examples.
        reader: of their kind.
    """
    kept: list[int] = []
    left: dict[str, str] = {}
    for number, name in enumerate(found.names):
        one = found.X[number : number + 1]
        try:
            reader.read(one)
        except (InputError, OSError) as error:
            left[name] = str(error)
            continue
        kept.append(number)
    y = [found.y[number] for number in kept] if found.y else []
    names = [found.names[number] for number in kept]
    X = found.X[kept] if isinstance(found.X, np.ndarray) else [found.X[number] for number in kept]
    return Found(found.kind, X, y, names, found.columns, left)


def plain_reader(kind: Kind) -> AbstractReader:
    """Reads whatever can be read of a kind, for a learner that is not chosen yet."""
    readers: dict[Kind, AbstractReader] = {
        "pictures": PictureReader(size=28, channels=3),
        "sounds": SoundReader(samples=8000, wanted=8000),
        "texts": TextReader(),
        "rows": RowReader(columns=0),
    }
    return readers[kind]


def of_class(folder: Path) -> Found:
    """The pictures or recordings in a folder that is called as their class."""
    return _folders(folder.parent, [folder])


def _folders(source: Path, groups: Sequence[Path] | None = None) -> Found:
    groups = subfolders(source) if groups is None else groups
    if not groups:
        raise DataError(
            f"Cannot find classes in {source}: it has no subfolders. Make one for each class, with its pictures or "
            "recordings in it."
        )
    of_kind: dict[Kind, dict[Path, str]] = {kind: {} for kind in _SUFFIXES}
    empty = []
    for group in groups:
        before = sum(map(len, of_kind.values()))
        for file in below(group):
            for kind, suffixes in _SUFFIXES.items():
                if file.suffix.lower() in suffixes:
                    of_kind[kind][file] = group.name
        if sum(map(len, of_kind.values())) == before:
            empty.append(group)
    if empty:
        known = ", ".join(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
        sentence = f"Cannot use the class {empty[0].name!r}: {empty[0]} holds no picture and no recording ({known}). "
        raise DataError(with_others(sentence + "Add some, or remove the folder.", [repr(p.name) for p in empty[1:]]))
    kinds = [kind for kind, files in of_kind.items() if files]
    if len(kinds) > 1:
        one, other = (next(iter(of_kind[kind])) for kind in kinds)
        raise DataError(
            f"Cannot learn from {source}: it holds both pictures ({one}) and recordings ({other}). Keep them in "
            "folders of their own."
        )
    files = of_kind[kinds[0]]
    return Found(kinds[0], list(files), list(files.values()), [str(file) for file in files])


def _numbers(
    source: Path, head: Sequence[str], cells: Sequence[Sequence[str]], lines: Sequence[int], columns: Sequence[str]
) -> NDArray[np.float64]:
    """``[n, columns]``.

    Raises:
        DataError: a cell is no number, or missing.
    """
    if not columns:
        raise DataError(f"Cannot learn from {source}: beside the label it has no column. Add columns of numbers.")
    found = []
    for name in columns:
        column = column_of(str(source), name, [row[head.index(name)] for row in cells], lines)
        if column.words is not None:
            raise DataError(
                f"Cannot use the column {name!r} of {source}: it holds words ({column.words[0]!r}), and rows of "
                "numbers are meant. Leave it out or write numbers; texts stand in a column 'text', or --text NAME."
            )
        blank = np.flatnonzero(np.isnan(column.values))
        if len(blank):
            raise DataError(
                f"Cannot use row {lines[blank[0]]} of {source}: {name} is missing, as in {len(blank)} row(s) in all. "
                "Fill it in, or leave them out."
            )
        found.append(column.values)
    return np.stack(found, 1)


def _is_of_texts(source: Path, text: str) -> bool:
    kind = source.suffix.lower()
    if kind in _LINES:
        return True
    if kind not in _TABLES:
        known = ", ".join((*_TABLES, *_LINES))
        raise DataError(
            f"Cannot learn from {source}: its name ends in {kind!r}. Give a folder with a folder for each class, or a "
            f"file that ends in {known}."
        )
    return text in header_of(source)


def _lines(source: Path, rows: Sequence[Any]) -> list[str]:
    return [f"{source.name}:{row.line}" for row in rows]


def _refuse_absent(path: Path) -> None:
    if not path.is_file():
        why = "it is a folder" if path.is_dir() else "there is no such file"
        raise DataError(f"Cannot read {path}: {why}. Check the path.")


def _refuse_other(path: Path, kind: Kind) -> None:
    _refuse_absent(path)
    if path.suffix.lower() not in _SUFFIXES[kind]:
        raise DataError(
            f"Cannot use {path}: {kind} were learned, and files of these end in {', '.join(_SUFFIXES[kind])}."
        )
