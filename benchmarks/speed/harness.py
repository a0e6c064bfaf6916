"""Check, alternate, gather: one row of one column."""

from __future__ import annotations

import datetime
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.checks import differs, of_what_is_checked, of_what_is_timed, wrong_tasks
from benchmarks.speed.contestants import COMPILED, OURS, REFERENCE, TRACED, contestants
from benchmarks.speed.machine import busy_share
from benchmarks.speed.process import WorkerError, WorkerProcess
from benchmarks.speed.settings import Column
from benchmarks.speed.statistics import Spread, ratio, spread
from benchmarks.speed.worker import Order
from benchmarks.speed.workloads import Workload

__all__ = ["BUSY", "Plan", "Row", "measure"]

Say = Callable[[str], None]
BUSY = 0.1
"""The share of the machine that other programs may use before figures are marked as disturbed."""


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Args:
        rounds: of all contestants, one after the other.
        seconds: that each computes in a round, at least.
        device: where.
        quick: in tiny sizes.
        data_root: folder of real data sets; None: sampling is timed on made-up pictures.
        only: contestants to take, beside ours; empty for all.
        contestants: exactly these; None for those of the row.
        row: what the row is called, where not by the workload's id.
        python: of the workers.
    """

    rounds: int = 7
    seconds: float = 2.0
    device: str = "cpu"
    quick: bool = False
    data_root: str | None = None
    only: tuple[str, ...] = ()
    contestants: tuple[str, ...] | None = None
    row: str | None = None
    python: str = sys.executable


@dataclass
class Row:
    """What was found for one workload in one column.

    Args:
        id: the workload's, or that of the same work on a GPU.
        column: see ``settings``.
        device: where it was computed.
        clock: ``"processor"`` or ``"wall"``: which seconds the ratios are of.
        seconds: by contestant, of a unit, one number a round.
        first: of ours where a compiled form takes part: wall seconds of preparing and the first unit, in a fresh
            process with empty caches of torch's compiler.
        refused: contestants that are not timed, and why.
        about: versions, threads and kernels, by contestant.
        busy: the share of the machine that other programs used before or after, the larger one.
        date: UTC.
    """

    id: str
    column: Column
    device: str
    clock: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    busy: float | None = None
    date: str = ""

    @property
    def times(self) -> dict[str, Spread]:
        """Seconds a unit, by contestant."""
        return {name: spread(values) for name, values in self.seconds.items()}

    @property
    def best_peer(self) -> str | None:
        """The fastest that is not ours."""
        peers = {name: found.median for name, found in self.times.items() if not name.startswith(OURS)}
        return min(peers, key=peers.__getitem__) if peers else None

    def ratios(self) -> dict[str, Spread]:
        """How many times as long the best peer takes as each of ours."""
        best = self.best_peer
        mine = [name for name in self.seconds if name.startswith(OURS)]
        return {} if best is None else {name: ratio(self.seconds[best], self.seconds[name]) for name in mine}

    def break_even(self) -> dict[str, float | None]:
        """Units after which a compiled form has earned back what preparing it took; None where it never does."""
        times, found = self.times, dict[str, float | None]()
        for name in (TRACED, COMPILED):
            if {name, OURS} <= times.keys() & self.first.keys():
                saved = times[OURS].median - times[name].median
                found[name] = max(0.0, self.first[name] - self.first[OURS]) / saved if saved > 0 else None
        return found


def measure(workload: Workload, column: Column, plan: Plan, say: Say) -> Row:
    """One row of one column: who equals the reference is timed, round by round, never two at once.

    Args:
        workload: what to compute.
        column: in which settings.
        plan: how long.
        say: told of what happens.
    """
    # One thread's processor seconds are not disturbed by other programs; with threads or a GPU they say nothing.
    clock = "processor" if column == "equal" and plan.device == "cpu" else "wall"
    row = Row(plan.row or workload.id, column, plan.device, clock)
    row.date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with ExitStack() as stack:
        workers = _admitted(workload, column, plan, row, stack, say)
        busy = [busy_share()]
        for number in range(plan.rounds):
            for name in _turned(list(workers), number):
                try:
                    found = workers[name].ask("time", seconds=plan.seconds)
                except WorkerError as error:
                    row.refused[name] = f"not timed: {error}"
                    row.seconds.pop(name, None)
                    workers.pop(name)
                    continue
                row.seconds.setdefault(name, []).append(found[clock])
            say(f"  round {number + 1} of {plan.rounds}: " + _round_in_words(row))
        for name, worker in workers.items():
            row.about[name] = worker.ask("about")
        busy.append(busy_share())
    if {TRACED, COMPILED} & row.seconds.keys():
        for name in (OURS, TRACED, COMPILED):
            try:
                if name in workers:
                    row.first[name] = _first(workload, name, column, plan)
            except WorkerError as error:
                say(f"  {name}: its first unit was not timed: {error}")
    row.busy = max((share for share in busy if share is not None), default=None)
    if row.busy is not None and row.busy > BUSY:
        say(f"  Other programs used {row.busy:.0%} of this machine: do not trust these figures.")
    return row


def _turned(names: list[str], by: int) -> list[str]:
    """Each round begins with another contestant."""
    by %= max(1, len(names))
    return names[by:] + names[:by]


def _round_in_words(row: Row) -> str:
    return ", ".join(f"{name} {1000 * values[-1]:.4g} ms" for name, values in row.seconds.items())


def _first(workload: Workload, name: str, column: Column, plan: Plan) -> float:
    """Seconds of a first unit, nothing being compiled yet; quickstudy's own C files are, see ``machine``."""
    with tempfile.TemporaryDirectory() as empty:
        # Headers that inductor compiles stand under TMPDIR, whatever its own variable says.
        more = {"TORCHINDUCTOR_CACHE_DIR": f"{empty}/inductor", "TMPDIR": empty}
        with closing(WorkerProcess(_order(workload, name, column, plan), plan.python, more)) as worker:
            return float(worker.ask("first")["wall"])


