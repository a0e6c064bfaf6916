"""Floor 4: what happened, as one HTML file that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from quickstudy.evaluate.comparison import Cell, Comparison
from quickstudy.evaluate.figures import Curve, Drawing, draw_curves, draw_intervals
from quickstudy.evaluate.picture import EpisodePicture, data_address, png
from quickstudy.evaluate.result import Result
from quickstudy.evaluate.wording import count, figure, marks, metric_name, number, verdict, wider
from quickstudy.files import atomic_write_bytes

__all__ = ["Section", "render_report", "write_report"]


@dataclass(frozen=True)
class Section:
    """A part of a report that suits its field: figures, a table, words.

    Args:
        title: its heading.
        text: paragraphs.
        drawings: from ``figures.drawing``.
        pictures: PNG bytes with what each shows in words, such as spectrograms or frames of a rollout (GIF works too).
        head: the columns of a table.
        rows: its rows, text.
    """

    title: str
    text: Sequence[str] = ()
    drawings: Sequence[Drawing] = ()
    pictures: Sequence[tuple[bytes, str]] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def write_report(
    path: Path,
    *,
    title: str,
    lead: str = "",
    table: Comparison | None = None,
    curves: Sequence[Curve] = (),
    pictures: Sequence[EpisodePicture] = (),
    sections: Sequence[Section] = (),
    settings: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the page that :func:`render_report` makes, whole or not at all.

    Raises:
        StorageError: the disk refused; what was there before is unchanged.
    """
    page = render_report(
        title=title,
        lead=lead,
        table=table,
        curves=curves,
        pictures=pictures,
        sections=sections,
        settings=settings,
        versions=versions,
        notes=notes,
    )
    atomic_write_bytes(path, page.encode())


def render_report(
    *,
    title: str,
    lead: str = "",
    table: Comparison | None = None,
    curves: Sequence[Curve] = (),
    pictures: Sequence[EpisodePicture] = (),
    sections: Sequence[Section] = (),
    settings: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The report as text. Parts that are not given are left out; the same input gives the same text.

    Args:
        title: the page's heading.
        lead: a sentence or two below it: what was done.
        table: learners beside baselines; its intervals are drawn too.
        curves: what was measured along training.
        pictures: episodes to look at.
        sections: what else belongs to the field.
        settings: name -> value, values may be mappings again (the resolved recipe).
        versions: name -> version, and whatever else describes the machine.
        notes: further paragraphs, such as what the figures do not show.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count"] = count
    template = environment.from_string(files("quickstudy.evaluate").joinpath("report.html.j2").read_text("utf-8"))
    return template.render(
        title=title,
        lead=lead,
        table=None if table is None else _table_view(table),
        intervals=None if table is None else draw_intervals(table),
        details=[] if table is None else list(_details(table)),
        curves=draw_curves(curves) if curves else None,
        pictures=[_picture_view(picture) for picture in pictures],
        sections=[(section, [_image(*one) for one in section.pictures]) for section in sections],
        settings=list(_flat(settings or {})),
        versions=list(_flat(versions or {})),
        notes=notes,
    )


# --- what the template shows --------------------------------------------------------------------


def _table_view(table: Comparison) -> dict[str, Any]:
    results = _results(table)
    return {
        "metric": metric_name(table.metric),
        "better": "smaller" if results[0].smaller_is_better else "larger",
        "columns": table.columns,
        "groups": [
            [(row.name, [_cell_view(cell) for cell in row.cells]) for row in table.rows if row.baseline is baseline]
            for baseline in (False, True)
        ],
        "compared": any(cell.versus for row in table.rows for cell in row.cells if cell is not None),
        "transductive": any(result.transductive for result in results),
        "balanced": any(result.balanced_prior for result in results),
        "diverged": any(result.diverged for result in results),
    }


def _results(table: Comparison) -> list[Result]:
    return [cell.result for row in table.rows for cell in row.cells if cell is not None]


def _cell_view(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    result = cell.result
    return {
        "mean": number(result.mean, result.metric),
        "ci95": number(result.ci95, result.metric),
        "episodes": count(result.episodes),
        "wider": wider(result),
        "marks": marks(result),
        "verdict": verdict(cell),
        "beats": cell.beats_baseline,
    }


def _image(data: bytes, alt: str) -> tuple[str, str]:
    kind = "image/gif" if data.startswith(b"GIF8") else "image/png"
    return data_address(kind, data), alt


@dataclass(frozen=True)
class _Detail:
    name: str
    column: str
    metric: str
    figure: str
    wider: tuple[str, ...]
    median: str
    episodes: int
    result: Result


def _details(table: Comparison) -> Iterator[_Detail]:
    """A line for every figure of every result: what does not fit into the table's cells."""
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell is None:
                continue
            result = cell.result
            yield _Detail(
                row.name,
                column,
                metric_name(result.metric),
                figure(result),
                wider(result),
                number(result.median, result.metric),
                result.episodes,
                result,
            )
            for name, other in result.others.items():
                there = [value for value in other.per_episode if value is not None]
                said = f"{number(other.mean, name)} ± {number(other.ci95, name)}"
                median = number(statistics.median(there), name)
                yield _Detail(
                    row.name, column, metric_name(name), said, wider(result, name), median, len(there), result
                )


@dataclass(frozen=True)
class _Tile:
    address: str
    alt: str
    said: str = ""
    right: bool = True


@dataclass(frozen=True)
class _ClassRow:
    name: str
    support: list[_Tile]
    query: list[_Tile]


@dataclass(frozen=True)
class _PictureView:
    caption: str
    rows: list[_ClassRow]
    right: int
    total: int
    widest: int


def _picture_view(picture: EpisodePicture) -> _PictureView:
    rows = [_class_row(picture, label) for label in range(picture.way)]
    rows = [row for row in rows if row.support or row.query]
    tiles = [tile for row in rows for tile in row.query]
    widest = max((len(row.name) for row in rows), default=0)
    return _PictureView(picture.caption, rows, sum(tile.right for tile in tiles), len(tiles), widest)


def _class_row(picture: EpisodePicture, label: int) -> _ClassRow:
    name = picture.name(label)
    support = [
        _Tile(png(image, ink=picture.ink), f"support example of class {name}")
        for image, y in zip(picture.support, picture.support_y, strict=True)
        if y == label
    ]
    query = []
    for image, y, predicted in zip(picture.query, picture.query_y, picture.predicted, strict=True):
        if y != label:
            continue
        said, right = picture.name(int(predicted)), bool(predicted == y)
        alt = f"query of class {name}, predicted {said}: {'right' if right else 'wrong'}"
        query.append(_Tile(png(image, ink=picture.ink), alt, said, right))
    return _ClassRow(name, support, query)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """``("train.lr", "0.001")`` of nested mappings, in their order."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and all(isinstance(one, str) for one in value):
            yield f"{prefix}{name}", ", ".join(value) or "none"
        else:
            yield f"{prefix}{name}", str(value)
