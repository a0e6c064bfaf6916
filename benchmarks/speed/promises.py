"""What was promised for whom, and whether it was kept."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.contestants import COMPILED, OURS, RANKS
from benchmarks.speed.floors import floor
from benchmarks.speed.workloads import Workload

__all__ = ["LEAST_A_STEP", "MET", "MISSED", "in_advance", "mark", "promised", "verdict"]

MET, MISSED = "✔", "✘"

LEAST_A_STEP = 5e8
"""As in quickstudy/rankcount.py, whose import takes torch: operations below which a step is not divided."""


def promised(workload: Workload, column: str, found: dict[str, Any], name: str) -> float | None:
    """The ratio that was promised of one of ours; None: none was.

    Args:
        workload: of the row.
        column: ``"equal"`` or ``"as-run"``.
        found: what was kept of that column.
        name: the contestant.
    """
    if found["device"] != "cpu":
        return workload.promised.gpu if name == OURS else None
    if name == COMPILED:
        return workload.promised.compiled
    # The command line takes ranks where a step is large enough.
    divides = RANKS in found["ratios"] and floor(workload).flop >= LEAST_A_STEP
    if name != (RANKS if divides else OURS):
        return None
    return workload.promised.equal if column == "equal" else workload.promised.as_run


def mark(workload: Workload, column: str, found: dict[str, Any], name: str) -> str:
    """A promise and whether it was kept; empty where none was made or nothing is there to compare."""
    target = promised(workload, column, found, name)
    if target is None or name not in found["ratios"]:
        return ""
    met = found["ratios"][name]["median"] >= target
    over = f" {workload.promised.gpu_words}" if found["device"] != "cpu" else ""
    return f"{MET if met else MISSED} {target:g}{over}"


def in_advance(workload: Workload) -> str:
    """What was promised on a GPU, where nothing was measured."""
    target = workload.promised.gpu
    return f"promised {'' if target is None else f'{target:g} '}{workload.promised.gpu_words}"


def verdict(workload: Workload, columns: dict[str, Any]) -> str:
    """Of a whole row: missed where one of its promises is."""
    marks = [mark(workload, column, found, name) for column, found in columns.items() for name in found["ratios"]]
    if any(each.startswith(MISSED) for each in marks):
        return MISSED
    return MET if any(marks) else ""