def _admitted(
    workload: Workload, column: Column, plan: Plan, row: Row, stack: ExitStack, say: Say
) -> dict[str, WorkerProcess]:
    """Workers of those contestants whose results are those of the reference: in float64, and as they are timed."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    few, every = None, None
    if workload.kind != "sampling":
        with closing(_started(workload, REFERENCE, column, plan)) as reference:
            few, every = (_found(reference, do, folder) for do in ("check", "check-all"))
    workers: dict[str, WorkerProcess] = {}
    for name in plan.contestants or contestants(workload, column, plan.device):
        if plan.only and name not in plan.only and not name.startswith(OURS):
            continue
        try:
            worker = stack.enter_context(closing(_started(workload, name, column, plan)))
            found = _found(worker, "check", folder)
            if few is None or every is None:
                wrong = wrong_tasks(found, workload.quick() if plan.quick else workload)
            else:
                wrong = differs(found, few, of_what_is_checked(workload))
                if wrong is None:
                    wrong = differs(_found(worker, "check-timed", folder), every, of_what_is_timed(workload))
        except WorkerError as error:
            row.refused[name] = f"not timed: {error}"
        else:
            if wrong is None:
                workers[name] = worker
                continue
            row.refused[name] = f"not timed: {wrong}"
        say(f"  {name} {row.refused[name]}")
    return workers


def _started(workload: Workload, name: str, column: Column, plan: Plan) -> WorkerProcess:
    return WorkerProcess(_order(workload, name, column, plan), plan.python)


def _order(workload: Workload, name: str, column: Column, plan: Plan) -> Order:
    return Order(plan.row or workload.id, name, column, plan.device, plan.quick, plan.data_root)


def _found(worker: WorkerProcess, check: str, folder: Path) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """What a worker computed in one of its checks."""
    to = folder / "found.npz"
    worker.ask(check, to=str(to))
    with np.load(to) as arrays:
        return {name: arrays[name] for name in arrays.files}
