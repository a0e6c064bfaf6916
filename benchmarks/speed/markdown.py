"""Numbers and tables of the page."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["in_words", "number", "ratio", "table"]


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def in_words(seconds: float) -> str:
    """A time."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{number(seconds * factor)} {unit}"
    return f"{number(seconds * 1e6)} µs"


def ratio(found: dict[str, float]) -> str:
    """Median and quartiles."""
    return f"**{found['median']:.2f}** ({found['low']:.2f} .. {found['high']:.2f})"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
