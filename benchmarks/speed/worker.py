"""One contestant in a process of its own: ``python -m benchmarks.speed.worker '{"workload": ..., ...}'``.

It reads one command a line from stdin, a JSON object, and answers with one on stdout:

    {"do": "check", "to": FILE}    one unit in float64 on few tasks; what it computed goes into FILE (.npz)
    {"do": "time", "seconds": S}   units in float32 until S seconds have passed; wall and processor seconds a unit
    {"do": "memory"}               one unit; the bytes by which the peak exceeds what was resident before
    {"do": "about"}                versions, threads
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed import settings
from benchmarks.speed.workloads import find

if TYPE_CHECKING:
    from benchmarks.speed.jobs import Job, Setting

__all__ = ["Order", "main"]


@dataclass(frozen=True)
class Order:
    """What a worker is started with.

    Args:
        workload: its id.
        contestant: a name of ``contestants``.
        column: see ``settings``.
        device: where to compute.
        quick: in tiny sizes.
        data_root: folder of real data sets, for timing the sampling.
        inner_steps: other than the workload's.
    """

    workload: str
    contestant: str
    column: settings.Column
    device: str = "cpu"
    quick: bool = False
    data_root: str | None = None
    inner_steps: int | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is quickstudy's own."""
        return self.contestant.startswith("quickstudy")


class _Worker:
    """Makes jobs when they are first asked for."""

    def __init__(self, order: Order) -> None:
        from benchmarks.speed.contestants import maker

        found = find(order.workload)
        found = found.quick() if order.quick else found
        steps = found.inner_steps if order.inner_steps is None else order.inner_steps
        self.workload = replace(found, inner_steps=steps)
        self.order, self.make = order, maker(self.workload.kind, order.contestant)
        self.job: Job | None = None
        self.first = 0.0

    def _setting(self, *, checking: bool) -> Setting:
        import torch

        from benchmarks.speed.jobs import Setting

        given = self.order.data_root
        return Setting(
            self.workload,
            min(self.workload.tasks, self.workload.checked) if checking else self.workload.tasks,
            torch.float64 if checking else torch.float32,
            torch.device(self.order.device),
            data_root=None if checking or given is None else Path(given),
        )

    def _timed_job(self) -> Job:
        if self.job is None:
            self.job = self.make(self._setting(checking=False))
        return self.job

    def check(self, to: str) -> dict[str, Any]:
        """One unit of few tasks in float64."""
        import numpy as np

        found = self.make(self._setting(checking=True))()
        np.savez(to, *(part.detach().cpu().numpy() for part in found))
        return {}

    def time(self, seconds: float) -> dict[str, Any]:
        """Units until that many seconds have passed; one at least, and one more before the first to warm up."""
        new = self.job is None
        job = self._timed_job()
        started = time.perf_counter()
        if new:
            job()
            self._wait()
            self.first = time.perf_counter() - started
        units, wall, processor = 0, time.perf_counter(), time.process_time()
        while units == 0 or time.perf_counter() - wall < seconds:
            job()
            units += 1
        self._wait()
        return {
            "units": units,
            "first": self.first,
            "wall": (time.perf_counter() - wall) / units,
            "processor": (time.process_time() - processor) / units,
        }

    def _wait(self) -> None:
        """Until the device has done what it was told."""
        if self.order.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()

    def memory(self) -> dict[str, Any]:
        """Bytes that one unit needs beyond what is resident before it; to be asked of a fresh process."""
        from benchmarks.speed.memory import peak_resident, reset_peak, resident

        job = self._timed_job()
        reset_peak()
        before = resident()
        job()
        return {"bytes": peak_resident() - before, "before": before}

    def about(self) -> dict[str, Any]:
        """What the numbers were made with."""
        import torch

        names = ("torch", "numpy", "higher", "learn2learn", "torchopt", "easyfsl", "torchmeta", "quickstudy")
        versions = {}
        for name in names:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {"versions": versions, "threads": torch.get_num_threads(), "python": sys.version.split()[0]}


def main() -> None:
    """Obey until stdin ends. Whatever libraries print goes to stderr."""
    order = Order(**json.loads(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        settings.apply(order.column, ours=order.is_ours)
        warnings.simplefilter("ignore")
        from tests.peers import stubs

        stubs.install()
        worker = _Worker(order)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        return
    print(json.dumps({}), file=answers, flush=True)
    commands = {"check": worker.check, "time": worker.time, "memory": worker.memory, "about": worker.about}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer: dict[str, Any] = commands[command.pop("do")](**command)  # type: ignore[operator]
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
