"""The whole benchmark: which rows, one after the other."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed import report
from benchmarks.speed.contestants import OURS, contestants
from benchmarks.speed.goals import GOALS
from benchmarks.speed.harness import Plan, Row, measure
from benchmarks.speed.machine import compile_seconds, describe, source
from benchmarks.speed.peak import measure_memory
from benchmarks.speed.process import WorkerError
from benchmarks.speed.settings import COLUMNS, Column
from benchmarks.speed.target import measure_goals
from benchmarks.speed.workloads import WORKLOADS, find

__all__ = ["ALL", "NOBODY", "Options", "peers", "run"]

NOBODY = "none"
"""In place of a peer's name: none."""

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
    """Measure the rows and write what was found.

    Returns:
        The exit status: 0; 1 where a row could not be measured that should have been, of which nothing is written; 2
        where there is no such row, peer or device, or a number makes no sense.
    """
    strange = _strange(options)
    if strange is not None:
        say(f"error: {strange}")
        return 2
    failed = False
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
            if not _measure(id, options, describe(options.plan.python) | compiling, say):
                failed = True
    if not options.plan.quick:
        options.page.write_text(report.page(options.results))
        say(f"Wrote {options.page}.")
    return int(failed)


def _strange(options: Options) -> str | None:
    """What cannot be meant, in a sentence; None where all can."""
    plan, rows = options.plan, (*ALL, *report.GPU_ROWS)
    for id in options.rows:
        if id not in rows:
            return f"There is no row {id!r}. There are {', '.join(rows)}."
    for name in plan.only:
        if name not in (*peers(), NOBODY):
            return f"There is no peer {name!r}. There are {', '.join(peers())}; {NOBODY!r} stands for none of them."
    if plan.rounds < 1:
        return f"--rounds: expected a whole number of at least 1, received {plan.rounds}."
    for option, number, least in (("--seconds", plan.seconds, 0.0), ("--limit-minutes", options.limit / 60, 0.001)):
        if not least <= number < float("inf"):  # nan is neither
            return f"{option}: expected a number above 0, received {number:g}."
    if plan.device != "cpu" and plan.device.split(":")[0] != "cuda":
        return f"--device: expected cpu or cuda, received {plan.device!r}."
    return None


def peers() -> list[str]:
    """All that take part in a row, ours aside."""
    named = {name for workload in WORKLOADS for name in contestants(workload, "as-run", "cpu")}
    named |= {name for goal in GOALS.values() for name in goal.contestants}
    return sorted(name for name in named if not name.startswith(OURS))


def _unmeasurable(id: str, plan: Plan) -> str | None:
    """Why a row cannot be measured here."""
    if id in report.GPU_ROWS and plan.device == "cpu":
        return "there is no GPU (or --device cuda was not given)."
    if id not in report.GPU_ROWS and plan.device != "cpu":
        return f"it is a row of the processor; those of a GPU are {', '.join(report.GPU_ROWS)}."
    if id == "W6" and plan.data_root is None and not plan.quick:
        return "it needs Omniglot: give --data-root or set QUICKSTUDY_DATA."
    return None


def _measure(id: str, options: Options, machine: dict[str, Any], say: Say) -> bool:
    """Measure a row and keep it; whether that went well."""
    if id in report.GPU_ROWS and machine["gpu"] is None:
        say(f"{id}: not measured, there is no GPU (or --device cuda was not given).")
        return True
    origin = {"machine": machine, "source": source(), "command": report.command_line(options.arguments)}
    if id == "T2A":
        return _goals(options, origin, say)
    if id == "W7":
        return _well("W7", lambda: _memory(options, origin, say), say)
    columns = options.columns if options.plan.device == "cpu" else ("as-run",)
    # One column after the other, whatever became of the one before it.
    return all([_well(f"{id}, {each}", partial(_column, id, each, options, origin, say), say) for each in columns])


def _well(what: str, work: Callable[[], None], say: Say) -> bool:
    try:
        work()
    except WorkerError as error:
        say(f"error: {what} was not measured, and what is kept of it stays: {str(error).rstrip('.')}.")
        return False
    return True


def _column(id: str, column: Column, options: Options, origin: dict[str, Any], say: Say) -> None:
    """One column of a row.

    Raises:
        WorkerError: the reference or all of ours failed.
    """
    workload = find(id)
    say(f"{id}, {column}: {workload.title}")
    row = measure(workload, column, replace(options.plan, row=id), say)
    _tell(row, say)
    if not any(name.startswith(OURS) for name in row.seconds):
        raise WorkerError("; ".join(f"{name} {why}" for name, why in row.refused.items()))
    if not row.ratios():
        say(f"  {id}, {column}: there is no peer to compare with, so this is not kept.")
    elif not options.plan.quick:
        report.save(row, origin, options.results)


def _memory(options: Options, origin: dict[str, Any], say: Say) -> None:
    """W7.

    Raises:
        WorkerError: the reference or one of ours failed.
    """
    say("W7: peak memory of W1m over inner steps")
    about = measure_memory(find("W1m"), options.plan, say) | origin
    if not about["time_ratio"]:
        raise WorkerError("; ".join(f"{name} {why}" for name, why in about["refused"].items()))
    if not options.plan.quick:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "W7.json").write_text(json.dumps(about, indent=1) + "\n")


def _goals(options: Options, origin: dict[str, Any], say: Say) -> bool:
    """T2A; whether no training failed."""
    say("T2A: time to accuracy")
    goals = list(GOALS)
    if options.plan.data_root is None:
        goals.remove("omniglot")
        say("  omniglot: not measured, it needs Omniglot: give --data-root or set QUICKSTUDY_DATA.")
    with tempfile.TemporaryDirectory() as thrown_away:
        path = (Path(thrown_away) if options.plan.quick else options.results) / "T2A.json"
        return measure_goals(path, options.plan, options.limit, goals, say, origin)


def _tell(row: Row, say: Say) -> None:
    for name, found in row.times.items():
        say(f"  {name:<20}{1000 * found.median:>11.4g} ms  ({1000 * found.low:.4g} .. {1000 * found.high:.4g})")
    for name, found in row.ratios().items():
        say(f"  {row.best_peer} / {name} = {found.median:.2f}  ({found.low:.2f} .. {found.high:.2f})")
    for name, steps in row.break_even().items():
        say(f"  {name} pays after {'no number of' if steps is None else f'{steps:.0f}'} steps")
