"""Floor 4: a comparison as plain text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from quickstudy.evaluate.comparison import Cell, Comparison, Row
from quickstudy.evaluate.result import Result
from quickstudy.evaluate.wording import count, figure, marks, metric_name, verdict

__all__ = ["render_table"]

_GAP = 2
_NARROWEST = 24
"""Characters that a column needs for its verdict to be readable."""


def render_table(table: Comparison, width: int = 100) -> str:
    """Aligned columns, no line longer than ``width``; a table too wide is continued below.

    Args:
        table: what to show.
        width: characters a line, at least 60.

    Returns:
        Lines joined by newlines, without one at the end.

    Raises:
        ValueError: ``width`` is below 60.
    """
    if width < 60:
        raise ValueError(f"Cannot lay out a table {width} characters wide: at least 60 are needed.")
    names = min(max(len(row.name) for row in table.rows) + 2, width // 3)
    at_once = max(1, (width - names) // (_NARROWEST + _GAP))
    usual = _usual_episodes(table)
    lines = [f"{metric_name(table.metric)}, mean ± 95 % interval over {count(usual)} episodes"]
    for start in range(0, len(table.columns), at_once):
        part = slice(start, start + at_once)
        across = len(table.columns[part])
        cell_width = min(40, (width - names) // across - _GAP)
        lines += ["", *_block(table, part, names, cell_width, usual)]
    return "\n".join(lines)


def _usual_episodes(table: Comparison) -> int:
    """The number of episodes of most results; cells with another one say so."""
    numbers = [cell.result.episodes for row in table.rows for cell in row.cells if cell is not None]
    return max(sorted(set(numbers), reverse=True), key=numbers.count)


def _block(table: Comparison, part: slice, names: int, cell_width: int, usual: int) -> list[str]:
    def rule(said: str = "") -> str:
        return said.ljust(names + len(table.columns[part]) * (cell_width + _GAP) - _GAP, "-")

    headings = [textwrap.wrap(column, cell_width) for column in table.columns[part]]
    lines = [*_side_by_side([""], headings, names, cell_width), rule()]
    before: Row | None = None
    for row in table.rows:
        if before is not None and row.baseline != before.baseline:
            lines.append(rule("baselines "))
        cells = [_cell_lines(cell, cell_width, usual) for cell in row.cells[part]]
        lines += _side_by_side(textwrap.wrap(row.name, names - 1), cells, names, cell_width)
        before = row
    return lines


def _cell_lines(cell: Cell | None, width: int, usual: int) -> list[str]:
    if cell is None:
        return ["not measured"]
    said = _marks(cell.result, usual)
    return [figure(cell.result), *_wrap(said, width), *_wrap(verdict(cell), width)]


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width``, with "5.7 ± 0.3" never torn apart."""
    held = text.replace(" ± ", "\u00a0±\u00a0")  # textwrap breaks at ordinary spaces only
    return [line.replace("\u00a0", " ") for line in textwrap.wrap(held, width)]


def _marks(result: Result, usual: int) -> str:
    fewer = () if result.episodes == usual else (f"{count(result.episodes)} episodes",)
    said = (*fewer, *marks(result))
    return f"({'; '.join(said)})" if said else ""


def _side_by_side(name: Sequence[str], cells: Sequence[Sequence[str]], names: int, cell_width: int) -> list[str]:
    columns = [(name, names), *((cell, cell_width + _GAP) for cell in cells)]
    height = max(len(lines) for lines, _ in columns)
    return [
        "".join((lines[i] if i < len(lines) else "").ljust(width) for lines, width in columns).rstrip()
        for i in range(height)
    ]
