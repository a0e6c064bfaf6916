"""Floor 6: examples in files of a user's own, told apart by what they are, for the command line.

my_classes/<class>/<any name>       pictures or recordings, one folder a class
texts.csv  .tsv  .jsonl             a column, or key, ``text``
table.csv  .tsv                     columns of numbers or words, perhaps with gaps
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data import audio, picturefiles
from quickstudy.data.classfolders import below, subfolders, with_others
from quickstudy.data.tablefile import MISSING, Column, column_of, read_cells
from quickstudy.data.textfile import header_of, read_texts, read_unlabelled
from quickstudy.errors import DataError, InputError, UnknownName
from quickstudy.estimators.inputs import AbstractReader, Kind, PictureReader, RowReader, SoundReader, TextReader
from quickstudy.estimators.tablereader import TableReader
from quickstudy.estimators.tables import Table, joined

__all__ = ["Asked", "Found", "labelled", "of_class", "plain_reader", "readable", "unlabelled"]

_SUFFIXES: dict[Kind, tuple[str, ...]] = {"pictures": picturefiles.SUFFIXES, "sounds": audio.SUFFIXES}
_TABLES = (".csv", ".tsv", ".tab")
_LINES = (".jsonl", ".ndjson")
_LARGEST = 1e100  # as of all cells of a table


@dataclass(frozen=True, eq=False)
class Found:
    """Examples that were found.

    Args:
        kind: of all of them.
        X: what an estimator is given.
        y: their labels, or numbers; empty where nobody labelled them.
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

    def chosen(self, rows: Sequence[int]) -> Found:
        """Some of the examples, in that order."""
        X = [self.X[row] for row in rows] if isinstance(self.X, list) else self.X[list(rows)]
        return replace(
            self, X=X, y=[self.y[row] for row in rows] if self.y else [], names=[self.names[r] for r in rows]
        )


@dataclass(frozen=True)
class Asked:
    """What a user says of files.

    Args:
        label: the column, or key, of the label, in a file.
        text: that of the text; where there is none, rows are meant.
        target: that of a number that is to be learned, in place of a label.
        categories: columns of rows whose numbers are names, such as codes.
        skip: whether examples that cannot be used are left out.
    """

    label: str = "label"
    text: str = "text"
    target: str | None = None
    categories: tuple[str, ...] = ()
    skip: bool = False

    @property
    def answer(self) -> str:
        """The column of what is to be learned."""
        return self.label if self.target is None else self.target


def labelled(source: Path, asked: Asked | None = None, *, learned: AbstractReader | None = None) -> Found:
    """Labelled examples.

    Args:
        source: a folder with a folder for each class, or a file.
        asked: which columns, or keys, are meant, and what is done about examples that cannot be used.
        learned: how labelled rows were read, where further ones are to be read as these.

    Raises:
        DataError: nothing is there, or something that cannot be used; names the file, and the line.
    """
    asked = asked or Asked()
    if source.is_dir():
        if asked.target is not None:
            raise InputError(
                f"Cannot learn a number from {source}: a folder names classes. Give a CSV, TSV or JSONL with a column "
                f"{asked.target!r}."
            )
        return _folders(source, skip=asked.skip)
    _refuse_absent(source)
    with _as_options():
        if _is_of_texts(source, asked.text):
            bad: dict[int, str] = {}
            rows = read_texts(source, asked.text, asked.answer, left=bad if asked.skip else None)
            left = _left_lines(source, bad)
            return Found("texts", [r.text for r in rows], _answers(source, asked, rows), _lines(source, rows), (), left)
        return _labelled_rows(source, asked, learned)


