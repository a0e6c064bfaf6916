"""The whole benchmark: which rows, one after the other."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.speed import report
from benchmarks.speed.goals import GOALS
from benchmarks.speed.harness import Plan, Row, measure
from benchmarks.speed.machine import compile_seconds, describe, source
from benchmarks.speed.peak import measure_memory
from benchmarks.speed.settings import COLUMNS, Column
from benchmarks.speed.target import measure_goals
from benchmarks.speed.workloads import WORKLOADS, find

__all__ = ["ALL", "Options", "run"]

ALL = (*(workload.id for workload in WORKLOADS), "W7", "T2A")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What to do.

    Args:
        rows: ids, in order.
        columns: of ``settings``.
        plan: how to measure.
        limit: seconds of each training of T2A.
        page_only: measure nothing.
        arguments: of the command, to be written beside the results.
        results: folder of the JSON files.
        page: the Markdown file.
    """

    rows: tuple[str, ...] = ALL
    columns: tuple[Column, ...] = COLUMNS
    plan: Plan = field(default_factory=Plan)
    limit: float = 1800.0
    page_only: bool = False
    arguments: tuple[str, ...] = ()
    results: Path = report.RESULTS
    page: Path = report.PAGE


def run(options: Options, say: Say) -> int:
    """Measure the rows and write what was found; the exit status: 2 where there is no such row, 0 otherwise."""
    strange = [id for id in options.rows if not _known(id)]
    if strange:
        say(f"error: There is no row {strange[0]!r}. There are {', '.join((*ALL, *report.GPU_ROWS))}.")
        return 2
    if not options.page_only:
        compiling: dict[str, float] = {}
        for id in options.rows:
            why = _unmeasurable(id, options.plan)
            if why is not None:
                say(f"{id}: not measured, {why}")
                continue
            if not compiling and not options.plan.quick:
                compiling = {"compile_seconds": compile_seconds(options.plan.python)}
                say(f"quickstudy's C files are compiled in {compiling['compile_seconds']:.1f} s, once on a machine.")
            _measure(id, options, describe(options.plan.python) | compiling, say)
    if not options.plan.quick:
        options.page.write_text(report.page(options.results))
        say(f"Wrote {options.page}.")
    return 0


def _known(id: str) -> bool:
    try:
        return id in ("W7", "T2A") or find(id) is not None
    except KeyError:
        return False


def _unmeasurable(id: str, plan: Plan) -> str | None:
    """Why a row cannot be measured here."""
    if id in report.GPU_ROWS and plan.device == "cpu":
        return "there is no GPU (or --device cuda was not given)."
    if id == "W6" and plan.data_root is None and not plan.quick:
        return "it needs Omniglot: give --data-root or set QUICKSTUDY_DATA."
    return None


def _measure(id: str, options: Options, machine: dict[str, Any], say: Say) -> None:
    plan, quick = options.plan, options.plan.quick
    if id in report.GPU_ROWS and machine["gpu"] is None:
        say(f"{id}: not measured, there is no GPU (or --device cuda was not given).")
        return
    origin = {"machine": machine, "source": source(), "command": report.command_line(options.arguments)}
    if id == "W7":
        say("W7: peak memory of W1m over inner steps")
        about = measure_memory(find("W1m"), plan, say) | origin
        if not quick:
            options.results.mkdir(parents=True, exist_ok=True)
            (options.results / "W7.json").write_text(json.dumps(about, indent=1) + "\n")
        return
    if id == "T2A":
        say("T2A: time to accuracy")
        with tempfile.TemporaryDirectory() as thrown_away:
            path = (Path(thrown_away) if quick else options.results) / "T2A.json"
            measure_goals(path, plan, options.limit, list(GOALS), say, origin)
        return
    workload = find(id)
    for column in options.columns if plan.device == "cpu" else ("as-run",):
        say(f"{id}, {column}: {workload.title}")
        row = measure(workload, column, replace(plan, row=id), say)
        _tell(row, say)
        if not quick:
            report.save(row, origin, options.results)


def _tell(row: Row, say: Say) -> None:
    for name, found in row.times.items():
        say(f"  {name:<20}{1000 * found.median:>11.4g} ms  ({1000 * found.low:.4g} .. {1000 * found.high:.4g})")
    for name, found in row.ratios().items():
        say(f"  {row.best_peer} / {name} = {found.median:.2f}  ({found.low:.2f} .. {found.high:.2f})")
    for name, steps in row.break_even().items():
        say(f"  {name} pays after {'no number of' if steps is None else f'{steps:.0f}'} steps")
