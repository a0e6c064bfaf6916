"""Floor 6: the leaderboard as one HTML file that needs nothing else: no network, and to be read no scripts either."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from quickstudy.evaluate.report import Section
from quickstudy.evaluate.robustness import Robustness, robustness_section
from quickstudy.evaluate.wording import count, metric_name, number
from quickstudy.files import atomic_write_bytes
from quickstudy.leaderboard.board import Board, Row, Table, size_of
from quickstudy.leaderboard.plot import cost_plot
from quickstudy.leaderboard.published import Published
from quickstudy.leaderboard.text import duration, energy
from quickstudy.metrics import metric

__all__ = ["render_page", "write_page"]


def write_page(path: Path, board: Board) -> None:
    """Write the page whole or not at all.

    Raises:
        StorageError: the disk refused; what was there before is unchanged.
    """
    atomic_write_bytes(path, render_page(board).encode())


def render_page(board: Board) -> str:
    """The page as text; the same board gives the same text.

    Args:
        board: what is shown.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    room = files("quickstudy.leaderboard")
    script, style = (room.joinpath(name).read_text("utf-8") for name in ("page.js", "page.css"))
    tables = [_table_view(number, table) for number, table in enumerate(board.tables, 1)]
    return environment.from_string(room.joinpath("page.html.j2").read_text("utf-8")).render(
        tables=tables,
        script=script,
        style=style,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        choices={
            "data": _choices(tables, "data"),
            "way": _choices(tables, "way"),
            "shot": _choices(tables, "shot"),
            "learner": sorted({row.learner for table in tables for row in table.all}, key=str.lower),
        },
        rows=sum(len(table.measured) for table in tables),
        papers=sum(len(table.published) for table in tables),
    )


@dataclass(frozen=True)
class _RowView:
    kind: str
    name: str
    learner: str
    transductive: bool
    cells: dict[str, Any]  # what is shown
    values: dict[str, Any]  # what is sorted by
    notes: tuple[str, ...]
    files: str = ""  # in the folder of results


@dataclass(frozen=True)
class _TableView:
    id: str
    title: str
    metric: str
    better: str
    data: str
    way: str
    shot: str
    plot: str
    caption: str
    columns: list[tuple[str, str]]  # that any row has, and what they are called
    measured: list[_RowView]
    published: list[_RowView]
    robustness: Section | None = None  # a column a row that has figures

    @property
    def all(self) -> list[_RowView]:
        return [*self.measured, *self.published]

    @property
    def groups(self) -> list[tuple[str, str, list[_RowView]]]:
        """(kind, heading, rows) of the parts that are sorted and ranked apart."""
        inductive = [row for row in self.measured if not row.transductive]
        transductive = [row for row in self.measured if row.transductive]
        parts = [
            ("inductive", "", inductive),
            ("transductive", "Transductive: each answer depends on the other queries beside it", transductive),
            ("published", "Published figures, as papers print them; not measured here, not ranked", self.published),
        ]
        return [part for part in parts if part[2]]


def _choices(tables: list[_TableView], name: str) -> list[str]:
    found = {getattr(table, name) for table in tables} - {""}
    return sorted(found, key=lambda one: (one.isdigit(), int(one) if one.isdigit() else 0, one))


def _table_view(place: int, table: Table) -> _TableView:
    one: Any = table.rows[0].result if table.rows else table.published[0]
    several = len(set(table.tasks)) > 1
    measured = [
        _measured(row, rank, letters, tasks if several else None)
        for row, rank, letters, tasks in zip(table.rows, table.ranks, table.letters, table.tasks, strict=True)
    ]
    percentile = f"{95 if metric(table.metric).smaller_is_better else 5}th percentile"
    papers, plot = [_published(paper) for paper in table.published], cost_plot(table)
    return _TableView(
        id=f"task-{place}",
        title=table.title.rpartition(": ")[0],
        metric=metric_name(table.metric),
        better="smaller" if metric(table.metric).smaller_is_better else "larger",
        data=table.data,
        way=size_of(one.way),
        shot=size_of(one.shot),
        plot=plot,
        caption=_caption(plot),
        columns=[
            (key, said or percentile)
            for key, said in _COLUMNS
            if any(row.cells.get(key) for row in [*measured, *papers])
        ],
        measured=measured,
        published=papers,
        robustness=_robustness(table),
    )


