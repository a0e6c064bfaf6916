"""One contestant in a process of its own: ``python -m benchmarks.speed.worker '{"workload": ..., ...}'``.

It reads one command a line from stdin, a JSON object, and answers with one on stdout:

    {"do": "check", "to": FILE}    one unit in float64 on few tasks; what it computed goes into FILE (.npz)
    {"do": "check-all", "to": F}   the same on all tasks of a unit, which takes long
    {"do": "check-timed", "to": F} what "time" times, once: all tasks, in float32
    {"do": "first"}                seconds from nothing to the end of the first unit; to be asked of a fresh process
    {"do": "time", "seconds": S}   units in float32 until S seconds have passed; wall and processor seconds a unit
    {"do": "memory"}               one unit; the bytes by which the peak exceeds what was resident before
    {"do": "about"}                versions, threads, kernels
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
        self.warm = False

    def _setting(self, *, checking: bool, few: bool = False) -> Setting:
        import torch

        from benchmarks.speed.jobs import Setting

        given = self.order.data_root
        return Setting(
            self.workload,
            min(self.workload.tasks, self.workload.checked) if few else self.workload.tasks,
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
        return _kept(self.make(self._setting(checking=True, few=True)), to)

    def check_all(self, to: str) -> dict[str, Any]:
        """One unit in float64."""
        return _kept(self.make(self._setting(checking=True)), to)

    def check_timed(self, to: str) -> dict[str, Any]:
        """One unit as it is timed, but for a GPU's convolutions, which by default keep ten bits of each factor."""
        import torch

        if self.order.device == "cpu":
            return _kept(self._timed_job(), to)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return _kept(self._timed_job(), to)

    def first(self) -> dict[str, Any]:
        """Wall seconds of preparing the job and doing its first unit; torch is imported already."""
        started = time.perf_counter()
        self._timed_job()()
        self._wait()
        return {"wall": time.perf_counter() - started}

    def time(self, seconds: float) -> dict[str, Any]:
        """Units until that many seconds have passed; one at least, and one more before the first to warm up."""
        if not self.warm:
            self._timed_job()()
            self._wait()
            self.warm = True
        job = self._timed_job()
        units, wall, processor = 0, time.perf_counter(), time.process_time()
        while units == 0 or time.perf_counter() - wall < seconds:
            job()
            units += 1
        self._wait()
        return {
            "units": units,
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
        about = {
            "versions": versions,
            "threads": torch.get_num_threads(),
            "python": sys.version.split()[0],
            "capability": torch.backends.cpu.get_cpu_capability(),
        }
        if self.order.is_ours:
            from quickstudy import native

            about["kernels"] = native.about()
        return about


def _kept(job: Job, to: str) -> dict[str, Any]:
    """What a unit computed goes into a file."""
    import numpy as np

    from benchmarks.speed.jobs import stacked

    np.savez(to, *(part.detach().cpu().numpy() for part in stacked(job())))
    return {}


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
    commands = {
        "check": worker.check,
        "check-all": worker.check_all,
        "check-timed": worker.check_timed,
        "first": worker.first,
        "time": worker.time,
        "memory": worker.memory,
        "about": worker.about,
    }
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = commands[command.pop("do")](**command)  # type: ignore[operator]
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