def _labelled_rows(source: Path, asked: Asked, learned: AbstractReader | None) -> Found:
    head, cells, lines = read_cells(source)
    answer, left = asked.answer, {}
    if answer not in head:
        option = "--label NAME" if asked.target is None else "--target NAME"
        raise UnknownName(f"{UnknownName.among(f'column in {source}', answer, head)} Say which: {option}.")
    place = head.index(answer)
    blank = [number for number, row in enumerate(cells) if row[place].lower() in MISSING]
    if blank:
        why = f"Cannot use row {lines[blank[0]]} of {source}: its {answer} is missing"
        if not asked.skip:
            raise DataError(f"{why}. Fill it in, or leave the row out (--skip).")
        left = {f"{source.name}:{lines[number]}": f"its {answer} is missing" for number in blank}
        kept = [number for number in range(len(cells)) if number not in set(blank)]
        cells, lines = [cells[number] for number in kept], [lines[number] for number in kept]
    columns = [name for name in head if name != answer]
    wrong = next((name for name in asked.categories if name not in columns), None)
    if wrong is not None:
        raise UnknownName.among(f"column in {source}", wrong, columns)
    X = _rows(_Cells(source, head, cells, lines), columns, learned, asked.categories)
    y: list[Any] = [row[place] for row in cells]
    if asked.target is not None:
        y = _targets(source, answer, y, lines)
    found = Found("rows", X, y, [f"{source.name}:{line}" for line in lines], tuple(columns), left)
    return _complete(found, source, asked.skip)


def _answers(source: Path, asked: Asked, rows: Sequence[Any]) -> list[Any]:
    """Labels, or numbers where these are meant."""
    if asked.target is None:
        return [row.label for row in rows]
    return _targets(source, asked.target, [row.label for row in rows], [row.line for row in rows])


def _targets(source: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> list[Any]:
    wrong = next((place for place, cell in enumerate(cells) if not _is_number(cell)), None)
    if wrong is not None:
        raise DataError(
            f"Cannot learn {name} of {source} as a number: row {lines[wrong]} has {cells[wrong]!r}. Correct it, or "
            f"learn classes: --label {name}."
        )
    return list(map(float, cells))


def _is_number(cell: str) -> bool:
    try:
        return abs(float(cell)) < _LARGEST
    except ValueError:
        return False


def unlabelled(
    paths: Sequence[Path],
    kind: Kind,
    asked: Asked | None = None,
    *,
    columns: Sequence[str] = (),
    learned: AbstractReader | None = None,
) -> Found:
    """Examples of a kind that is known, to be told what they are.

    Args:
        paths: pictures or recordings, or folders of them; or files of texts or of rows.
        kind: what was learned.
        asked: which column, or key, is the text, and what is done about examples that cannot be used.
        columns: of rows: those that were learned, in their order.
        learned: how labelled examples were read.

    Raises:
        DataError: a file is not there, is of another kind, or has a line that cannot be used.
    """
    asked = asked or Asked()
    parts = []
    with _as_options():
        for path in paths:
            if kind in _SUFFIXES:
                parts.append(_of_files(path, kind))
            else:
                _refuse_absent(path)
                parts.append(_of_texts(path, asked) if kind == "texts" else _of_rows(path, asked, columns, learned))
    names = [name for part in parts for name in part.names]
    left = {name: why for part in parts for name, why in part.left.items()}
    if not names and not left:
        raise DataError(f"There are no {kind} in {', '.join(map(str, paths))}. Name files, or folders that hold some.")
    return Found(kind, _together([part.X for part in parts]), [], names, (), left)


def _together(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], Table):
        return joined(parts)
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [one for part in parts for one in part]


def _of_files(path: Path, kind: Kind) -> Found:
    if path.is_dir():
        files = [file for file in below(path) if file.suffix.lower() in _SUFFIXES[kind]]
    else:
        _refuse_other(path, kind)
        files = [path]
    return Found(kind, files, [], [str(file) for file in files])


def _of_texts(path: Path, asked: Asked) -> Found:
    bad: dict[int, str] = {}
    rows = read_unlabelled(path, asked.text, left=bad if asked.skip else None)
    return Found("texts", [row.text for row in rows], [], _lines(path, rows), (), _left_lines(path, bad))


def _of_rows(path: Path, asked: Asked, columns: Sequence[str], learned: AbstractReader | None) -> Found:
    head, cells, lines = read_cells(path)
    missing = [name for name in columns if name not in head]
    if missing:
        raise UnknownName.among(f"column in {path}", missing[0], head)
    X = _rows(_Cells(path, head, cells, lines), columns, learned)
    return _complete(Found("rows", X, [], [f"{path.name}:{line}" for line in lines], tuple(columns)), path, asked.skip)


