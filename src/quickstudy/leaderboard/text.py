"""Floor 6: the leaderboard on a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from quickstudy.evaluate.wording import count, number
from quickstudy.leaderboard.board import Board, Row, Table
from quickstudy.leaderboard.published import Published
from quickstudy.metrics import metric

__all__ = ["document", "duration", "energy", "measured", "paper", "render_board"]


def render_board(board: Board, *, robustness: bool = False) -> str:
    """Aligned tables, one a task; a line says what letters and marks mean.

    Args:
        board: what is shown.
        robustness: with the figures of robustness of all rows that have some.
    """
    parts = []
    for table in board.tables:
        lines = list(_table(table))
        if robustness:
            for rank, row in zip(table.ranks, table.rows, strict=True):
                if row.robustness is not None:
                    lines += [f"  {line}" for line in f"{rank} {row.name}: {row.robustness}".splitlines()]
        parts.append("\n".join(lines))
    if any(letter for table in board.tables for letter in table.letters):
        parts.append(
            "Mean ± 95 % interval over episodes of these classes. Rows with a common letter cannot be told apart on\n"
            "the same episodes (5 % for all pairs of a table together, Holm). Papers' figures are not ranked.\n"
            "One episode in twenty is worse than p5, the 5th percentile; of errors than p95. The worst class is\n"
            "that of each task, the ECE how far from its accuracy a learner's certainty lies."
        )
    return "\n\n".join(parts)


def _table(table: Table) -> Iterator[str]:
    yield table.title
    several = len(set(table.tasks)) > 1
    lines: list[tuple[str, ...]] = []
    ranks, setting, names = table.ranks, None, [row.name for row in table.rows]
    for place, row in enumerate(table.rows):
        if row.result.transductive and setting is not True:
            lines.append(("", "transductive:"))
        setting = row.result.transductive
        cells = _cells(row, ranks[place], table.letters[place], table.tasks[place] if several else None)
        if names.count(row.name) > 1 and row.first.about.recipe:  # such as learners of one name by two claims
            cells = (cells[0], f"{row.name}, {row.first.about.recipe}", *cells[2:])
        lines.append(cells)
    yield from _aligned(lines)
    if table.published:
        yield "  published, not measured here:"
        yield from (f"  {line}" for line in _aligned([line for one in table.published for line in _paper_lines(one)]))


def _paper_lines(one: Published) -> list[tuple[str, ...]]:
    """The paper's figure, and those of others who ran the method."""
    setting = ", transductive" if one.transductive and "transductive" not in one.title else ""
    reruns = [("", f"{_figure(r.mean, r.ci95, one.metric)}, a re-run by {r.source}") for r in one.reruns]
    return [(paper(one), f"{one.title}{setting}; {one.source}"), *reruns]


def _cells(row: Row, rank: int, letters: str, tasks: int | None) -> tuple[str, ...]:
    marks = [*row.marks, *([f"tasks {tasks}"] if tasks is not None else [])]
    worse = f"p{95 if row.result.smaller_is_better else 5} {number(row.percentile, row.result.metric)}"
    worst = "" if row.worst_class is None else f"worst class {number(row.worst_class, 'accuracy')}"
    ece = "" if row.calibration is None else f"ECE {number(row.calibration, 'ece')}"
    if row.asked is not None and row.asked != row.result.episodes:
        ece += f" (of {count(row.asked)})"
    cost = duration(row.cost), energy(row.watt_hours)
    return str(rank), row.name, measured(row), worse, worst, ece, letters, *cost, "; ".join(marks)


def measured(row: Row) -> str:
    """Mean, interval, and over how many episodes and seeds, as in ``"98.2 ± 0.1, 600 episodes, 3 seeds ± 0.2"``."""
    result = row.result
    said = f"{_figure(result.mean, result.ci95, result.metric)}, {count(result.episodes)} episodes"
    if row.ci95_seeds is None:
        return said
    return f"{said}, {len(row.entries)} seeds ± {number(row.ci95_seeds, result.metric)}"


