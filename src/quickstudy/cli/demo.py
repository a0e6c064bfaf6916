"""Floor 7: ``quickstudy demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quickstudy.allocator import keep_large_blocks
from quickstudy.cli.options import Debug, Json, one_json
from quickstudy.cli.process import set_threads

if TYPE_CHECKING:
    from quickstudy.evaluate import Comparison
    from quickstudy.recipes.workers import News

__all__ = ["demo"]


def demo(
    report: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("demo-report.html"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Meta-train on letters, learn handwritten digits from a few examples, and compare with baselines: 4 minutes."""
    del debug  # read by `outcome`
    set_threads(1)
    started = time.monotonic()

    from quickstudy.progress import Line, duration
    from quickstudy.recipes.demo import run_demo

    line = Line()
    newest: dict[str, News] = {}

    def listen(news: News) -> None:
        newest[news.who] = news
        line.show(lambda: "   ".join(f"{n.who}: {n.done}/{n.total} {n.what}" for n in newest.values()))

    line.keep("Meta-training ProtoNet and MAML on letters, then learning handwritten digits.")
    try:
        table = run_demo(report, listen=listen, prepare=prepare_worker)
    finally:
        line.close()
    if json:
        one_json({"report": str(report), "results": _results(table)})
    else:
        from quickstudy.evaluate import render_table

        typer.echo(render_table(table))
        typer.echo(f"\n{_over_classes(table)}")
    typer.echo(f"{duration(time.monotonic() - started)} in all. The page: {report.resolve()}", err=True)


def prepare_worker() -> None:
    """The settings of this process, for those that it starts."""
    keep_large_blocks()
    set_threads(1)


def _over_classes(table: Comparison) -> str:
    """How far the figures speak for classes other than the ten digits."""
    widths = [cell.result.ci95_classes for row in table.rows for cell in row.cells if cell is not None]
    known = [100 * width for width in widths if width is not None]
    return (
        f"Ten digits are few classes: for others intervals would be ± {min(known):.0f} to ± {max(known):.0f} points. "
        "The differences are between answers to the very same tasks."
    )


def _results(table: Comparison) -> list[dict[str, object]]:
    return [
        {
            "name": row.name,
            "baseline": row.baseline,
            "column": column,
            "mean": cell.result.mean,
            "ci95": cell.result.ci95,
            "episodes": cell.result.episodes,
            "compared_with": cell.baseline,
            "difference": None if cell.versus is None else cell.versus.difference,
            "difference_ci95": None if cell.versus is None else cell.versus.ci95,
            "beats_baseline": cell.beats_baseline,
        }
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell is not None
    ]