def readable(found: Found, reader: AbstractReader) -> Found:
    """Those that can be read; the others with what is wrong with them.

    Args:
        found: examples.
        reader: of their kind.
    """
    if found.kind == "rows":  # what is wrong with these was found when their file was read
        return found
    kept: list[int] = []
    left: dict[str, str] = {}
    for number, name in enumerate(found.names):
        try:
            reader.read(found.X[number : number + 1])
        except (InputError, OSError) as error:
            left[name] = str(error)
            continue
        kept.append(number)
    return replace(found.chosen(kept), left=found.left | left)


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
    folder = folder.resolve() if folder.name in ("", "..") else folder
    return _folders(folder.parent, [folder])


def _folders(source: Path, groups: Sequence[Path] | None = None, *, skip: bool = False) -> Found:
    groups = _classes_of(source) if groups is None else groups
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
    known = ", ".join(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
    if empty and not (skip and any(of_kind.values())):
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
    left = {str(group): f"it holds no picture and no recording ({known})" for group in empty}
    return Found(kinds[0], list(files), list(files.values()), [str(file) for file in files], (), left)


def _classes_of(source: Path) -> list[Path]:
    try:
        return subfolders(source)
    except OSError as error:
        raise DataError(f"Cannot read {source}: {error.strerror or error}. Check who may read it.") from error


@dataclass(frozen=True)
class _Cells:
    """A file of rows as text."""

    source: Path
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]

    def column(self, name: str, words: bool | None) -> Column:
        place = self.head.index(name)
        return column_of(str(self.source), name, [row[place] for row in self.rows], self.lines, words=words)


def _rows(
    cells: _Cells, columns: Sequence[str], learned: AbstractReader | None, categories: Sequence[str] = ()
) -> Table | NDArray[np.float64]:
    """``[n, columns]`` where all are numbers without gaps, or were; else a table."""
    if not columns:
        raise DataError(f"Cannot learn from {cells.source}: beside the label it has no column. Add columns.")
    decided: dict[str, bool] = dict.fromkeys(categories, True)
    if learned is not None:
        decided = learned.is_words if isinstance(learned, TableReader) else dict.fromkeys(columns, False)
    found = [cells.column(name, decided.get(name)) for name in columns]
    plain = all(column.words is None and not np.isnan(column.values).any() for column in found)
    if isinstance(learned, RowReader) or (learned is None and plain):
        return np.stack([column.values for column in found], 1)
    return Table(tuple(found), str(cells.source))


def _complete(found: Found, source: Path, skip: bool) -> Found:
    """Without the rows that lack a number, where none of the labelled rows did."""
    if not isinstance(found.X, np.ndarray):
        return found
    gaps = np.isnan(found.X)
    wrong = np.flatnonzero(gaps.any(1))
    if not len(wrong):
        return found
    lacks = {found.names[row]: found.columns[int(gaps[row].argmax())] for row in wrong.tolist()}
    if not skip:
        name, column = next(iter(lacks.items()))
        raise DataError(
            f"Cannot use row {name.rpartition(':')[2]} of {source}: {column} is missing, as in {len(wrong)} row(s) in "
            "all, and no labelled row had gaps. Fill it in, or leave such rows out (--skip)."
        )
    left = found.left | {name: f"{column} is missing, and no labelled row had gaps" for name, column in lacks.items()}
    return replace(found.chosen(np.flatnonzero(~gaps.any(1)).tolist()), left=left)


@contextmanager
def _as_options() -> Iterator[None]:
    """Readers name options as a recipe has them (``--data.text NAME``); here they are called ``--text NAME``."""
    try:
        yield
    except DataError as error:
        said = re.sub(r"--data\.categories '\[\"(.+?)\"\]'", r"--categories '\1'", str(error)).replace("--data.", "--")
        raise DataError(said) from error


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
    named = [name.lower() for name in header_of(source)]
    return text != "text" or text in named  # whoever names a column means texts, and is told where there is none


def _lines(source: Path, rows: Sequence[Any]) -> list[str]:
    return [f"{source.name}:{row.line}" for row in rows]


def _left_lines(source: Path, bad: dict[int, str]) -> dict[str, str]:
    return {f"{source.name}:{line}": why.replace("--data.", "--") for line, why in bad.items()}


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