def paper(one: Published) -> str:
    """What a paper prints."""
    return _figure(one.mean, one.ci95, one.metric)


def _figure(mean: float, ci95: float | None, name: str) -> str:
    said = number(mean, name)
    return said if ci95 is None else f"{said} ± {number(ci95, name)}"


def duration(seconds: float | None) -> str:
    """How long a training took; empty where it is not known.

    >>> duration(90), duration(9000), duration(5.2)
    ('1.5 min', '2.5 h', '5 s')
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def energy(watt_hours: float | None) -> str:
    """An estimate; empty where there is none.

    >>> energy(0.54), energy(12.3)
    ('0.54 Wh', '12 Wh')
    """
    return "" if watt_hours is None else f"{watt_hours:.2g} Wh"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    filled = {n for row in rows for n, cell in enumerate(row) if cell}
    rows = [tuple(cell for n, cell in enumerate(row) if n in filled) for row in rows]
    columns = max(map(len, rows), default=0)
    wide = [max((len(row[n]) for row in rows if n < len(row) - 1), default=0) for n in range(columns)]
    return [
        "  " + "  ".join(cell.ljust(wide[n]) if n < len(row) - 1 else cell for n, cell in enumerate(row)).rstrip()
        for row in rows
    ]


# --- JSON ------------------------------------------------------------------------------------------


def document(board: Board) -> dict[str, Any]:
    """The same as JSON, with every pair; without single episodes, which the rows' files have."""
    return {"tables": [_as_json(table) for table in board.tables], "passed_over": list(board.passed_over)}


def _as_json(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "data": table.data,
        "split": table.split,
        "metric": table.metric,
        "smaller_is_better": metric(table.metric).smaller_is_better,
        "rows": [
            _row(row, rank, letters, tasks)
            for row, rank, letters, tasks in zip(table.rows, table.ranks, table.letters, table.tasks, strict=True)
        ],
        "published": [_paper(one) for one in table.published],
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "difference": _plain(pair.versus.difference),
                "ci95": _plain(pair.versus.ci95),
                "episodes": pair.versus.episodes,
                "p": pair.p,
                "p_holm": pair.p_holm,
                "clear": pair.clear,
            }
            for pair in table.pairs
        ],
    }


def _row(row: Row, rank: int, letters: str, tasks: int) -> dict[str, Any]:
    result, about = row.result, row.first.about
    said = json.loads(about.model_dump_json(exclude={"versions", "checked"}))
    return {
        "kind": "measured",
        "rank": rank,
        "group": letters,
        "tasks": tasks,
        "name": row.name,
        "mean": _plain(result.mean),
        "ci95": _plain(result.ci95),
        "percentile": _plain(row.percentile),
        "worst_class": row.worst_class,
        "ece": row.calibration,
        "episodes_of_worst_class_and_ece": row.asked,
        "ci95_seeds": None if row.ci95_seeds is None else _plain(row.ci95_seeds),
        "seeds": list(row.seeds),
        "episodes": result.episodes,
        "way": result.way,
        "shot": result.shot,
        "query": result.query,
        "transductive": result.transductive,
        "balanced_prior": result.balanced_prior,
        "source_hash": result.source_hash,
        "train_seconds": row.cost,
        "watt_hours": row.watt_hours,
        "marks": list(row.marks),
        "files": [str(one.path) for one in row.entries],
        "provenance": {name: value for name, value in said.items() if value not in (None, "", {})},
    }


def _paper(one: Published) -> dict[str, Any]:
    return {"kind": "published", **{name: value for name, value in vars(one).items() if name != "reruns"}} | {
        "reruns": [vars(rerun) for rerun in one.reruns]
    }


def _plain(value: float) -> float | str:
    """As in files of results: JSON has no infinity."""
    return value if abs(value) < float("inf") else "NaN" if value != value else str(value).replace("inf", "Infinity")
