"""W7: the peak memory of a meta-step over inner steps, a fresh process for each figure."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

from benchmarks.speed.contestants import ADJOINT, OURS
from benchmarks.speed.harness import Plan, measure
from benchmarks.speed.process import WorkerError, WorkerProcess
from benchmarks.speed.statistics import ratio, spread
from benchmarks.speed.worker import Order
from benchmarks.speed.workloads import Workload

__all__ = ["INNER_STEPS", "measure_memory"]

INNER_STEPS = (1, 5, 10)
_WORDS = (
    "Bytes by which the peak of a fresh process exceeds what was resident before its first meta-step; every contestant "
    "with one thread and freed memory kept. Promised: flat, at no more than 1.3 times the time."
)


def measure_memory(workload: Workload, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """What W7 reports, as it is written to its file.

    Args:
        workload: W1m.
        plan: ``rounds`` of the time ratio, and up to three processes for each figure of memory.
        say: told of what happens.
    """
    names = (ADJOINT, OURS, "higher", "learn2learn", "torchopt")
    refused: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        if plan.only and name not in plan.only and not name.startswith(OURS):
            continue
        try:
            found[name] = {str(n): asdict(spread(_bytes(workload, name, n, plan))) for n in INNER_STEPS}
        except WorkerError as error:
            refused[name] = f"not measured: {error}"
            continue
        say(f"  {name}: " + ", ".join(f"{n} steps {found[name][str(n)]['median'] / 1e6:.0f} MB" for n in INNER_STEPS))
    row = measure(workload, "equal", replace(plan, contestants=(OURS, ADJOINT)), say)
    both = row.seconds if {OURS, ADJOINT} <= set(row.seconds) else {}
    return {
        "id": "W7",
        "words": _WORDS,
        "inner_steps": list(INNER_STEPS),
        "bytes": found,
        "refused": refused | row.refused,
        "time_ratio": asdict(ratio(both[ADJOINT], both[OURS])) if both else None,
        "seconds": both,
        "about": row.about,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _bytes(workload: Workload, name: str, inner_steps: int, plan: Plan) -> list[float]:
    """One figure a process."""
    order = Order(workload.id, name, "equal", plan.device, plan.quick, inner_steps=inner_steps)
    figures = []
    for _ in range(min(plan.rounds, 3)):
        with closing(WorkerProcess(order, plan.python)) as worker:
            figures.append(float(worker.ask("memory")["bytes"]))
    return figures
