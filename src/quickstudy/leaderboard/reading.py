"""Floor 6: files of results -> rows over seeds -> a table for each task.

A task is a data set, a split, a way and a shot, a metric, and whatever else of a source's settings makes other tasks
(rotations, a hospital that is left out).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quickstudy.errors import InputError
from quickstudy.evaluate import Result
from quickstudy.leaderboard.board import Board, Row, Table, by_figure
from quickstudy.leaderboard.entry import Entry, read_entry
from quickstudy.leaderboard.published import Published, data_of_claim, is_of_claim, published
from quickstudy.leaderboard.significance import tasks_of

__all__ = ["read_board"]

_SIZES = ("data", "split", "way", "shot", "query", "seed")
_WIDEST = 24  # characters of a setting that a heading can take
_PAPERS = "published figures"  # a setting of tables that hold nothing else


def read_board(results: Path, *, papers: bool = True) -> Board:
    """Every row below a folder of results.

    Args:
        results: the folder; JSON files in it and below.
        papers: with the figures that papers print.

    Raises:
        InputError: there is no such folder.
    """
    if not results.is_dir():
        raise InputError(f"There is no folder of results {results}. Name it: --results DIR.")
    entries, told = [], []
    for path in sorted(results.rglob("*.json")):
        try:
            entries.append(read_entry(path))
        except InputError as error:
            told.append(str(error))
    rows = _rows(_distinct(entries))
    return Board(tuple(_tables(rows, published() if papers else ())), tuple(told))


def _distinct(entries: Iterable[Entry]) -> list[Entry]:
    """A result that was added is there once, as it was checked then."""
    found: dict[tuple[str, str, float], Entry] = {}
    for one in entries:
        key = (one.result.id, one.about.weights_sha256 or one.about.row, one.result.mean)
        if key not in found or one.about.checked is not None:
            found[key] = one
    return list(found.values())


def _rows(entries: Iterable[Entry]) -> list[Row]:
    """Seeds of one training together, where they saw the same episodes and came as far; a seed's second is a row."""
    found: dict[Any, dict[int | None, Entry]] = {}
    for one in entries:
        key, again = _series(one), 0
        while one.about.seed in found.get((key, again), ()):
            again += 1
        found.setdefault((key, again), {})[one.about.seed] = one
    return [Row(tuple(seeds[seed] for seed in sorted(seeds, key=lambda seed: seed or 0))) for seeds in found.values()]


def _series(one: Entry) -> Any:
    """The same for seeds of one training that were tested alike; a file's own path where nobody told its seed."""
    about, result = one.about, one.result
    if about.seed is None or (about.claim or about.series) is None or not is_of_claim(about):
        return one.path
    # A claim says how it is tested.
    how = about.claim or (about.series, json.dumps(about.overrides, sort_keys=True))
    cut = about.step if about.step is not None and about.steps is not None and about.step < about.steps else None
    return how, cut, tasks_of(result), result.learner, result.transductive, result.episodes, result.checkpoint


def _tables(rows: Iterable[Row], papers: Iterable[Published]) -> list[Table]:
    kinds: dict[tuple[Any, ...], tuple[list[Row], list[Published]]] = {}
    for row in rows:
        kinds.setdefault(_kind(row.result), ([], []))[0].append(row)
    for one in papers:
        kinds.setdefault(_kind_of_paper(one, kinds), ([], []))[1].append(one)
    found = []
    for kind, (mine, theirs) in kinds.items():
        others = [json.loads(other[-1]) for other in kinds if other[:-1] == kind[:-1] and other != kind]
        ordered = sorted(mine, key=by_figure)
        found.append((kind, Table(tuple(ordered), tuple(theirs), _telling(json.loads(kind[-1]), others))))
    # What nobody measured here stands behind the rest.
    return [table for _, table in sorted(found, key=lambda one: (not one[1].rows, *_order(one[0])))]


def _kind(result: Result) -> tuple[Any, ...]:
    more = {name: value for name, value in result.source.items() if name not in _SIZES and value is not None}
    return result.data, result.metric, result.split, result.way, result.shot, json.dumps(more, sort_keys=True)


def _kind_of_paper(one: Published, kinds: Mapping[tuple[Any, ...], tuple[list[Row], list[Published]]]) -> Any:
    """Of a table with rows of the very protocol; else one of its own, as nobody can tell which table it belongs to."""
    base = (one.data["name"], one.metric, one.split, one.way, one.shot)
    for kind, (rows, _) in kinds.items():
        if kind[:-1] == base and any(_data_of(row) == one.data for row in rows):
            return kind
    more = {name: value for name, value in one.data.items() if name not in ("name", "split", "size")}
    return (*base, json.dumps({**more, _PAPERS: "only"}, sort_keys=True))


def _data_of(row: Row) -> dict[str, Any] | None:
    about = row.first.about
    return about.data if about.claim is None or not is_of_claim(about) else data_of_claim(about.claim)


def _telling(mine: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """As few settings as tell a table from others of its name, where they can be said in a heading."""

    def plain(value: Any) -> tuple[bool, int]:
        return not isinstance(value, str), len(str(value))

    found: dict[str, Any] = {}
    alike = list(others)
    for name, value in sorted(mine.items(), key=lambda one: ("digest" in one[0], plain(one[1]))):
        short = len(str(value)) <= _WIDEST and value not in ([], {}, "")
        left = [other for other in alike if other.get(name) == value]
        if short and len(left) < len(alike):
            found[name], alike = value, left
    return found


def _order(kind: tuple[Any, ...]) -> tuple[Any, ...]:
    data, name, split, way, shot, more = kind
    sizes = tuple(
        (size is not None, list(size) if isinstance(size, tuple | list) else [size or 0]) for size in (way, shot)
    )
    return data, name, split, sizes, more
