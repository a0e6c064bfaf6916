"""Floor 4: learners beside baselines, cell by cell, as data that the terminal and the report both draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quickstudy.errors import InputError
from quickstudy.evaluate.paired import Paired, paired
from quickstudy.evaluate.result import Result

__all__ = ["Cell", "Comparison", "Entry", "Row", "cell_name", "compare"]


@dataclass(frozen=True)
class Entry:
    """What one learner or baseline found.

    Args:
        name: how it is called in the table.
        results: column -> result; a column may be missing.
        baseline: others are compared with it; it is compared with nobody.
    """

    name: str
    results: Mapping[str, Result]
    baseline: bool = False


@dataclass(frozen=True)
class Cell:
    """One result in its column.

    Args:
        result: the figures.
        versus: the difference to the column's best baseline; None for baselines and where there are none.
        baseline: that baseline's name; None likewise.
    """

    result: Result
    versus: Paired | None = None
    baseline: str | None = None

    @property
    def beats_baseline(self) -> bool | None:
        """Better with an interval that excludes 0; None where it is compared with nothing."""
        return None if self.versus is None else self.versus.favours_a


@dataclass(frozen=True)
class Row:
    """One learner or baseline, a cell (or None) a column."""

    name: str
    baseline: bool
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Comparison:
    """Rows by columns. Learners stand first, then baselines, each in the order given."""

    metric: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def cell_name(result: Result) -> str:
    """A column's name for one result: "5-way 1-shot", "10-shot".

    A range reads "5..20-way 1-shot", queries of uneven classes "5-way 1-shot, Dirichlet(2) queries".
    """

    def said(count: int | tuple[int, int]) -> str:
        return str(count) if isinstance(count, int) else "..".join(map(str, count))

    parts = [(result.way, "way"), (result.shot, "shot")]
    name = " ".join(f"{said(count)}-{what}" for count, what in parts if count is not None) or "all tasks"
    concentration = result.source.get("dirichlet")
    return name if concentration is None else f"{name}, Dirichlet({concentration:g}) queries"


def compare(entries: Sequence[Entry]) -> Comparison:
    """Set learners beside baselines.

    In each column, every learner is compared with the best baseline. Of two that saw the same episodes it is the one
    of the better mean; one that saw fewer takes the place of another only where it is better on those that both saw,
    so that it neither wins by their luck nor has the others judged by a few.

    Raises:
        InputError: no results, results of different metrics, or results in one column of different tasks.
    """
    metrics = sorted({result.metric for entry in entries for result in entry.results.values()})
    if len(metrics) != 1:
        found = " and ".join(metrics) or "no results"
        raise InputError(f"Cannot make a table: expected results of one metric, found {found}. Make a table of each.")
    columns = tuple(dict.fromkeys(column for entry in entries for column in entry.results))
    best = {column: _best_baseline(entries, column) for column in columns}
    ordered = sorted(entries, key=lambda entry: entry.baseline)  # stable: learners first
    rows = tuple(
        Row(entry.name, entry.baseline, tuple(_cell(entry, column, best[column]) for column in columns))
        for entry in ordered
    )
    return Comparison(metrics[0], columns, rows)


def _best_baseline(entries: Sequence[Entry], column: str) -> Entry | None:
    rivals = [entry for entry in entries if entry.baseline and column in entry.results]
    best: Entry | None = None
    for rival in sorted(rivals, key=lambda entry: -entry.results[column].episodes):
        if best is None or _better(rival.results[column], best.results[column]):
            best = rival
    return best


def _better(a: Result, b: Result) -> bool:
    """Whether a is better than b, over the episodes that both saw."""
    common = min(a.episodes, b.episodes)
    left, right = (float(np.mean(result.per_episode[:common])) for result in (a, b))
    return left < right if a.smaller_is_better else left > right


def _cell(entry: Entry, column: str, best: Entry | None) -> Cell | None:
    result = entry.results.get(column)
    if result is None or best is None:
        return None if result is None else Cell(result)
    versus = paired(result, best.results[column])  # also for baselines: refuses other tasks in one column
    return Cell(result) if entry.baseline else Cell(result, versus, best.name)