def _robustness(table: Table) -> Section | None:
    found: dict[str, Robustness] = {}
    for rank, row in zip(table.ranks, table.rows, strict=True):
        if row.robustness is not None:
            setting = ", transductive" if row.result.transductive else ""
            found[f"{rank} {row.name}{setting}"] = row.robustness
    return robustness_section(found) if found else None


_COLUMNS = [
    ("percentile", ""),
    ("worst", "Worst class"),
    ("calibration", "ECE"),
    ("group", "Group"),
    ("cost", "Training"),
    ("energy", "Energy"),
    ("episodes", "Episodes"),
]
_COLUMNS += [("seeds", "Seeds"), ("from", "From"), ("date", "Date")]


def _caption(plot: str) -> str:
    said = "Numbers are ranks, bars are 95 % intervals"
    said += ", t is transductive" if 'class="transductive"' in plot else ""
    return said + (", and the line joins what no cheaper training beats." if 'class="front"' in plot else ".")


def _calibration(row: Row) -> str:
    if row.calibration is None:
        return ""
    few = "" if row.asked is None or row.asked == row.result.episodes else f" (of {count(row.asked)})"
    return number(row.calibration, "ece") + few


def _measured(row: Row, rank: int, letters: str, tasks: int | None) -> _RowView:
    result, about = row.result, row.first.about
    cells = {
        "rank": str(rank),
        "mean": number(result.mean, result.metric),
        "ci95": number(result.ci95, result.metric),
        "percentile": number(row.percentile, result.metric),
        "worst": "" if row.worst_class is None else number(row.worst_class, "accuracy"),
        "calibration": _calibration(row),
        "group": letters,
        "episodes": count(result.episodes),
        "seeds": "" if row.ci95_seeds is None else f"{len(row.entries)} (± {number(row.ci95_seeds, result.metric)})",
        "cost": duration(row.cost),
        "energy": energy(row.watt_hours),
        "from": about.recipe or about.study or "",
        "date": row.date,
    }
    values = {
        "rank": rank,
        "mean": f"{result.mean:.7g}",
        "percentile": f"{row.percentile:.7g}",
        "worst": "" if row.worst_class is None else f"{row.worst_class:.7g}",
        "calibration": "" if row.calibration is None else f"{row.calibration:.7g}",
        "group": letters,
        "episodes": result.episodes,
        "seeds": len(row.entries),
        "cost": "" if row.cost is None else f"{row.cost:.4g}",
        "energy": "" if row.watt_hours is None else f"{row.watt_hours:.4g}",
    }
    notes, files = (
        tuple(_notes(row, tasks)),
        ", ".join(f"{one.path.parent.name}/{one.path.name}" for one in row.entries),
    )
    return _RowView("measured", row.name, row.name, result.transductive, cells, values, notes, files)


def _notes(row: Row, tasks: int | None) -> Iterator[str]:
    yield from row.marks
    if tasks is not None:
        yield f"tasks {tasks}"


def _published(one: Published) -> _RowView:
    cells = {
        "mean": number(one.mean, one.metric),
        "ci95": "" if one.ci95 is None else number(one.ci95, one.metric),
        "from": one.source,
    }
    notes = ["transductive"] if one.transductive and "transductive" not in one.title else []
    for rerun in one.reruns:
        half = "" if rerun.ci95 is None else f" ± {number(rerun.ci95, one.metric)}"
        more = f" ({rerun.note})" if rerun.note else ""
        notes.append(f"re-run by {rerun.source}: {number(rerun.mean, one.metric)}{half}{more}")
    values = {"mean": f"{one.mean:.7g}"}
    return _RowView("published", one.title, one.learner, one.transductive, cells, values, tuple(notes))
